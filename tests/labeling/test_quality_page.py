"""The quality page in a real Chromium, with judgments of known quality behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import gradio as gr
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from playwright.sync_api import Page, Route, expect

from labeling import quality_page
from labeling.assignment import Queue
from labeling.conflicts import said_by
from labeling.guard import Guard
from labeling.quality_routes import quality_router
from storage import judgments
from storage.database import Database
from storage.errors import AppError
from storage.records import ADJUDICATED, GOLD, Demonstration, Person
from tests.labeling.judged_project import judged_project
from tests.labeling.judging_app import ASSETS, add_project, add_versions, new_queue, serving

pytestmark = pytest.mark.browser


def lead_of(request: Request) -> Person:
    return Person("lead", "lead")


def quality_app(database: Database, queue: Queue) -> FastAPI:
    """The page and its routes behind the guard, with no models."""
    app = FastAPI()
    app.include_router(quality_router(queue, database, lead_of))
    app.add_exception_handler(AppError, _as_json)
    app.mount("/ui", StaticFiles(directory=ASSETS))
    app.add_api_route("/api/me", lambda: {"name": "lead", "role": "lead"}, methods=["GET"])
    for path in ("/manifest.json", "/favicon.ico"):
        app.add_api_route(path, lambda: Response(status_code=204), methods=["GET"])
    app = gr.mount_gradio_app(app, quality_page.build(), path="/quality", footer_links=[], run_history=False)
    app.add_middleware(Guard, person_of=lead_of, roles={"/quality": "lead"}, heads={"/quality": _head()})
    return app


def _head() -> str:
    links = "".join(f'<link rel="stylesheet" href="/ui/{name}">' for name in ("plumbline.css", *quality_page.STYLES))
    return links + "".join(f'<script src="/ui/{name}"></script>' for name in ("plumbline.js", *quality_page.SCRIPTS))


def _as_json(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=error.status if isinstance(error, AppError) else 500)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database.open(tmp_path_factory.mktemp("quality") / "plumbline.duckdb")
    for kind in ("ranking", "pairwise", "thumbs"):
        judged_project(database, kind)
    add_versions(database, "base")
    add_project(database, "edit", "edit", [["A draft.", "Another draft."]])
    yield database
    database.close()


@pytest.fixture(scope="module")
def address(database: Database) -> Iterator[str]:
    with serving(quality_app(database, new_queue(database))) as address:
        yield address


def opened(page: Page, project: str) -> Page:
    page.goto(f"/quality/?project={project}")
    page.wait_for_selector(".ql[data-ready=yes]")
    return page


def test_the_page_says_who_agrees_and_whom_to_talk_to(page: Page) -> None:
    opened(page, "ranking")
    expect(page.locator(".lede")).to_contain_text("Yes, to train on")
    expect(page.locator(".lede")).to_contain_text("One person needs a word.")
    tom = page.locator("tr", has_text="Tom")
    expect(tom.locator(".st")).to_have_text("Look closer")
    expect(tom.locator("td.odd")).not_to_have_count(0)
    expect(page.locator("tr", has_text="Ines").locator(".st")).to_have_text("Steady")
    expect(page.locator(".say.warn")).to_contain_text("Tom: have a word.")
    expect(page.get_by_label("Agreement beyond chance (alpha)", exact=True)).to_contain_text("of")
    expect(page.get_by_label("Two people choose the same answer", exact=True)).to_contain_text("papers: 63 to 77 %")


def test_a_lead_settles_a_conflict_by_keyboard_alone_and_it_is_kept_apart(page: Page, database: Database) -> None:
    opened(page, "pairwise")
    before = len(judgments.list_all(database, "pairwise"))
    settle = page.get_by_role("button", name="Settle:").first
    question = settle.get_attribute("aria-label") or ""
    settle.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    expect(dialog.locator(".asked")).to_contain_text(question.removeprefix("Settle: "))
    dialog.get_by_role("button", name="Settle", exact=True).press("Enter")
    expect(dialog.get_by_text("Choose which answer is better")).to_be_visible()
    dialog.get_by_role("radio").first.focus()
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("radio", name="A better")).to_have_attribute("aria-checked", "true")
    dialog.get_by_role("button", name="Settle", exact=True).press("Enter")
    expect(page.locator(".notice")).to_contain_text("kept apart")
    expect(page.get_by_role("button", name=question)).to_have_count(0)
    stored = judgments.list_all(database, "pairwise")
    assert len(stored) == before + 1
    assert (stored[-1].labeler, stored[-1].flags) == ("lead", (ADJUDICATED,))


def test_a_known_answer_is_given_to_what_nobody_has_judged(page: Page, database: Database) -> None:
    opened(page, "thumbs")
    page.get_by_role("button", name="Add a known answer").click()
    dialog = page.locator("dialog[open]")
    expect(dialog.get_by_role("checkbox")).to_be_checked()
    expect(dialog.get_by_text("Once “Known answers” on the projects page is above 0 %, it comes up")).to_be_visible()
    dialog.get_by_role("radiogroup", name="Answer A").get_by_role("radio", name="Good", exact=True).click()
    dialog.get_by_role("button", name="Settle", exact=True).click()
    expect(page.locator(".notice")).to_contain_text("unannounced")
    expect(page.locator(".notice")).to_contain_text("once “Known answers” on the projects page is above 0 %")
    assert judgments.flagged(database, "thumbs", GOLD)[-1].labeler == "lead"


@pytest.mark.parametrize(
    ("kind", "choice", "said"),
    [
        ("pairwise", "Both bad", "both bad"),
        ("pairwise", "Tie", "tie"),
        ("ranking", "All bad", "both bad"),
        ("ranking", "Tie", "tie"),
        ("thumbs", "All bad", "A down, B down"),
    ],
)
def test_a_lead_may_say_that_none_is_better_or_good(
    page: Page, database: Database, kind: str, choice: str, said: str
) -> None:
    opened(page, kind)
    page.get_by_role("button", name="Settle:").first.click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_role("radio").first.click()  # what is said of all takes this back
    dialog.get_by_role("radio", name=choice, exact=True).click()
    dialog.get_by_role("button", name="Settle", exact=True).click()
    expect(page.locator(".notice")).to_contain_text("kept apart")
    assert said_by(judgments.list_all(database, kind)[-1]) == said


def test_a_lead_writes_the_ideal_answer_and_says_nothing_of_the_others(page: Page, database: Database) -> None:
    opened(page, "edit")
    page.get_by_role("button", name="Write an ideal answer").click()
    dialog = page.locator("dialog[open]")
    expect(dialog.get_by_role("checkbox")).to_have_count(0)
    dialog.get_by_role("button", name="Settle", exact=True).click()
    expect(dialog.get_by_text("Rewrite at least one answer")).to_be_visible()
    dialog.get_by_role("button", name="Rewrite answer B").click()
    dialog.get_by_label("Answer B as it should have been").fill("Ideal.")
    dialog.get_by_role("button", name="Settle", exact=True).click()
    expect(page.locator(".notice")).to_contain_text("kept apart")
    (stored,) = judgments.list_all(database, "edit")
    assert stored.verdicts == (Demonstration("Ideal.", improves=stored.displayed_order[1], preferred=True),)


NOTE = "The dose is wrong.\n\n" + "It is for adults only. " * 60 + "\nSee page 4."


def with_report(page: Page, **fields: object) -> None:
    """The server's report on a project, with these fields instead of its own."""

    def changed(route: Route) -> None:
        answer = route.fetch()
        found = answer.json()
        route.fulfill(response=answer, json={**found, "report": {**found["report"], **fields}})

    page.route("**/api/quality?*", changed)


