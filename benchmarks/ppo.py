"""What PPO on one set of weights costs and what it reaches, over the PPO of TRL 1.12, the last version that had one.

    python -m benchmarks.ppo [--quick] [--seeds N] [--kept FILE] [SECTION ...]

    cost      memory above the interpreter's own and CPU seconds an iteration, with 77 million parameters and 32,000
              words of random weights; medians of interleaved processes
    rule      the starter model, scored by a rule: how many of its answers are as wanted after 25 iterations of 64
    layers    reward at equal drift, adapters in the upper half of the layers over adapters in all
    peer      reward at equal drift over TRL, each with the best of three learning rates
    steady    the starter model with a reward model trained on pairs: does any seed diverge

Every training is a process of its own, with one thread. TRL 1.12 lives in an environment of its own, .venv-trl112, made
when it is first needed. In `rule`, `layers` and `peer` beta is 0.02 and an answer without end costs nothing, so that
all runs pass the drifts that are compared and the reward lies between 0 and 1. All of it takes hours of one core: with
--kept, what was trained is kept in a file, and a later call goes on from there. `--quick` is `rule`, one seed, 10
iterations.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import memory
from benchmarks.bars import Bar, report
from benchmarks.ppo_jobs import Told
from benchmarks.ppo_trials import LAST_OF_ALL, Trials, asking
from benchmarks.starter_rows import STARTER, messages, rows

REPEATS = 3
MOST = {"all": (0.40, 0.60), "upper half": (0.30, 0.40)}  # of the peer's memory, of its CPU time
SEEDS, STEADY_SEEDS = 5, 20
RATES = (5e-4, 1e-3, 2e-3)
DRIFTS = (0.5, 1.0, 2.0)
LEAST_PREFERRED = 0.90
PAIRS = 300

OF_BOTH: dict[str, Any] = {  # said in full, so that these sections stay as they are when a default changes
    "learning_rate": 5e-4,
    "epochs": 2,
    "batch_size": 16,
    "accumulate": 4,
    "most_steps": 25,
    "longest_answer": 128,
    "temperature": 1.0,
    "beta": 0.02,
    "no_end_penalty": 0.0,
}
OF_COST = {**OF_BOTH, "batch_size": 8, "accumulate": 2, "most_steps": 3, "longest_answer": 32, "most_kl": 0.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the rule alone, one seed, 10 iterations")
    parser.add_argument("--seeds", type=int, default=0, help="so many, where not all are wanted")
    parser.add_argument("--kept", type=Path, help="a file of trainings done before; the new ones are added to it")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all unless named")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}. There are {', '.join(SECTIONS)}.")
    with tempfile.TemporaryDirectory() as home:
        trials = Trials(Path(home), 1 if options.quick else options.seeds, options.quick, options.kept)
        names = ("rule",) if options.quick else tuple(options.sections) or tuple(SECTIONS)
        bars = [bar for name in names for bar in SECTIONS[name](trials)]
    print()
    return report(bars, f"{len(trials.told)} trainings.")


# ---- cost -----------------------------------------------------------------------------------------------------------


def cost(trials: Trials) -> list[Bar]:
    """Ours in both configurations and the peer by turns. The reward models hold what a few pairs of nonsense taught."""
    base = trials.home / "wide"
    memory.write_model(memory.WIDE, base)
    rewards = {
        layers: trials.reward_model(layers, base, PAIRS_OF_NONSENSE, layers=layers, **LAST_OF_ALL) for layers in MOST
    }
    questions = asking([f"{place:03} " + "dose " * 10 for place in range(48)])
    found: dict[str, list[Told]] = {"peer": [], **{layers: [] for layers in MOST}}
    for seed in range(REPEATS):
        told = {**OF_COST, "seed": seed}
        for layers in MOST:
            found[layers].append(trials.ppo("ours", base, questions, {**told, "layers": layers}, rewards[layers]))
        found["peer"].append(trials.ppo("peer", base, questions, told, rewards["all"]))
    return [bar for layers in MOST for bar in cost_bars(layers, found[layers], found["peer"])]


PAIRS_OF_NONSENSE = [
    {
        "prompt": messages("user", f"{place} dose"),
        "chosen": messages("assistant", "take it daily"),
        "rejected": messages("assistant", "never"),
        "judgment_id": f"j{place}",
    }
    for place in range(32)
]


def cost_bars(layers: str, ours: Sequence[Told], peer: Sequence[Told]) -> list[Bar]:
    most_memory, most_time = MOST[layers]
    return [
        ratio_bar(f"adapters in {layers}: memory over TRL's, MB", ours, peer, lambda told: told.own_mb, most_memory),
        ratio_bar(f"adapters in {layers}: CPU s an iteration", ours, peer, lambda told: told.seconds_each, most_time),
    ]


def ratio_bar(what: str, ours: Sequence[Told], peer: Sequence[Told], of: Callable[[Told], float], most: float) -> Bar:
    mine, theirs = (statistics.median(of(told) for told in both) for both in (ours, peer))
    return Bar(
        what, f"{mine / theirs:.2f} ({mine:.4g} over {theirs:.4g})", f"at most {most:.2f}", mine / theirs <= most
    )


# ---- what it reaches by a rule --------------------------------------------------------------------------------------


def rule(trials: Trials) -> list[Bar]:
    shorter: dict[str, Any] = {"most_steps": 10} if trials.quick else {}
    return [preferred(seed, trials.ours(seed, **{**OF_BOTH, **shorter})) for seed in trials.seeds(SEEDS)]


def preferred(seed: int, told: Told) -> Bar:
    shown = f"{told.preferred:.1%} (well formed {told.well_formed:.1%}, KL {told.last('kl'):.2f})"
    return Bar(
        f"answers as wanted at T = 1, seed {seed}",
        shown,
        f"at least {LEAST_PREFERRED:.0%}",
        told.preferred >= LEAST_PREFERRED,
    )


def layers(trials: Trials) -> list[Bar]:
    both = {name: [trials.ours(seed, **OF_BOTH, layers=name) for seed in trials.seeds(SEEDS)] for name in MOST}
    upper, all_layers = (rewards_at(both[name]) for name in ("upper half", "all"))
    return [compared(f"reward at KL {drift}, upper half over all", upper, all_layers, drift, None) for drift in DRIFTS]


def peer(trials: Trials) -> list[Bar]:
    """At each drift, each side with its own best learning rate."""
    sides = {
        name: {
            rate: [train_at(seed, **{**OF_BOTH, "learning_rate": rate}) for seed in trials.seeds(SEEDS)]
            for rate in RATES
        }
        for name, train_at in (("ours", trials.ours), ("TRL", trials.peer))
    }
    best = {name: best_rate(by_rate) for name, by_rate in sides.items()}
    found = {name: sides[name][rate] for name, rate in best.items()}
    ours, theirs = (rewards_at(found[name]) for name in sides)
    words = f"ours at {best['ours']:g} over TRL at {best['TRL']:g}"
    fallen = {name: sum(told.diverged for told in found[name]) for name in sides}
    return [
        *(compared(f"reward at KL {drift}, {words}", ours, theirs, drift, 1.0) for drift in DRIFTS),
        Bar("seeds that diverge, ours (TRL)", f"{fallen['ours']} ({fallen['TRL']})", "0", not fallen["ours"]),
    ]


def best_rate(by_rate: Mapping[float, Sequence[Told]]) -> float:
    """The one with the most reward over the drifts; a rate that does not get to one of them has none there."""
    return max(by_rate, key=lambda rate: sum(rewards_at(by_rate[rate]).values()))


def rewards_at(runs: Sequence[Told]) -> dict[float, float]:
    return {drift: reward_at(drift, runs) for drift in DRIFTS}


def reward_at(drift: float, runs: Sequence[Told]) -> float:
    """The reward at this KL, on a line through all iterations of all seeds near it: within half of it, the nearer the
    more they count. Nought where fewer than three are near, for then the runs do not pass there."""
    points = [(values["kl"] - drift, values["reward"]) for told in runs for values in told.curve]
    near = [(away, reward, 1 - abs(away) / (drift / 2)) for away, reward in points if abs(away) < drift / 2]
    return at_nought(near) if len(near) >= 3 else 0.0


def at_nought(points: Sequence[tuple[float, float, float]]) -> float:
    """Of the least-squares line through (x, y, weight): its y at x = 0."""
    total = sum(weight for _, _, weight in points)
    x, y = (sum(point[axis] * point[2] for point in points) / total for axis in (0, 1))
    spread = sum(weight * (one - x) ** 2 for one, _, weight in points)
    slope = sum(weight * (one - x) * (other - y) for one, other, weight in points) / spread
    return y - slope * x


def compared(
    what: str, ours: Mapping[float, float], theirs: Mapping[float, float], drift: float, least: float | None
) -> Bar:
    if not theirs[drift]:
        return Bar(what, f"{ours[drift]:.3f}; the other never drifts so far", "none", True)
    ratio = ours[drift] / theirs[drift]
    shown = f"{ratio:.3f} ({ours[drift]:.3f} over {theirs[drift]:.3f})"
    return Bar(what, shown, f"at least {least:.2f}" if least else "none", least is None or ratio >= least)


# ---- what it reaches by a reward model ------------------------------------------------------------------------------


def steady(trials: Trials) -> list[Bar]:
    """With the method's own defaults. That the answers stay well formed is not known to the reward model."""
    reward = trials.reward_model("pairs", STARTER, rows("preference", PAIRS))
    return [steady_bar(seed, trials.ours(seed, reward)) for seed in trials.seeds(STEADY_SEEDS)]


def steady_bar(seed: int, told: Told) -> Bar:
    rewards = f"{told.first('reward'):.2f} -> {told.last('reward'):.2f}"
    form = f"well formed {told.first('gold'):.0%} -> {told.last('gold'):.0%}"
    shown = f"{rewards} at KL {told.last('kl'):.2f}; {form}"
    return Bar(f"reward by the reward model, seed {seed}", shown, "rises", not told.diverged)


SECTIONS: Mapping[str, Callable[[Trials], list[Bar]]] = {
    "cost": cost,
    "rule": rule,
    "layers": layers,
    "peer": peer,
    "steady": steady,
}

if __name__ == "__main__":
    sys.exit(main())
