"""How much better a version is after DPO on at most 100 pairs, and after KTO on at most 200 thumbs.

    python -m benchmarks.alignment_gain [--quick]

Three seeds, each with samples and training of its own. The scripted rater ranks or thumbs the starter model's own
samples at T = 1. Before and after, 200 held-out prompts are answered once at T = 0.7 for the preferred share, and three
times for the share of well-formed answers. Everything but the browser is what the app does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from alignment import run_queue
from alignment.base_models import add_base
from alignment.freezing import freeze_snapshot
from alignment.methods import method_named
from benchmarks.bars import Bar, report
from benchmarks.preferred import Measured, difference, measure, points, rater_likes
from labeling.assignment import Item, Queue
from labeling.engines.supervisor import Engines, ServedVersion
from labeling.feedback import feedback_type
from labeling.first_project import first_project
from labeling.importers.prompts import import_prompts
from labeling.sampling import Sampler
from storage import model_versions, projects, prompts, runs
from storage.database import Database
from storage.records import Judgment, ModelVersion, Project, Ranking, Rating, Verdict, new_id

STARTER = Path(__file__).parents[1] / "assets" / "starter_model"
SEEDS = (0, 1, 2)
HELD_OUT = 200
WELL_FORMED_ANSWERS = 600
MOST_PAIRS, MOST_THUMBS = 100, 200
GAIN = {"dpo": 40, "kto": 30}
FEEDBACK = {"dpo": "ranking", "kto": "thumbs"}


@dataclass(frozen=True)
class Outcome:
    """One seed of one method."""

    method: str
    seed: int
    rows: int
    seconds: float
    before: Measured
    after: Measured
    many_before: Measured
    many_after: Measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, DPO only")
    quick = parser.parse_args().quick
    wanted = [("dpo", 0)] if quick else [(method, seed) for method in GAIN for seed in SEEDS]
    outcomes = []
    for method, seed in wanted:
        with tempfile.TemporaryDirectory() as home:
            outcomes.append(run_once(Path(home), method, seed))
        print(sentence(outcomes[-1]), flush=True)
    print()
    return report([bar for one in outcomes for bar in bars(one)], f"{len(outcomes)} runs.")


def sentence(one: Outcome) -> str:
    return (
        f"{one.method} seed {one.seed}: {one.rows} rows, {one.seconds:.0f} s of training; preferred "
        f"{one.before.preferred_share:.1%} -> {one.after.preferred_share:.1%}, well formed "
        f"{one.many_before.well_formed_share:.1%} -> {one.many_after.well_formed_share:.1%}"
    )


def bars(one: Outcome) -> list[Bar]:
    gain = difference(one.before.preferred, one.before.n, one.after.preferred, one.after.n)
    form = difference(one.many_before.well_formed, one.many_before.n, one.many_after.well_formed, one.many_after.n)
    name, least = f"{one.method.upper()}, seed {one.seed}", GAIN[one.method]
    return [
        Bar(
            f"{name}: preferred answers",
            points(gain),
            f"at least +{least}, clear of 0",
            gain[0] >= least / 100 and gain[1] > 0,
        ),
        Bar(f"{name}: well-formed answers", points(form), "interval excludes -6", form[1] > -0.06),
    ]


def run_once(home: Path, method: str, seed: int) -> Outcome:
    """From a fresh database to a measured new version."""
    database = Database.open(home / "plumbline.duckdb")
    with Engines(home / "logs") as engines:
        base = add_base(database, str(STARTER / "chat"), version_id="base")
        import_prompts(database, STARTER / "prompts.jsonl", source="benchmark", licence="Apache-2.0")
        serve(database, engines)
        engines.wait_ready("base")
        # samples are drawn by the project's name, so each seed has its own
        project = replace(first_project("base"), name=f"Seed {seed}", feedback_type=FEEDBACK[method])
        most = MOST_PAIRS if method == "dpo" else MOST_THUMBS
        collect(database, engines, projects.save(database, project), most)
        started = time.monotonic()
        version, rows = train(database, home, method, seed, base)
        seconds = time.monotonic() - started
        serve(database, engines)
        engines.wait_ready(version.id)
        asked = prompts.held_out(database, HELD_OUT)
        per_prompt = WELL_FORMED_ANSWERS // HELD_OUT
        outcome = Outcome(
            method,
            seed,
            rows,
            seconds,
            *(measure(engines, one, asked, temperature=0.7, seed=seed) for one in (base, version)),
            *(
                measure(engines, one, asked, temperature=0.7, samples=per_prompt, seed=seed + 1000)
                for one in (base, version)
            ),
        )
    database.close()
    return outcome


def serve(database: Database, engines: Engines) -> None:
    served = model_versions.served(database)
    engines.serve([ServedVersion(one.id, one.base_path, one.adapter_path) for one in served])


def collect(database: Database, engines: Engines, project: Project, most: int) -> None:
    """Judges items as they come, by ranking or thumbs as the project asks, until there are so many rows."""
    queue = Queue(database, minimum_responses=lambda name: feedback_type(name).minimum_responses)
    sampler = Sampler(database, queue, engines)
    say = ranked if project.feedback_type == "ranking" else thumbed
    rows = 0
    while rows < most:
        items = queue.take(project, "rater", 8, "tab")
        if not items and not sampler.fill():
            raise SystemExit(sampler.problem(project) or "There are no more prompts to sample.")
        for item in items:
            verdicts, more = say(item, most - rows)
            rows += more
            queue.judge(judgment_of(item, verdicts, project.feedback_type))
            if rows >= most:
                return


def ranked(item: Item, room: int) -> tuple[tuple[Verdict, ...], int]:
    """Liked answers share the first place, the others the second; not more pairs than there is room for."""
    liked, others = halves(item)
    while len(liked) * len(others) > room:
        others = others[:-1]
    tiers = tuple(tier for tier in (tuple(liked), tuple(others)) if tier)
    return (Ranking(tiers),), len(liked) * len(others)


def thumbed(item: Item, room: int) -> tuple[tuple[Verdict, ...], int]:
    liked, _ = halves(item)
    shown = [one.id for one in item.responses][:room]
    return tuple(Rating(one, one in liked) for one in shown), len(shown)


def halves(item: Item) -> tuple[list[str], list[str]]:
    liked = [one.id for one in item.responses if rater_likes(item.prompt.text, one.text)]
    return liked, [one.id for one in item.responses if one.id not in liked]


def judgment_of(item: Item, verdicts: tuple[Verdict, ...], feedback: str) -> Judgment:
    return Judgment(
        id=new_id(),
        prompt_id=item.prompt.id,
        labeler="rater",
        feedback_type=feedback,
        verdicts=verdicts,
        displayed_order=item.assignment.displayed_order,
        project_id=item.assignment.project_id,
        assignment_id=item.assignment.id,
    )


def train(database: Database, home: Path, method: str, seed: int, parent: ModelVersion) -> tuple[ModelVersion, int]:
    """The new version and the number of rows it learned from. Fails with the run's own sentence."""
    reads = method_named(method).reads
    snapshot = freeze_snapshot(database, home / "snapshots", dataset_type=reads)
    run = run_queue.start_run(database, method, {"seed": seed}, snapshot.id, parent.id, "benchmark", home)
    made: list[ModelVersion] = []
    while not runs.get(database, run.id).ended_at:
        run_queue.follow(database, made.append)
        time.sleep(0.2)
    if not made:
        raise SystemExit(f"{run.id}: {runs.get(database, run.id).message}")
    return made[0], snapshot.rows


if __name__ == "__main__":
    sys.exit(main())