def test_a_flagged_prompt_is_listed_with_its_note_as_it_was_written(page: Page) -> None:
    row = {"prompt": "one", "text": "How much?", "said": "flagged for the lead by Ines", "why": NOTE}
    with_report(page, conflicts=[row], more_conflicts=0)
    opened(page, "ranking")
    listed = page.get_by_label("Conflicts and flags", exact=True)
    expect(listed.get_by_role("heading")).to_have_text("1 prompt to settle")
    note = listed.locator(".why")
    assert note.inner_text().strip() == NOTE
    assert note.evaluate("note => note.scrollWidth <= note.clientWidth")
    expect(listed.get_by_role("button", name="Settle: How much?")).to_be_visible()


def test_a_comparison_lists_what_people_differ_on_and_says_why_nothing_is_settled(page: Page) -> None:
    with_report(page, settles=False)
    opened(page, "pairwise")
    listed = page.get_by_label("Conflicts and flags", exact=True)
    expect(listed.get_by_role("heading")).to_have_text(re.compile(r"^\d+ prompts? to look at$"))
    expect(listed).to_contain_text("In a comparison nobody's vote stands above the others'")
    expect(listed.get_by_role("listitem")).not_to_have_count(0)
    expect(listed.get_by_role("button", name="Settle")).to_have_count(0)


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_nothing_leaves_the_margin(page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    opened(page, "ranking")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for card in page.locator(".ql .card").all():
        box = card.bounding_box()
        assert box and box["x"] >= 16 and box["x"] + box["width"] <= width - 16


def test_what_people_wrote_is_never_html(page: Page) -> None:
    opened(page, "ranking")
    expect(page.locator(".ql")).to_contain_text("<img src=x onerror=")
    assert page.locator(".ql img").count() == 0
