"""The data page in a real Chromium: each kind is chosen and imported by keyboard, and shown where it came from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import loop
from tests.app_process import AppProcess

pytestmark = pytest.mark.browser
FILES = {
    "Demonstrations": [{"instruction": "Why?", "input": "", "output": "Because."}],
    "Preferences": [{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}],
    "Thumbs": [{"prompt": "Why?", "completion": "Because.", "label": True}],
    "Documents": [{"text": "A fox is red."}],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with AppProcess(tmp_path_factory.mktemp("data")) as app, loop.browser_page(app.url) as page:
        loop.enter(page, "Ines")
        yield page


def bring(page: Page, kind: str, file: Path) -> str:
    """What the page says of the import of a file."""
    page.goto("/data/")
    choose(page, kind)
    page.locator("#source textarea, #source input").first.fill(f"my {kind}")
    page.locator("#file input[type=file]").set_input_files(file)
    expect(page.locator("#file td a")).to_have_attribute("href", re.compile(re.escape(file.name)))  # it is uploaded
    page.locator("#go").focus()
    page.keyboard.press("Enter")
    said = page.locator("#part-said .say")
    expect(said).to_be_visible()
    return said.inner_text()


def choose(page: Page, kind: str) -> None:
    """By keys, as far down the list as the kind is."""
    field = page.locator("#kind input")
    field.focus()
    for _ in ["Demonstrations", "Preferences", "Thumbs", "Documents"][: list(FILES).index(kind) + 1]:
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(field).to_have_value(kind)


@pytest.mark.parametrize(("kind", "shape"), [("Thumbs", "label"), ("Documents", "blank line")])
def test_a_kind_says_which_files_it_takes(page: Page, kind: str, shape: str) -> None:
    page.goto("/data/")

    choose(page, kind)

    expect(page.locator("#takes")).to_contain_text(shape)


@pytest.mark.parametrize("kind", FILES)
def test_each_kind_is_imported_and_shown_with_its_source(page: Page, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(FILES[kind]))

    assert bring(page, kind, file).startswith(f"1 {kind.lower()[:-1]} imported")

    row = page.locator("#part-tables tr", has_text=f"my {kind}").filter(has=page.get_by_text(kind, exact=True))
    expect(row).to_have_count(1)
    expect(row.locator("td").nth(2)).to_have_text("1")


def test_a_row_that_cannot_be_read_is_named_and_the_file_stays_chosen(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "How?", "chosen": "So.", "rejected": "No."}\n{"prompt": "How?", "chosen": "So."}\n')

    said = bring(page, "Preferences", file)

    assert "row 2: there is no 'rejected' answer" in said and "Nothing was imported" in said
    expect(page.locator("#file td a")).to_have_attribute("href", re.compile("rows.jsonl"))


def test_a_phone_shows_the_page_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/data/")
    page.wait_for_selector("#part-tables [data-ready], [data-part=tables][data-ready]")

    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_prompts_of_a_source_are_kept_here_and_let_leave_again(page: Page) -> None:
    page.goto("/data/")
    row = page.get_by_role("row").filter(has_text="Plumbline's sample questions")

    row.get_by_role("button", name="Keep them here").click()
    expect(row).to_contain_text("Never leave")
    row.get_by_role("button", name="Let them leave").click()
    expect(row).to_contain_text("May leave")
