"""What the new-run form offers, checks and does, through its routes; and that the pages can be built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from alignment import models_page, run_offers, runs_page
from alignment.advisor import Agreement
from alignment.methods import METHODS
from alignment.methods.base import PRESETS
from alignment.new_run_routes import new_run_router
from alignment.run_form import fields_of
from storage import documents, judgments, model_versions, projects, prompts, responses, runs, snapshots
from storage.errors import AppError
from storage.records import Demonstration, Person, Ranking, Role
from tests import makers
from tests.alignment.conftest import Lab

ASSETS = Path(__file__).parents[2] / "assets"


@contextmanager
def page(lab: Lab, role: Role = "engineer") -> Iterator[TestClient]:
    """The routes as the app serves them, asked by a person of this role."""
    app = FastAPI()
    app.include_router(new_run_router(lab.database, lambda request: Person("eve", role), lab.home))

    @app.exception_handler(AppError)
    def as_json(request: Request, error: AppError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=error.status)

    with TestClient(app) as client:
        yield client


@pytest.fixture
def asked(lab: Lab) -> Iterator[TestClient]:
    with page(lab) as client:
        yield client


def rank(lab: Lab, number: int, project_id: str = "p1") -> None:
    """So many prompts on each of which one answer was preferred to another."""
    projects.save(lab.database, makers.project(id=project_id))
    asked_about = makers.some_prompts(number)
    prompts.add(lab.database, asked_about)
    for prompt in asked_about:
        pair = [makers.response(prompt.id, text, version_id="v0") for text in ("good", "bad")]
        responses.add(lab.database, pair)
        ids = (pair[0].id, pair[1].id)
        ranking = Ranking(((ids[0],), (ids[1],)))
        said = makers.judgment(prompt.id, ranking, project_id=project_id, displayed_order=ids)
        lab.database.write(lambda cursor, said=said: judgments.add(cursor, said))


def form(asked: TestClient, **choices: str) -> dict[str, Any]:
    whole: dict[str, Any] = asked.get("/api/new-run", params=choices).json()
    return whole


def card(asked: TestClient, name: str, **choices: str) -> dict[str, Any]:
    return next(one for one in form(asked, **choices)["methods"] if one["name"] == name)


def error(answer: httpx.Response) -> str:
    assert answer.status_code >= 400
    return str(answer.json()["error"])


# ---- what it offers -------------------------------------------------------------------------------------------------


def test_every_method_is_offered_with_its_own_first_sentence(asked: TestClient) -> None:
    assert [one["name"] for one in form(asked)["methods"]] == [method.name for method in METHODS]
    assert card(asked, "dpo")["sentence"] == "Learn from comparisons: this answer is better than that one."


def test_a_method_without_data_says_what_it_needs(asked: TestClient) -> None:
    assert card(asked, "kto")["missing"] == "Needs 32 thumbs"
    assert card(asked, "kto")["reads"] == "reads 0 thumbs"


def test_a_method_with_data_is_possible_and_proposed(lab: Lab, asked: TestClient) -> None:
    rank(lab, 20)

    assert (card(asked, "dpo")["reads"], card(asked, "dpo")["missing"]) == ("reads 20 pairs", "")
    assert form(asked)["advice"]["method"] == "dpo"
    assert form(asked)["advice"]["title"] == "Train v0 with DPO"


def test_a_base_that_was_never_taught_to_answer_begins_with_reading(lab: Lab, asked: TestClient) -> None:
    rank(lab, 20)
    base = makers.version("base", template=run_offers.INSTRUCTION_TEMPLATE)
    found = run_offers.found_now(lab.database)

    assert run_offers.evidence(lab.database, found, model_versions.get(lab.database, "v0")).answers
    assert not run_offers.evidence(lab.database, found, base).answers
    assert run_offers.advice(lab.database, found, base).method == "orpo"


def test_judgments_that_a_version_was_trained_on_are_not_new_to_it(lab: Lab) -> None:
    rank(lab, 20)
    with page(lab) as asked:
        frozen = asked.post("/api/new-run/freeze", json={"method": "dpo"}).json()["id"]
    run = makers.run("dpo-01", snapshot_id=frozen, parent_id="v0", state="succeeded")
    runs.add(lab.database, run)
    trained = makers.version("v1", parent_id="v0", run_id="dpo-01")
    model_versions.add(lab.database, trained)
    rank(lab, 23)

    readable = run_offers.evidence(lab.database, run_offers.found_now(lab.database), trained).readable
    assert (readable["dpo"].rows, readable["dpo"].new) == (23, 3)


def test_what_people_said_is_read_once_for_all_that_is_told_of_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    rank(lab, 20)
    reads: list[Any] = []
    list_all = judgments.list_all
    monkeypatch.setattr(judgments, "list_all", lambda *given: reads.append(given) or list_all(*given))

    found = run_offers.found_now(lab.database)

    assert run_offers.evidence(lab.database, found, None).readable["dpo"].rows == 20
    assert len(reads) == 1


def test_how_far_people_agree_is_told_of_the_chosen_project(lab: Lab) -> None:
    rank(lab, 20)
    projects.save(lab.database, makers.project(id="p2", name="Other"))
    for one in judgments.list_all(lab.database):
        again = makers.judgment(one.prompt_id, *one.verdicts, labeler="tom", project_id="p1")
        lab.database.write(lambda cursor, again=again: judgments.add(cursor, again))

    of = {project: run_offers.found_now(lab.database, project)["preference"].agreement for project in ("", "p1", "p2")}

    assert of == {"": Agreement(20, 20), "p1": Agreement(20, 20), "p2": Agreement(0, 0)}


def test_only_the_judgments_of_the_chosen_project_count(lab: Lab, asked: TestClient) -> None:
    rank(lab, 20)
    projects.save(lab.database, makers.project(id="p2", name="Other"))

    assert card(asked, "dpo", project="p2")["reads"] == "reads 0 pairs"
    assert {"words": "Other", "id": "p2"} in card(asked, "dpo")["data"]


def test_documents_are_counted_without_those_held_out_and_their_licence_is_named(lab: Lab) -> None:
    made = [documents.make(f"Text number {n}.", source="wiki", licence="Unknown") for n in range(60)]
    documents.add(lab.database, made)
    free = sum(not one.held_out for one in made)

    found = run_offers.found_of(lab.database, "language_modeling")
    assert (found.rows, found.unknown_licence) == (free, True)
    assert run_offers.found_of(lab.database, "language_modeling", "another source").rows == 0
    assert run_offers.data_choices(lab.database, "language_modeling") == [("All sources", ""), ("wiki", "wiki")]


def test_only_snapshots_that_the_method_reads_can_be_chosen(lab: Lab, asked: TestClient) -> None:
    pairs = lab.freeze("preference", 20)
    thumbs = lab.freeze("unpaired_preference", 40)

    assert [one["id"] for one in card(asked, "dpo")["snapshots"]] == [pairs.id]
    assert [one["id"] for one in card(asked, "kto")["snapshots"]] == [thumbs.id]


def test_reward_models_can_be_chosen_to_score_but_not_to_start_from(lab: Lab, asked: TestClient) -> None:
    model_versions.add(lab.database, makers.version("scorer", kind="reward_model", parent_id="v0"))

    assert form(asked)["reward_models"] == [{"id": "scorer", "words": "scorer, on v0"}]
    assert [one["id"] for one in form(asked)["parents"]] == ["v0"]


def test_a_preset_is_there_for_every_tuning_without_asking_again(asked: TestClient) -> None:
    [parent] = form(asked)["parents"]

    for method in METHODS:
        by_tuning = parent["proposals"][method.name]
        assert set(by_tuning) == {"lora", "qlora", "full"}
        for tuning, by_preset in by_tuning.items():
            assert set(by_preset) == set(PRESETS)
            assert by_preset["quick"] == method.proposed("quick", tuning, 0)


# ---- the fields -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_setting_is_a_field_with_its_name_default_and_help(method: type[Any]) -> None:
    drawn = {field["name"]: field for field in fields_of(method)}

    assert set(drawn) == set(method.model_fields)
    for name, field in method.model_fields.items():
        assert (drawn[name]["title"], drawn[name]["default"], drawn[name]["help"]) == (
            field.title,
            field.default,
            field.description,
        )


def test_a_field_is_drawn_as_what_it_holds() -> None:
    [dpo] = [method for method in METHODS if method.name == "dpo"]
    [kto] = [method for method in METHODS if method.name == "kto"]
    drawn = {field["name"]: field for field in (*fields_of(dpo), *fields_of(kto))}

    kinds = {name: drawn[name]["kind"] for name in ("learning_rate", "epochs", "tuning", "desirable_weight")}
    assert kinds == {"learning_rate": "number", "epochs": "integer", "tuning": "choice", "desirable_weight": "number"}
    assert drawn["tuning"]["choices"] == ["lora", "qlora", "full"]
    assert drawn["desirable_weight"]["optional"] and not drawn["learning_rate"]["optional"]


def test_what_full_weights_have_no_use_for_says_so() -> None:
    [dpo] = [method for method in METHODS if method.name == "dpo"]
    bound = {field["name"] for field in fields_of(dpo) if field["only_for"] == {"tuning": ["lora", "qlora"]}}

    assert bound == {"lora_rank", "lora_alpha", "target_modules", "layers"}


def test_what_is_wrong_is_said_by_field_in_the_words_of_the_form(asked: TestClient) -> None:
    settings = {"learning_rate": 5, "epochs": "two", "beta": ""}

    found = asked.post("/api/new-run/check", json={"method": "dpo", "settings": settings}).json()

    assert found["faults"] == {
        "learning_rate": "must be at most 0.1, and is 5",
        "epochs": "must be a whole number, and is two",
        "beta": "is empty",
    }


def test_the_steps_of_each_preset_are_those_of_the_class(asked: TestClient) -> None:
    presets = {
        "quick": {"epochs": 1, "batch_size": 4},
        "thorough": {"epochs": 3, "batch_size": 4},
        "bad": {"epochs": 0},
    }

    found = asked.post("/api/new-run/check", json={"method": "dpo", "rows": 20, "presets": presets}).json()

    assert found["steps"]["bad"] is None
    assert found["steps"]["thorough"] == 3 * found["steps"]["quick"] > 0


def test_where_it_runs_is_checked_like_every_setting(asked: TestClient) -> None:
    found = asked.post("/api/new-run/check", json={"method": "dpo", "launch": {"processes": 0}}).json()

    assert found["launch_faults"] == {"processes": "must be at least 1, and is 0"}


def test_a_ray_cluster_is_offered_only_where_one_is_named(lab: Lab, asked: TestClient) -> None:
    before = [field["name"] for field in form(asked)["launch"]["fields"]]
    (lab.home / "settings.toml").write_text('ray_address = "http://127.0.0.1:8265"\n')

    assert "where" not in before
    assert "where" in [field["name"] for field in form(asked)["launch"]["fields"]]


# ---- what its buttons do --------------------------------------------------------------------------------------------


def test_freezing_makes_a_snapshot_that_can_be_looked_into(lab: Lab, asked: TestClient) -> None:
    rank(lab, 20)

    made = asked.post("/api/new-run/freeze", json={"method": "dpo", "of": "p1"}).json()

    [snapshot] = snapshots.list_all(lab.database)
    assert made == {"id": snapshot.id, "kind": "ok", "sentence": f"Frozen as {snapshot.name}."}
    assert asked.get(f"/api/new-run/snapshots/{snapshot.id}").json()["rows"] == 20


def test_freezing_again_with_nothing_new_gives_the_snapshot_there_is(lab: Lab, asked: TestClient) -> None:
    rank(lab, 20)
    first = asked.post("/api/new-run/freeze", json={"method": "dpo"}).json()

    again = asked.post("/api/new-run/freeze", json={"method": "dpo"}).json()

    [snapshot] = snapshots.list_all(lab.database)
    assert again["id"] == first["id"] == snapshot.id
    assert again["sentence"] == f"Nothing is new since {snapshot.name}."


def test_documents_are_frozen_by_source(lab: Lab, asked: TestClient) -> None:
    for source in ("wiki", "notes"):
        texts = [f"{source} text number {n}." for n in range(40)]
        documents.add(lab.database, [documents.make(text, source=source, licence="CC0") for text in texts])

    made = asked.post("/api/new-run/freeze", json={"method": "pretrain", "of": "wiki"}).json()

    rows = snapshots.read_rows(Path(snapshots.get(lab.database, made["id"]).path))
    assert rows and all(row["text"].startswith("wiki") for row in rows)


def test_freezing_too_little_for_the_method_is_refused_in_its_own_words(lab: Lab, asked: TestClient) -> None:
    rank(lab, 3)

    refused = asked.post("/api/new-run/freeze", json={"method": "dpo", "of": "p1"})

    assert error(refused).startswith("DPO needs at least 16 pairs")
    assert snapshots.list_all(lab.database) == []


def test_a_run_starts_from_the_version_that_wrote_the_answers(lab: Lab, asked: TestClient) -> None:
    rank(lab, 20)
    model_versions.add(lab.database, makers.version("other"))
    frozen = asked.post("/api/new-run/freeze", json={"method": "dpo"}).json()["id"]

    def notes(parent: str) -> Any:
        return asked.get(f"/api/new-run/snapshots/{frozen}", params={"parent": parent}).json()["notes"]

    assert form(asked)["parent"] == "v0"
    assert notes("v0") == []
    assert notes("other") == ["These answers were written by v0, not by other."]


def test_a_snapshot_says_what_was_judged_since(lab: Lab, asked: TestClient) -> None:
    rank(lab, 20)
    frozen = asked.post("/api/new-run/freeze", json={"method": "dpo"}).json()["id"]
    rank(lab, 23)

    notes = asked.get(f"/api/new-run/snapshots/{frozen}", params={"parent": "v0"}).json()["notes"]
    assert notes == ["3 more pairs were judged since; freeze again to use them."]


def test_starting_leads_to_the_run(lab: Lab, asked: TestClient) -> None:
    snapshot = lab.freeze("preference", 20)
    body = {"method": "dpo", "settings": {"epochs": 3}, "parent_id": "v0", "snapshot_id": snapshot.id}

    assert asked.post("/api/new-run/start", json=body).json() == {"id": "dpo-01"}
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
    lab: Lab, asked: TestClient, rows: int, settings: dict[str, Any], sentence: str
) -> None:
    snapshot = lab.freeze("preference", rows)
    body = {"method": "dpo", "settings": settings, "parent_id": "v0", "snapshot_id": snapshot.id}

    assert error(asked.post("/api/new-run/start", json=body)).startswith(sentence)
    assert runs.list_all(lab.database) == []
    assert not (lab.home / "runs").exists()


def test_without_a_snapshot_the_way_out_is_named(asked: TestClient) -> None:
    refused = asked.post("/api/new-run/start", json={"method": "dpo", "parent_id": "v0"})

    assert error(refused).startswith("There is no snapshot to learn from yet. Freeze one first")


def test_only_engineers_see_freeze_and_start(lab: Lab) -> None:
    rank(lab, 20)
    body = {"method": "dpo", "parent_id": "v0", "snapshot_id": lab.freeze("preference", 20).id}
    with page(lab, "lead") as lead:
        refused = [
            lead.get("/api/new-run"),
            lead.post("/api/new-run/freeze", json={"method": "dpo"}),
            lead.post("/api/new-run/start", json=body),
        ]

    assert all(answer.status_code == 403 and "are for engineers" in error(answer) for answer in refused)
    assert runs.list_all(lab.database) == []


def test_settings_go_out_as_yaml_and_come_back(asked: TestClient) -> None:
    given = {"method": "dpo", "settings": {"beta": 0.2}, "launch": {"processes": 2}}

    text = asked.post("/api/new-run/to-yaml", json=given).json()["text"]

    assert text == "method: dpo\nsettings:\n  beta: 0.2\nlaunch:\n  processes: 2\n"
    assert asked.post("/api/new-run/from-yaml", json={"text": text}).json() == given


def test_another_run_is_a_beginning(lab: Lab, asked: TestClient) -> None:
    run = lab.start("dpo", lab.freeze("preference", 20), beta=0.3)

    like = form(asked, like=run.id)["like"]

    assert (like["method"], like["parent_id"], like["settings"]["beta"]) == ("dpo", "v0", 0.3)


# ---- the pages ------------------------------------------------------------------------------------------------------


def test_demonstrations_are_what_sft_reads(lab: Lab, asked: TestClient) -> None:
    asked_about = makers.some_prompts(9)
    prompts.add(lab.database, asked_about)
    for prompt in asked_about:
        said = makers.judgment(prompt.id, Demonstration("At four degrees."), feedback_type="edit")
        lab.database.write(lambda cursor, said=said: judgments.add(cursor, said))

    assert (card(asked, "sft")["rows"], card(asked, "sft")["missing"]) == (9, "")


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
