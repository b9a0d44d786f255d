"""Every state of the label page for people who cannot see it well, cannot use a mouse, or read from right to left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from storage.database import Database
from tests.labeling.judging_app import add_project, add_versions, judging_app, new_queue, serving
from tests.labeling.test_label_page import changed, item, press, submitted

pytestmark = pytest.mark.browser
RICH = """Take **5 mg**, see [the label](https://example.com).

```python
def dose(weight: float) -> float:  # in mg
    return 0.1 * weight + 1
```

$$d = \\frac{w}{10} + 1$$

| weight | dose |
|---|---|
| 50 | 6 |
"""
LONG = "\n\n".join(f"Paragraph {n} of a long answer." for n in range(60))
ARABIC = "الجرعة **5 ملغ**.\n\n1. صباحًا\n2. مساءً"
BESIDE: dict[str, Any] = {"criteria": ("helpful", "honest"), "reasons": ("correct", "أوضح")}
STOP = "(document.activeElement.closest('.answer')?.dataset.index ?? document.activeElement.className)"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def opened(page: Page, project: str, language: str = "en") -> None:
    page.goto(f"/label/?project={project}&lang={language}")
    page.wait_for_selector(".ls.ready")
    page.evaluate("document.fonts.ready.then(() => null)")  # nothing moves any more


def ranked(page: Page) -> None:
    opened(page, "ranking")
    press(page, "1", "2", "a", "v", "ArrowRight", "h", "u", "r", "Escape", "n", "Escape")
    expect(page.locator(".rewriting").first).to_be_visible()


def reopened(page: Page) -> None:
    opened(page, "ranking")
    submitted(page, "1", "1")
    waiting = item(page)
    press(page, "z")
    changed(page, waiting)


def offline(page: Page) -> None:
    opened(page, "thumbs")
    page.route("**/api/label/judge", lambda route: route.abort())
    submitted(page, "ArrowUp")
    expect(page.locator(".save")).to_have_attribute("data-s", "offline")


def after(project: str, *keys: str, language: str = "en") -> Callable[[Page], None]:
    def go(page: Page) -> None:
        opened(page, project, language)
        press(page, *keys)

    return go


STATES: dict[str, Callable[[Page], None]] = {
    "ranking": ranked,
    "thumbs": after("thumbs", "ArrowUp", "ArrowDown"),
    "pairwise": after("pairwise", "6"),
    "both bad": after("pairwise", "0"),
    "differences": after("ranking", "x"),
    "edit": after("edit", "r"),
    "scrolling": after("long", "x", "PageDown"),
    "guidelines": after("ranking", "g"),
    "keys": after("ranking", "?"),
    "skipping": after("ranking", "s"),
    "reopened": reopened,
    "offline": offline,
    "empty": after("empty"),
    "Arabic": after("ranking", "1", "1", language="ar"),
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = Database.open(tmp_path_factory.mktemp("accessible") / "plumbline.duckdb")
    add_versions(database, "base")
    many = [[RICH, "Take five.", ARABIC]] * 90
    for kind, answers in (("ranking", many), ("thumbs", many), ("pairwise", [[RICH, ARABIC]] * 60)):
        add_project(database, kind, kind, answers, **BESIDE)
    add_project(database, "edit", "edit", [[RICH]] * 30, **BESIDE)
    add_project(database, "long", "ranking", [[LONG, f"{LONG} {LONG}"]] * 12)
    add_project(database, "empty")
    with serving(judging_app(database, new_queue(database))) as address:
        yield address
    database.close()


def serious(page: Page) -> list[str]:
    """What axe finds of weight, as "rule: where"."""
    answer = Axe().run(page, options=RULES).response
    assert len(answer["passes"]) > 10  # the rules were applied to this state
    return [
        f"{one['id']}: {node['target']} {node['any'][0]['message'] if node['any'] else ''}"
        for one in answer["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_state(make_page: Callable[..., Page], scheme: str) -> None:
    page = make_page(scheme, color_scheme=scheme, reduced_motion="reduce")
    found = {}
    for name, go in STATES.items():
        go(page)
        found[name] = serious(page)
    assert found == {name: [] for name in STATES}


def test_axe_finds_nothing_serious_on_a_phone(make_page: Callable[..., Page]) -> None:
    page = make_page("phone", viewport={"width": 390, "height": 844}, has_touch=True, reduced_motion="reduce")
    found = {}
    for name in ("ranking", "pairwise", "edit", "Arabic"):
        STATES[name](page)
        found[name] = serious(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert found == {name: [] for name in found}


@pytest.mark.parametrize("kind", ["ranking", "thumbs", "pairwise", "edit"])
def test_every_kind_is_judged_by_touch_alone_on_a_phone(make_page: Callable[..., Page], kind: str) -> None:
    page = make_page(f"touch {kind}", viewport={"width": 390, "height": 844}, has_touch=True)
    opened(page, kind)
    here = item(page)
    page.locator(".answer").first.get_by_role("radio", name="2 of 5").first.tap()
    page.get_by_role("button", name="correct").tap()
    if kind == "ranking":
        for letter, rank in (("A", 1), ("B", 2)):
            group = page.get_by_role("radiogroup", name=f"Rank for answer {letter}")
            group.get_by_role("radio", name=f"Rank {rank}").tap()
    elif kind == "thumbs":
        page.get_by_role("radio", name="Thumbs up").first.tap()
    elif kind == "pairwise":
        page.get_by_role("radio", name="B slightly better").tap()
    else:
        page.get_by_role("button", name="Rewrite answer A").tap()
        page.get_by_label("The ideal answer, from A").fill("Ideal.")
    for button in page.locator(".lbar button:visible").all():
        box = button.bounding_box()
        assert box and box["height"] >= 38
    page.locator(".submit").tap()
    changed(page, here)
    expect(page.locator(".save")).to_have_attribute("data-s", "saved")


def test_the_focus_goes_from_the_prompt_over_each_card_to_submit(make_page: Callable[..., Page]) -> None:
    page = make_page("tab")
    opened(page, "thumbs")
    stops = []
    for _ in range(40):
        press(page, "Tab")
        stops.append(
            page.evaluate(
                "document.activeElement.closest('.answer')?.dataset.index ?? document.activeElement.className"
            )
        )
        if "submit" in stops[-1]:
            break
    cards = [stop for stop in stops if stop in ("0", "1", "2")]
    assert cards == sorted(cards) and set(cards) == {"0", "1", "2"}
    assert [stop for stop in dict.fromkeys(stops) if "pick" in stop or "submit" in stop] == ["pick", "btn go submit"]


def test_no_key_means_two_things_on_one_page(make_page: Callable[..., Page]) -> None:
    page = make_page("keys")
    for kind in ("ranking", "thumbs", "pairwise", "edit"):
        opened(page, kind)
        press(page, "?")
        expect(page.locator("dialog[open]")).to_be_visible()
        shown = page.locator("dialog[open] dt").all_text_contents()
        meant = [key for one in shown for key in one_by_one(one)]
        assert len(set(meant)) == len(meant) > 10


def one_by_one(shown: str) -> list[str]:
    """ "A … C" is three keys, "U P W" too."""
    first, dots, last = shown.partition(" … ")
    return [chr(code) for code in range(ord(first), ord(last) + 1)] if dots else shown.split()


def test_every_change_of_a_ranking_is_announced(make_page: Callable[..., Page]) -> None:
    page = make_page("announced")
    opened(page, "ranking")
    live = page.locator(".ls > .sr[role=status]")
    expect(live).to_have_text("Next prompt. 3 answers.")
    for key, said in (("1", "Answer A ranked 1."), ("1", "Answer B ranked 1, tied with A."), ("h", "correct: on.")):
        press(page, key)
        expect(live).to_have_text(said)


def test_reduced_motion_moves_nothing(make_page: Callable[..., Page]) -> None:
    page = make_page("still", reduced_motion="reduce")
    opened(page, "ranking")
    press(page, "Enter")  # refused: the button would shake
    assert page.locator(".submit").evaluate("one => getComputedStyle(one).animationName") == "none"
