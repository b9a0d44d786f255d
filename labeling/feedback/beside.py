"""What can be said beside any verdict: scores on the project's criteria, reasons, and flags for the lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labeling.feedback.base import Payload, answers_by_response
from storage.errors import BadInput
from storage.records import Score

LOWEST, HIGHEST = 1, 5
FLAGS = ("unsafe", "personal_data", "for_the_lead")
MOST, LONGEST = 20, 200  # of reasons, of characters in the name of one


def scores(payload: Payload, displayed: Sequence[str]) -> tuple[Score, ...]:
    """Criteria are taken by the name under which they were on the page: a lead may have edited the project since."""
    if "scores" not in payload:
        return ()
    given = answers_by_response(payload, "scores", displayed)
    return tuple(
        Score(response, _name(criterion, "criterion"), _value(value))
        for response in displayed
        for criterion, value in _criteria(given.get(response, {})).items()
    )


def reasons(payload: Payload) -> tuple[str, ...]:
    return tuple(_name(one, "reason") for one in _list(payload, "reasons"))


def flags(payload: Payload) -> tuple[str, ...]:
    for one in _list(payload, "flags"):
        if one not in FLAGS:
            raise BadInput(f"There is no flag called {one!r}. There are: {', '.join(FLAGS)}. Nothing was saved.")
    return tuple(one for one in FLAGS if one in _list(payload, "flags"))


def payload(scores: Sequence[Score], reasons: Sequence[str], flags: Sequence[str]) -> dict[str, Any]:
    """What would say this again; empty where nothing was said."""
    by_response: dict[str, dict[str, int]] = {}
    for one in scores:
        by_response.setdefault(one.response_id, {})[one.criterion] = one.value
    said = {"scores": by_response, "reasons": list(reasons), "flags": [one for one in FLAGS if one in flags]}
    return {field: value for field, value in said.items() if value}


def _criteria(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping) or len(given) > MOST:
        raise BadInput("The scores of an answer are an object, one number per criterion. Nothing was saved.")
    return given


def _value(value: Any) -> int:
    if type(value) is not int or not LOWEST <= value <= HIGHEST:
        raise BadInput(f"A score is a whole number from {LOWEST} to {HIGHEST}, not {value!r}. Nothing was saved.")
    return value


def _list(payload: Payload, field: str) -> Sequence[Any]:
    found = payload.get(field, [])
    if not isinstance(found, list) or len(found) > MOST:
        raise BadInput(f"{field} is a list of up to {MOST}. Nothing was saved; reload the page.")
    return found


def _name(name: Any, kind: str) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST:
        raise BadInput(f"The name of a {kind} is a text of up to {LONGEST} characters. Nothing was saved.")
    return name
