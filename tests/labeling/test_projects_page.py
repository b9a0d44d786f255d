"""The projects page in a real Chromium: a lead makes a project, tries it, and labelers get it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from storage import judgments, model_versions, projects
from storage.database import Database
from storage.records import Sampling
from tests.labeling.judging_app import add_project, add_versions, judging_app, new_queue, serving
from tests.makers import version

pytestmark = pytest.mark.browser

ASKED = "**/gradio_api/**"  # what Gradio's form asks the server


@pytest.fixture
def page(browser: Browser, database: Database) -> Iterator[Page]:
    add_versions(database, "base")
    add_project(database, "old", "edit", [["A draft."]], criteria=("helpful",), reasons=("wrong",))
    with serving(judging_app(database, new_queue(database))) as address:
        context = browser.new_context(base_url=address, viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": "lead", "value": "yes", "url": address}])
        page = context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto("/projects/")
        page.wait_for_selector(".preview.ready")
        yield page
        context.close()
        assert problems == []


def choose(page: Page, field: str, option: str) -> None:
    page.locator(f"#{field} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def add(page: Page, field: str, *names: str) -> None:
    for name in names:
        page.locator(f"#{field} input").fill(name)
        page.locator(f"#{field} input").press("Enter")
        expect(page.locator(f"#{field}")).to_contain_text(name)  # before that, the next one would be typed into it


def test_the_preview_follows_the_form_and_stores_nothing(page: Page, database: Database) -> None:
    choose(page, "project", "A new project")
    seen = page.locator(".preview")
    expect(seen.locator(".answer")).to_have_count(4)
    page.get_by_label("Pairwise").check()
    expect(seen.locator(".answer")).to_have_count(2)
    expect(seen.locator(".task")).to_have_text("Which answer is better, and by how much?")
    add(page, "criteria", "helpful", "kind to the reader")
    expect(seen.locator(".answer").first.locator(".score-row")).to_have_count(2)
    add(page, "reasons", "correct")
    expect(seen.get_by_role("button", name="correct")).to_be_visible()
    seen.get_by_role("radio", name="B better").click()
    expect(seen.locator(".said")).to_have_text("B better")
    seen.get_by_role("button", name="Submit").click()
    expect(seen.locator(".said")).to_have_text("")
    assert judgments.count(database) == 0


def test_a_lead_makes_a_project_and_it_is_asked_as_it_says(page: Page, database: Database) -> None:
    choose(page, "project", "A new project")
    expect(page.get_by_label("Name")).to_have_value("")  # before that, what is typed would be overwritten
    page.get_by_label("Name").fill("Careful")
    page.get_by_label("Edit", exact=True).check()
    expect(page.locator(".preview .task")).to_have_text("Rewrite the best answer into the one you would send.")
    add(page, "criteria", "honest")
    page.get_by_label("People per prompt").fill("3")
    page.get_by_label("Known answers, %").fill("10")
    page.get_by_label("Calibration round").check()
    page.get_by_label("A rewritten answer beats its original").uncheck()
    page.locator("#save").click()
    expect(page.get_by_text("Careful is saved.")).to_be_visible()
    (saved,) = [one for one in projects.list_all(database) if one.name == "Careful"]
    assert (saved.feedback_type, saved.criteria, saved.pair_from_edit) == ("edit", ("honest",), False)
    assert (saved.overlap, saved.gold_share, saved.calibration) == (3, 0.1, True)
    assert saved.guidelines.startswith("Change as little as it takes")


def test_a_project_that_is_chosen_is_shown_as_it_is_asked(page: Page) -> None:
    seen = page.locator(".preview")
    expect(seen).to_have_attribute("data-mode", "edit")
    expect(seen.get_by_role("button", name="wrong")).to_be_visible()
    expect(page.get_by_label("Edit", exact=True)).to_be_checked()


def test_a_project_chosen_while_another_is_awaited_is_the_one_that_is_shown(page: Page, database: Database) -> None:
    # given a choice whose answer is late
    add_project(database, "newer", "thumbs", [["A draft."]])
    page.reload()
    expect(page.get_by_label("Name")).to_have_value("newer")
    late: list[Route] = []
    page.route(ASKED, lambda route: late.append(route), times=1)
    with page.expect_request(ASKED):
        choose(page, "project", "A new project")
    # when another is chosen meanwhile
    choose(page, "project", "old")
    late[0].continue_()
    # then the form is of what the menu says
    expect(page.get_by_label("Name")).to_have_value("old")
    expect(page.locator("#project input")).to_have_value("old")
    expect(page.locator(".preview")).to_have_attribute("data-mode", "edit")


def test_a_version_may_be_drawn_from_otherwise_than_the_project(page: Page, database: Database) -> None:
    model_versions.add(database, version("v2"))
    page.reload()
    page.wait_for_selector(".preview.ready")
    choose(page, "project", "A new project")
    expect(page.get_by_label("Name")).to_have_value("")
    page.get_by_label("Name").fill("Two")
    choose(page, "versions", "base")  # beside the newest, which is there already
    page.keyboard.press("Escape")
    page.get_by_text("Let a version answer otherwise").click()
    other = page.get_by_role("group", name="base")
    other.get_by_label("Temperature").fill("0.2")
    other.get_by_label("System prompt").fill("Be brief.")
    page.locator("#save").click()
    expect(page.get_by_text("Two is saved.")).to_be_visible()
    (saved,) = [one for one in projects.list_all(database) if one.name == "Two"]
    assert saved.samplings == {"base": Sampling(0.2, 1.0, 256, 0, "Be brief.")}
    page.reload()
    page.wait_for_selector(".preview.ready")
    expect(page.get_by_role("group", name="base").get_by_label("Temperature")).to_have_value("0.2")
