"""The label page in each of its languages: every string is data, and nothing is left in English."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from labeling.said import ENGLISH, said
from storage.database import Database
from tests.labeling.judging_app import add_project, add_versions, judging_app, new_queue, serving
from tests.labeling.test_accessibility import ARABIC, BESIDE, RICH, opened
from tests.labeling.test_label_page import changed, item, press, submitted

pytestmark = pytest.mark.browser
PROBLEM = "The model server is starting."


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = Database.open(tmp_path_factory.mktemp("languages") / "plumbline.duckdb")
    add_versions(database, "base")
    add_project(database, "ranking", "ranking", [[RICH, "Take five.", ARABIC]] * 60, **BESIDE)
    for kind in ("thumbs", "pairwise", "edit"):
        add_project(database, kind, kind, [[RICH, ARABIC][: 1 if kind == "edit" else 2]] * 30, **BESIDE)
    add_project(database, "one", "thumbs", [["Yes."]] * 2)
    add_project(database, "lacking", "ranking", [["Only one."]])
    add_project(database, "stopped", "ranking", [["Only one."]])
    add_project(database, "empty")
    queue = new_queue(database, why_waiting=lambda project: PROBLEM if project.id == "stopped" else "")
    with serving(judging_app(database, queue)) as address:
        yield address
    database.close()


def test_a_language_is_chosen_on_the_page_and_stays(make_page: Callable[[str], Page]) -> None:
    page = make_page("language")
    page.goto("/label/?project=ranking")
    page.wait_for_selector(".ls.ready")
    page.get_by_label("Language").select_option("ar")
    page.wait_for_selector(".ls.ready[lang=ar][dir=rtl]")
    page.reload()
    expect(page.locator(".ls.ready")).to_have_attribute("dir", "rtl")
    expect(page.locator(".submit span")).to_have_text("رتّب إجابتين على الأقل")
    first, second = (page.locator(".answer").nth(index).bounding_box() for index in (0, 1))
    assert first and second and first["x"] > second["x"]  # A stands on the right


def test_a_text_is_laid_out_by_its_own_script_whatever_the_page(make_page: Callable[[str], Page]) -> None:
    for language in ("en", "ar"):
        page = make_page(f"script {language}")
        opened(page, "ranking", language)
        assert page.locator(".answer ol").first.evaluate("one => getComputedStyle(one).direction") == "rtl"
        assert page.locator(".answer table").first.evaluate("one => getComputedStyle(one).direction") == "ltr"
        assert page.locator(".answer pre").first.evaluate("one => getComputedStyle(one).direction") == "ltr"


def test_arrows_step_along_the_scale_as_it_is_seen(make_page: Callable[[str], Page]) -> None:
    for language, words in (("en", "A slightly better"), ("ar", "B أفضل قليلًا")):
        page = make_page(f"arrows {language}")
        opened(page, "pairwise", language)
        press(page, "ArrowLeft")
        expect(page.locator(".said")).to_have_text(words)


def test_every_language_has_every_string_with_the_same_gaps(make_page: Callable[[str], Page]) -> None:
    page = make_page("strings")
    opened(page, "empty")
    languages = page.evaluate("Plumbline.languages")
    for part in ("words", "server"):
        english = languages["en"][part]
        for language in languages.values():
            assert language[part].keys() == english.keys()
            assert {key: gaps(one) for key, one in language[part].items()} == {
                key: gaps(one) for key, one in english.items()
            }


def test_english_is_the_same_from_the_server_and_in_its_file(make_page: Callable[[str], Page]) -> None:
    page = make_page("english")
    opened(page, "empty")
    values = ({"n": 1, "seconds": 40}, {"n": 1234, "seconds": 7 * 3600 + 60}, {"n": 2, "seconds": 900})
    every = [said(code, reason="Because.", **one).as_json() for code in ENGLISH for one in values]
    assert page.evaluate("every => every.map(Plumbline.words.said)", every) == [one["sentence"] for one in every]


def gaps(said: str | list[str] | dict[str, str]) -> tuple[int, set[str]]:
    """How many strings a list has, and what is filled in; a plural form may leave its number out, and a
    language the reason, which is in English."""
    forms = said if isinstance(said, list) else [said] if isinstance(said, str) else list(said.values())
    return len(forms) if isinstance(said, list) else 1, set(re.findall(r"{(\w+)}", " ".join(forms))) - {"n", "reason"}


# ---- nothing in English ---------------------------------------------------------------------------------------------

ARABIC_STATES: dict[str, Callable[[Page], None]] = {}


def state(go: Callable[[Page], None]) -> Callable[[Page], None]:
    ARABIC_STATES[go.__name__.replace("_", " ")] = go
    return go


def arabic(page: Page, project: str) -> None:
    opened(page, project, "ar")


@state
def all_that_is_said_about_an_item(page: Page) -> None:
    arabic(page, "ranking")
    press(page, "1", "1", "a", "v", "ArrowRight", "h", "u", "x", "r", "Escape", "n", "Escape", "Enter")


@state
def reopened(page: Page) -> None:
    arabic(page, "thumbs")
    submitted(page, "ArrowUp")
    waiting = item(page)
    press(page, "z")
    changed(page, waiting)


@state
def pairwise(page: Page) -> None:
    arabic(page, "pairwise")
    press(page, "0")


@state
def edit(page: Page) -> None:
    arabic(page, "edit")
    press(page, "r")


@state
def the_sheets(page: Page) -> None:
    arabic(page, "ranking")
    for key in ("g", "s"):
        press(page, key, "Escape")
    press(page, "?")


@state
def no_prompts(page: Page) -> None:
    arabic(page, "empty")


@state
def the_model_is_writing(page: Page) -> None:
    arabic(page, "lacking")


@state
def the_model_cannot(page: Page) -> None:
    arabic(page, "stopped")


@state
def the_model_cannot_and_a_lead_asks(page: Page) -> None:
    arabic(page, "stopped")
    page.context.add_cookies([{"name": "lead", "value": "yes", "url": page.url}])
    arabic(page, "stopped")


@state
def all_are_skipped(page: Page) -> None:
    arabic(page, "one")
    for _ in range(2):
        here = item(page)
        press(page, "s", "Enter")
        changed(page, here)
    expect(page.locator(".state h2")).to_contain_text("تخطيتهما")


def failing(path: str, status: int, **answer: Any) -> Callable[[Page], None]:
    def fail(page: Page) -> None:
        page.route(path, lambda route: route.fulfill(status=status, json={"error": "In English.", **answer}))

    return fail


@state
def offline(page: Page) -> None:
    arabic(page, "thumbs")
    page.route("**/api/label/*", lambda route: route.abort())
    submitted(page, "ArrowUp")
    expect(page.locator(".save")).to_have_attribute("data-s", "offline")


@state
def the_server_fails(page: Page) -> None:
    arabic(page, "thumbs")
    failing("**/api/label/judge", 500)(page)
    submitted(page, "ArrowUp")
    expect(page.locator(".save")).to_have_attribute("data-s", "offline")


@state
def refused_by_a_code(page: Page) -> None:
    arabic(page, "thumbs")
    failing("**/api/label/judge", 400, said=said("time_ran_out").as_json())(page)
    submitted(page, "ArrowUp")
    expect(page.locator(".say")).to_contain_text("لأن وقته انتهى")


@state
def refused_without_a_code(page: Page) -> None:
    arabic(page, "thumbs")
    failing("**/api/label/judge", 422)(page)
    submitted(page, "ArrowUp")
    expect(page.locator(".say")).to_contain_text("لم يقبل الخادم هذا")


@state
def no_items_because_the_server_fails(page: Page) -> None:
    failing("**/api/label/next*", 500)(page)
    arabic(page, "ranking")


@state
def no_project(page: Page) -> None:
    nothing = {"person": "x", "project": None, "items": [], "progress": None, "projects": []}
    page.route("**/api/label/next*", lambda route: route.fulfill(json=nothing))
    arabic(page, "")


ENGLISH_WORDS = """() => {
  const data = ".text, .project, .task, .reasons .pick, .score-row .sl, .language, textarea, kbd, mark";
  const own = (node) => !node.parentElement.closest(data), found = [];
  const walker = document.createTreeWalker(document.querySelector(".ls"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) if (own(node)) found.push(node.data);
  for (const one of document.querySelectorAll(".ls [aria-label], .ls [title], .ls [placeholder]"))
    if (!one.closest(".scores, .text")) found.push(one.ariaLabel ?? "", one.title, one.placeholder ?? "");
  const words = found.flatMap((text) => text.match(/[A-Za-z]{3,}/g) ?? []);
  return words.filter((word) => !["Plumbline", "Esc", "Ctrl"].includes(word));
}"""


def test_in_arabic_nothing_is_left_in_english_in_any_state(make_page: Callable[[str], Page]) -> None:
    found = {}
    for name, go in ARABIC_STATES.items():
        page = make_page(name)
        go(page)
        expect(page.locator(".ls.ready")).to_have_attribute("lang", "ar")
        found[name] = page.evaluate(ENGLISH_WORDS)
        page.close()
    assert found == {name: [] for name in ARABIC_STATES}
