"""The models page in a real Chromium: the servers with their lights, and how fast each version answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from playwright.sync_api import Browser, Page, expect

from alignment import models_page
from alignment.models_routes import models_router
from labeling.engines.client import Load
from labeling.engines.endpoints import EndpointState
from labeling.engines.supervisor import ServerState
from labeling.engines.usage import Used
from labeling.guard import Guard
from storage import model_versions
from tests.alignment.conftest import Lab
from tests.alignment.test_models_routes import FakeServing
from tests.alignment.test_runs_page import person_of
from tests.labeling.judging_app import ASSETS, serving

pytestmark = pytest.mark.browser
READY = ServerState("/models/chat", "vllm 0.32.0", "u", True, 7, "ready", "", ("v0",), ("v0",), Load(), 0.0, 0.0, False)


def models_app(lab: Lab, engines: FakeServing) -> FastAPI:
    app = FastAPI()
    app.include_router(
        models_router(lab.database, person_of, engines, lambda a, b: None, lambda: None, lambda: engines.endpoints)
    )
    app.mount("/ui", StaticFiles(directory=ASSETS))
    app.add_api_route("/api/me", lambda: {"name": "eve", "role": "engineer"}, methods=["GET"])
    for path in ("/manifest.json", "/favicon.ico"):
        app.add_api_route(path, lambda: Response(status_code=204), methods=["GET"])
    gr.mount_gradio_app(app, models_page.models_page(), path="/models", footer_links=[], run_history=False)
    links = "".join(f'<link rel="stylesheet" href="/ui/{name}">' for name in ("plumbline.css", *models_page.STYLES))
    scripts = "".join(f'<script src="/ui/{name}"></script>' for name in ("plumbline.js", *models_page.SCRIPTS))
    app.add_middleware(Guard, person_of=person_of, roles={}, heads={"/models": links + scripts})
    return app


@pytest.fixture
def engines() -> FakeServing:
    return FakeServing()


@pytest.fixture
def page(browser: Browser, lab: Lab, engines: FakeServing) -> Iterator[Page]:
    problems: list[str] = []
    with serving(models_app(lab, engines)) as address:
        context = browser.new_context(base_url=address, viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto("/models/")
        page.wait_for_selector("[data-part=models][data-ready=yes]")
        yield page
        context.close()
    assert problems == []


def test_a_server_shows_its_figures_and_a_light_that_follows_them(page: Page, engines: FakeServing):
    card = page.get_by_role("region", name="Servers", exact=True)
    expect(card).to_be_hidden()
    engines.states = [replace(READY, load=Load(12, 3, 900), tokens_per_second=1234.4)]
    expect(card.get_by_role("row").nth(1)).to_have_text("chatvllm 0.32.0Answering1,234123v0")
    engines.states = [replace(READY, load=Load(12, 3, 900), hangs=True, silent_seconds=41.0)]
    expect(card.get_by_role("row").nth(1)).to_contain_text("Hangs")
    expect(card.get_by_role("row").nth(2)).to_contain_text("no token has come for 41 seconds")
    engines.states = []
    expect(card).to_be_hidden()


def test_while_a_run_trains_the_server_and_its_version_are_asleep(page: Page, lab: Lab, engines: FakeServing):
    """Nothing is clicked: what the server does is looked at every two seconds."""
    model_versions.set_served(lab.database, "v0", True)
    engines.states = [READY]
    table = page.get_by_role("region", name="Table of versions")
    expect(page.get_by_role("region", name="Servers", exact=True)).to_contain_text("Ready")
    page.reload()
    expect(table.get_by_role("row").nth(1)).to_contain_text("Served")
    expect(page.get_by_role("region", name="Servers", exact=True)).to_contain_text("Ready")
    sentence = "The model is asleep while the run dpo-01 trains on GPU 0. It answers again when that ends, near 14:32."
    engines.states = [replace(READY, status="asleep", detail=sentence, versions=())]
    expect(table.get_by_role("row").nth(1)).to_contain_text("Asleep")
    expect(page.get_by_role("region", name="Servers", exact=True)).to_contain_text(sentence)
    expect(page.get_by_role("complementary", name="Version v0")).to_contain_text(sentence)
    expect(page.locator(".lede")).to_contain_text("v0 is asleep while a run trains")
    engines.states = [READY]
    expect(table.get_by_role("row").nth(1)).to_contain_text("Served")


def test_several_servers_of_somebody_else_are_told_apart_by_their_addresses(page: Page, engines: FakeServing):
    dead = replace(READY, is_ours=False, url="http://a:8000", status="failed", detail="Nobody answers.", engine="")
    engines.states = [dead, replace(READY, is_ours=False, url="http://b:8000")]
    card = page.get_by_role("region", name="Servers", exact=True)
    expect(card.get_by_role("row").nth(1)).to_have_text(re.compile("http://a:8000Down"))
    expect(card.get_by_role("row").nth(2)).to_contain_text("Nobody answers.")
    expect(card.get_by_role("row").nth(3)).to_have_text(re.compile("http://b:8000Ready"))


def test_figures_that_cannot_be_read_are_said_to_be_old(page: Page, engines: FakeServing):
    engines.states = [READY]
    card = page.get_by_role("region", name="Servers", exact=True)
    expect(card).to_contain_text("Ready")
    page.route("**/api/models/servers", lambda route: route.abort())
    expect(page.get_by_text("their figures are old. Plumbline does not answer.")).to_be_visible()
    page.unroute("**/api/models/servers")
    expect(page.get_by_text("their figures are old.")).to_be_hidden()


def test_a_version_shows_how_fast_it_answers(page: Page):
    told = page.get_by_role("complementary", name="Version v0")
    expect(told).to_contain_text("60 tokens a second, while somebody waits")
    expect(told).to_contain_text("3 times, 120 tokens given; 1 being answered")


def test_an_endpoint_shows_how_fast_it_answers_and_why_it_does_not(page: Page, engines: FakeServing):
    card = page.get_by_role("region", name="Endpoints", exact=True)
    expect(card).to_be_hidden()
    one = EndpointState("outside: house (big)", "https://house.example", "", Used())
    engines.endpoints = [one]
    row = card.get_by_role("row").nth(1)
    expect(row).to_have_text("outside: house (big)https://house.exampleNot asked yet0")
    engines.endpoints = [replace(one, used=Used(12, 1_900, 1, 61.4, 2.34))]
    expect(row).to_have_text("outside: house (big)https://house.exampleAnswering612.3 s12")
    engines.endpoints = [replace(one, problem="The endpoint house refused (401).", used=Used(12, 1_900, 0, 61.4, 2.34))]
    expect(row).to_contain_text("No answer")
    expect(card.get_by_role("row").nth(2)).to_have_text("The endpoint house refused (401).")
    engines.endpoints = []
    expect(card).to_be_hidden()
