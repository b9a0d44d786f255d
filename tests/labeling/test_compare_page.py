"""The compare page in a real Chromium: blind until judged, by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from storage import judgments, model_versions
from storage.database import Database
from storage.records import Ranking
from tests.labeling.judging_app import add_comparison, add_versions, judging_app, new_queue, serving
from tests.labeling.test_label_page import changed, item

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database.open(tmp_path_factory.mktemp("compare") / "plumbline.duckdb")
    add_versions(database, "base", "v1", "v2")
    add_comparison(database, 12)
    yield database
    database.close()


@pytest.fixture
def page(browser: Browser, database: Database) -> Iterator[Page]:
    problems: list[str] = []
    with serving(judging_app(database, new_queue(database))) as address:
        context = browser.new_context(base_url=address, viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        yield page
        context.close()
    assert problems == []


def opened(page: Page, versions: str = "?a=v1&b=base") -> Page:
    page.goto(f"/compare/{versions}")
    page.wait_for_selector(".ls.ready", timeout=60_000)
    return page


def test_names_appear_after_the_submit_and_enter_goes_on(page: Page, database: Database) -> None:
    opened(page)
    expect(page.locator(".name")).to_have_text(["", ""])
    here = page.locator(".ls").get_attribute("data-item")
    page.keyboard.press("2")
    expect(page.locator(".said")).to_have_text("A better")
    page.keyboard.press("Enter")
    expect(page.locator(".tag")).to_have_text("Judged")
    names = page.locator(".name").all_inner_texts()
    assert sorted(names) == ["base", "v1"]
    (stored,) = [one for one in judgments.list_all(database) if one.assignment_id == here]
    a, b = stored.displayed_order
    assert stored.verdicts == (Ranking(((a,), (b,)), strength=2),)
    page.keyboard.press("7")  # what was said stands
    expect(page.locator(".said")).to_have_text("A better")
    page.keyboard.press("Enter")
    expect(page.locator(".tag")).to_have_text("Blind")
    expect(page.locator(".name")).to_have_text(["", ""])
    expect(page.locator(".ls")).not_to_have_attribute("data-item", here or "")


def test_both_bad_is_a_key_and_submitting_nothing_says_what_is_missing(page: Page, database: Database) -> None:
    opened(page)
    here = page.locator(".ls").get_attribute("data-item")
    page.keyboard.press("Enter")
    expect(page.locator(".ls > .sr[role=status]")).to_contain_text("choose from 1 to 7")
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    expect(page.locator(".tag")).to_have_text("Judged")
    (stored,) = [one for one in judgments.list_all(database) if one.assignment_id == here]
    assert stored.flags[0] == "both_bad"


def test_arrows_step_from_the_middle_of_the_scale_also_where_single_keys_are_off(page: Page) -> None:
    opened(page)
    page.keyboard.press("?")
    expect(page.locator("dialog[open]")).to_contain_text("One step along the scale")
    page.get_by_label("Single keys are on").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".said")).to_have_text("A slightly better")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".said")).to_have_text("B better")


def test_on_a_phone_nothing_leaves_the_margin(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page)
    for picker in page.locator(".pickers select").all():
        box = picker.bounding_box()
        assert box and box["x"] >= 16 and box["x"] + box["width"] <= 390 - 16


def test_the_results_say_which_version_leads_and_keep_the_length_until_one_has_judged(page: Page) -> None:
    opened(page)
    judge_for_v1(page)
    here = item(page)
    page.keyboard.press("Enter")
    changed(page, here)
    expect(page.locator(".eff")).to_contain_text("Shown once you have judged")
    judge_for_v1(page)
    expect(page.locator(".eff")).to_contain_text("v1 is 2 words shorter.")
    expect(page.locator(".results")).to_contain_text("blind judgments by 1 person")


def judge_for_v1(page: Page) -> None:
    good = page.locator(".answer").filter(has_text="good").get_attribute("data-index")
    page.keyboard.press("1" if good == "0" else "7")
    page.keyboard.press("Enter")
    expect(page.locator(".tag")).to_have_text("Judged")


def test_a_version_that_is_not_served_is_named_with_the_way_to_switch_it_on(page: Page, database: Database) -> None:
    model_versions.set_served(database, "v2", False)
    opened(page, "?a=v2&b=base")
    expect(page.get_by_role("link", name="Switch v2 on")).to_have_attribute("href", "/models/")
    opened(page)
    expect(page.get_by_role("link", name="Switch")).to_have_count(0)


def test_a_refused_judgment_can_be_submitted_again(page: Page, database: Database) -> None:
    opened(page)
    here = page.locator(".ls").get_attribute("data-item")
    page.route("**/api/label/judge", lambda route: route.fulfill(status=400, json={"error": "No."}), times=1)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.locator(".save")).to_have_text("No.")
    page.keyboard.press("Enter")
    expect(page.locator(".tag")).to_have_text("Judged")
    assert len([one for one in judgments.list_all(database) if one.assignment_id == here]) == 1


def test_where_no_version_answers_an_own_prompt_what_was_there_comes_back(page: Page) -> None:
    opened(page)
    here = page.locator(".ls").get_attribute("data-item")
    page.keyboard.press("2")
    page.locator(".own textarea").fill("Why?")
    page.keyboard.press("Enter")
    expect(page.locator(".own .say")).to_contain_text("The model server is being started.")
    expect(page.locator(".ls")).to_have_attribute("data-item", here or "")
    expect(page.locator(".said")).to_have_text("A better")


def test_the_address_carries_the_versions(page: Page) -> None:
    opened(page, "")
    page.get_by_label("First version").select_option("v1")
    page.get_by_label("Second version").select_option("base")
    page.wait_for_url("**/compare/?a=v1&b=base")
    expect(page.locator(".answer")).to_have_count(2)
    page.get_by_label("Second version").select_option("v1")
    expect(page.locator(".state")).to_contain_text("v1 cannot be compared with itself. Choose two versions.")
