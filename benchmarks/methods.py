"""Does each method move its own held-out measure in the right direction? Three seeds, with intervals.

    python -m benchmarks.methods [--quick]

For each seed a fresh home: the scripted rater ranks and thumbs the starter model's own samples, answers and documents
are written by the grammar, and every method trains on its own kind of rows with its default settings. Afterwards
something that the run never saw is measured, before and after, by code that is not the trainer's:

    pretrain                   perplexity of held-out documents      (bootstrap over documents)
    sft                        loss on held-out answers              (bootstrap over answers)
    reward_model               pairs on held-out prompts in order    (Wilson's interval; chance is a half)
    dpo, kto, orpo, rloo       answers to held-out prompts in the preferred style, well formed (Newcombe's interval)

RLOO is scored by the reward model that was trained just before.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from alignment import run_queue
from alignment.base_models import add_base
from alignment.freezing import freeze_snapshot
from alignment.methods import METHODS, method_named
from assets.starter_model import corpus
from benchmarks.alignment_gain import STARTER, collect, serve
from benchmarks.bars import Bar, report
from benchmarks.held_out import bootstrap, losses, ordered_pairs, sampled_pairs
from benchmarks.preferred import Measured, difference, measure, points
from benchmarks.starter_rows import frozen, messages, rows, written
from labeling.engines.supervisor import Engines
from labeling.first_project import first_project
from labeling.importers.prompts import import_prompts
from labeling.win_rate import wilson
from storage import projects, prompts, runs
from storage.database import Database
from storage.records import DatasetType, Message, ModelVersion

SEEDS = (0, 1, 2)
PAIRS, THUMBS, ANSWERS, DOCUMENTS, PROMPTS = 150, 200, 120, 200, 200
HELD_OUT = 200
QUICK = ("sft",)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="SFT only, one seed")
    parser.add_argument("--methods", default="", help="only these, separated by commas")
    options = parser.parse_args()
    names = QUICK if options.quick else tuple(options.methods.split(",")) if options.methods else all_methods()
    bars = []
    for seed in SEEDS[:1] if options.quick else SEEDS:
        with tempfile.TemporaryDirectory() as home:
            bars += Trial(Path(home), seed).bars(names)
    print()
    return report(bars, f"{len(names)} methods, {len(SEEDS[:1] if options.quick else SEEDS)} seeds.")


def all_methods() -> tuple[str, ...]:
    """All but PPO, which has a benchmark of its own. The reward model comes before what needs it."""
    return tuple(method.name for method in METHODS if method.name != "ppo")


def never_asked(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the held-out prompts, on which the versions are measured."""
    return [row for row in found if not prompts.is_held_out([Message(**message) for message in row["prompt"]])]


