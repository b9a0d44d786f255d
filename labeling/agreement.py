"""How far people agree: with each other, with themselves, with what is known, and what else may have moved them.

Raw agreement on choices is what papers report (63 to 77 % between people on which of two answers is better), and it
flatters: two people who toss coins agree on half. Krippendorff's alpha takes chance out; Kendall's tau-b compares whole
rankings. Each comes with its n and a 95 % interval from a bootstrap over prompts, because what is said about one prompt
is not independent evidence.

Pure functions on plain values. evalica and scipy take a second to import, so they are imported where they are used.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from labeling.win_rate import Rate, clustered_rate
from storage.records import Judgment, Ranking, Rating

RESAMPLES = 300  # of alpha, at a millisecond each
SEED = 0
FEWEST = 10  # prompts that a bootstrap can be drawn from


@dataclass(frozen=True)
class Opinion:
    """What one person said about the answers to one prompt, once.

    `values` hold a number for each answer, the higher the better; `choices` what was chosen between, each +1 or -1:
    one a pair of answers that were put apart, or one an answer that got a thumb. A tie is no choice.
    """

    labeler: str
    prompt: str
    values: Mapping[str, float]
    choices: Mapping[Hashable, int]


@dataclass(frozen=True)
class Measured:
    """A number with its 95 % interval: of `n` comparisons on `prompts` prompts."""

    value: float
    low: float
    high: float
    n: int
    prompts: int


def opinion_of(judgment: Judgment) -> Opinion | None:
    """None for a judgment that compares and rates nothing (a demonstration)."""
    rankings = [verdict for verdict in judgment.verdicts if isinstance(verdict, Ranking)]
    thumbs = {one.response_id: 1.0 if one.desirable else -1.0 for one in judgment.verdicts if isinstance(one, Rating)}
    if rankings:
        values = _ranked(rankings[0])
        return Opinion(judgment.labeler, judgment.prompt_id, values, _apart(values))
    if thumbs:
        return Opinion(judgment.labeler, judgment.prompt_id, thumbs, {one: int(up) for one, up in thumbs.items()})
    return None


def _ranked(ranking: Ranking) -> dict[str, float]:
    """How many answers each one beats, ties counting half; a choice with a strength s is worth +s and -s."""
    if ranking.strength is not None and [len(tier) for tier in ranking.tiers] == [1, 1]:
        (better,), (worse,) = ranking.tiers
        return {better: float(ranking.strength), worse: -float(ranking.strength)}
    values, below = {}, sum(len(tier) for tier in ranking.tiers)
    for tier in ranking.tiers:
        below -= len(tier)
        values.update(dict.fromkeys(tier, below + (len(tier) - 1) / 2))
    middle = statistics.fmean(values.values())  # so that a tie of two is worth as much as the middle of a choice
    return {response: value - middle for response, value in values.items()}


def _apart(values: Mapping[str, float]) -> dict[Hashable, int]:
    pairs = combinations(sorted(values), 2)
    return {(a, b): 1 if values[a] > values[b] else -1 for a, b in pairs if values[a] != values[b]}


# ---- between people -------------------------------------------------------------------------------------------------


def raw_agreement(opinions: Sequence[Opinion]) -> Measured | None:
    """How often two people choose alike, over all choices that both made. None where no two people made one."""
    return _alike(pair for on_prompt in _by_prompt(opinions).values() for pair in combinations(on_prompt, 2))


def with_others(labeler: str, opinions: Sequence[Opinion]) -> Measured | None:
    """The same for one person against everybody else."""
    return _alike(
        (mine, other)
        for on_prompt in _by_prompt(opinions).values()
        for mine in on_prompt
        for other in on_prompt
        if mine.labeler == labeler and other.labeler != labeler
    )


def alpha(opinions: Sequence[Opinion]) -> Measured | None:
    """Krippendorff's alpha for ordinal values; n counts the answers that two people or more spoke about.

    None where there are none, and where everybody said one and the same: then nothing could have disagreed. A partial
    ranking is compared by its places among what it ranks. Of fewer than FEWEST prompts the interval is all there is.
    """
    units = _units(opinions)
    matrix = _matrix(units)
    value = _alpha(matrix)
    if value is None:
        return None
    prompts = len({prompt for prompt, _ in units})
    drawn = list(_resampled(matrix, [prompt for prompt, _ in units])) if prompts >= FEWEST else []
    low, high = (float(one) for one in np.quantile(drawn, [0.025, 0.975])) if drawn else (-1.0, 1.0)
    unseen = 1 - 3 / prompts  # the rule of three: what never happened in n may still happen in 3 of n
    return Measured(value, min(low, value, unseen), max(high, value), len(units), prompts)


def alpha_alone(opinions: Sequence[Opinion]) -> float | None:
    """Without its interval, which is what takes time."""
    return _alpha(_matrix(_units(opinions)))


def tau_b(opinions: Sequence[Opinion]) -> Measured | None:
    """Kendall's tau-b between two people's rankings of the same answers, on average; n counts such pairs of people.

    None where no two people ranked the same two answers, or one of them tied all.
    """
    found = [
        (one.prompt, tau)
        for on_prompt in _by_prompt(opinions).values()
        for one, other in combinations(on_prompt, 2)
        if (tau := kendall(one.values, other.values)) is not None
    ]
    if not found:
        return None
    rate = clustered_rate(
        [prompt for prompt, _ in found], [(tau + 1) / 2 for _, tau in found]
    )  # from [-1, 1] to [0, 1]
    prompts = len({prompt for prompt, _ in found})
    return Measured(2 * rate.value - 1, 2 * rate.low - 1, 2 * rate.high - 1, len(found), prompts)


def kendall(one: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    """tau-b over the answers that both ranked; None where it is not defined."""
    from scipy.stats import kendalltau

    shared = sorted(one.keys() & other.keys())
    if len({one[key] for key in shared}) < 2 or len({other[key] for key in shared}) < 2:
        return None
    return float(kendalltau([one[key] for key in shared], [other[key] for key in shared], variant="b").statistic)


# ---- with oneself, with what is known -------------------------------------------------------------------------------


def self_consistency(firsts: Sequence[Opinion], repeats: Sequence[Opinion]) -> Measured | None:
    """How often people choose as they did the first time, when an item comes again unannounced."""
    first = {(one.labeler, one.prompt): one for one in firsts}
    return _alike((first[key], again) for again in repeats if (key := (again.labeler, again.prompt)) in first)


def against(opinions: Sequence[Opinion], known: Mapping[str, Opinion]) -> Measured | None:
    """How often choices are as in the known answer to the prompt; nobody is held against their own."""
    return _alike((one, right) for one in opinions if (right := known.get(one.prompt)) and right.labeler != one.labeler)


def split(on_prompt: Sequence[Opinion]) -> float:
    """The share of choices on which two people differ; 0 where no two people made the same one."""
    found = raw_agreement(on_prompt)
    return 1 - found.value if found else 0.0


# ---- what else may have moved them ----------------------------------------------------------------------------------


def chooses_first(opinions: Sequence[Opinion], displayed: Sequence[Sequence[str]]) -> Measured | None:
    """How often the better of two answers is the one that was shown before the other. Half, where place is nothing."""
    place = [{response: -number for number, response in enumerate(order)} for order in displayed]
    return _leaning(opinions, place)


def chooses_longer(opinions: Sequence[Opinion], words: Mapping[str, int]) -> Measured | None:
    """How often the better of two answers is the longer one. Equal lengths say nothing."""
    return _leaning(opinions, [words] * len(opinions))


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def measured(prompts: Sequence[str], outcomes: Sequence[float]) -> Measured | None:
    """A share of these outcomes, each 0 or 1; None of nothing."""
    if not outcomes:
        return None
    rate: Rate = clustered_rate(prompts, outcomes)
    return Measured(rate.value, rate.low, rate.high, len(outcomes), len(set(prompts)))


def _alike(pairs: Iterable[tuple[Opinion, Opinion]]) -> Measured | None:
    prompts, outcomes = [], []
    for one, other in pairs:
        for key in one.choices.keys() & other.choices.keys():
            prompts.append(one.prompt)
            outcomes.append(float(one.choices[key] == other.choices[key]))
    return measured(prompts, outcomes)


def _leaning(opinions: Sequence[Opinion], scales: Sequence[Mapping[str, float]]) -> Measured | None:
    """How often the better of two answers is the one that stands higher on the other scale."""
    prompts, outcomes = [], []
    for opinion, scale in zip(opinions, scales, strict=True):
        for a, b in combinations(sorted(opinion.values.keys() & scale.keys()), 2):
            better, other = opinion.values[a] - opinion.values[b], scale[a] - scale[b]
            if better and other:
                prompts.append(opinion.prompt)
                outcomes.append(float((better > 0) == (other > 0)))
    return measured(prompts, outcomes)


def _by_prompt(opinions: Sequence[Opinion]) -> dict[str, list[Opinion]]:
    found: dict[str, list[Opinion]] = defaultdict(list)
    for opinion in opinions:
        found[opinion.prompt].append(opinion)
    return found


Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def _units(opinions: Sequence[Opinion]) -> dict[tuple[str, str], dict[str, float]]:
    """What is compared: each answer that two people or more gave a value, {(prompt, response): {labeler: value}}."""
    units: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for opinion in opinions:
        for response, value in opinion.values.items():
            units[opinion.prompt, response][opinion.labeler] = value
    return {key: values for key, values in units.items() if len(values) > 1}


def _matrix(units: Mapping[tuple[str, str], Mapping[str, float]]) -> Matrix:
    """(people, units), with NaN where a person said nothing."""
    people = sorted({labeler for values in units.values() for labeler in values})
    return np.array([[values.get(one, math.nan) for values in units.values()] for one in people], dtype=float)


def _alpha(matrix: Matrix) -> float | None:
    import evalica
    import pandas

    if len(np.unique(matrix[~np.isnan(matrix)])) < 2:
        return None
    return float(evalica.alpha(pandas.DataFrame(matrix), "ordinal").alpha)


def _resampled(matrix: Matrix, prompts: Sequence[str]) -> Iterator[float]:
    """Alpha of as many prompts drawn with replacement, again and again; of one prompt nothing can be drawn."""
    at_prompt: dict[str, list[int]] = defaultdict(list)
    for at, prompt in enumerate(prompts):
        at_prompt[prompt].append(at)
    columns = list(at_prompt.values())
    random = np.random.default_rng(SEED)
    for _ in range(RESAMPLES if len(columns) > 1 else 0):
        chosen = [at for number in random.integers(len(columns), size=len(columns)) for at in columns[number]]
        found = _alpha(matrix[:, chosen])
        if found is not None:
            yield found
