"""The class of a method as a form: what a page must know to draw its fields.

The fields, their words, bounds and choices are those of the class and are written nowhere else, so a new method or
setting needs nothing here. Two notes in a field's `json_schema_extra` concern the form alone: `advanced` folds it away,
and `only_for` ({"tuning": ["lora", "qlora"]}) hides it where it would do nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alignment.methods.base import PRESETS, Method, Tuning

TUNINGS: tuple[Tuning, ...] = get_args(Tuning)
USUAL = "usual"
OWN = "This method"
FIRST = ("reward_model", "tuning", "learning_rate", "most_steps")  # of the usual ones; the others as in the class
GROUPS: Mapping[str, tuple[str, ...]] = {  # of the folded settings
    "Answers it learns from": ("longest_answer", "temperature", "no_end_penalty", "sampler"),
    "Gold and drift": ("gold", "kl_target", "kl_estimator"),
    "Steps of the policy": ("clip", "most_kl", "entropy_weight"),
    "The value, and advantages": ("value_weight", "value_clip", "lam", "gamma"),
    "Adapter": ("lora_rank", "lora_alpha", "target_modules", "layers"),
    "Held-out rows and checkpoints": ("held_out_share", "evaluations", "keep", "patience"),
    "Memory, order and logs": ("accumulate", "max_length", "seed", "tracker"),
}


def fields_of(form: type[BaseModel]) -> list[dict[str, Any]]:
    """Every field as a page draws it, in the order of the class; what matters most first, the folded ones by group."""
    made = [field_json(name, field) for name, field in form.model_fields.items()]
    return sorted(made, key=lambda one: _place(one["group"], one["name"]))


def _place(group: str, name: str) -> tuple[int, int]:
    order = [USUAL, OWN, *GROUPS]
    within = FIRST if group == USUAL else GROUPS.get(group, ())
    return order.index(group), within.index(name) if name in within else len(within)


def field_json(name: str, field: FieldInfo) -> dict[str, Any]:
    extra = _extra(field)
    kinds = set(get_args(field.annotation)) or {field.annotation}
    choices = list(get_args(field.annotation)) if get_origin(field.annotation) is Literal else []
    return {
        "name": name,
        "title": field.title or name,
        "help": field.description or "",
        "kind": "choice" if choices else _kind(kinds),
        "choices": choices,
        "choices_from": extra.get("choices", ""),
        "default": None if field.is_required() else field.default,
        "optional": type(None) in kinds,
        "group": _group(name) if extra.get("advanced") else USUAL,
        "only_for": extra.get("only_for", {}),
    }


def proposals(method: type[Method], parameters: int) -> dict[str, dict[str, dict[str, Any]]]:
    """{"lora": {"quick": settings, …}, …}: all of them at once, so that a preset is chosen without asking again."""
    tunings = TUNINGS if "tuning" in method.model_fields else TUNINGS[:1]
    return {tuning: {preset: method.proposed(preset, tuning, parameters) for preset in PRESETS} for tuning in tunings}


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _kind(kinds: set[Any]) -> str:
    if bool in kinds:
        return "switch"
    if float in kinds:
        return "number"
    return "integer" if int in kinds else "text"


def _group(name: str) -> str:
    return next((title for title, names in GROUPS.items() if name in names), OWN)
