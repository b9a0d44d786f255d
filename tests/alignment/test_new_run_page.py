"""The new-run page in a real Chromium: by keyboard, keeping what a person typed, refusing what would be wasted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from playwright.sync_api import Page, Response, Route, expect

from alignment import runs_page
from alignment.methods import METHODS, method_named
from alignment.methods.dpo import DPO
from alignment.methods.sft import SFT
from alignment.new_run_routes import new_run_router
from labeling.guard import Guard
from storage import runs
from storage.errors import AppError
from storage.records import Person, Run
from tests.alignment.conftest import Lab, make_lab
from tests.labeling.judging_app import serving
from tests.loop import set_field

pytestmark = pytest.mark.browser
ASSETS = Path(__file__).parents[2] / "assets"
EVE = Person("eve", "engineer")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[Lab]:
    """Two snapshots of pairs and none of thumbs."""
    made = make_lab(tmp_path_factory.mktemp("new_run"), tiny_base)
    made.freeze("preference", 20)
    made.freeze("preference", 24)
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def address(lab: Lab) -> Iterator[str]:
    app = FastAPI()
    app.include_router(new_run_router(lab.database, lambda request: EVE, lab.home))
    app.mount("/ui", StaticFiles(directory=ASSETS))

    @app.get("/api/me")
    def me() -> dict[str, str]:
        return {"name": EVE.name, "role": EVE.role}

    @app.exception_handler(AppError)
    def as_json(request: Request, error: AppError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=error.status)

    page = runs_page.runs_page(lab.database, lab.home, lambda request: EVE)
    gr.mount_gradio_app(app, page, path="/runs", footer_links=[], run_history=False, enable_monitoring=False)
    app.add_middleware(Guard, person_of=lambda request: EVE, roles={}, heads={"/runs": head()})
    with serving(app) as url:
        yield url


def head() -> str:
    links = "".join(f'<link rel="stylesheet" href="/ui/{name}">' for name in ("plumbline.css", *runs_page.STYLES))
    return links + "".join(f'<script src="/ui/{name}"></script>' for name in ("plumbline.js", *runs_page.SCRIPTS))


def opened(page: Page, query: str = "?method=dpo") -> Page:
    page.goto(f"/runs/new{query}")
    page.wait_for_selector(".new-run[data-ready=yes]", timeout=60_000)
    return page


def field(page: Page, name: str) -> Any:
    return page.locator(f"#setting-{name}")


def proposed(name: str, preset: Any = "balanced", tuning: Any = "lora") -> str:
    return str(method_named("dpo").proposed(preset, tuning, 1)[name])


def newest_run(lab: Lab) -> Run:
    return runs.list_all(lab.database)[0]


def test_a_run_is_started_by_keyboard_alone(page: Page, lab: Lab) -> None:
    opened(page, "?method=sft")
    page.get_by_role("radio", name="SFT").focus()
    for method in METHODS[METHODS.index(SFT) + 1 : METHODS.index(DPO) + 1]:
        page.keyboard.press("ArrowRight")
        expect(page.locator("[role=radio][aria-checked=true]")).to_contain_text(re.compile(f"^{method.title}"))
    field(page, "beta").focus()
    page.keyboard.press("Control+A")
    with page.expect_response(lambda answer: checked_beta(answer) == 0.3):  # on the way there it may have been 0
        page.keyboard.type("0.3")
    page.locator("#start").focus()
    expect(page.locator("#start")).to_have_attribute("aria-disabled", "false")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/?run=*")

    run = newest_run(lab)
    assert (run.method, run.settings["beta"], run.parent_id, run.started_by) == ("dpo", 0.3, "v0", "eve")


def checked_beta(answer: Response) -> float | None:
    """The beta of the form as this answer has checked it; None where it answers something else."""
    return answer.request.post_data_json["settings"].get("beta") if answer.url.endswith("/api/new-run/check") else None


def test_a_preset_fills_the_form_and_keeps_what_was_typed(page: Page) -> None:
    opened(page)
    field(page, "learning_rate").fill("2e-4")

    page.get_by_role("button", name="Thorough").click()

    expect(field(page, "epochs")).to_have_value(proposed("epochs", "thorough"))
    expect(field(page, "learning_rate")).to_have_value("2e-4")
    expect(page.get_by_text("Kept what you typed: Learning rate.")).to_be_visible()

    page.get_by_role("button", name="You set Learning rate").click()
    expect(field(page, "learning_rate")).to_have_value(proposed("learning_rate"))


def test_the_settings_follow_what_is_trained_and_useless_ones_go(page: Page) -> None:
    opened(page)
    page.locator("summary", has_text="more settings").click()
    expect(field(page, "lora_rank")).to_be_visible()

    set_field(page, "tuning", "full")

    expect(field(page, "lora_rank")).to_be_hidden()
    page.wait_for_function(
        "rate => Number(document.querySelector('#setting-learning_rate').value) === rate",
        arg=float(proposed("learning_rate", tuning="full")),
    )


def test_a_wrong_number_is_said_at_its_field_and_cannot_be_started(page: Page) -> None:
    opened(page)
    field(page, "learning_rate").fill("5")

    expect(page.locator("#help-setting-learning_rate")).to_have_text("Must be at most 0.1, and is 5.")
    expect(field(page, "learning_rate")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#start")).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_text("Fix what is missing first.")).to_be_visible()

    field(page, "learning_rate").fill("abc")
    expect(page.locator("#help-setting-learning_rate")).to_have_text("Must be a number, and is abc.")

    field(page, "learning_rate").fill("1e-4")
    expect(field(page, "learning_rate")).to_have_attribute("aria-invalid", "false")
    expect(page.locator("#start")).to_have_attribute("aria-disabled", "false")


def test_what_cannot_start_is_refused_with_a_way_out(page: Page, lab: Lab) -> None:
    opened(page, "?method=kto")

    expect(page.locator(".before .verdict")).to_have_text("Cannot start, 1 thing missing")
    expect(page.locator(".before .chk .bad")).to_contain_text("Needs 32 thumbs")
    expect(page.locator("#start")).to_have_attribute("aria-disabled", "true")
    before = len(runs.list_all(lab.database))
    page.locator("#start").focus()
    page.keyboard.press("Enter")
    assert len(runs.list_all(lab.database)) == before


PAIR = {
    "number": 17,
    "of": 24,
    "fault": "",
    "answers": [
        {
            "name": name,
            "tokens": [
                {"text": "what", "in_loss": False, "special": ""},
                {"text": word, "in_loss": True, "special": ""},
                {"text": "</s>", "in_loss": True, "special": "EOS"},
            ],
            "in_loss": 2,
            "read": 1,
            "cut": 0,
        }
        for name, word in (("chosen", "daily"), ("rejected", "maybe"))
    ],
}
LONG = {
    "kind": "bad",
    "title": "Longer than 1,024 tokens",
    "figure": "23 rows",
    "detail": "These rows would lose their end.",
    "ways_out": [{"label": "Allow 1,280", "settings": {"max_length": 1280}}],
}
FINE = {"kind": "ok", "title": "Chosen and rejected differ", "figure": "24 of 24", "detail": "", "ways_out": []}


def preflight(page: Page) -> None:
    """Answers as the preflight job does: refused at the length the form begins with, and well at another."""
    settings: dict[str, Any] = {}

    def ask(route: Route) -> None:
        settings.update(route.request.post_data_json["settings"])
        route.fulfill(json={"id": str(settings["max_length"])})

    def answer(route: Route) -> None:
        bad = settings["max_length"] != 1280
        words = "Cannot start, 1 thing missing" if bad else "Can start"
        verdict = {"kind": "bad" if bad else "ok", "sentence": words}
        parts = [{"name": "Weights", "mb": 300}, {"name": "Rollouts", "mb": 0}]
        time = {"steps": 12, "seconds_per_step": 10.0, "seconds": 120.0, "words": "12 steps × 10 s = 2 min"}
        found = {"state": "ready", "progress": "", "error": "", "verdict": verdict, "rows": [PAIR]}
        memory = {"device": "cpu", "available_mb": 9000, "total_mb": 16000, "parts": parts}
        route.fulfill(json={**found, "checks": [FINE, *([LONG] if bad else [])], "memory": memory, "time": time})

    page.route("**/api/runs/preflight", ask)
    page.route("**/api/runs/preflight/*", answer)


def test_rows_are_shown_as_tokens_and_a_way_out_changes_the_form(page: Page) -> None:
    preflight(page)
    opened(page)

    expect(page.locator(".before .verdict")).to_have_text("Cannot start, 1 thing missing")
    expect(page.locator("#start")).to_have_attribute("aria-disabled", "true")
    expect(page.locator(".before .chk li").first).to_contain_text("Longer than 1,024 tokens")
    expect(page.locator(".toks .tk.in")).to_have_text(["daily", "</s>EOS"])
    page.get_by_role("button", name="Rejected").click()
    expect(page.locator(".toks .tk.in")).to_have_text(["maybe", "</s>EOS"])
    expect(page.locator(".tsum")).to_have_text("2 tokens are in the loss; 1 token of prompt is only read.")
    expect(page.locator(".mem")).to_have_attribute("aria-label", "Weights 300 MB, Rollouts 0 MB; 300 MB of 15.6 GB")

    page.get_by_role("button", name="Allow 1,280").click()

    expect(page.locator(".before .verdict")).to_have_text("Can start")
    expect(field(page, "max_length")).to_have_value("1280")
    expect(page.locator("#start")).to_have_attribute("aria-disabled", "false")
    expect(page.get_by_role("button", name="Balanced, ")).to_be_visible()


def test_a_check_that_cannot_be_made_is_said_and_forbids_nothing(page: Page) -> None:
    page.route("**/api/runs/preflight", lambda route: route.fulfill(status=500, json={"error": "It is full."}))
    opened(page)

    expect(page.locator(".before .verdict")).to_have_text("Not checked")
    expect(page.locator(".before .say")).to_contain_text("This run was not checked. It is full.")
    expect(page.locator("#start")).to_have_attribute("aria-disabled", "false")


def test_settings_are_read_from_yaml_and_what_is_wrong_is_said_with_its_line(page: Page) -> None:
    opened(page)
    page.get_by_role("button", name="Read YAML").click()
    page.locator("#yaml").fill("method: sft\nsettings:\n  epochs: 0\n")
    page.get_by_role("button", name="Fill the form").click()
    expect(page.locator("#yaml-fault")).to_have_text(
        "Line 3, epochs (Passes over the data): must be at least 1, and is 0."
    )

    page.locator("#yaml").fill("method: sft\nsettings:\n  epochs: 7\n")
    page.get_by_role("button", name="Fill the form").click()

    expect(page.locator("[role=radio][aria-checked=true]")).to_contain_text("SFT")
    expect(field(page, "epochs")).to_have_value("7")


def test_another_run_can_be_begun_from(page: Page, lab: Lab) -> None:
    like = lab.start("dpo", lab.freeze("preference", 20), beta=0.25)

    opened(page, f"?from={like.id}")

    expect(field(page, "beta")).to_have_value("0.25")
    expect(page.locator("#snapshot")).to_have_value(like.snapshot_id)


def test_every_control_has_a_name_and_nothing_is_wider_than_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page)
    for folded in page.locator("details.more > summary").all():
        folded.click()

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    nameless = page.evaluate(
        "[...document.querySelectorAll('.new-run :is(input,select,textarea)')]"
        ".filter((one) => !one.labels?.length).map((one) => one.id)"
    )
    assert nameless == []


def test_what_may_score_the_answers_is_listed_by_kind_and_says_what_it_does(page: Page, lab: Lab) -> None:
    # given a server that names a judge
    named = lab.home / "settings.toml"
    named.write_text('[judges.house]\nurl = "https://judge.example.org"\nmodel = "big"\n')
    opened(page, "?method=ppo")
    named.unlink()
    # then nothing is chosen for a person: a judge would be sent all answers
    scorer, words = field(page, "reward_model"), page.locator("#help-setting-reward_model")
    kinds = scorer.locator("optgroup").evaluate_all("all => all.map((one) => one.label)")
    assert kinds == ["Reward models", "Functions", "Judges"] and scorer.input_value() == ""
    expect(page.get_by_text("Nothing to score the answers")).to_be_visible()
    # and each choice says what it is
    scorer.select_option("judge:house")
    expect(words).to_have_text(
        "Every answer and its prompt are sent to https://judge.example.org: they leave this machine."
    )
    scorer.select_option("function:starter-preferred")
    expect(words).to_contain_text("Only for the starter model")
    expect(page.get_by_text("Nothing to score the answers")).to_be_hidden()
    # and gold is a function, or none
    page.locator("details.more summary").first.click()
    assert field(page, "gold").locator("option").first.inner_text() == "None"
    field(page, "gold").select_option("function:starter-well-formed")
    expect(page.locator("#help-setting-gold")).to_contain_text("Only for the starter model")
