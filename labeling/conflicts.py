"""What a lead should settle: prompts on which people differ, which they flagged or would not judge; and what each said.

Answers have the lead's letters, which go by their ids: the same for everybody who looks, and telling nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labeling import agreement
from labeling.agreement import Opinion, opinion_of
from labeling.feedback import beside
from labeling.feedback.base import BOTH_BAD, LETTERS
from labeling.quality import Material, opinions_of
from storage.records import Demonstration, Judgment, Ranking, Rating

SPLIT = 1 / 3  # of the choices on a prompt that two people made, above which it is a conflict


@dataclass(frozen=True)
class Conflict:
    """A prompt that a lead should settle: people differ on it, flagged it, or would not judge it."""

    prompt: str
    said: str
    why: str
    split: float


def conflicts(told: Material, skipped: Mapping[str, Sequence[str]]) -> list[Conflict]:
    """What people differ on, the most split first; what they flagged; and what they would not judge.

    skipped: {prompt: reasons}.
    """
    on_prompt: dict[str, list[Judgment]] = defaultdict(list)
    for one in told.firsts:
        on_prompt[one.prompt_id].append(one)
    split = [
        Conflict(prompt, said_about(made), reasons_of(made), share)
        for prompt, made in on_prompt.items()
        if prompt not in told.settled and (share := round(agreement.split(opinions_of(made)), 9)) > SPLIT
    ]
    refused = [
        Conflict(prompt, f"skipped by {len(reasons)} people", "; ".join(dict.fromkeys(reasons)), 0.0)
        for prompt, reasons in skipped.items()
        if prompt not in told.settled
    ]
    listed = {one.prompt for one in split}
    flagged = [
        Conflict(prompt, said, notes_of(made), 0.0)
        for prompt, made in on_prompt.items()
        if prompt not in told.settled and prompt not in listed and (said := flagged_by(made))
    ]
    return [*sorted(split, key=lambda one: -one.split), *flagged, *refused]


def letters(response_ids: Sequence[str]) -> dict[str, str]:
    """The lead's letters for the answers to one prompt: the same for everybody who looks, and telling nothing."""
    return dict(zip(sorted(response_ids), LETTERS, strict=False))


def said_about(made: Sequence[Judgment]) -> str:
    """ "3 for A, 2 for B" of choices and rankings; "A: 2 up, 1 down" of thumbs."""
    named = letters(made[0].displayed_order)
    if made[0].feedback_type == "thumbs":
        opinions = opinions_of(made)
        return "; ".join(_thumbs_on(letter, response, opinions) for response, letter in named.items())
    best = Counter(_best(opinion, one, named) for one in made if (opinion := opinion_of(one)))
    counted = sorted(best.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count} {words}" for words, count in counted)


def said_by(made: Judgment) -> str:
    """One person's words for it: "B, then A and C" of an order, "A up, B down" of thumbs, "tie" or "both bad"."""
    named, said = letters(made.displayed_order), []
    for verdict in made.verdicts:
        match verdict:
            case Ranking((_,)):
                said.append(_no_better(made))
            case Ranking(tiers):
                said.append(", then ".join(" and ".join(sorted(named[one] for one in tier)) for tier in tiers))
            case Rating(response, desirable):
                said.append(f"{named[response]} {'up' if desirable else 'down'}")
            case Demonstration(improves=improves):
                said.append(f"{named.get(improves or '', 'an answer')} rewritten")
    return ", ".join(said)


def _thumbs_on(letter: str, response: str, opinions: Sequence[Opinion]) -> str:
    up = [one.values[response] > 0 for one in opinions if response in one.values]
    return f"{letter}: {sum(up)} up, {len(up) - sum(up)} down"


def _best(opinion: Opinion, made: Judgment, named: Mapping[str, str]) -> str:
    """ "for A", "for A and B" of several; "tie" or "both bad" where none is better."""
    top = [one for one, value in opinion.values.items() if value == max(opinion.values.values())]
    if len(top) == len(opinion.values):
        return _no_better(made)
    return f"for {' and '.join(sorted(named.get(one, '?') for one in top))}"


def _no_better(made: Judgment) -> str:
    if BOTH_BAD not in made.flags:
        return "tie"
    return "both bad" if len(made.displayed_order) == 2 else "all bad"


def flagged_by(made: Sequence[Judgment]) -> str:
    """ "flagged for the lead by ines; unsafe by tom"; empty where nobody did."""
    by: dict[str, list[str]] = defaultdict(list)
    for one in made:
        for flag in one.flags:
            if flag in beside.FLAGS:
                by[flag].append(one.labeler)
    said = [f"{flag.replace('_', ' ')} by {' and '.join(names)}" for flag, names in by.items()]
    return f"flagged {'; '.join(said)}" if said else ""


def notes_of(made: Sequence[Judgment]) -> str:
    """Of those who flagged it."""
    return "; ".join(one.note for one in made if one.note and any(flag in beside.FLAGS for flag in one.flags))


def reasons_of(made: Sequence[Judgment]) -> str:
    """The reasons that were given most, three at most."""
    given = Counter(reason for one in made for reason in one.reasons)
    return ", ".join(reason for reason, _ in given.most_common(3))
