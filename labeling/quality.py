"""Can these judgments be trusted? What they say about themselves, about each person, and about what they split on.

A lead acts on this, so it says no more than the numbers allow: each comes with its interval and its n, a person is read
only after ENOUGH judgments, and a share says something only from ENOUGH_PROMPTS prompts. Nobody is refused anything for
what stands here; it is a reason to talk.

What they split on is labeling/conflicts.py. Pure functions on judgments and texts; labeling/quality_routes.py reads
them from the tables.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from labeling import agreement
from labeling.agreement import Measured, Opinion, opinion_of
from labeling.reading import TOO_FAST, reading_share, words
from storage.records import ADJUDICATED, GOLD, REPEAT, Judgment, Prompt, Response

PAPERS = (0.63, 0.77)  # two people on which answer is better: Stiennon 2020, Bai 2022, Ouyang 2022
USABLE_ALPHA = 0.667  # "tentative conclusions" from here (Krippendorff, Content Analysis, 2004, p. 241)
ENOUGH = 10  # judgments of a person
ENOUGH_PROMPTS = 5
GOLD_WANTED = 0.8
SELF_WANTED = 0.75
REACHED = 0.9  # by most people; an interval that still holds it says nothing against anybody
LEAN = 0.1  # how far from half a share must be, beside an interval that leaves half out
LENGTH_APART = 0.15  # how far from the others' a preference for length must be
HURRY = 0.5  # of the time that the others take
SKIMMED = 1 / 3  # of the time that reading takes
FAST_SHARE = 0.1
A_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Reading:
    """One person's numbers, and what to make of them. `concerns` are (column, words)."""

    name: str
    judgments: int
    seconds: float | None
    reading: float | None
    others: Measured | None
    gold: Measured | None
    self: Measured | None
    first: Measured | None
    longer: Measured | None
    flags: Mapping[str, int]
    concerns: tuple[tuple[str, str], ...]

    @property
    def state(self) -> str:
        """For the page: a kind of state, and its word."""
        return "wait" if self.judgments < ENOUGH else "warn" if self.concerns else "ok"


@dataclass
class Material:
    """All standing judgments of a project, told apart by what they are for, with the texts they are about."""

    judgments: Sequence[Judgment]
    prompts: Mapping[str, Prompt]
    responses: Mapping[str, Response]
    firsts: list[Judgment] = field(init=False)
    repeats: list[Judgment] = field(init=False)
    settled: dict[str, Judgment] = field(init=False)  # prompt id -> a lead's own answer

    def __post_init__(self) -> None:
        said = [one for one in self.judgments if ADJUDICATED not in one.flags]
        self.firsts = [one for one in said if REPEAT not in one.flags]
        self.repeats = [one for one in said if REPEAT in one.flags]
        self.settled = {one.prompt_id: one for one in self.judgments if ADJUDICATED in one.flags}

    @cached_property
    def opinions(self) -> list[Opinion]:
        return opinions_of(self.firsts)

    @cached_property
    def again(self) -> list[Opinion]:
        return opinions_of(self.repeats)

    @cached_property
    def known(self) -> dict[str, Opinion]:
        """By prompt, the answers that are known to be right."""
        golden = [one for one in self.settled.values() if GOLD in one.flags]
        return {one.prompt: one for one in opinions_of(golden)}

    @cached_property
    def has_overlap(self) -> bool:
        """Whether two people judged the same prompt."""
        seen = {(one.prompt_id, one.labeler) for one in self.firsts}
        return len({prompt for prompt, _ in seen}) < len(seen)

    @cached_property
    def wanted(self) -> list[Judgment]:
        """Those that brought the end nearer: what a lead had settled before wanted no more."""
        by = {prompt: one.judged_at for prompt, one in self.settled.items()}
        return [one for one in self.firsts if one.prompt_id not in by or one.judged_at < by[one.prompt_id]]

    @cached_property
    def words(self) -> dict[str, int]:
        return {one.id: words(one.text) for one in self.responses.values()}

    @cached_property
    def people(self) -> list[str]:
        """Who judged, the busiest first."""
        return [name for name, _ in Counter(one.labeler for one in self.firsts).most_common()]

    @cached_property
    def longer(self) -> dict[str, Measured | None]:
        """How often each person chooses the longer answer."""
        by = {name: [one for one in self.opinions if one.labeler == name] for name in self.people}
        return {name: agreement.chooses_longer(opinions, self.words) for name, opinions in by.items()}

    def to_read(self, judgment: Judgment) -> int:
        """Words of the prompt and of the answers that were shown."""
        prompt = self.prompts.get(judgment.prompt_id)
        asked = sum(words(message.content) for message in prompt.messages) if prompt else 0
        return asked + sum(self.words.get(one, 0) for one in judgment.displayed_order)


