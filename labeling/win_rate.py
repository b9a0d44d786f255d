"""How often one version beats another, and how sure one may be of it.

A win counts 1; a tie counts one half, and so does "both bad". Judgments of the same prompt resemble each other, so
they are not independent evidence: the interval comes from a bootstrap that draws whole prompts, not single votes.
Counting votes instead would make ten people on one prompt look like ten prompts.

Pure functions on plain tuples; numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

RESAMPLES = 4_000
SEED = 0
FEW_PROMPTS = 20
FEWEST_PROMPTS = 10  # below it no version is called better
TOO_WIDE = 0.4  # an interval this wide cannot say that there is no effect
MOST_NEEDED = 5_000
_Z95 = 1.959964


class Vote(NamedTuple):
    """One blind judgment of versions A and B, seen from A."""

    prompt: str
    labeler: str
    outcome: float  # 1 A is better, 0.5 a tie, 0 B is better
    a_was_first: bool
    words_a: int = 0
    words_b: int = 0
    both_bad: bool = False  # a tie by outcome


@dataclass(frozen=True)
class Rate:
    """A share and its 95 % interval."""

    value: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high

    def reversed(self) -> Rate:
        """The same, seen from the other side."""
        return Rate(1 - self.value, 1 - self.high, 1 - self.low)


@dataclass(frozen=True)
class WinRate:
    """What all blind judgments say about A against B. `needed` is None where it is settled or would take too many."""

    wins: Rate
    first_wins: Rate
    judgments: int
    people: int
    prompts: int
    ties: int  # without the both bad
    both_bad: int
    words_longer: float  # how many words A is longer than B, on average over prompts
    needed: int | None

    @property
    def settled(self) -> bool:
        return self.prompts >= FEWEST_PROMPTS and not self.wins.contains(0.5)


def win_rate(votes: Sequence[Vote]) -> WinRate:
    """Everything the results card says. No votes give 50 % in [0, 1]."""
    prompts = [vote.prompt for vote in votes]
    wins = clustered_rate(prompts, [vote.outcome for vote in votes])
    first = [vote.outcome if vote.a_was_first else 1 - vote.outcome for vote in votes]
    return WinRate(
        wins=wins,
        first_wins=clustered_rate(prompts, first),
        judgments=len(votes),
        people=len({vote.labeler for vote in votes}),
        prompts=len(set(prompts)),
        ties=sum(vote.outcome == 0.5 and not vote.both_bad for vote in votes),
        both_bad=sum(vote.both_bad for vote in votes),
        words_longer=_words_longer(votes),
        needed=judgments_needed(wins, len(votes)),
    )


def clustered_rate(
    clusters: Sequence[str], outcomes: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED
) -> Rate:
    """The mean outcome with a 95 % percentile interval from resampling clusters (prompts).

    The bootstrap only knows what it has seen: of 0 or 1 prompts it knows nothing, so the interval is [0, 1]; where all
    agree it would have no width. So it is widened to Wilson's interval for that many prompts where there are fewer than
    FEW_PROMPTS of them, or where it has no width or touches 0 or 1. (Of 5 prompts at a true 80 %, the bare bootstrap
    covers the truth 67 times in 100 and this 99; at 60 prompts and more both cover it 95 to 98 times.)
    """
    if not outcomes:
        return Rate(0.5, 0.0, 1.0)
    value = _mean(outcomes)
    sums, counts = _by_cluster(clusters, outcomes)
    if len(sums) < 2:
        return Rate(value, 0.0, 1.0)
    low, high = _bootstrap(sums, counts, resamples, seed)
    if len(sums) < FEW_PROMPTS or low == high or low <= 0 or high >= 1:
        wilson_low, wilson_high = wilson(value, len(sums))
        low, high = min(low, wilson_low), max(high, wilson_high)
    return Rate(value, low, high)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share among n (Wilson 1927, eq. 7 without continuity correction)."""
    z2 = _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def judgments_needed(wins: Rate, judgments: int) -> int | None:
    """How many more judgments would exclude 50 %, if the rate stays as it is; None where settled or out of reach.

    An interval narrows with the root of the judgments, so it takes n (half-width / distance)^2 of them in all.
    """
    distance = abs(wins.value - 0.5)
    if not wins.contains(0.5) or distance == 0 or judgments == 0:
        return None
    half_width = wins.value - wins.low if wins.value > 0.5 else wins.high - wins.value
    more = math.ceil(judgments * (half_width / distance) ** 2) - judgments
    return max(1, more) if more <= MOST_NEEDED else None


