"""Every method, from the page to a version that answers (or scores): real Chromium, app, training and model servers.

Rows come from files, as a team brings what it has already; the two methods that learn from fresh labels are driven from
the first vote in test_end_to_end.py. What each method does to the model is measured by benchmarks/methods.py; here each
has to be startable from the page, to succeed, and to be served.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from alignment.methods import METHODS
from benchmarks.starter_rows import questions, rows
from storage.records import DatasetType
from tests import loop
from tests.app_process import AppProcess

pytestmark = pytest.mark.browser
ROWS = 48
WAIT = 300_000  # ms: runs wait in line, and each takes its time on two busy cores
FILES: dict[str, DatasetType] = {
    "Documents": "language_modeling",
    "Demonstrations": "prompt_completion",
    "Preferences": "preference",
    "Thumbs": "unpaired_preference",
}
SHORT: dict[str, dict[str, object]] = {
    "RLOO": {"most_steps": 4},
    "PPO": {"most_steps": 3, "batch_size": 8, "accumulate": 2, "evaluations": 1},
}
SCORED = ("RLOO", "PPO")  # they ask for the reward model, which has to be there by then
IN_ORDER = ("Pretrain", "SFT", "Reward model", "DPO", "KTO", "ORPO", *SCORED)


def test_no_method_is_forgotten() -> None:
    assert {method.title for method in METHODS} == set(IN_ORDER)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("every_method")


@pytest.fixture(scope="module")
def page(home: Path) -> Iterator[Page]:
    """A page of the app that has the rows and has started each method; the runs are in line or have ended."""
    with AppProcess(home) as app, loop.browser_page(app.url) as page:
        loop.enter(page, "Eve")
        for kind, dataset_type in FILES.items():
            file = write(home / f"{kind}.jsonl", rows(dataset_type, ROWS))
            assert f"{kind.lower()} imported" in loop.import_rows(page, kind, file, "Tests")
        for title in IN_ORDER:
            reward_model = scorer(page) if title in SCORED else None
            loop.start_run(page, title, settings=SHORT.get(title, {}), reward_model=reward_model)
        yield page


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_run_from_the_page_ends_in_a_version_that_is_served(page: Page, method: Any) -> None:
    version = made_by(page, f"{method.name}-01")

    page.wait_for_function(
        "version => fetch('/api/models').then(r => r.json()).then(a => "
        "a.versions.find(one => one.id === version).state === 'served')",
        arg=version,
        timeout=WAIT,
    )


def test_the_reward_model_scores_an_answer_on_the_page(page: Page) -> None:
    version = made_by(page, "reward_model-01")
    asked = questions(1)[0]

    page.goto(f"/models?version={version}")
    card = page.get_by_label("Score an answer")
    card.get_by_label("Prompt").fill(asked)
    card.get_by_label("Answer 1").fill("It is hard to say.")
    card.get_by_role("button", name="Score", exact=True).click()

    expect(card.locator(".num.b").first).to_be_visible(timeout=WAIT)


def made_by(page: Page, run: str) -> str:
    """The version that a run made, once it has succeeded."""
    page.goto(f"/runs/?run={run}")
    ended = page.locator(".runhead .st", has_text="Succeeded")
    expect(ended).to_be_visible(timeout=WAIT)
    found: str = page.evaluate("run => fetch(`/api/runs/${run}`).then(r => r.json()).then(a => a.becomes)", run)
    return found


def scorer(page: Page) -> str:
    return made_by(page, "reward_model-01")


def write(file: Path, found: Sequence[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in found))
    return file
