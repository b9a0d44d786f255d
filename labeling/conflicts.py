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
from storage.records import LATE, Demonstration, Judgment, Ranking, Rating

SPLIT = 1 / 3  # of the choices on a prompt that two people made, above which it is a conflict
OTHER_ANSWERS = "judged other answers, which were shown before"


@dataclass(frozen=True)
class Conflict:
    """A prompt that a lead should settle: people differ on it, flagged it, or would not judge it."""

    prompt: str
    said: str
    why: str
    split: float


def conflicts(told: Material, skipped: Mapping[str, Sequence[str]]) -> list[Conflict]:
    """What people flagged; what they differ on, the most split first; and what they would not judge. Each prompt once.

    skipped: {prompt: reasons}.
    """
    firsts, flagging = _by_prompt(told.firsts), _by_prompt(_flagging(told))
    prompts = [one for one in dict.fromkeys([*firsts, *flagging, *skipped]) if one not in told.settled]
    every = [_conflict(one, flagging.get(one, ()), firsts.get(one, ()), skipped.get(one, ())) for one in prompts]
    found = [one for one in every if one.said]
    return sorted(found, key=lambda one: (one.prompt not in flagging, -one.split))


def _conflict(prompt: str, flagging: Sequence[Judgment], made: Sequence[Judgment], skips: Sequence[str]) -> Conflict:
    """One that says nothing where there is nothing to settle."""
    share = round(agreement.split(opinions_of(made)), 9)
    differing = made if share > SPLIT else ()
    said = (flagged_by(flagging), said_about(differing), _skipped_by(len(skips)))
    why = (notes_of(flagging, _named([*made, *flagging])), reasons_of(differing), "; ".join(dict.fromkeys(skips)))
    return Conflict(prompt, "; ".join(filter(None, said)), "\n\n".join(filter(None, why)), share if differing else 0.0)


def _by_prompt(made: Sequence[Judgment]) -> dict[str, list[Judgment]]:
    found: dict[str, list[Judgment]] = defaultdict(list)
    for one in made:
        found[one.prompt_id].append(one)
    return dict(found)


def _flagging(told: Material) -> list[Judgment]:
    """The judgments, repeats too, that somebody wants the lead to see."""
    return [one for one in (*told.firsts, *told.repeats) if set(one.flags) & set(beside.FLAGS)]


def _skipped_by(count: int) -> str:
    return f"skipped by {'1 person' if count == 1 else f'{count} people'}" if count else ""


def letters(response_ids: Sequence[str]) -> dict[str, str]:
    """The lead's letters for the answers to one prompt: the same for everybody who looks, and telling nothing."""
    return dict(zip(sorted(response_ids), LETTERS, strict=False))


def said_about(made: Sequence[Judgment]) -> str:
    """ "3 for A, 2 for B" of choices and rankings; "A: 2 up, 1 down" of thumbs; "1 of other answers" beside them."""
    if not made:
        return ""
    named = _named(made)
    alike = [one for one in made if set(one.displayed_order) == named.keys()]
    others = f"{len(made) - len(alike)} of other answers" if len(alike) < len(made) else ""
    said = _thumbs(alike, named) if made[0].feedback_type == "thumbs" else _choices(alike, named)
    return ", ".join(filter(None, (said, others)))


def _named(made: Sequence[Judgment]) -> dict[str, str]:
    """The letters of the answers that the first saw whose time had not run out: everybody after saw the same."""
    in_time = [one for one in made if LATE not in one.flags]
    return letters(next(iter([*in_time, *made])).displayed_order) if made else {}


def _choices(made: Sequence[Judgment], named: Mapping[str, str]) -> str:
    best = Counter(_best(opinion, one, named) for one in made if (opinion := opinion_of(one)))
    counted = sorted(best.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count} {words}" for words, count in counted)


def _thumbs(made: Sequence[Judgment], named: Mapping[str, str]) -> str:
    opinions = opinions_of(made)
    return "; ".join(_thumbs_on(letter, response, opinions) for response, letter in named.items())


def said_by(made: Judgment, shown: Mapping[str, str] | None = None) -> str:
    """One person's words for it: "B, then A and C" of an order, "A up, B down" of thumbs, "tie" or "both bad".

    `shown` are the letters of the answers that the lead has before them; what was said of others has none.
    """
    named, said = letters(made.displayed_order), []
    if shown is not None and shown.keys() != named.keys():
        return OTHER_ANSWERS
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
    """ "flagged unsafe by tom, for the lead by ines and tom"; empty where nobody did."""
    by = {flag: dict.fromkeys(one.labeler for one in made if flag in one.flags) for flag in beside.FLAGS}
    said = [f"{flag.replace('_', ' ')} by {' and '.join(names)}" for flag, names in by.items() if names]
    return f"flagged {', '.join(said)}" if said else ""


def notes_of(flagging: Sequence[Judgment], named: Mapping[str, str]) -> str:
    """What those noted who flagged it, where several did each by name."""
    noted = {one.labeler: note_by(one, named) for one in flagging if one.note}
    return "\n\n".join(noted.values() if len(noted) < 2 else (f"{name}: {note}" for name, note in noted.items()))


def note_by(made: Judgment, named: Mapping[str, str]) -> str:
    """What one person noted; on single answers by the lead's letters, which `named` are, in place of theirs."""
    shown = dict(zip(LETTERS, made.displayed_order, strict=False))
    whole, on_cards = beside.notes(made.note or "", len(shown))
    cards = sorted(f"{named.get(shown[letter], 'Another answer')}: {text}" for letter, text in on_cards.items())
    return beside.PARAGRAPHS.join([*filter(None, [whole]), *cards])


def reasons_of(made: Sequence[Judgment]) -> str:
    """The reasons that were given most, three at most."""
    given = Counter(reason for one in made for reason in one.reasons)
    return ", ".join(reason for reason, _ in given.most_common(3))