def opinions_of(judgments: Sequence[Judgment]) -> list[Opinion]:
    return [opinion for one in judgments if (opinion := opinion_of(one))]


# ---- the whole ------------------------------------------------------------------------------------------------------


def conclusion(
    raw: Measured | None,
    people: Sequence[Reading],
    kind: str = "ranking",
    alpha: Measured | None = None,
    has_overlap: bool = False,
    is_shared: bool = False,
) -> str:
    """The answer in two sentences, no stronger than the numbers allow.

    `kind` is the feedback type, `has_overlap` whether two people judged the same prompt at all, `is_shared` whether the
    project wants that of its prompts.
    """
    if kind == "edit":
        return "Rewritten answers are not compared with each other: read some of them."
    word = sum(one.state == "warn" for one in people)
    needs = "" if not word else " One person needs a word." if word == 1 else f" {word} people need a word."
    if not has_overlap and (alpha if kind == "thumbs" else raw) is None:
        trust = _nothing_shared(is_shared)
    else:
        trust = _trust_thumbs(alpha) if kind == "thumbs" else _trust(raw)
    return f"Can these judgments be trusted? {trust}{needs}"


def _nothing_shared(is_shared: bool) -> str:
    way_out = "" if is_shared else "; 2 or more people per prompt on the projects page change that"
    return f"No two people have judged the same prompt yet{way_out}."


def _trust(raw: Measured | None) -> str:
    low, high = (round(100 * one) for one in PAPERS)
    if raw is None:
        return (
            "Too early to say: where two people judged the same prompt, no two answers were put apart by both of them."
        )
    if raw.prompts < ENOUGH:
        return f"Too early to say: only {_prompts(raw.prompts)} judged by two people."
    if raw.low <= 0.5:
        return "Not yet: that people choose alike could be chance. Read the conflicts and sharpen the guidelines."
    if raw.low > PAPERS[1]:
        return "Yes, to train on: people choose alike more often than in the papers."
    if raw.value >= PAPERS[0]:
        return "Yes, to train on: people choose alike as often as in the papers."
    return f"With care: people choose alike less often than in the papers ({low} to {high} %). Read the conflicts."


def _trust_thumbs(alpha: Measured | None) -> str:
    """By alpha, which takes chance off: people who thumb nearly everything up agree often and say little."""
    if alpha is None:
        return "Too early to say: where two people judged the same prompt, all their thumbs point the same way."
    if alpha.prompts < ENOUGH:
        return f"Too early to say: only {_prompts(alpha.prompts)} judged by two people."
    if alpha.low <= 0:
        return "Not yet: that people thumb alike could be chance. Read the conflicts and sharpen the guidelines."
    if alpha.value >= USABLE_ALPHA:
        return "Yes, to train on: people thumb alike far more often than by chance."
    return "With care: people thumb alike more often than by chance, but not reliably. Read the conflicts."


def pace_sentence(judgments: Sequence[Judgment], left: int, now: datetime) -> str:
    """How many are left and when they will be done, if it goes on as in the last seven days."""
    if left <= 0:
        return "All of them are there."
    recent = sum(one.judged_at > now - A_WEEK for one in judgments)
    if not recent:
        return f"{left:,} left; nobody has judged for a week."
    begun = min(one.judged_at for one in judgments)
    days = max((now - max(begun, now - A_WEEK)) / timedelta(days=1), 1 / 24)
    ends = now + timedelta(days=left * days / recent)
    return f"{left:,} left; at this week's pace done {_day(ends, now)}."


def _day(ends: datetime, now: datetime) -> str:
    days = (ends.date() - now.date()).days
    if days < 1:
        return "today"
    if days < 7:
        return f"on {ends:%A}"
    return f"on {ends.day} {ends:%B %Y}" if days < 365 else "in more than a year"


# ---- person by person -----------------------------------------------------------------------------------------------


def readings(told: Material) -> list[Reading]:
    """Everybody who judged, the busiest first."""
    return [_reading(name, told) for name in told.people]


