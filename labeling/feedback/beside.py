"""What can be said beside any verdict: scores on the project's criteria, reasons, flags for the lead, and notes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from labeling.feedback.base import LETTERS, Payload, answers_by_response
from storage.errors import BadInput
from storage.records import Score

LOWEST, HIGHEST = 1, 5
FLAGS = ("unsafe", "personal_data", "for_the_lead")
MOST, LONGEST = 20, 200  # of reasons, of characters in the name of one
PARAGRAPHS = "\n\n"  # stands between those of a note
BEGINS_ON_CARD = f"[{LETTERS}]: "


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


def note(whole: str, on_cards: Mapping[str, str]) -> str:
    """One text of a note on the whole and of those on single cards, {letter: text}; empty where all of them are.

    A note on a card begins a paragraph with its letter ("B: wrong dose"), in the order of the letters. A paragraph that
    only looks so is set apart by a space before it.
    """
    texts = {"": whole.strip(), **{f"{letter}: ": on_cards[letter].strip() for letter in sorted(on_cards)}}
    return PARAGRAPHS.join(f"{begins}{_set_apart(text)}" for begins, text in texts.items() if text)


def notes(text: str, cards: int) -> tuple[str, dict[str, str]]:
    """The way back from `note`, of so many cards: the note on the whole, and {letter: text} of those on cards.

    What begins like the note on a card and cannot be one, as its letter was not shown or had its turn, stays in place.
    """
    on, found = "", {"": list[str]()}
    for paragraph in text.split(PARAGRAPHS):
        if re.match(BEGINS_ON_CARD, paragraph) and paragraph[0] in LETTERS[:cards] and paragraph[0] > on:
            on = paragraph[0]
            found[on] = [_put_back(paragraph[3:])]
        else:
            found[on].append(_put_back(paragraph))
    texts = {letter: PARAGRAPHS.join(paragraphs) for letter, paragraphs in found.items()}
    return texts.pop(""), texts


def _set_apart(text: str) -> str:
    paragraphs = text.split(PARAGRAPHS)
    return PARAGRAPHS.join(f" {one}" if re.match(f" *{BEGINS_ON_CARD}", one) else one for one in paragraphs)


def _put_back(paragraph: str) -> str:
    return paragraph[1:] if re.match(f" +{BEGINS_ON_CARD}", paragraph) else paragraph


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
