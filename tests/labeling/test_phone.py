"""The label page at 390 pixels: what is touched is large enough, and nothing is cut off or moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from labeling.feedback import EDIT
from labeling.routes import error_json
from storage.database import Database
from storage.errors import BadInput
from tests.labeling.judging_app import add_project, add_versions, judging_app, new_queue, serving
from tests.labeling.test_accessibility import BESIDE, opened
from tests.labeling.test_label_page import press, submitted

pytestmark = pytest.mark.browser
TABLE = "| weight | dose | how often | what to watch for |\n|---|---|---|---|\n| 50 | 6 | twice a day | dizziness |"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
TOO_SMALL = """() => [...document.querySelectorAll(".ls :is(button, select, input, textarea, label.check)")]
  .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.matches(".check input"))
  .map((one) => [one.getBoundingClientRect(), one]).filter(([box]) => box.width < 44 || box.height < 44)
  .map(([box, one]) => `${one.ariaLabel ?? one.textContent}: ${box.width} x ${box.height}`)"""
LINES = """one => {
  const all = document.createRange();
  all.selectNodeContents(one);
  return all.getClientRects().length;
}"""
OUTSIDE = """() => [...document.querySelectorAll(".ls .answer :is(button, .state-of), .ls .lbar *, .ls .lhead *")]
  .filter((one) => one.checkVisibility() && !one.matches(".side span, kbd"))
  .map((one) => [one.getBoundingClientRect(), one]).filter(([box]) => box.left < 0 || box.right > innerWidth)
  .map(([box, one]) => `${one.className} ${one.textContent}: ${box.left} to ${box.right}`)"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = Database.open(tmp_path_factory.mktemp("phone") / "plumbline.duckdb")
    add_versions(database, "base")
    answers = ["Take five.", "Take six.", TABLE, "Ask.", "Once a day.", "Never."]
    for kind, n in (("ranking", 6), ("thumbs", 4), ("pairwise", 2), ("edit", 1)):
        add_project(database, kind, kind, [answers[:n]] * 30, instruction=f"{kind}{'e' * 90}", **BESIDE)
    with serving(judging_app(database, new_queue(database))) as address:
        yield address
    database.close()


@pytest.mark.parametrize("language", ["en", "ar"])
def test_all_that_is_touched_is_44_pixels_and_within_the_screen(make_page: Callable[..., Page], language: str) -> None:
    page = make_page(f"thumb {language}", **PHONE)
    for kind, said in (("ranking", ["1", "2", "2", "r", "Escape"]), ("thumbs", ["ArrowUp"]), ("pairwise", ["6", "x"])):
        opened(page, kind, language)
        press(page, *said)
        assert (page.evaluate(TOO_SMALL), page.evaluate(OUTSIDE)) == ([], []), kind
        press(page, "s")
        assert page.evaluate(TOO_SMALL) == []


def test_both_bad_stays_where_it_is_once_something_is_chosen(make_page: Callable[..., Page]) -> None:
    page = make_page("still", **PHONE)
    opened(page, "pairwise")
    both_bad = page.get_by_role("button", name="Both bad")
    before = both_bad.bounding_box()
    press(page, "1")
    expect(page.locator(".said")).to_have_text("A much better")
    assert both_bad.bounding_box() == before


def test_the_words_of_a_narrow_table_stay_whole(make_page: Callable[..., Page]) -> None:
    page = make_page("table", **PHONE)
    opened(page, "ranking")
    lines = page.locator(".answer th", has_text="weight").evaluate(LINES)
    assert lines == 1


def test_what_a_failing_server_says_stands_above_the_bar_and_what_was_judged_is_kept(
    make_page: Callable[..., Page],
) -> None:
    page = make_page("failing", **PHONE)
    opened(page, "thumbs")
    sentence = "The disk is full, so nothing was written. Free some space, then it is tried again by itself."
    page.route("**/api/label/judge", lambda route: route.fulfill(status=507, json={"error": sentence}))
    submitted(page, "ArrowUp")
    expect(page.locator(".save")).to_have_text(f"Kept here, 1 judgment to send. {sentence}")
    said, bar = page.locator(".save").bounding_box(), page.locator(".tray").bounding_box()
    assert said and bar and said["y"] + said["height"] <= bar["y"] and said["x"] >= 0


def test_a_rewrite_that_is_too_long_is_refused_by_a_code_that_every_language_has() -> None:
    with pytest.raises(BadInput) as refused:
        EDIT.verdicts({"rewrites": {"a": "x" * 100_001}}, ["a"])
    answer = error_json(refused.value)
    assert answer["said"]["code"] == "rewrite_too_long"
    assert answer["error"].startswith("The rewritten answer is too long: 100,000 characters at most.")
