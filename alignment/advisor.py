"""Which method fits what there is to learn from, and why: the guide's decision flow.

    a model that only continues text               a model that answers
      documents it has not read → pretrain           pairs → dpo
      demonstrations            → sft                 thumbs, even very uneven ones → kto
      pairs                     → orpo                demonstrations → sft
      thumbs                    → kto                 a reward model and prompts → ppo
                                                      pairs → reward_model
                                                      documents → pretrain

The first that is possible on rows this line of versions has not learned from yet; where nothing is new, the first that
is possible. Nobody is asked to believe it: it says what it counted, and every field stays open.

RLOO can do whatever PPO can be proposed for, so it is named beside it and never in its place: PPO learns what to expect
of a prompt and needs one answer to each, RLOO compares several answers to one prompt and can train whole weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from storage.records import Judgment, Ranking

PAPERS = "papers report 63 to 77"  # % of pairs on which two people agree (arXiv:2009.01325, 2203.02155, 2204.05862)
IMPORTED = "import"  # the feedback type of judgments that came in a file
FEWEST_COMPARED = 10  # below, a share of agreement is chance
FOR_A_BASE = ("pretrain", "sft", "orpo", "kto")
FOR_ONE_THAT_ANSWERS = ("dpo", "kto", "sft", "ppo", "rloo", "reward_model", "pretrain")
SCORED = ("ppo", "rloo")  # they ask a reward model, and no label brings them nearer


@dataclass(frozen=True)
class Agreement:
    """Of `compared` pairs of answers that two people ranked, they put `same` in the same order."""

    same: int
    compared: int

    @property
    def known(self) -> bool:
        return self.compared >= FEWEST_COMPARED

    @property
    def percent(self) -> str:
        return f"{round(100 * self.same / self.compared)} %"


NOT_COMPARED = Agreement(0, 0)


@dataclass(frozen=True)
class Readable:
    """What one method would read. `new` are the rows that the parent's line has not learned from.

    `refusal` is why it cannot start where there are enough rows, but too few of a kind.
    """

    title: str
    rows_are: str
    needs: int
    rows: int
    new: int
    possible: bool
    refusal: str = ""


@dataclass(frozen=True)
class Evidence:
    """The data at hand. `answers`: the parent was taught to answer; one that was not only continues text."""

    parent: str
    answers: bool
    readable: Mapping[str, Readable]
    judgments: Mapping[str, int] = field(default_factory=dict)  # by method: how many are behind its rows
    thumbs: tuple[int, int] = (0, 0)  # up, down
    agreement: Agreement = NOT_COMPARED
    reward_model: str = ""


@dataclass(frozen=True)
class Advice:
    """What to do. Where nothing can start yet it is not `ready`, and `method` is the nearest to being possible."""

    method: str
    title: str
    why: str
    figures: tuple[tuple[str, str], ...]
    ready: bool = True


def advise(evidence: Evidence) -> Advice:
    flow = FOR_ONE_THAT_ANSWERS if evidence.answers else FOR_A_BASE
    possible = [name for name in flow if name in evidence.readable and evidence.readable[name].possible]
    if not possible:
        return _label_first(evidence)
    fresh = [name for name in possible if evidence.readable[name].new >= evidence.readable[name].needs]
    chosen = (fresh or possible)[0]
    one = evidence.readable[chosen]
    return Advice(
        method=chosen,
        title=_title(chosen, one, evidence),
        why=f"{_because(chosen, one, evidence)} {_rather_than(chosen, evidence)}".strip(),
        figures=_figures(chosen, one, evidence),
    )


def agreement(judgments: Sequence[Judgment]) -> Agreement:
    """How often two people who ranked the same two answers put the same one first.

    Ties say nothing, and what a file brought is the word of a source and not of a person here.
    """
    superseded = {one.supersedes for one in judgments if one.supersedes}
    of_people = (one for one in judgments if one.feedback_type != IMPORTED and one.id not in superseded)
    first: dict[frozenset[str], dict[str, str]] = {}
    for judgment in of_people:
        for better, worse in _preferences(judgment):
            first.setdefault(frozenset((better, worse)), {})[judgment.labeler] = better
    pairs = [two for said in first.values() for two in combinations(said.values(), 2)]
    return Agreement(same=sum(one == other for one, other in pairs), compared=len(pairs))


def _preferences(judgment: Judgment) -> Collection[tuple[str, str]]:
    return [
        (better, worse)
        for verdict in judgment.verdicts
        if isinstance(verdict, Ranking)
        for above, below in combinations(verdict.tiers, 2)
        for better in above
        for worse in below
    ]


# ---- in words -------------------------------------------------------------------------------------------------------


def _title(name: str, one: Readable, evidence: Evidence) -> str:
    if name == "pretrain":
        return f"Let {evidence.parent} read on with {one.title}"
    if name == "reward_model":
        return f"Train a reward model from {evidence.parent}"
    return f"Train {evidence.parent} with {one.title}"


def _because(name: str, one: Readable, evidence: Evidence) -> str:
    """The first sentence: what it would learn from, and why that fits."""
    rows = f"{one.rows:,} {one.rows_are}"
    behind = evidence.judgments.get(name, 0)
    agree = f", on which people agree {evidence.agreement.percent} of the time" if evidence.agreement.known else ""
    up, down = evidence.thumbs
    scored = (
        f"The reward model {evidence.reward_model} can score new answers to {rows}, so nobody has to judge them first."
    )
    said = {
        "dpo": f"It learns from pairs, and your {behind:,} judgments make {one.rows:,} of them{agree}.",
        "orpo": f"{evidence.parent} does not answer yet, and there are {rows} but no demonstrations: ORPO teaches the "
        "form and the preference in one go.",
        "kto": f"It learns from single thumbs, however uneven: you have {up:,} up and {down:,} down.",
        "sft": f"There are {rows} of what an answer should be, and imitating them is the first step"
        + (f" for {evidence.parent}, which only continues text so far." if not evidence.answers else "."),
        "pretrain": f"{evidence.parent} can read {rows} of your field"
        + (" before it learns to answer." if not evidence.answers else "; there is no feedback to learn from yet."),
        **dict.fromkeys(SCORED, scored),
        "reward_model": f"Your {rows} can teach a model to score answers as people would.",
    }
    return said[name]


def _rather_than(name: str, evidence: Evidence) -> str:
    """The second sentence: why not the others, or what comes after."""
    can = {other: one for other, one in evidence.readable.items() if one.possible and other != name}
    if name == "pretrain" and not evidence.answers:
        return "It will still not answer questions: SFT on demonstrations comes after." + _has(can, "sft")
    if name == "pretrain":
        return "Whole documents can make it forget how to answer, so a LoRA is proposed, which keeps its weights."
    if name == "sft" and not evidence.answers:
        return "Comparisons can only choose among answers that it already gives, so they come after."
    if name == "orpo":
        return "DPO would need a version that answers already."
    if name == "reward_model":
        return "PPO can then use its scores on as many prompts as you have, and so can RLOO."
    if name == "ppo":
        return _unlike_the_others(evidence)
    if name == "kto":
        return _no_pairs(evidence)
    without = "" if evidence.reward_model else "PPO would need a reward model first and then several times as long"
    only = _fewer(can, "sft", evidence.readable[name].rows)
    sentence = "; ".join(part for part in (without, only) if part and name == "dpo")
    return f"{sentence}." if sentence else _no_other(name)


def _no_pairs(evidence: Evidence) -> str:
    """Thumbs are proposed where comparisons are too few, or are learned already."""
    pairs = evidence.readable.get("dpo")
    if pairs is None:
        return _no_other("kto")
    if pairs.possible:
        return f"{evidence.parent} has learned from most of your {pairs.rows:,} {pairs.rows_are} already."
    there = f"you have only {pairs.rows:,}" if pairs.rows else "there are none"
    return f"{pairs.title} would need {pairs.needs:,} {pairs.rows_are}, and {there}."


def _unlike_the_others(evidence: Evidence) -> str:
    """What PPO costs against a method that reads pairs, and what it asks for less than RLOO."""
    pairs = evidence.readable.get("dpo")
    learned = pairs and pairs.possible and pairs.new < pairs.needs
    if pairs and learned:
        return (
            f"{evidence.parent} has learned from most of your {pairs.rows:,} {pairs.rows_are} already. PPO writes its "
            "own answers as it goes, which takes several times as long as DPO, but one to a prompt where RLOO needs "
            "several."
        )
    return (
        "It writes them itself as it goes, which takes several times as long as DPO on pairs, but one to a prompt "
        "where RLOO needs several."
    )


def _has(can: Mapping[str, Readable], name: str) -> str:
    return f" You have {can[name].rows:,} of them." if name in can else ""


def _fewer(can: Mapping[str, Readable], name: str, rows: int) -> str:
    """What is learned already, or would be as many rows, speaks for no method against it."""
    if name not in can or can[name].new < can[name].needs or can[name].rows >= rows:
        return ""
    return f"{can[name].title} would learn from the {can[name].rows:,} {can[name].rows_are} only"


def _no_other(name: str) -> str:
    return {
        "rloo": "It writes its own answers during the run, which takes several times as long as DPO.",
        "sft": "Once people have compared its answers, DPO goes further.",
    }.get(name, "It is the shortest way from what people said to a version that answers so.")


def _figures(name: str, one: Readable, evidence: Evidence) -> tuple[tuple[str, str], ...]:
    figures = [(f"{one.rows:,} {one.rows_are}", f"{one.title} needs {one.needs:,}")]
    if name in ("dpo", "orpo", "reward_model") and evidence.agreement.known:
        figures.append((evidence.agreement.percent, f"agreement; {PAPERS}"))
    if name == "kto":
        up, down = evidence.thumbs
        figures.append((f"{up:,} : {down:,}", "thumbs up to thumbs down"))
    return tuple(figures)


def _label_first(evidence: Evidence) -> Advice:
    """What is nearest to being possible, and how much of it is missing."""
    flow = FOR_ONE_THAT_ANSWERS if evidence.answers else FOR_A_BASE
    there = [name for name in flow if name in evidence.readable and name not in SCORED]
    nearest = max(there, key=lambda name: min(1.0, evidence.readable[name].rows / evidence.readable[name].needs))
    one = evidence.readable[nearest]
    missing = one.needs - one.rows
    short = (
        f"{one.title} is nearest: it needs {one.needs:,} {one.rows_are} and there are {one.rows:,}. "
        f"{'Import' if nearest == 'pretrain' else 'Label or import'} {missing:,} more, and it can start."
    )
    return Advice(
        method=nearest,
        title="Not enough to learn from yet",
        why=short if missing > 0 else f"{one.title} is nearest. {one.refusal}",
        figures=_figures(nearest, one, evidence),
        ready=False,
    )