def _reading(name: str, told: Material) -> Reading:
    mine = [one for one in told.firsts if one.labeler == name]
    opinions = opinions_of(mine)
    again = [one for one in told.again if one.labeler == name]
    timed = [(one.focused_seconds, told.to_read(one)) for one in mine if one.focused_seconds]
    read = Reading(
        name=name,
        judgments=len(mine) + len(again),
        seconds=statistics.median(seconds for seconds, _ in timed) if timed else None,
        reading=statistics.median(reading_share(*one) for one in timed) if timed else None,
        others=agreement.with_others(name, told.opinions),
        gold=agreement.against(opinions, told.known),
        self=agreement.self_consistency(opinions, again),
        first=agreement.chooses_first(opinions, [one.displayed_order for one in mine if opinion_of(one)]),
        longer=told.longer[name],
        flags=Counter(flag for one in mine for flag in one.flags),
        concerns=(),
    )
    return _with_concerns(read, told)


def _with_concerns(read: Reading, told: Material) -> Reading:
    if read.judgments < ENOUGH:
        return read
    others = [one for one in told.firsts if one.labeler != read.name]
    found = [
        _hurry(read, others),
        _skims(read),
        _below("gold", read.gold, GOLD_WANTED, "of known answers are met"),
        _below("self", read.self, SELF_WANTED, "of their own choices are the same again"),
        _position(read.first),
        _length(read, told),
        _too_fast(read),
    ]
    return Reading(**{**vars(read), "concerns": tuple(one for one in found if one)})


Concern = tuple[str, str] | None


def _hurry(read: Reading, others: Sequence[Judgment]) -> Concern:
    taken = [one.focused_seconds for one in others if one.focused_seconds]
    if read.seconds is None or len(taken) < ENOUGH:
        return None
    usual = statistics.median(taken)
    return (
        ("seconds", f"{read.seconds:.0f} s each, where others take {usual:.0f}")
        if read.seconds < HURRY * usual
        else None
    )


def _skims(read: Reading) -> Concern:
    if read.reading is None or read.reading >= SKIMMED:
        return None
    return "seconds", f"{percent(read.reading)} of the time that reading takes"


def _below(column: str, found: Measured | None, wanted: float, words: str) -> Concern:
    if found is None or found.prompts < ENOUGH_PROMPTS or found.value >= wanted or found.high >= REACHED:
        return None
    return column, f"{percent(found.value)} {words}"


def _position(found: Measured | None) -> Concern:
    if found is None or abs(found.value - 0.5) < LEAN or found.low <= 0.5 <= found.high:
        return None
    return "first", f"the answer shown first wins {percent(found.value)}"


def _length(read: Reading, told: Material) -> Concern:
    """Longer answers may be better; what is odd is to prefer them, or shorter ones, where the others do not.

    The usual is the median of the others, each for themselves: one odd person makes nobody else look odd.
    """
    others = (one for name, one in told.longer.items() if name != read.name)
    known = [one.value for one in others if one and one.prompts >= ENOUGH_PROMPTS]
    if read.longer is None or not known:
        return None
    usual = statistics.median(known)
    if abs(read.longer.value - usual) < LENGTH_APART or read.longer.low <= usual <= read.longer.high:
        return None
    return "longer", f"the longer answer wins {percent(read.longer.value)}, with others {percent(usual)}"


def _too_fast(read: Reading) -> Concern:
    fast = read.flags.get(TOO_FAST, 0)
    return ("seconds", f"{fast} faster than anyone reads") if fast > FAST_SHARE * read.judgments else None


def advice(read: Reading, told: Material, alpha: Measured | None) -> str:
    """What to talk about with a person, and how far the rest would agree without them, where that is further."""
    words = "; ".join(words for _, words in read.concerns)
    without = agreement.alpha_alone([one for one in told.opinions if one.labeler != read.name])
    if alpha is None or without is None or without < alpha.value + 0.01:
        return f"{words[0].upper()}{words[1:]}."
    return f"{words[0].upper()}{words[1:]}. Without their {read.judgments} judgments, alpha is {without:.2f}."


def percent(share: float) -> str:
    """As the page rounds."""
    return f"{math.floor(100 * share + 0.5)} %"


def _prompts(count: int) -> str:
    return "1 prompt was" if count == 1 else f"{count} prompts were"
