"""The two worked examples of the guide, each from the pages alone, told with its figures at every stage.

    a base model  → documents → demonstrations → rankings → reward model → PPO
    a chat model                               → rankings → reward model → PPO

Real Chromium, app, training and model servers, at the scale of the starter model. The rater reads only what the page
shows. The share of well-formed answers is the run's gold function: a rule that the reward model was never told. `-s`
prints the stories.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from benchmarks.preferred import Measured, measure, rater_likes
from benchmarks.starter_rows import messages, questions, rows, written
from labeling.engines.supervisor import Engines, ServedVersion
from storage import model_versions, prompts
from storage.database import Database
from tests import loop
from tests.app_process import AppProcess

pytestmark = pytest.mark.browser
DOCUMENTS, DEMONSTRATIONS, RANKED, MEASURED = 300, 520, 40, 80
WAIT = 400.0  # seconds: each takes its time on two busy cores
STYLES = ("concise", "hype")  # of the demonstrations: two, so that people have something to prefer
PRETRAIN = {"tuning": "full", "learning_rate": 5e-4, "max_length": 128, "batch_size": 4, "evaluations": 1}
SFT = {"tuning": "full", "learning_rate": 2e-3, "epochs": 3, "batch_size": 16, "held_out_share": 0.05, "evaluations": 1}
REWARD_MODEL = {"held_out_share": 0.2, "evaluations": 1}
PPO = {
    "reward_model": "",
    "gold": "function:starter-well-formed",
    "learning_rate": 2e-3,
    "most_steps": 16,
    "accumulate": 2,
    "longest_answer": 80,
    "evaluations": 1,
}


def test_from_a_base_model_to_answers_that_people_prefer(tmp_path: Path) -> None:
    """The longer way: a model that has only read documents, and has never seen a question."""
    with AppProcess(tmp_path) as app, loop.browser_page(app.url) as page:
        loop.enter(page, "Ines")
        read = read_on(page, tmp_path)
        taught = learn_to_answer(page, tmp_path, parent="v1")
        scorer = learn_what_people_prefer(page, parent="v2")
        practised = practise(page, parent="v2", reward_model="v3")
    before, after = shares(tmp_path, "v2", "v4")

    tell("From a base model", read, taught, scorer, practised, shares_told(before, after))
    assert read.last < 0.9 * read.first
    assert taught.last < 0.2 * taught.first
    assert scorer.last >= 0.75
    assert practised.last > practised.first + 0.2
    assert after.preferred_share > before.preferred_share + 0.1


def test_from_a_chat_model_to_answers_that_people_prefer(tmp_path: Path) -> None:
    """The shorter way: a model that answers already, in four styles."""
    with AppProcess(tmp_path) as app, loop.browser_page(app.url) as page:
        loop.enter(page, "Ines")
        scorer = learn_what_people_prefer(page, parent="base")
        practised = practise(page, parent="base", reward_model="v1")
    before, after = shares(tmp_path, "base", "v2")

    tell("From a chat model", scorer, practised, shares_told(before, after))
    assert scorer.last >= 0.75
    assert practised.last > practised.first + 0.3
    assert after.preferred_share > before.preferred_share + 0.2
    assert after.well_formed_share > before.well_formed_share - 0.2


# ---- the stages -----------------------------------------------------------------------------------------------------


class Stage:
    """A measure of one run on held-out rows, before it and at its end, and the sentence that its page shows."""

    def __init__(self, name: str, measure: str, first: float, last: float, outcome: str, more: str = "") -> None:
        self.first, self.last = first, last
        self.told = f"{name}: {measure} {first:.3g} -> {last:.3g}{more}. {outcome}"


def read_on(page: Page, folder: Path) -> Stage:
    """Continued pre-training: documents in the words of the field."""
    bring(page, "Documents", folder, rows("language_modeling", DOCUMENTS))
    outcome = loop.train(page, "Pretrain", WAIT, parent="documents-only", settings=PRETRAIN)
    losses = loop.measured_on_page(page, "eval_loss")
    return Stage("Documents", "perplexity", math.exp(losses[0]), math.exp(losses[-1]), outcome)


def learn_to_answer(page: Page, folder: Path, parent: str) -> Stage:
    bring(page, "Demonstrations", folder, demonstrations())
    outcome = loop.train(page, "SFT", WAIT, parent=parent, settings=SFT)
    losses = loop.measured_on_page(page, "eval_loss")
    return Stage("Demonstrations", "loss", losses[0], losses[-1], outcome)


def learn_what_people_prefer(page: Page, parent: str) -> Stage:
    """Rankings of the parent's own answers, by keyboard; then a model of them."""
    loop.make_project(page, "Which answer is better?", "Ranking")
    liked = loop.label(page, RANKED, rater_likes)
    outcome = loop.train(page, "Reward model", WAIT, parent=parent, settings=REWARD_MODEL)
    accuracies = loop.measured_on_page(page, "eval_accuracy")
    ranked = f" ({RANKED} prompts ranked, {liked} with an answer that is liked)"
    return Stage("Rankings", "accuracy", accuracies[0], accuracies[-1], outcome, ranked)


def practise(page: Page, parent: str, reward_model: str) -> Stage:
    outcome = loop.train(page, "PPO", WAIT, parent=parent, settings={**PPO, "reward_model": reward_model})
    rewards, golds = (loop.measured_on_page(page, name) for name in ("eval_reward", "eval_gold"))
    kl = loop.measured_on_page(page, "eval_kl")[-1]
    card = page.get_by_label("Reward and gold against drift").locator(".say").inner_text()
    more = f", drift {kl:.1f} nats, well formed {golds[0]:.0%} -> {golds[-1]:.0%} (T = 1)"
    return Stage("PPO", "reward", rewards[0], rewards[-1], f"{outcome} {card}", more)


def demonstrations() -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [
        {"prompt": messages("user", asked), "completion": written(asked, rng.choice(STYLES), rng)}
        for asked in questions(DEMONSTRATIONS)
    ]


def bring(page: Page, kind: str, folder: Path, found: Sequence[dict[str, Any]]) -> None:
    file = folder / f"{kind}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in found))
    assert "imported" in loop.import_rows(page, kind, file, "Worked example")


# ---- what became of it ----------------------------------------------------------------------------------------------


def shares(home: Path, *names: str) -> list[Measured]:
    """Answers of each version to the same held-out prompts, by a model server of our own."""
    database = Database.open(home / "plumbline.duckdb")
    asked = prompts.held_out(database, MEASURED)
    versions = [model_versions.get(database, name) for name in names]
    with Engines(home / "logs") as engines:
        engines.serve([ServedVersion(one.id, one.base_path, one.adapter_path) for one in versions])
        engines.wait_ready(*names)
        found = [measure(engines, one, asked, temperature=0.7) for one in versions]
    database.close()
    return found


def shares_told(before: Measured, after: Measured) -> str:
    preferred = f"{before.preferred_share:.0%} -> {after.preferred_share:.0%}"
    whole = f"{before.well_formed_share:.0%} -> {after.well_formed_share:.0%}"
    return f"Answers to {after.n} held-out prompts (T = 0.7): preferred style {preferred}, well formed {whole}"


def tell(title: str, *stages: Stage | str) -> None:
    lines = [one if isinstance(one, str) else one.told for one in stages]
    print("\n".join([f"\n{title}", *(re.sub(r"\s+", " ", f"  {line}") for line in lines)]))
