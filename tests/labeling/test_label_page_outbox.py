"""What waits in the browser: changes one after the other, refusals, two tabs, a lease that ran out meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import APIResponse, BrowserContext, Page, Route, expect

from labeling.assignment import LEASE, Queue
from storage import projects
from storage.database import Database
from storage.records import LATE, Ranking, now
from tests.labeling.judging_app import add_project, add_versions, judging_app, new_queue, serving
from tests.labeling.test_label_page import about, changed, item, judge_until, opened, press, saved, submitted
from tests.loop import ITEM

pytestmark = pytest.mark.browser
JUDGE = "**/api/label/judge"
NAMES = ("full", "chain", "first", "both", "reloaded", "shown", "open", "left", "tabs", "told", "late", "ten", "early")
FULL = """const set = Storage.prototype.setItem;
Storage.prototype.setItem = function (name, value) {
  if (this === localStorage) throw new DOMException("full", "QuotaExceededError");
  set.call(this, name, value);
};"""


class Clock:
    """The time of the queue, which a test moves on."""

    def __init__(self) -> None:
        self.gone = timedelta()

    def __call__(self) -> datetime:
        return now() + self.gone


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database.open(tmp_path_factory.mktemp("outbox") / "plumbline.duckdb")
    add_versions(database, "base")
    for name in (*NAMES, "guided"):
        add_project(database, name, "ranking", [["one", "two", "three"]] * 30)
    yield database
    database.close()


@pytest.fixture(scope="module")
def queue(database: Database, clock: Clock) -> Queue:
    return new_queue(database, clock=clock)


@pytest.fixture(scope="module")
def address(database: Database, queue: Queue) -> Iterator[str]:
    with serving(judging_app(database, queue)) as address:
        yield address


@pytest.fixture
def context(page: Page) -> BrowserContext:
    return page.context


def go_offline(context: BrowserContext) -> None:
    context.route("**/api/label/**", lambda route: route.abort())


def go_online(*pages: Page) -> None:
    pages[0].context.unroute("**/api/label/**")
    for page in pages:
        page.evaluate("window.dispatchEvent(new Event('online'))")


def refuse(context: BrowserContext, times: int = 1) -> None:
    """The server's next answers to judgments."""
    context.route(JUDGE, lambda route: route.fulfill(status=400, json={"error": "Not like this."}), times=times)


def reopened(page: Page) -> str:
    """The item that Back brings."""
    before = item(page)
    press(page, "z")
    changed(page, before)
    return item(page)


def change(page: Page, *keys: str) -> str:
    reopened(page)
    return submitted(page, *keys)


def judge(page: Page, *keys: str) -> str:
    """Judges the next item once it is there; returns it."""
    page.wait_for_selector(ITEM)
    return submitted(page, *keys)


def test_what_is_said_later_changes_nothing_that_waits_where_the_browser_has_no_room(
    page: Page, context: BrowserContext, database: Database
) -> None:
    page.add_init_script(FULL)
    opened(page, "full")
    go_offline(context)
    judged = submitted(page, "1", "2", "n", "x", "Escape")
    assert reopened(page) == judged
    press(page, "a", "2", "b", "1", "c", "n", "y", "Escape")  # and not submitted
    go_online(page)
    saved(page)
    (judgment,) = about(database, judged)
    a, b, _ = judgment.displayed_order
    assert (judgment.note, judgment.verdicts) == ("C: x", (Ranking(((a,), (b,))),))


def test_a_change_goes_on_from_what_is_stored_where_the_one_before_it_is_refused(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "chain")
    judged = submitted(page, "1", "2")
    saved(page)
    go_offline(context)
    assert change(page, "a", "3") == change(page, "b", "1") == judged
    refuse(context)
    go_online(page)
    saved(page)
    first, last = about(database, judged)
    assert last.supersedes == first.id
    assert change(page, "c", "1") == judged
    saved(page)
    assert about(database, judged)[2].supersedes == last.id


def test_a_change_of_a_first_judgment_that_is_refused_becomes_the_first(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "first")
    go_offline(context)
    judged = submitted(page, "1", "2")
    assert change(page, "a", "3") == judged
    refuse(context)
    go_online(page)
    saved(page)
    (judgment,) = about(database, judged)
    assert judgment.supersedes is None


