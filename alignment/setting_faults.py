"""What is wrong with a setting, in the words of the form, field by field.

The form says it at the field as it is left, the queue before a run is put in line, the settings file with the line: all
three ask the class of the method, and all three say it the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

BOUNDS = {  # of pydantic: how we say it, and where it keeps the bound
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def faults(form: type[BaseModel], settings: Mapping[str, Any]) -> dict[str, str]:
    """By field, what is wrong: {"learning_rate": "must be at most 0.1, and is 5"}. Empty where all is well."""
    try:
        form.model_validate(dict(settings))
    except ValidationError as error:
        return {_field(problem): _in_words(problem) for problem in error.errors()}
    return {}


def sentence(form: type[BaseModel], found: Mapping[str, str]) -> str:
    """All faults in one: "Learning rate: must be at most 0.1, and is 5. Seed: is empty."."""
    return " ".join(f"{title_of(form, name)}: {words}." for name, words in found.items())


def title_of(form: type[BaseModel], name: str) -> str:
    field = form.model_fields.get(name)
    return field.title or name if field else name


def _field(problem: Any) -> str:
    return str(problem["loc"][0]) if problem["loc"] else ""


def _in_words(problem: Any) -> str:
    """What pydantic found, for the person who filled the form; its own words where we have none."""
    kind, given = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return "there is no such setting"
    if given is None or given == "":
        return "is empty"
    if kind in BOUNDS:
        words, bound = BOUNDS[kind]
        return f"must be {words} {problem['ctx'][bound]:g}, and is {given}"
    if kind.startswith("int_"):
        return f"must be a whole number, and is {given}"
    if kind.startswith("float_") or kind == "finite_number":
        return f"must be a number, and is {given}"
    if kind == "literal_error":
        return f"must be {problem['ctx']['expected'].replace(chr(39), '')}, and is {given}"
    return f"{problem['msg']}, and is {given}"
