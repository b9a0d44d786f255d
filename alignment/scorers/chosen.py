"""What scores the answers of a run: as a setting names it, as run.json says it, as the run calls it.

    v3                              a version: a reward model, see methods/rewards.py
    function:starter-preferred      a Python function
    judge:house                     a model behind an endpoint

Only names come from a browser or a settings file. What stands behind a name is looked up in the server's settings when
a run is put in line, and written into its run.json; a key never is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from alignment.methods.base import Parent, TextReward
from alignment.scorers.functions import READY_MADE, Function, FunctionReward
from storage.endpoints import Judge
from storage.errors import BadInput
from storage.settings import Settings

FUNCTION, JUDGE = "function", "judge"
Row = TypeVar("Row", bound=Mapping[str, Any])


def is_version(choice: str) -> bool:
    """Whether a setting names a version, or nothing."""
    return choice.partition(":")[0] not in (FUNCTION, JUDGE) or ":" not in choice


def functions(settings: Settings) -> dict[str, Function]:
    """By name. The settings may put another function in the place of one that comes along."""
    own = {name: Function(name, at) for name, at in settings.reward_functions.items()}
    return {**own, **{one.name: one for one in READY_MADE if one.name not in own}}


def named(settings: Settings, choice: str, title: str) -> Function | Judge | None:
    """None where a version is named, or nothing. Raises BadInput with those there are; `title` is the field's."""
    if is_version(choice):
        return None
    kind, _, name = choice.partition(":")
    there: Mapping[str, Function | Judge] = functions(settings) if kind == FUNCTION else settings.judges
    if name in there:
        return there[name]
    names = ", ".join(f"{kind}:{one}" for one in there)
    raise BadInput(
        f"{title}: the server's settings know no {kind} {name!r}. "
        + (f"Choose one of {names}" if names else f"They know no {kind} at all: choose a reward model")
        + f", or have it named in settings.toml ({'[reward_functions]' if kind == FUNCTION else f'[judges.{name}]'})."
    )


def named_function(settings: Settings, choice: str, title: str) -> Function | None:
    """Where only a function will do."""
    if choice and not choice.startswith(f"{FUNCTION}:"):
        names = ", ".join(f"{FUNCTION}:{one}" for one in functions(settings))
        raise BadInput(f"{title}: {choice} is no function. Choose one of {names}, or none.")
    found = named(settings, choice, title)
    return found if isinstance(found, Function) else None


# ---- in run.json ----------------------------------------------------------------------------------------------------


def told(chosen: Function | Judge | None, confidential: Sequence[str] = ()) -> dict[str, Any] | None:
    """`confidential` are the text hashes of the prompts that a judge outside may not be asked about."""
    if chosen is None:
        return None
    if isinstance(chosen, Function):
        return {"kind": FUNCTION, "name": chosen.name, "at": chosen.at}
    return {"kind": JUDGE, **asdict(chosen), "confidential": list(confidential) if chosen.is_outside else []}


def understood(said: Mapping[str, Any] | None) -> Function | Judge | None:
    """What run.json says."""
    if said is None:
        return None
    given = {name: value for name, value in said.items() if name not in ("kind", "confidential")}
    return Function(**given) if said["kind"] == FUNCTION else Judge(**given)


def resolved(described: Mapping[str, Any]) -> dict[str, Any]:
    """Of run.json, what Inputs takes: reward, scored_by, gold, sampled_by. Raises RunFailed where one cannot be had."""
    reward = described.get("reward")
    return {
        "reward": Parent(**reward) if reward else None,
        "scored_by": _called(described.get("scored_by")),
        "gold": _called(described.get("gold")),
        "sampled_by": described.get("sampled_by", ""),
    }


def asked_about(rows: Sequence[Row], scored_by: Mapping[str, Any] | None) -> list[Row]:
    """The rows without those whose prompt is confidential, where a judge outside scores."""
    confidential = set((scored_by or {}).get("confidential", ()))
    if not confidential:
        return list(rows)
    from alignment.scorers.judges import hash_of

    return [row for row in rows if hash_of(row["prompt"]) not in confidential]


def _called(said: Mapping[str, Any] | None) -> TextReward | None:
    chosen = understood(said)
    if chosen is None or said is None:
        return None
    if isinstance(chosen, Function):
        return FunctionReward(chosen)
    from alignment.scorers.judges import JudgeReward

    return JudgeReward(chosen, confidential=frozenset(said.get("confidential", ())))