# ---- in words -------------------------------------------------------------------------------------------------------


def title(result: WinRate, a: str, b: str) -> str:
    """The conclusion in a few words, no stronger than the interval allows."""
    leader, other = (a, b) if result.wins.value >= 0.5 else (b, a)
    if not result.judgments:
        return f"{a} against {b}"
    if result.prompts < FEWEST_PROMPTS:
        return "Too early to say"
    if result.settled:
        return f"{leader} beats {other}"
    return f"{a} and {b} are level" if result.wins.value == 0.5 else f"{leader} is ahead of {other}"


def verdict(result: WinRate) -> str:
    """What to make of it, and what would make it surer."""
    if not result.judgments:
        return "No judgments yet. The first one starts the count."
    if result.prompts < 2:
        return "One prompt says nothing about the next one. Judge some more."
    if result.prompts < FEWEST_PROMPTS:
        return f"{result.prompts} prompts are too few for a conclusion; judge at least {FEWEST_PROMPTS}."
    if result.settled:
        return "The interval leaves out 50 %, so this is hardly luck."
    if result.wins.value == 0.5:
        return "So far there is no difference to see."
    if result.needed is None:
        return "It could be luck: so small a difference would take thousands of judgments to settle."
    more = "1 more judgment" if result.needed == 1 else f"{result.needed} more judgments"
    return f"It could be luck; about {more} would settle it, if the rate stays."


def position_sentence(result: WinRate) -> str:
    """Whether being shown first helped."""
    first = result.first_wins
    share = f"The left answer won {percent(first)}"
    if first.high - first.low > TOO_WIDE:
        return f"{share}: too early to say."
    return f"{share}: {'no effect seen' if first.contains(0.5) else 'the side seems to matter'}."


def length_sentence(result: WinRate, a: str) -> str:
    words = round(abs(result.words_longer))
    if words == 0:
        return "Answers are about equally long."
    return f"{a} is {words} {'word' if words == 1 else 'words'} {'longer' if result.words_longer > 0 else 'shorter'}."


def percent(rate: Rate) -> str:
    """68 % [59, 76]"""
    return f"{100 * rate.value:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


# ---- arithmetic -----------------------------------------------------------------------------------------------------

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _by_cluster(clusters: Sequence[str], outcomes: Sequence[float]) -> tuple[Numbers, Numbers]:
    """Sum and count of the outcomes in each cluster, both (clusters,)."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for cluster, outcome in zip(clusters, outcomes, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + outcome
        counts[cluster] = counts.get(cluster, 0) + 1
    return np.array(list(sums.values()), dtype=float), np.array(list(counts.values()), dtype=float)


def _bootstrap(sums: Numbers, counts: Numbers, resamples: int, seed: int) -> tuple[float, float]:
    """2.5 and 97.5 percentiles of the rate when as many clusters are drawn with replacement."""
    random = np.random.default_rng(seed)
    clusters = len(sums)
    # how often each cluster is drawn: (resamples, clusters)
    weights = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)
    rates = (weights @ sums) / (weights @ counts)
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


def _words_longer(votes: Sequence[Vote]) -> float:
    """Over prompts, not votes: the answers of a prompt are the same however many people judge them."""
    return _mean(list({vote.prompt: float(vote.words_a - vote.words_b) for vote in votes}.values()))
