"""Long answers scroll together, and where answers differ can be marked, by keyboard as by mouse."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from storage.database import Database
from tests.labeling.judging_app import add_project, add_versions, judging_app, new_queue, serving
from tests.labeling.test_label_page import changed, item, opened, press, submitted

pytestmark = pytest.mark.browser
LONG = "\n\n".join(f"Paragraph {n} of an answer that is longer than any screen, and goes on and on." for n in range(60))
DOSE = "Take **five mg** daily.\n\n```python\ndose = 5\n```\n\n$x^2$ and <b>bold</b>"
OTHER = "Take **six mg** daily.\n\n```python\ndose = 6\n```\n\n$x^3$ and <b>bold</b> at night"
ALIKE = "Take **five mg** daily.\n\n```python\ndose = 5\n```\n\n$x^2$ and <b>bold</b>."


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = Database.open(tmp_path_factory.mktemp("side") / "plumbline.duckdb")
    add_versions(database, "base")
    add_project(database, "two", "pairwise", [[DOSE, OTHER]] * 6)
    add_project(database, "shortened", "pairwise", [["Take it.\n\nEvery day, every morning.", "Take it."]])
    add_project(database, "three", "ranking", [[DOSE, OTHER, ALIKE]] * 3)
    add_project(database, "long", "ranking", [[LONG, LONG + LONG.replace("screen", "page"), "Short."]] * 12)
    add_project(database, "rated", "thumbs", [[LONG, "Short."]])
    add_project(database, "edit", "edit", [["A draft."]])
    with serving(judging_app(database, new_queue(database))) as address:
        yield address
    database.close()


def card_with(page: Page, text: str) -> Locator:
    return page.locator(".answer", has_text=text)


def marked(card: Locator) -> list[str]:
    return card.locator("mark").all_text_contents()


def test_two_answers_show_what_each_says_that_the_other_does_not(page: Page) -> None:
    opened(page, "two")
    before = page.locator(".answer .text").all_inner_texts()
    press(page, "x")

    five, six = card_with(page, "five mg"), card_with(page, "six mg")
    assert [marked(five), marked(six)] == [["five", "5", "x2"], ["six", "6", "x3", "at night"]]
    assert page.locator(".answer .text").all_inner_texts() == before  # marks change no word
    assert five.locator("pre mark").count() == 1 and page.locator(".answer b").count() == 0
    expect(six.locator(".difference")).to_have_text(f"Words: 5 only here, 3 only in {letter(five)}")
    expect(page.locator(".ls > .sr[role=status]")).to_have_text(
        "Where answers differ is marked; each answer says how much."
    )
    button = page.get_by_role("button", name="Differences")
    expect(button).to_have_attribute("aria-pressed", "true")

    submitted(page, "4")
    expect(page.locator("mark")).to_have_count(7)  # it stays on for the next item
    button.click()
    assert page.locator("mark").count() == 0
    assert sorted(page.locator(".answer .text").all_inner_texts()) == sorted(before)
    expect(page.locator(".difference:visible")).to_have_count(0)


def test_an_answer_that_only_leaves_words_out_says_how_many(page: Page) -> None:
    opened(page, "shortened")
    press(page, "x")

    whole, shortened = card_with(page, "every morning"), card_with(page, "Take it.").filter(has_not_text="every")
    assert [marked(whole), marked(shortened)] == [["Every day, every morning."], []]
    expect(shortened.locator(".difference")).to_have_text(f"Words: 0 only here, 4 only in {letter(whole)}")
    expect(whole.locator(".difference")).to_have_text(f"Words: 4 only here, 0 only in {letter(shortened)}")


def letter(card: Locator) -> str:
    return card.locator(".let").inner_text()


def test_of_more_answers_all_others_are_held_against_the_one_in_focus(page: Page) -> None:
    opened(page, "three")
    six = card_with(page, "six mg")
    press(page, letter(six).lower(), "x", "a", "1", "b", "1")  # the focus moves on; what is marked stays

    assert marked(six) == []
    expect(six.locator(".difference")).to_have_text("Compared with all others")
    others = page.locator(".answer", has_text="five mg")
    assert [marked(one)[:3] for one in others.all()] == [["five", "5", "x2"]] * 2
    for one in others.all():
        expect(one.locator(".difference")).to_have_text(f"Words: 3 only here, 5 only in {letter(six)}")


def test_a_single_answer_differs_from_nothing(page: Page) -> None:
    opened(page, "edit")
    press(page, "x")
    expect(page.get_by_role("button", name="Differences")).to_be_hidden()
    assert page.locator("mark").count() == 0


def test_long_answers_scroll_together_each_by_its_own_length(page: Page) -> None:
    opened(page, "long")
    texts = page.locator(".answer > .text")
    assert [texts.nth(n).get_attribute("tabindex") for n in range(3)].count("0") == 2  # the short one is no stop
    bar = page.locator(".lbar").bounding_box()
    for card in page.locator(".answer").all():
        box = card.bounding_box()
        assert box and bar and box["y"] + box["height"] <= bar["y"]  # all of them on one screen
    press(page, "PageDown", "PageDown")
    # the others follow a frame later
    page.wait_for_function(f"{SHARES}.every((one, _, [first]) => one > 0.1 && Math.abs(one - first) < 0.01)")

    shorter = page.evaluate(f"{LONG_TEXTS}.reduce((a, b) => (a.scrollHeight < b.scrollHeight ? a : b)).scrollTop = 1e6")
    assert shorter
    page.wait_for_function(f"{SHARES}.every((share) => share > 0.99)")
    press(page, "PageUp")
    page.wait_for_function(f"{SHARES}.every((share) => share < 0.99)")
    here = item(page)
    press(page, "1", "2", "Enter")
    changed(page, here)
    assert page.evaluate(SHARES) == [0, 0]


def test_arrows_scroll_a_long_answer_that_has_the_keyboard_and_give_no_thumb(page: Page) -> None:
    opened(page, "rated")
    long = page.locator(".answer > .text[tabindex]")
    long.focus()
    press(page, "ArrowDown")
    page.wait_for_function("document.querySelector('.answer > .text[tabindex]').scrollTop > 0")
    expect(page.locator(".answer[data-v=down]")).to_have_count(0)

    page.locator(".answer").first.focus()
    press(page, "ArrowDown")
    expect(page.locator(".answer[data-v=down]")).to_have_count(1)


LONG_TEXTS = "[...document.querySelectorAll('.answer > .text[tabindex]')]"
SHARES = f"{LONG_TEXTS}.map((one) => one.scrollTop / (one.scrollHeight - one.clientHeight))"


def test_on_a_phone_the_page_scrolls_and_not_the_cards(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, viewport={"width": 390, "height": 844}, has_touch=True)
    page = opened(context.new_page(), "long")
    assert page.locator(".answer > .text[tabindex]").count() == 0
    page.get_by_role("button", name="Differences").tap()
    expect(page.locator("mark").first).to_be_attached()  # how many there are depends on which answer comes first
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


DIFFERING = "([a, b]) => Plumbline.differences.differing(a, b).b.map(Number)"


def test_what_is_common_is_the_longest_part_in_the_same_order_even_of_very_long_texts(page: Page) -> None:
    opened(page, "edit")
    assert page.evaluate(DIFFERING, [list("abcd"), list("bxda")]) == [0, 1, 0, 1]
    assert page.evaluate(DIFFERING, [[], ["a"]]) == [1]
    words = [f"word{n}" for n in range(3000)]
    changed_words = ["new", *words[:1500], "other", *words[1501:2000], *words[2100:]]
    found = page.evaluate(DIFFERING, [words, changed_words])  # too much for a table
    assert [index for index, one in enumerate(found) if one] == [0, 1501]
