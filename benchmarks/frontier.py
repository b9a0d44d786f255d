"""How near to the exact optimum does each method end, in a world where the optimum can be written down?

    python -m benchmarks.frontier [--quick] [--only "NAME;NAME"] [--kept FILE] [--picture FILE]

The reward-KL figure of the DPO paper (arXiv:2305.18290), with the truth drawn in. In the world of `frontier_world`
every answer is listed, so the best reward at each KL is known, and where a model stands is a sum and no estimate. Each
method trains by its own class, as a run would, from 19,200 answers and three seeds:

* PPO and RLOO sample them and are told the true reward.
* DPO, IPO, KTO and ORPO read 9,600 pairs of the reference's answers. The better one of a pair is chosen as by people
  who err, by Bradley and Terry's model of the true reward: with endless labels of this kind DPO's own optimum is the
  frontier. KTO reads the same pairs as 19,200 thumbs.
* The best of n answers of the reference is no training; its distribution is written down too.

The share of the gain is that of reward - beta KL over the reference's, by the optimum's. For PPO, RLOO and DPO beta is
the method's own. The beta of IPO (per token), KTO and ORPO and the n of best-of-n mean something else, so these get the
best mean of their sweep, which is in their favour. The distance is the reward missing at equal KL, of what could be
gained at all. The ceiling is what the same adapter reaches by the exact gradient of the objective.

All of it takes hours of one core. With --kept, what was placed is kept in a file, and a later call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers.utils import logging

from alignment.methods.base import Inputs, Parent, TunedMethod
from alignment.methods.dpo import DPO
from alignment.methods.kto import KTO
from alignment.methods.orpo import ORPO
from alignment.methods.ppo import PPO
from alignment.methods.rloo import RLOO
from benchmarks.bars import Bar, report
from benchmarks.frontier_picture import picture
from benchmarks.frontier_world import LONGEST, LONGEST_ROW, TEMPLATE, Point, TrueReward, World, load, log_probabilities

BETAS = (0.1, 0.25, 0.5, 1.0)
SEEDS = (0, 1, 2)
PAIRS = 9_600
NUMBERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096)  # of answers, for best-of-n
LEAST = {"PPO": 0.94, "PPO, 77,000 answers": 0.95}
ADAPTER = {"lora_rank": 4, "lora_alpha": 8, "layers": "all"}
WHOLE = {**ADAPTER, "held_out_share": 0.0, "evaluations": 1, "keep": "last"}  # all rows are learned from
ONLINE = {**WHOLE, "no_end_penalty": 0.0}  # an answer of three symbols is an answer
CEILING_STEPS, CEILING_RATE = 250, 1e-2


@dataclass(frozen=True)
class Entry:
    """A method with its settings, and the values of beta that it is swept over."""

    method: type[TunedMethod]
    settings: Mapping[str, Any]
    betas: tuple[float, ...] = BETAS
    same_beta: bool = True

    def at(self, beta: float, seed: int) -> TunedMethod:
        """The form asks for rows of 16 tokens and more; here they end where sampling ends, at seven."""
        method = self.method.model_validate({**self.settings, "beta": beta, "seed": seed})
        return method.model_copy(update={"max_length": LONGEST_ROW})


STEADY = {"learning_rate": 5e-3, "epochs": 4, "clip": 0.03, "most_kl": 0.0, "lam": 1.0, "longest_answer": LONGEST}
GROUPS = {"answers_per_prompt": 32, "iterations": 4, "epochs": 1000, "longest_answer": LONGEST}
FIXED = {**WHOLE, "learning_rate": 5e-3, "epochs": 2}
PAPER = {**FIXED, "likelihood_weight": 0.0, "batch_size": 64}
EVEN = {"desirable_weight": 1.0, "undesirable_weight": 1.0}
ENTRIES = {
    "PPO": Entry(PPO, {**ONLINE, **STEADY, "most_steps": 75, "batch_size": 64, "accumulate": 4}),
    "PPO, 77,000 answers": Entry(PPO, {**ONLINE, **STEADY, "most_steps": 150, "batch_size": 128, "accumulate": 4}),
    "RLOO": Entry(RLOO, {**ONLINE, **GROUPS, "learning_rate": 5e-3, "most_steps": 600, "batch_size": 128}),
    "DPO": Entry(DPO, PAPER),
    "IPO": Entry(DPO, {**PAPER, "loss": "ipo"}, betas=(0.05, 0.1, 0.25, 0.5), same_beta=False),
    "KTO": Entry(KTO, {**FIXED, **EVEN, "batch_size": 128}, same_beta=False),
    "ORPO": Entry(ORPO, {**FIXED, "batch_size": 64}, betas=(0.5, 1.0, 4.0, 20.0), same_beta=False),
}


@dataclass(frozen=True)
class Placed:
    """Where one training ended. answers: how many were scored or labelled."""

    name: str
    beta: float
    seed: int
    kl: float
    reward: float
    answers: int
    seconds: float

    @property
    def point(self) -> Point:
        return Point(self.kl, self.reward)


class Silent:
    """Nobody watches these runs."""

    sample_prompts: Sequence[Any] = ()
    stop_asked = False

    def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None: ...

    def samples(self, step: int, texts: Sequence[str]) -> None: ...

    def note(self, sentence: str) -> None: ...

    def evaluation(self, values: Mapping[str, Any]) -> None: ...


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="PPO once, at beta 0.5, and best-of-n")
    parser.add_argument("--only", default="", help="these, separated by semicolons: " + "; ".join(ENTRIES))
    parser.add_argument(
        "--kept", type=Path, help="a file of what was placed before by these settings; what is new is added"
    )
    parser.add_argument("--picture", type=Path, help="where to draw")
    options = parser.parse_args()
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # as train.py does; its import takes seconds
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    names = ["PPO"] if options.quick else options.only.split(";") if options.only else list(ENTRIES)
    if unknown := set(names) - set(ENTRIES):
        parser.error(f"no such entry here: {', '.join(sorted(unknown))}. There are {'; '.join(ENTRIES)}.")
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "base")
        placed = trained(world, Path(folder), names, options.quick, options.kept)
        bars = [whole(world), *stated(world, placed, with_ceiling=not options.quick), *best_of_n(world)]
    if options.picture:
        options.picture.write_text(drawn(world, placed))
    print()
    return report(bars, f"{len(placed)} trainings.")


# ---- training


def trained(world: World, folder: Path, names: Sequence[str], quick: bool, kept: Path | None) -> list[Placed]:
    """All that was asked for, one after the other; what is in the file already is not trained again."""
    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    placed = [Placed(**json.loads(line)) for line in lines]
    there = {(one.name, one.beta, one.seed) for one in placed}
    for name, beta, seed in wanted(names, quick):
        if (name, beta, seed) in there:
            continue
        placed.append(train(world, folder, name, beta, seed))
        print(sentence(world, placed[-1]), flush=True)
        if kept:
            with kept.open("a") as file:
                file.write(json.dumps(asdict(placed[-1])) + "\n")
    return [one for one in placed if one.name in names]


def wanted(names: Sequence[str], quick: bool) -> list[tuple[str, float, int]]:
    """(name, beta, seed): every method once before any a second time."""
    if quick:
        return [(name, 0.5, 0) for name in names]
    return [(name, beta, seed) for seed in SEEDS for name in names for beta in ENTRIES[name].betas]


def train(world: World, folder: Path, name: str, beta: float, seed: int) -> Placed:
    method, reward, started = ENTRIES[name].at(beta, seed), TrueReward(), time.process_time()
    place = folder / f"{name} {beta} {seed}"
    parent = Parent("reference", str(world.base), None, TEMPLATE)
    rows = rows_for(world, method)
    with redirect_stdout(sys.stderr):  # where trainers print what they please
        method.train(Inputs(rows, parent, place, scored_by=reward), Silent())
    point = world.place(place / "model")
    answers = reward.asked or (len(rows) if method.reads == "unpaired_preference" else 2 * len(rows))
    return Placed(name, beta, seed, point.kl, point.reward, answers, time.process_time() - started)


def rows_for(world: World, method: TunedMethod) -> list[dict[str, Any]]:
    if method.reads == "prompt_only":
        return world.prompts()
    pairs = world.pairs(PAIRS, method.seed)
    if method.reads == "preference":
        return pairs
    return [
        {
            "prompt": pair["prompt"],
            "completion": pair[side],
            "label": side == "chosen",
            "judgment_id": pair["judgment_id"],
        }
        for pair in pairs
        for side in ("chosen", "rejected")
    ]


def sentence(world: World, one: Placed) -> str:
    share = f"share of the gain {world.truth.share(one.point, one.beta):.3f}, " if ENTRIES[one.name].same_beta else ""
    return (
        f"{one.name}, beta {one.beta:g}, seed {one.seed}: KL {one.kl:.2f}, reward {one.reward:.2f}, {share}"
        f"missing {world.truth.missing(one.point):.3f}; {one.answers:,} answers, {one.seconds:.0f} CPU s"
    )


def ceiling(world: World, beta: float) -> float:
    """The share that the same adapter reaches by the gradient of the objective itself, with no sampling.

    Its settings were not searched, so another training may come out a little above.
    """
    from peft import get_peft_model

    from alignment.methods.weights import lora

    torch.manual_seed(0)
    base = load(world.base)
    model = get_peft_model(base, lora(PPO.model_validate(ADAPTER), base)).eval()
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=CEILING_RATE, eps=1e-5)
    for step in range(CEILING_STEPS):
        optimizer.param_groups[0]["lr"] = CEILING_RATE * (1 - step / CEILING_STEPS)
        optimizer.zero_grad()
        (-world.truth.objective(log_probabilities(model), beta)).backward()
        optimizer.step()
    with torch.no_grad():
        return world.truth.share(world.truth.place(log_probabilities(model)), beta)


# ---- what is said


def whole(world: World) -> Bar:
    """If the listed answers were not all that can be said, nothing below would mean anything."""
    off = float((world.truth.reference.exp().sum(1) - 1).abs().max())
    return Bar(
        f"probability of the {world.truth.reference.shape[1]:,} answers", f"1, to {off:.0e}", "to 1e-06", off < 1e-6
    )


def stated(world: World, placed: Sequence[Placed], with_ceiling: bool) -> list[Bar]:
    bars = []
    if with_ceiling:
        found = [ceiling(world, beta) for beta in BETAS]
        bars += [
            Bar(gain("the adapter's ceiling", b), f"{one:.3f}", "stated", True)
            for b, one in zip(BETAS, found, strict=True)
        ]
    for name in dict.fromkeys(one.name for one in placed):
        own = [one for one in placed if one.name == name]
        bars += own_beta(world, name, own) if ENTRIES[name].same_beta else best_beta(world, name, own)
        bars.append(distance(world, name, [one.point for one in own]))
    return bars


def gain(name: str, beta: float) -> str:
    return f"{name}, beta {beta:g}: share of the gain"


def own_beta(world: World, name: str, own: Sequence[Placed]) -> list[Bar]:
    bars, least = [], LEAST.get(name)
    for beta in sorted({one.beta for one in own}):
        shares = [world.truth.share(one.point, beta) for one in own if one.beta == beta]
        bar = f"each at least {least}" if least else "stated"
        bars.append(Bar(gain(name, beta), spread(shares), bar, least is None or min(shares) >= least))
    return bars


def best_beta(world: World, name: str, own: Sequence[Placed]) -> list[Bar]:
    def shares(setting: float, beta: float) -> list[float]:
        return [world.truth.share(one.point, beta) for one in own if one.beta == setting]

    bars, settings = [], sorted({one.beta for one in own})
    for beta in BETAS:
        best = max(settings, key=lambda setting: fmean(shares(setting, beta)))
        bars.append(Bar(gain(name, beta), f"{spread(shares(best, beta))} with {best:g}", "stated", True))
    return bars


def distance(world: World, name: str, points: Sequence[Point]) -> Bar:
    return Bar(
        f"{name}: reward missing at equal KL", spread([world.truth.missing(one) for one in points]), "stated", True
    )


def spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def best_of_n(world: World) -> list[Bar]:
    points, bars = {n: world.truth.best_of(n) for n in NUMBERS}, []
    for beta in BETAS:
        best = max(NUMBERS, key=lambda n: world.truth.share(points[n], beta))
        share = world.truth.share(points[best], beta)
        bars.append(Bar(gain("best of n", beta), f"{share:.3f} with n = {best}", "stated", True))
    return [*bars, distance(world, "best of n", [points[n] for n in NUMBERS[1:]])]


def drawn(world: World, placed: Sequence[Placed]) -> str:
    frontier = [world.truth.optimum(10 ** (exponent / 20)) for exponent in range(60, -36, -1)]
    series = {name: [one.point for one in placed if one.name == name] for name in ENTRIES}
    shown = {name: points for name, points in series.items() if points and name != "PPO, 77,000 answers"}
    return picture(frontier, {**shown, "best of n": [world.truth.best_of(n) for n in NUMBERS]}, lines=["best of n"])


if __name__ == "__main__":
    sys.exit(main())