def test_after_two_refused_changes_the_next_one_supersedes_what_is_stored(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "both")
    judged = submitted(page, "1", "2")
    saved(page)
    go_offline(context)
    assert change(page, "a", "3") == change(page, "b", "1") == judged
    refuse(context, 2)
    go_online(page)
    expect(page.locator(".say")).to_contain_text("Not like this.")
    saved(page)
    assert change(page, "c", "1") == judged
    saved(page)
    first, last = about(database, judged)
    assert last.supersedes == first.id


def test_a_change_that_waits_over_a_reload_is_what_is_reopened_and_changed_again(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "reloaded")
    judged = submitted(page, "1", "2")
    saved(page)
    context.route(JUDGE, lambda route: route.abort())
    assert change(page, "a", "3") == judged
    page.reload()
    page.wait_for_selector(ITEM)
    expect(page.get_by_role("button", name="Back")).to_be_enabled()
    assert reopened(page) == judged
    expect(page.locator('[data-slot="3"] .chip')).to_have_text("A")
    assert submitted(page, "c", "1") == judged
    context.unroute(JUDGE)
    page.evaluate("window.dispatchEvent(new Event('online'))")
    saved(page)
    first, second, third = about(database, judged)
    assert (second.supersedes, third.supersedes) == (first.id, second.id)
    expect(page.locator(".say")).to_have_count(0)


def test_a_refused_change_is_not_shown_as_what_stands(page: Page, context: BrowserContext) -> None:
    opened(page, "shown")
    judged = submitted(page, "1", "2")
    saved(page)
    refuse(context)
    assert change(page, "a", "3") == judged
    expect(page.locator(".say")).to_contain_text("Not like this.")
    reopened(page)
    expect(page.locator(".submit")).to_contain_text("Replace")


def test_a_refused_judgment_that_is_open_again_and_left_comes_again(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "open")
    earlier = submitted(page, "1", "2")
    saved(page)
    go_offline(context)
    judged = submitted(page, "2", "1")
    assert reopened(page) == judged
    refuse(context)
    go_online(page)
    expect(page.locator(".say")).to_contain_text("Not like this.")
    assert reopened(page) == earlier
    press(page, "Enter")  # leaves it as it is
    judge_until(page, judged)
    expect(page.locator('[data-slot="2"] .chip')).to_have_text("A")
    submitted(page)
    saved(page)
    assert len(about(database, judged)) == 1


def test_what_was_said_is_the_draft_of_a_judgment_that_is_refused_after_a_reload(
    page: Page, context: BrowserContext
) -> None:
    opened(page, "left")
    context.route(JUDGE, lambda route: route.abort())
    judged = submitted(page, "2", "1", "n", "x", "Escape")
    expect(page.locator(".save")).to_have_attribute("data-s", "offline")
    context.unroute(JUDGE)
    refuse(context)
    page.reload()
    page.wait_for_selector(ITEM)
    expect(page.locator(".say")).to_contain_text("Not like this.")
    judge_until(page, judged)
    expect(page.locator('[data-slot="1"] .chip')).to_have_text("B")
    expect(page.locator(".note").nth(2)).to_have_value("x")


def test_two_tabs_of_one_person_judge_different_items_and_each_is_stored_once(
    page: Page, context: BrowserContext, database: Database
) -> None:
    other = context.new_page()
    tabs = [opened(page, "tabs"), opened(other, "tabs")]
    judged = [judge(tab, "1", "2") for tab in tabs * 3]
    for tab in tabs:
        saved(tab)
        tab.wait_for_function("Object.keys(localStorage).every((name) => !name.startsWith('plumbline-outbox-'))")
    go_offline(context)
    judged += [judge(tab, "2", "1") for tab in tabs * 2]
    go_online(*tabs)
    for tab in tabs:
        saved(tab)
        expect(tab.locator(".say")).to_have_count(0)
    assert len(set(judged)) == 10
    assert [len(about(database, one)) for one in judged] == [1] * 10
    assert change(page, "a", "3") in judged
    saved(page)


