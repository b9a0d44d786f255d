"""The runs page in a real Chromium: a run followed live, and nothing lost by a refresh.

Runs are prepared by the queue; what a training process would do in their directory, the test does by hand.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from playwright.sync_api import Browser, Page, expect

from alignment import run_directory, run_queue, runs_page
from alignment.routes import runs_router
from alignment.run_directory import Outcome
from labeling.guard import Guard
from storage import leases, runs
from storage.errors import AppError
from storage.records import Person, Run
from tests.alignment.conftest import Lab
from tests.labeling.judging_app import ASSETS, serving

pytestmark = pytest.mark.browser
STEPS = 10


def person_of(request: Request) -> Person:
    return Person("eve", "engineer")


def runs_app(lab: Lab) -> FastAPI:
    app = FastAPI()
    app.add_exception_handler(AppError, _as_json)
    app.include_router(runs_router(lab.database, person_of))
    app.mount("/ui", StaticFiles(directory=ASSETS))
    app.add_api_route("/api/me", lambda: {"name": "eve", "role": "engineer"}, methods=["GET"])
    for path in ("/manifest.json", "/favicon.ico"):
        app.add_api_route(path, lambda: Response(status_code=204), methods=["GET"])
    page = runs_page.runs_page(lab.database, lab.home, person_of)
    gr.mount_gradio_app(app, page, path="/runs", footer_links=[], run_history=False)
    links = "".join(f'<link rel="stylesheet" href="/ui/{name}">' for name in ("plumbline.css", *runs_page.STYLES))
    scripts = "".join(f'<script src="/ui/{name}"></script>' for name in ("plumbline.js", *runs_page.SCRIPTS))
    app.add_middleware(Guard, person_of=person_of, roles={}, heads={"/runs": links + scripts})
    return app


def _as_json(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, error.status if isinstance(error, AppError) else 500)


@pytest.fixture
def page(browser: Browser, lab: Lab) -> Iterator[Page]:
    problems: list[str] = []
    with serving(runs_app(lab)) as address:
        context = browser.new_context(base_url=address, viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        yield page
        context.close()
    assert problems == []


def opened(page: Page, run: Run | None = None, more: str = "") -> Page:
    page.goto(f"/runs/?run={run.id}{more}" if run else "/runs/")
    page.wait_for_selector("[data-part=runs][data-ready=yes]")
    return page


def write(run: Run, step: int, **values: Any) -> None:
    line = {"step": step, "steps": STEPS, "time": time.time() + step, **values}
    with (Path(run.directory) / run_directory.METRICS).open("a") as file:
        file.write(json.dumps(line) + "\n")


def measure(run: Run, *steps: int) -> None:
    for step in steps:
        write(run, step, loss=0.7 - step / 50, grad_norm=0.3, learning_rate=1e-3, **{"rewards/margins": step / 20})


@contextmanager
def training(lab: Lab, run: Run) -> Iterator[None]:
    """As long as the training process would live."""
    (Path(run.directory) / run_directory.LOG).write_text("loading\n")
    with run_directory.lock(Path(run.directory)):
        run_queue.follow(lab.database, on_version=lambda version: None)
        yield


def end(lab: Lab, run: Run, state: run_directory.OutcomeState, message: str, checkpoint: int = 0) -> None:
    directory = Path(run.directory)
    with run_directory.lock(directory):
        pass
    if checkpoint:
        whole = directory / run_directory.CHECKPOINTS / f"checkpoint-{checkpoint}"
        whole.mkdir(parents=True)
        (whole / run_directory.COMPLETE).touch()
    run_directory.write_outcome(directory, Outcome(state, message, STEPS, 9.0, peak_memory_mb=700, fingerprint="same"))
    run_queue.follow(lab.database, on_version=lambda version: None)


def started(lab: Lab, **settings: Any) -> Run:
    return lab.start("dpo", lab.freeze("preference", 20), **settings)


def stopped(lab: Lab, **settings: Any) -> Run:
    run = started(lab, **settings)
    measure(run, 1, 2, 3, 4)
    end(lab, run, "stopped", "Stopped by request after 4 of 10 steps.", checkpoint=4)
    return run


# ---- followed -------------------------------------------------------------------------------------------------------


def test_a_run_is_followed_as_it_trains_and_a_refresh_changes_nothing(page: Page, lab: Lab) -> None:
    run = started(lab)
    with training(lab, run):
        measure(run, 1, 2, 3, 4, 5)
        opened(page)  # the one that trains is shown by itself
        expect(page.get_by_role("heading", name="Step 5 of 10")).to_be_visible()
        measure(run, 6)
        expect(page.get_by_role("heading", name="Step 6 of 10")).to_be_visible()
        expect(page.locator(".health")).to_contain_text("Healthy. Margin 0.3")
        expect(page.locator(f"[data-run={run.id}] .out")).to_have_text("Healthy so far.")
        expect(page.get_by_role("img", name=re.compile("Loss falls from"))).to_be_visible()

        page.reload()

        expect(page.get_by_role("heading", name="Step 6 of 10")).to_be_visible()
        expect(page.locator(".health")).to_contain_text("Healthy.")


def test_held_out_measurements_are_on_the_curve_and_the_best_checkpoint_is_named(page: Page, lab: Lab) -> None:
    run = started(lab)
    with training(lab, run):
        measure(run, 1, 2, 3, 4, 5)
        for step, loss in ((0, 0.7), (3, 0.55), (5, 0.6)):
            write(run, step, eval_loss=loss)
        opened(page, run)
        expect(page.get_by_role("img", name=re.compile("Loss falls.*held-out 0.60"))).to_be_visible()
        expect(page.locator(".lg.best")).to_have_text("best checkpoint: step 3")


def test_the_second_row_of_curves_is_folded_until_it_is_asked_for(page: Page, lab: Lab) -> None:
    opened(page, stopped(lab))
    expect(page.get_by_role("img", name=re.compile("Gradient norm"))).to_have_count(0)
    page.get_by_text("More curves").click()
    expect(page.get_by_role("img", name=re.compile("Gradient norm stays at 0.30"))).to_be_visible()


def test_a_waiting_run_says_where_it_stands_in_line(page: Page, lab: Lab) -> None:
    first, second = started(lab), started(lab)
    with training(lab, first):
        measure(first, 1, 2)
        opened(page, second)
        expect(page.locator(".runhead .say").first).to_contain_text(f"1st in line on cpu; starts when {first.id} ends")


def test_a_run_that_takes_turns_with_the_model_server_says_what_it_waits_for(page: Page, lab: Lab) -> None:
    leases.share(lab.database, ["cpu"])
    leases.take(lab.database, "cpu")
    run = started(lab)
    leases.due(lab.database, "cpu", run.id)
    opened(page, run)
    expect(page.locator(".runhead .say").first).to_contain_text("Waiting for the model server to free cpu")
    leases.hand_over(lab.database, "cpu")
    with training(lab, run):
        expect(page.locator(".runhead")).to_contain_text("The model server is asleep while this run has cpu")
    leases.due(lab.database, "cpu", leases.NOBODY)
    end(lab, run, "stopped", "Stopped by request.")
    expect(page.locator(".runhead")).to_contain_text("Stopped by request.")
    expect(page.locator(".runhead")).not_to_contain_text("asleep")


def test_a_verdict_that_warns_stands_below_the_outcome(page: Page, lab: Lab) -> None:
    run = started(lab)
    for step in range(1, STEPS + 1):
        rewards = {"rewards/chosen": -step / 5, "rewards/rejected": -step / 2, "rewards/margins": 0.3 * step}
        write(run, step, loss=0.6 - step / 50, **rewards)
    end(lab, run, "succeeded", "Trained on 20 pairs in 9 s.")
    opened(page, run)
    said = page.locator(".runhead .say")
    expect(said.first).to_contain_text("Trained on 20 pairs in 9 s. It is version v1.")
    expect(said.nth(1)).to_contain_text("Chosen answers are losing probability.")


# ---- laid over ------------------------------------------------------------------------------------------------------


def test_another_run_is_laid_over_and_only_what_differs_is_named(page: Page, lab: Lab) -> None:
    snapshot = lab.freeze("preference", 20)
    here, there = lab.start("dpo", snapshot), lab.start("dpo", snapshot, learning_rate=1e-4)
    for run in (here, there):
        measure(run, 1, 2, 3, 4, 5, 6)
        end(lab, run, "stopped", "Stopped.")
    opened(page, here)

    page.get_by_role("button", name="Lay another run over").click()
    page.get_by_role("checkbox", name=re.compile(there.id)).check()
    page.keyboard.press("Escape")

    legend = page.locator(".lg.old")
    expect(legend).to_have_text(
        f"{there.id}, differs only in learning_rate: 0.0012 here, 1e-4 there".replace("0.0012", _shown(here))
    )
    expect(page.get_by_role("img", name=re.compile(f"Loss falls.*; {there.id} falls"))).to_be_visible()
    page.reload()
    expect(legend).to_contain_text(there.id)


def _shown(run: Run) -> str:
    """1.2e-3, as the page writes small numbers."""
    mantissa, exponent = f"{run.settings['learning_rate']:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


# ---- stopped, resumed, run again ------------------------------------------------------------------------------------


def test_stopping_asks_the_run_to_stop(page: Page, lab: Lab) -> None:
    run = started(lab)
    with training(lab, run):
        measure(run, 1, 2)
        opened(page, run)
        page.get_by_role("button", name="Stop and keep checkpoint").first.click()
        expect(page.get_by_text("Stopping after this step")).to_be_visible()
        assert (Path(run.directory) / run_directory.STOP).exists()
    end(lab, run, "stopped", "Stopped by request after 2 of 10 steps.")
    expect(page.locator(".runhead")).to_contain_text("Stopped by request after 2 of 10 steps.")


def test_a_run_that_ends_between_its_own_lines_and_the_list_is_asked_for_once_more(page: Page, lab: Lab) -> None:
    run = started(lab)
    with training(lab, run):
        measure(run, 1, 2)
        training_answer = page.request.get(f"/api/runs/{run.id}").json()
        end_in_list = [{**training_answer["runs"][0], "state": "stopped"}]
    end(lab, run, "stopped", "Stopped by request after 2 of 10 steps.")
    torn = json.dumps({**training_answer, "runs": end_in_list})
    page.route(
        f"**/api/runs/{run.id}?*", lambda route: route.fulfill(body=torn, content_type="application/json"), times=1
    )
    opened(page, run)
    expect(page.locator(".runhead .st")).to_have_text("Stopped")


def test_a_stopped_run_is_resumed_from_its_checkpoint_and_its_curves_go_on(page: Page, lab: Lab) -> None:
    run = stopped(lab)
    opened(page, run)
    page.get_by_role("button", name="Resume from step 4").first.click()
    expect(page.locator(".runhead")).to_contain_text("1st in line on cpu")
    assert runs.get(lab.database, run.id).state == "waiting"

    (Path(run.directory) / run_directory.METRICS).unlink()  # cut back, as training does, and gone on with
    with training(lab, run):
        measure(run, 1, 2, 3, 4, 5, 6, 7)
        expect(page.get_by_role("heading", name="Step 7 of 10")).to_be_visible()
        expect(page.locator(".runhead")).to_contain_text("resumed 1 time")


def test_running_again_shows_the_new_run_and_what_it_repeats(page: Page, lab: Lab) -> None:
    run = stopped(lab)
    opened(page, run)
    page.get_by_role("button", name="Run again", exact=True).click()
    expect(page.locator(".runhead .big")).to_have_text("dpo-02")
    expect(page.locator(".runhead")).to_contain_text("Repeats dpo-01.")


# ---- the rest of the page -------------------------------------------------------------------------------------------


def test_settings_are_a_button_away_and_come_as_a_file(page: Page, lab: Lab) -> None:
    opened(page, stopped(lab, epochs=3))
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_role("row", name=re.compile("Passes over the data"))).to_contain_text("changed from")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as YAML").click()
    assert "epochs: 3" in download.value.path().read_text()


def test_a_reward_models_accuracy_and_calibration_are_a_plot_and_a_table(page: Page, lab: Lab) -> None:
    run = stopped(lab)
    bins = [{"low": 0.5, "high": 0.6, "n": 3, "predicted": 0.55, "observed": 0.67}]
    measured: Mapping[str, Any] = {
        "kind": "reward_model", "pairs": 26, "accuracy": 0.92, "interval": [0.76, 0.98], "ece": 0.04,
        "calibration": bins,
    }  # fmt: skip
    run_directory.write_json(Path(run.directory) / run_directory.EVALUATION, measured)
    opened(page, run)
    card = page.get_by_role("region", name="On held-out pairs")
    expect(card).to_contain_text("It agrees with people on 92 % [76, 98] of 26 held-out pairs.")
    expect(card.get_by_role("row").nth(1)).to_have_text("50 % to 60 %355 %67 %")


def practised(lab: Lab) -> Run:
    """A run of PPO whose reward was followed past its gold."""
    scored = {"reward_model": "function:starter-preferred", "gold": "function:starter-well-formed"}
    run = lab.start("ppo", lab.freeze("prompt_only"), **scored)
    for step in range(1, STEPS + 1):
        gold, kl = 0.9 if step < 6 else 0.2, step / 2
        seen = {"loss": 0.0, "reward": step / 5, "gold": gold, "kl": kl, "objective": step / 6, "clip_fraction": 0.03}
        more = {"value_loss": 0.2, "entropy": 0.5, "completions/mean_length": 30, "completions/clipped_ratio": 0.0}
        write(run, step, **seen, **more, beta=0.05, approx_kl=0.002, epochs=2.0)
    write(run, STEPS, eval_reward=1.9, eval_gold=0.2, eval_kl=5.0)
    end(lab, run, "succeeded", "Trained on 24 prompts in 9 s.")
    return run


def test_gold_and_reward_are_drawn_against_drift_with_what_they_show(page: Page, lab: Lab) -> None:
    opened(page, practised(lab))

    card = page.get_by_role("region", name="Reward and gold against drift")
    # 10 steps in fifths of two: gold 0.9 at steps 1 and 2, and 0.2 at the end
    expect(card.locator(".say")).to_contain_text(
        "The reward is followed too far. Gold was highest, 0.90, around step 2, at a drift of 0.8 nats an answer. "
        "Since then it fell to 0.20 while the reward went on from 0.30 to 1.90. The version is the checkpoint of step "
        "10: gold 0.20 on held-out prompts."
    )
    expect(
        card.get_by_role("img", name=re.compile(r"Gold goes from 0.90 .* to 0.20 .*, held-out 0.20"))
    ).to_be_visible()
    expect(page.locator(".health")).to_contain_text("The reward is followed too far.")
    page.get_by_role("button", name=re.compile("dark|light|theme", re.IGNORECASE)).first.click()
    expect(card.locator("canvas")).to_have_count(2)  # drawn anew in the other colours, not twice


def test_ppo_has_its_own_curves_and_the_rest_is_folded(page: Page, lab: Lab) -> None:
    opened(page, practised(lab))

    names = page.get_by_role("region", name="Curves").locator(".curves").first.locator("h3")
    expect(names).to_have_text(
        [
            "Reward",
            "Drift from the parent",
            "Reward less drift",
            "Answer length",
            "Clip fraction",
            "Value loss",
            "Entropy",
            "Answers cut off",
        ]
    )
    expect(page.locator(".runhead")).to_contain_text("scored by the function starter-preferred")
    page.get_by_text("More curves").click()
    expect(page.get_by_role("img", name=re.compile("Beta stays at"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Answers cut off"))).to_have_count(1)


def test_a_run_without_gold_has_no_picture_of_it(page: Page, lab: Lab) -> None:
    opened(page, stopped(lab))

    expect(page.get_by_role("region", name="Reward and gold against drift")).to_have_count(0)


def test_an_unknown_run_is_a_sentence(page: Page, lab: Lab) -> None:
    page.goto("/runs/?run=nope")
    expect(page.get_by_role("alert")).to_contain_text("There is no run nope.")


def test_on_a_phone_nothing_leaves_the_screen_and_resume_is_under_the_thumb(page: Page, lab: Lab) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, stopped(lab))
    expect(page.locator(".dock .btn")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
