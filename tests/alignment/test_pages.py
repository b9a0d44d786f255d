"""What the new-run form offers and does, without a browser; and that the pages can be built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.requests import Request

from alignment import models_page, new_run_page, run_offers, runs_page
from alignment.methods import METHODS
from alignment.new_run_page import NewRun
from storage import judgments, model_versions, projects, prompts, responses, runs, snapshots
from storage.records import Person, Ranking, Role
from tests import makers
from tests.alignment.conftest import Lab

ASSETS = Path(__file__).parents[2] / "assets"
REQUEST = Request({"type": "http", "headers": []})


def form(lab: Lab, role: Role = "engineer") -> NewRun:
    return NewRun(lab.database, lab.home, lambda request: Person("eve", role))


def rank(lab: Lab, number: int, project_id: str = "p1") -> None:
    """So many prompts on each of which one answer was preferred to another."""
    projects.save(lab.database, makers.project(id=project_id))
    asked = makers.some_prompts(number)
    prompts.add(lab.database, asked)
    for prompt in asked:
        pair = [makers.response(prompt.id, text, version_id="v0") for text in ("good", "bad")]
        responses.add(lab.database, pair)
        ids = (pair[0].id, pair[1].id)
        ranking = Ranking(((ids[0],), (ids[1],)))
        said = makers.judgment(prompt.id, ranking, project_id=project_id, displayed_order=ids)
        lab.database.write(lambda cursor, said=said: judgments.add(cursor, said))


def offered(lab: Lab, project_id: str = "") -> dict[str, run_offers.Offer]:
    return {offer.name: offer for offer in run_offers.offers(lab.database, project_id)}


# ---- what it offers -------------------------------------------------------------------------------------------------


def test_every_method_is_offered_with_its_own_first_sentence(lab: Lab) -> None:
    assert list(offered(lab)) == [method.name for method in METHODS]
    assert offered(lab)["dpo"].sentence == "Learn from comparisons: this answer is better than that one."


def test_a_method_without_data_says_what_it_needs(lab: Lab) -> None:
    assert offered(lab)["kto"].missing == "Needs 32 thumbs"
    assert offered(lab)["kto"].reads == "reads 0 thumbs"


def test_a_method_with_data_is_possible_and_proposed(lab: Lab) -> None:
    rank(lab, 20)

    assert (offered(lab)["dpo"].reads, offered(lab)["dpo"].missing) == ("reads 20 pairs", "")
    assert json.loads(form(lab).cards(""))["chosen"] == "dpo"


def test_only_the_judgments_of_the_chosen_project_count(lab: Lab) -> None:
    rank(lab, 20)
    projects.save(lab.database, makers.project(id="p2", name="Other"))

    assert offered(lab, "p2")["dpo"].reads == "reads 0 pairs"
    assert ("Other", "p2") in run_offers.project_choices(lab.database)


def test_only_snapshots_that_the_method_reads_can_be_chosen(lab: Lab) -> None:
    pairs = lab.freeze("preference", 20)
    thumbs = lab.freeze("unpaired_preference", 40)

    assert [chosen for _, chosen in run_offers.snapshot_choices(lab.database, "dpo")] == [pairs.id]
    assert [chosen for _, chosen in run_offers.snapshot_choices(lab.database, "kto")] == [thumbs.id]


# ---- what its buttons do --------------------------------------------------------------------------------------------


def test_freezing_makes_a_snapshot_that_is_chosen(lab: Lab) -> None:
    rank(lab, 20)

    snapshot_id, said = form(lab).freeze(REQUEST, "dpo", "p1")

    [snapshot] = snapshots.list_all(lab.database)
    assert snapshot.id == snapshot_id
    assert json.loads(said) == {"kind": "ok", "sentence": f"Frozen as {snapshot.name}."}
    assert json.loads(form(lab).counts(snapshot_id))["rows"] == 20


def test_freezing_again_with_nothing_new_gives_the_snapshot_there_is(lab: Lab) -> None:
    rank(lab, 20)
    first, _ = form(lab).freeze(REQUEST, "dpo", "p1")

    again, said = form(lab).freeze(REQUEST, "dpo", "p1")

    [snapshot] = snapshots.list_all(lab.database)
    assert again == first == snapshot.id
    assert json.loads(said) == {"kind": "", "sentence": f"Nothing is new since {snapshot.name}."}


def test_freezing_too_little_for_the_method_is_refused_in_its_own_words(lab: Lab) -> None:
    rank(lab, 3)

    snapshot_id, said = form(lab).freeze(REQUEST, "dpo", "p1")

    assert snapshot_id is None and snapshots.list_all(lab.database) == []
    assert json.loads(said)["sentence"].startswith("DPO needs at least 16 pairs")


def test_a_run_starts_from_the_version_that_wrote_the_answers(lab: Lab) -> None:
    rank(lab, 20)
    model_versions.add(lab.database, makers.version("other"))
    frozen, _ = form(lab).freeze(REQUEST, "dpo", "p1")

    assert run_offers.proposed_parent(lab.database, None) == "other"
    assert run_offers.proposed_parent(lab.database, frozen) == "v0"
    assert json.loads(form(lab).counts(frozen, "v0", "p1"))["notes"] == []
    assert json.loads(form(lab).counts(frozen, "other", "p1"))["notes"] == [
        "These answers were written by v0, not by other."
    ]


def test_a_snapshot_says_what_was_judged_since(lab: Lab) -> None:
    rank(lab, 20)
    frozen, _ = form(lab).freeze(REQUEST, "dpo", "p1")
    rank(lab, 23)

    assert json.loads(form(lab).counts(frozen, "v0", "p1"))["notes"] == [
        "3 more pairs were judged since; freeze again to use them."
    ]


def test_freezing_nothing_is_refused_with_nothing_stored(lab: Lab) -> None:
    snapshot_id, said = form(lab).freeze(REQUEST, "dpo", "")

    assert snapshot_id is None
    assert json.loads(said)["kind"] == "bad"
    assert snapshots.list_all(lab.database) == []


def test_starting_leads_to_the_run(lab: Lab) -> None:
    snapshot = lab.freeze("preference", 20)

    said = form(lab).start(REQUEST, "dpo", "v0", snapshot.id, {"epochs": 3})

    assert json.loads(said) == {"go": "/runs?run=dpo-01"}
    run = runs.get(lab.database, "dpo-01")
    assert (run.started_by, run.settings["epochs"], run.state) == ("eve", 3, "waiting")


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        (3, {}, "DPO needs at least 16 pairs"),
        (20, {"learning_rate": 5.0}, "Learning rate: must be at most 0.1, and is 5.0."),
    ],
)
def test_a_refusal_is_a_sentence_and_starts_nothing(
    lab: Lab, rows: int, settings: dict[str, Any], sentence: str
) -> None:
    snapshot = lab.freeze("preference", rows)

    said = json.loads(form(lab).start(REQUEST, "dpo", "v0", snapshot.id, settings))

    assert said["kind"] == "bad"
    assert said["sentence"].startswith(sentence)
    assert runs.list_all(lab.database) == []
    assert not (lab.home / "runs").exists()


def test_without_a_snapshot_the_way_out_is_named(lab: Lab) -> None:
    said = json.loads(form(lab).start(REQUEST, "dpo", "v0", None, {}))

    assert said["sentence"].startswith("There is no snapshot to learn from yet. Freeze one first")


def test_only_engineers_freeze_and_start(lab: Lab) -> None:
    rank(lab, 20)

    _, frozen = form(lab, "lead").freeze(REQUEST, "dpo", "")
    started = form(lab, "labeler").start(REQUEST, "dpo", "v0", lab.freeze("preference", 20).id, {})

    assert all("are for engineers" in json.loads(said)["sentence"] for said in (frozen, started))
    assert runs.list_all(lab.database) == []


# ---- the controls ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_setting_has_a_control_with_its_name_default_and_help(method: type[Any]) -> None:
    for name, field in method.model_fields.items():
        made = new_run_page.control(name, field)
        assert (made.label, made.value, made.info) == (field.title, field.default, field.description)


def test_the_arrows_of_a_number_add_a_step_of_its_own_size() -> None:
    [dpo] = [method for method in METHODS if method.name == "dpo"]

    steps = {
        name: new_run_page.control(name, dpo.model_fields[name]).step for name in ("learning_rate", "beta", "epochs")
    }

    assert steps == {"learning_rate": pytest.approx(1e-4), "beta": pytest.approx(0.01), "epochs": 1}


def test_the_pages_are_built_and_their_files_are_there(lab: Lab) -> None:
    pages = [
        runs_page.runs_page(lab.database, lab.home, lambda request: Person("eve", "engineer")),
        models_page.models_page(),
    ]

    assert all(isinstance(page, gr.Blocks) for page in pages)
    for module in (runs_page, models_page):
        assert all((ASSETS / name).exists() for name in (*module.SCRIPTS, *module.STYLES))


def test_no_word_of_a_person_or_model_can_reach_a_template(lab: Lab) -> None:
    page = runs_page.runs_page(lab.database, lab.home, lambda request: Person("eve", "engineer"))

    drawn = [block for block in page.blocks.values() if isinstance(block, gr.HTML)]

    assert drawn
    assert all(
        "{{" not in block.html_template and "${" not in block.html_template for block in drawn if not block.value
    )