class Trial:
    """One seed: a home, a base, and one run a method."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home, self.seed = home, seed
        self.database = Database.open(home / "plumbline.duckdb")
        self.base = add_base(self.database, str(STARTER / "chat"), version_id="base")
        self.reward: ModelVersion | None = None
        import_prompts(self.database, STARTER / "prompts.jsonl", source="benchmark", licence="Apache-2.0")

    def bars(self, names: Sequence[str]) -> list[Bar]:
        found = []
        with Engines(self.home / "logs") as self.engines:
            serve(self.database, self.engines)
            self.engines.wait_ready("base")
            self.asked = prompts.held_out(self.database, HELD_OUT)
            for name in names:
                if name == "rloo" and self.reward is None:
                    self.train("reward_model")
                found.append(self.bar(name))
                print(f"{found[-1].what}: {found[-1].measured}", flush=True)
        self.database.close()
        return found

    def bar(self, name: str) -> Bar:
        started = time.monotonic()
        version = self.train(name)
        title = f"{method_named(name).title}, seed {self.seed}, {time.monotonic() - started:.0f} s"
        if name == "pretrain":
            return self.lower(f"{title}: perplexity of held-out documents", version, self.documents(HELD_OUT, 1), True)
        if name == "sft":
            return self.lower(f"{title}: loss on held-out answers", version, self.answers_held_out(), False)
        if name == "reward_model":
            return self.in_order(title, version)
        return self.preferred(title, version)

    # ---- what each learns from ----

    def train(self, name: str) -> ModelVersion:
        """The new version. Fails with the run's own sentence."""
        settings: dict[str, Any] = {"seed": self.seed}
        if name == "rloo" and self.reward:
            settings["reward_model"] = self.reward.id
        run = run_queue.start_run(self.database, name, settings, self.snapshot(name), "base", "benchmark", self.home)
        made: list[ModelVersion] = []
        while not runs.get(self.database, run.id).ended_at:
            run_queue.follow(self.database, made.append)
            time.sleep(0.2)
        if not made:
            raise SystemExit(f"{run.id}: {runs.get(self.database, run.id).message}")
        if name == "reward_model":
            self.reward = made[0]
        return made[0]

    def snapshot(self, name: str) -> str:
        reads = method_named(name).reads
        if reads == "language_modeling":
            return frozen(self.database, self.home, reads, self.documents(DOCUMENTS, 0))
        if reads == "prompt_completion":
            return frozen(self.database, self.home, reads, never_asked(rows(reads, ANSWERS, self.seed)))
        if reads == "prompt_only":
            return frozen(self.database, self.home, reads, never_asked(rows(reads, PROMPTS, self.seed)))
        feedback, most = ("ranking", PAIRS) if reads == "preference" else ("thumbs", THUMBS)
        project = replace(first_project("base"), name=f"{feedback} {self.seed}", feedback_type=feedback)
        if not any(one.name == project.name for one in projects.list_all(self.database, "labeling")):
            collect(self.database, self.engines, projects.save(self.database, project), most)
        return freeze_snapshot(self.database, self.home / "snapshots", dataset_type=reads).id

    def documents(self, number: int, part: int) -> list[dict[str, Any]]:
        """Documents of this seed; another part has others."""
        drawn = islice(corpus.documents(1000 + 10 * self.seed + part), number)
        return [{"text": text, "document_id": f"d{part}-{place}"} for place, text in enumerate(drawn)]

    def answers_held_out(self) -> list[dict[str, Any]]:
        rng = random.Random(self.seed)
        return [
            {"prompt": messages("user", one.text), "completion": written(one.text, "concise", rng)}
            for one in self.asked
        ]

    # ---- what became of it ----

    def lower(self, what: str, version: ModelVersion, found: Sequence[dict[str, Any]], perplexity: bool) -> Bar:
        """The mean loss (or its exponential) before and after, and whether the difference is surely below 0."""
        reads: DatasetType = "language_modeling" if perplexity else "prompt_completion"
        before, after = losses(self.base, found, reads), losses(version, found, reads)
        low, high = bootstrap([b - a for a, b in zip(before, after, strict=True)], self.seed)
        shown = [sum(one) / len(one) for one in (before, after)]
        values = [math.exp(one) for one in shown] if perplexity else shown
        change = (
            f"{values[0]:.2f} -> {values[1]:.2f}, change of the loss {shown[1] - shown[0]:+.3f} [{low:.3f}, {high:.3f}]"
        )
        return Bar(what, change, "interval below 0", high < 0)

    def in_order(self, title: str, version: ModelVersion) -> Bar:
        pairs = sampled_pairs(self.engines, self.base, self.asked, self.seed)
        right = ordered_pairs(version, pairs)
        low, high = wilson(right / len(pairs), len(pairs))
        shown = f"{right / len(pairs):.1%} of {len(pairs)} [{low:.0%}, {high:.0%}]"
        return Bar(f"{title}: pairs on held-out prompts in order", shown, "interval above 50 %", low > 0.5)

    def preferred(self, title: str, version: ModelVersion) -> Bar:
        serve(self.database, self.engines)
        self.engines.wait_ready(version.id)
        before, after = (self._measured(one) for one in (self.base, version))
        gain = difference(before.preferred, before.n, after.preferred, after.n)
        shown = f"{before.preferred_share:.1%} -> {after.preferred_share:.1%}, {points(gain)}"
        form = f"; well formed {before.well_formed_share:.1%} -> {after.well_formed_share:.1%}"
        return Bar(f"{title}: answers in the preferred style", shown + form, "interval above 0", gain[1] > 0)

    def _measured(self, version: ModelVersion) -> Measured:
        return measure(self.engines, version, self.asked, temperature=0.7, seed=self.seed)


if __name__ == "__main__":
    sys.exit(main())
