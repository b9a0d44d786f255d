"""The whole loop as a person drives it, in a real Chromium. Used by the end-to-end test and by the benchmark.

The scripted person reads only what the page shows and uses only its keys and buttons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from tests import chromium

Likes = Callable[[str, str], bool]  # (prompt, answer)
ITEM = ".ls.ready[data-item]:not([data-item=''])"  # an item is painted, and keys count
SLOW = 60_000  # ms: on two busy cores


@contextmanager
def browser_page(url: str, *, width: int = 1440, height: int = 900) -> Iterator[Page]:
    """A page of a fresh browser. Fails on an error in the page, and on any request that leaves the app."""
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS)
        page = browser.new_context(base_url=url, viewport={"width": width, "height": height}).new_page()
        page.on("pageerror", lambda error: problems.append(f"error on {page.url}: {error}"))
        page.on("request", lambda request: problems.append(request.url) if _leaves(request.url, url) else None)
        page.set_default_timeout(SLOW)
        yield page
        browser.close()
    assert not problems, problems


def enter(page: Page, name: str) -> None:
    page.goto("/")
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Start").click()
    page.wait_for_selector(".ls")


def import_prompts(page: Page, file: Path, source: str) -> str:
    """Returns what the page says came of it."""
    return import_rows(page, "Prompts", file, source)


def import_rows(page: Page, kind: str, file: Path, source: str) -> str:
    """Brings a file of this kind on the data page; returns what is said of it."""
    page.goto("/data/")
    page.locator("#kind input").click()
    page.get_by_role("option", name=kind, exact=True).click()
    page.locator("#source textarea, #source input").first.fill(source)
    page.locator("#file input[type=file]").set_input_files(file)
    expect(page.locator("#file td a")).to_have_attribute("href", re.compile(re.escape(file.name)))  # it is uploaded
    page.locator("#go").click()
    said = page.locator("#part-said .say")
    expect(said).to_be_visible()
    return said.inner_text()


def make_project(page: Page, name: str, feedback: str, *, sources: str = "", calibration: bool = False) -> None:
    """A new project, saved on the projects page. The newest version that is served answers.

    `calibration`: everybody judges the same prompts.
    """
    page.goto("/projects/")
    field = page.locator("#name textarea, #name input").first
    expect(field).not_to_have_value("")  # the newest project is shown; before that, what is typed would be overwritten
    page.locator("#project input").click()
    page.get_by_role("option", name="A new project").click()
    expect(field).to_have_value("")
    field.fill(name)
    page.locator("#feedback").get_by_label(feedback).check()
    if sources:
        page.locator("#sources input").click()
        page.get_by_role("option", name=sources).click()
        page.keyboard.press("Escape")
    if calibration:
        page.locator("#calibration input").check()
    page.locator("#save").click()
    expect(page.locator("#part-said .say")).to_contain_text("is saved")
    page.get_by_role("link", name="Open it on the label page").click()
    page.wait_for_selector(".ls:not(.preview)")


def label(page: Page, items: int, likes: Likes) -> int:
    """Judges so many items by keyboard; returns how many had an answer that is liked."""
    liked_items = 0
    for _ in range(items):
        page.wait_for_selector(ITEM)
        liked = [likes(shown_prompt(page), text) for text in shown_answers(page)]
        liked_items += any(liked)
        mode = page.locator(".ls").get_attribute("data-mode")
        for number, good in enumerate(liked):
            page.keyboard.press("abcdef"[number])
            if mode == "thumbs":
                page.keyboard.press("ArrowUp" if good else "ArrowDown")
            else:
                page.keyboard.press("1" if good else "2")
        submit(page)
    expect(page.locator(".save")).to_have_attribute("data-s", "saved")
    return liked_items


def shown_prompt(page: Page) -> str:
    return (page.locator(".ls .prompt .text").last.text_content() or "").strip()


def shown_answers(page: Page) -> list[str]:
    """The texts on the cards, as the page holds them (Markdown's rendering ends each with a newline)."""
    return [text.removesuffix("\n") for text in page.locator(".answer .text").all_text_contents()]


def submit(page: Page) -> None:
    """Enter, and wait for another item (or for the page to say that there is none)."""
    before = page.locator(".ls").get_attribute("data-item")
    page.keyboard.press("Enter")
    page.wait_for_function("before => document.querySelector('.ls').dataset.item !== before", arg=before)


def train(page: Page, method: str, seconds: float = 180, **form: Any) -> str:
    """As start_run; then waits for the end of the run and returns the outcome's sentence."""
    start_run(page, method, **form)
    done = page.locator(".runhead .st", has_text=re.compile("Succeeded|Failed|Stopped|Ended from outside"))
    expect(done).to_be_visible(timeout=seconds * 1000)
    return page.locator(".runhead .say").first.inner_text()


def measured_on_page(page: Page, metric: str) -> list[float]:
    """What the run that is shown measured, in order."""
    run = page.url.rsplit("run=", 1)[1]
    points = page.request.get(f"/api/runs/{run}").json()["points"]
    return [point[metric] for point in points if metric in point]


def start_run(
    page: Page,
    method: str,
    *,
    parent: str | None = None,
    settings: Mapping[str, object] = MappingProxyType({}),
    reward_model: str | None = None,
    tuning: str | None = None,
) -> str:
    """Freezes what the method reads, fills the form, starts the run; returns its id. `method` is the card's title.

    What is not given stays as it is proposed. `settings` are by field name, in the order they are to be filled in.
    """
    page.goto("/runs/new")
    page.get_by_role("radio", name=re.compile(f"^{method}")).click()
    freeze(page)
    if parent:
        page.locator("#parent").select_option(parent)
    chosen = {"tuning": tuning, "reward_model": reward_model}
    for name, value in {**{name: one for name, one in chosen.items() if one}, **settings}.items():
        set_field(page, name, value)
    page.get_by_role("button", name="Start run").click()  # waits while it is refused
    page.wait_for_url(re.compile(r"/runs/?\?run="))
    return page.url.rsplit("run=", 1)[1]


def freeze(page: Page) -> str:
    """A snapshot of what the chosen method reads, which the form then learns from; returns what is said of it."""
    page.get_by_role("button", name="Freeze a snapshot now").click()
    expect(page.locator("#said")).to_contain_text(re.compile("Frozen as|Nothing is new since"), timeout=SLOW)
    return page.locator("#said").inner_text()


def set_field(page: Page, name: str, value: object) -> None:
    """One setting of the new-run form, unfolded first where it is folded away."""
    field = page.locator(f"#setting-{name}")
    folded = page.locator("details.more", has=field)
    if folded.count() and folded.get_attribute("open") is None:
        folded.locator("summary").click()
    kind = field.evaluate("field => field.type === 'checkbox' ? 'switch' : field.tagName")
    if kind == "SELECT":
        field.select_option(str(value))
    elif kind == "switch":
        field.set_checked(bool(value))
    else:
        field.fill(str(value))


def compare(page: Page, first: str, second: str, items: int, likes: Likes) -> str:
    """Judges so many held-out prompts blind; returns the verdict that the page shows."""
    page.goto(f"/compare/?a={first}&b={second}")
    for _ in range(items):
        page.wait_for_selector(ITEM)
        left, right = (likes(shown_prompt(page), text) for text in shown_answers(page)[:2])
        page.keyboard.press("4" if left == right else "2" if left else "6")
        page.keyboard.press("Enter")
        expect(page.locator(".save")).to_have_attribute("data-s", "saved")
        submit(page)
    verdict = page.locator("[aria-label='What the judgments say so far']")
    expect(verdict).to_contain_text(f"{items} blind judgments")
    return verdict.inner_text()


def _leaves(address: str, url: str) -> bool:
    return not address.startswith((url, "data:", "blob:"))
