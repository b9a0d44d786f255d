"""The loop, end to end, as two people would drive it: from a file of prompts to a version that is proven better.

Real Chromium, the real app as a process, the real model server, real training. The rater reads only what the page
shows: it likes short answers about what was asked that end in a source. What the versions have become is measured
afterwards, on held-out prompts, by rules that the rater does not know.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assets.starter_model.corpus import HERE, unseen_prompts
from benchmarks.preferred import Measured, difference, measure, rater_likes
from labeling.engines.supervisor import Engines, ServedVersion
from storage import judgments, model_versions, prompts, runs, snapshots
from storage.database import Database
from tests import loop
from tests.app_process import AppProcess

pytestmark = pytest.mark.browser
ITEMS = 50
COMPARED = 24
SOURCE = "Questions from the field"
HELD_OUT_SAMPLES = 200


@dataclass(frozen=True)
class Story:
    """What the pages said on the way, and the home folder that the app left behind."""

    home: Path
    imported: str
    liked: int
    trained: str
    verdict: str
    cpu_seconds: float
    torch_loaded: bool


@pytest.fixture(scope="module")
def question_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unseen questions that the app does not hold yet."""
    shipped = {json.loads(line)["prompt"] for line in (HERE / "prompts.jsonl").read_text().splitlines()}
    fresh = [row for row in unseen_prompts(3000, seed=5) if row["prompt"] not in shipped][:400]
    file = tmp_path_factory.mktemp("files") / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in fresh))
    return file


def go_round(home: Path, question_file: Path, *, feedback: str, method: str) -> Story:
    with AppProcess(home) as app:
        cpu_seconds = app.cpu_seconds_when_ready
        with loop.browser_page(app.url) as page:
            loop.enter(page, "Ines")
            imported = loop.import_prompts(page, question_file, SOURCE)
            loop.make_project(page, "Field questions", feedback, sources=SOURCE)
            liked = loop.label(page, ITEMS, rater_likes)
            trained = loop.train(page, method)
            verdict = loop.compare(page, "base", "v1", COMPARED, rater_likes)
        torch_loaded = app.has_loaded("libtorch")
    return Story(home, imported, liked, trained, verdict, cpu_seconds, torch_loaded)


@pytest.fixture(scope="module")
def dpo(tmp_path_factory: pytest.TempPathFactory, question_file: Path) -> Story:
    return go_round(tmp_path_factory.mktemp("dpo"), question_file, feedback="Ranking", method="DPO")


@pytest.fixture(scope="module")
def kto(tmp_path_factory: pytest.TempPathFactory, question_file: Path) -> Story:
    return go_round(tmp_path_factory.mktemp("kto"), question_file, feedback="Thumbs", method="KTO")


@pytest.fixture(params=["dpo", "kto"])
def story(request: pytest.FixtureRequest) -> Story:
    found: Story = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def left_behind(story: Story) -> Iterator[Database]:
    database = Database.open(story.home / "plumbline.duckdb")
    yield database
    database.close()


def test_the_pages_tell_the_story(story: Story) -> None:
    assert re.search(r"400 prompts imported, \d+ of them held out", story.imported)
    assert story.liked >= ITEMS / 4
    assert "It is version v1" in story.trained
    assert "v1 beats base" in story.verdict


def test_every_vote_is_stored_and_none_of_a_held_out_prompt_is_learned_from(
    story: Story, left_behind: Database
) -> None:
    (snapshot,) = snapshots.list_all(left_behind)
    learned_from = [one for one in judgments.list_all(left_behind) if one.id in snapshot.judgment_ids]
    asked = prompts.get_many(left_behind, {one.prompt_id for one in learned_from})

    assert len([one for one in judgments.list_all(left_behind) if one.feedback_type != "pairwise"]) == ITEMS
    assert not any(prompt.held_out for prompt in asked.values())
    assert {prompt.source for prompt in asked.values()} == {SOURCE}


def test_the_version_knows_where_it_comes_from(story: Story, left_behind: Database) -> None:
    version = model_versions.get(left_behind, "v1")
    run = runs.get(left_behind, version.run_id or "")

    assert (version.parent_id, run.parent_id, run.version_id) == ("base", "base", "v1")
    assert run.snapshot_id == snapshots.list_all(left_behind)[0].id
    assert run.started_by == "Ines"


def test_the_preferred_style_rises_on_held_out_prompts(story: Story, left_behind: Database) -> None:
    before, after = measured(left_behind, story.home)
    change = difference(before.preferred, before.n, after.preferred, after.n)
    least = 0.40 if runs.list_all(left_behind)[0].method == "dpo" else 0.30

    print(f"preferred {before.preferred_share:.1%} -> {after.preferred_share:.1%}")
    assert before.n == after.n >= HELD_OUT_SAMPLES
    assert change[0] >= least and change[1] > 0
    assert after.well_formed_share > before.well_formed_share - 0.08


def test_the_web_process_stays_light(story: Story) -> None:
    assert not story.torch_loaded


def test_nothing_is_lost_when_the_app_is_killed(story: Story) -> None:
    before = contents(story.home)
    with AppProcess(story.home) as app:
        app.kill()

    with AppProcess(story.home) as app, loop.browser_page(app.url) as page:
        loop.enter(page, "Ines")
        page.goto("/models/")
        page.get_by_text("v1").first.wait_for()
    assert contents(story.home) == before


def test_a_second_app_on_the_same_home_says_who_has_it(story: Story) -> None:
    with AppProcess(story.home):
        second = AppProcess(story.home)

        assert second.wait_end() == 1
        assert any("is in use by process" in line for line in second.output)


def test_a_taken_port_is_said_before_anything_is_opened(story: Story, tmp_path: Path) -> None:
    with AppProcess(story.home) as app:
        port = app.url.rsplit(":", 1)[1]
        second = AppProcess(tmp_path, environment={"PLUMBLINE_PORT": port})

        assert second.wait_end() == 1
        assert any(f"Port {port} is taken" in line for line in second.output)
        assert not (tmp_path / "plumbline.duckdb").exists()


def test_a_model_path_that_is_no_model_is_said(tmp_path: Path) -> None:
    app = AppProcess(tmp_path, "--model", str(tmp_path))

    assert app.wait_end() == 1
    assert any("config.json" in line for line in app.output)


def test_ctrl_c_stops_the_app_and_its_model_server(story: Story) -> None:
    with AppProcess(story.home) as app:
        os.kill(app.pid, signal.SIGINT)
        assert app.wait_end() == 0


def measured(database: Database, home: Path) -> tuple[Measured, Measured]:
    """The base and the new version on the same held-out prompts, by a model server of our own."""
    asked = prompts.held_out(database, HELD_OUT_SAMPLES)
    with Engines(home / "logs") as engines:
        versions = [model_versions.get(database, one) for one in ("base", "v1")]
        engines.serve([ServedVersion(one.id, one.base_path, one.adapter_path) for one in versions])
        engines.wait_ready("base", "v1")
        before, after = (measure(engines, one, asked, temperature=0.7) for one in versions)
    return before, after


def contents(home: Path) -> tuple[int, list[str]]:
    database = Database.open(home / "plumbline.duckdb")
    found = judgments.count(database), [one.id for one in model_versions.list_all(database)]
    database.close()
    return found