def test_a_tab_learns_that_another_one_was_refused_its_judgment(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "told")
    judged = submitted(page, "1", "2")
    saved(page)
    page.route(JUDGE, lambda route: route.abort())
    assert change(page, "a", "3") == judged
    expect(page.locator(".save")).to_have_attribute("data-s", "offline")
    refuse(context)
    other = opened(context.new_page(), "told")
    for tab in (page, other):
        expect(tab.locator(".say")).to_contain_text("Not like this.")
    page.unroute(JUDGE)
    assert change(page, "c", "1") == judged
    saved(page)
    first, last = about(database, judged)
    assert last.supersedes == first.id


def test_a_judgment_that_waited_longer_than_its_lease_is_stored_and_marked_late(
    page: Page, context: BrowserContext, database: Database, queue: Queue, clock: Clock
) -> None:
    opened(page, "late")
    go_offline(context)
    judged = submitted(page, "1", "2")
    skipped = item(page)
    press(page, "s", "Enter")
    changed(page, skipped)
    shown = item(page)
    clock.gone += 2 * LEASE
    queue.take(projects.get(database, "late"), "somebody else", 30, "tab")  # who gets what came free
    go_online(page)
    saved(page)
    (judgment,) = about(database, judged)
    assert LATE in judgment.flags
    expect(page.locator(".say")).to_contain_text("its time ran out")
    assert item(page) == shown
    submitted(page, "1", "2")
    saved(page)
    assert LATE in about(database, shown)[0].flags


def test_back_goes_ten_judgments_back_and_no_further(page: Page, database: Database) -> None:
    opened(page, "ten")
    judged = [judge(page, "1", "2") for _ in range(12)]
    page.wait_for_selector(ITEM)
    here = item(page)
    assert [reopened(page) for _ in range(10)] == judged[:1:-1]
    expect(page.get_by_role("button", name="Back")).to_be_disabled()
    press(page, "z", "z")
    assert item(page) == judged[2]
    assert submitted(page, "a", "3") == judged[2]
    assert item(page) == here
    saved(page)
    assert len(about(database, judged[2])) == 2


def test_back_finds_its_place_where_the_judgments_before_the_reload_come_late(
    page: Page, context: BrowserContext, database: Database
) -> None:
    opened(page, "early")
    judged = [judge(page, "1", "2") for _ in range(10)]
    saved(page)
    late: list[tuple[Route, APIResponse]] = []
    context.route("**/api/label/history?*", lambda route: late.append((route, route.fetch())))
    page.reload()
    page.wait_for_selector(ITEM)
    judged += [judge(page, "1", "2") for _ in range(3)]
    page.wait_for_selector(ITEM)
    assert reopened(page) == judged[-1]
    with page.expect_response("**/api/label/history?*"):
        route, answer = late[0]
        route.fulfill(response=answer)
    assert [reopened(page) for _ in range(9)] == judged[-2:2:-1]


def test_each_tab_says_that_the_guidelines_changed_until_they_are_opened(
    page: Page, context: BrowserContext, database: Database, queue: Queue
) -> None:
    tabs = [opened(page, "guided"), opened(context.new_page(), "guided")]
    for text in ("Short **first**.", "Short and **kind** first."):
        projects.save(database, replace(projects.get(database, "guided"), guidelines=text))
        queue.forget("guided")
        for tab in tabs:
            with tab.expect_response("**/api/label/next?*"):
                submitted(tab, "1", "2")
            expect(tab.locator(".say")).to_have_text(re.compile("The guidelines have changed."))
    press(page, "g")
    expect(page.get_by_role("dialog", name="Guidelines")).to_contain_text("Short and kind first.")
    expect(page.locator(".say")).to_have_count(0)


def test_a_project_made_meanwhile_takes_nobody_from_the_one_they_are_in(
    page: Page, database: Database, queue: Queue
) -> None:
    page.goto("/label/")
    page.wait_for_selector(ITEM)
    task = page.locator(".task").inner_text()
    add_project(database, "newer", "thumbs", [["one", "two", "three"]], instruction="Give thumbs.")
    queue.forget()
    judged = submitted(page, "1", "2")
    saved(page)
    judge(page, "1", "2")
    assert page.locator(".task").inner_text() == task
    assert len(about(database, judged)) == 1
