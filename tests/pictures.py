"""Takes the README's pictures again, from the app itself: `python -m tests.pictures`."""

from __future__ import annotations

import json
import random
import re
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect

from assets.starter_model.corpus import HERE, unseen_prompts
from benchmarks.preferred import rater_likes
from tests import loop
from tests.app_process import ROOT, AppProcess

PICTURES = ROOT / "assets" / "pictures"
ROUND = "First round"
QUESTIONS, JUDGED = 30, 14  # some are held out, and to some all answers are alike
PEOPLE = {"Ravi": 0.05, "Lena": 0.1, "Tom": 0.45}  # how often each says what comes to mind


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, AppProcess(Path(home)) as app:
        with loop.browser_page(app.url) as page:
            loop.enter(page, "Ines")
            labelled(page)
            judged_together(page, app.url, Path(home) / "questions.jsonl")
            trained_and_compared(page)
        with loop.browser_page(app.url, width=390, height=844) as phone:
            phone.emulate_media(color_scheme="dark")
            loop.enter(phone, "Ravi")
            phone.wait_for_selector(loop.ITEM)
            take(phone, "phone")


def labelled(page: Page) -> None:
    loop.label(page, 50, rater_likes)
    page.wait_for_selector(loop.ITEM)
    for key in ("2", "1", "3", "3"):
        page.keyboard.press(key)
    take(page, "label")


def judged_together(page: Page, url: str, questions: Path) -> None:
    """A round in which everybody judges the same prompts: as a lead sets it up, and what it says of the people."""
    shipped = (HERE / "prompts.jsonl").read_text()
    fresh = [row for row in unseen_prompts(1000, seed=7) if row["prompt"] not in shipped][:QUESTIONS]
    questions.write_text("\n".join(map(json.dumps, fresh)))
    loop.import_prompts(page, questions, "round")
    loop.make_project(page, ROUND, "Ranking", sources="round", calibration=True)
    address = page.url
    page.goto("/projects/")
    expect(page.locator(".ls.preview .answer").first).to_be_visible()
    take(page, "projects")
    for name, share in PEOPLE.items():
        other = at_a_browser(page, url)
        loop.enter(other, name)
        other.goto(address)
        loop.label(other, JUDGED, careless(name, share))
    page.goto("/quality/")
    page.wait_for_selector(".ql[data-ready=yes]")
    take(page, "quality")


def at_a_browser(page: Page, url: str) -> Page:
    """Somebody else's, with a memory of its own."""
    assert page.context.browser
    other = page.context.browser.new_context(base_url=url).new_page()
    other.set_default_timeout(loop.SLOW)
    return other


def careless(name: str, share: float) -> loop.Likes:
    """A rater who says the opposite this often."""
    chance = random.Random(name)
    return lambda prompt, text: (chance.random() < share) != rater_likes(prompt, text)


def trained_and_compared(page: Page) -> None:
    new_run(page)
    take(page, "new_run")
    loop.start_run(page, "DPO")
    page.wait_for_function("document.querySelectorAll('.ans .cols .a').length >= 9", timeout=4 * loop.SLOW)
    page.wait_for_timeout(1500)  # the bar and the curves catch up
    take(page, "run")
    expect(page.locator(".runhead .st", has_text=re.compile("Succeeded"))).to_be_visible(timeout=4 * loop.SLOW)
    loop.compare(page, "base", "v1", 12, rater_likes)
    take(page, "compare")
    page.goto("/models/")
    page.wait_for_selector("[data-part=models][data-ready=yes]")
    take(page, "models")


def new_run(page: Page) -> None:
    """The form, with all that is known before the run starts: rows, checks, memory and time."""
    page.goto("/runs/new?method=dpo")
    page.wait_for_selector(".new-run[data-ready=yes]")
    loop.freeze(page)
    expect(page.locator(".before .verdict")).to_contain_text("Can start", timeout=4 * loop.SLOW)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.mouse.move(0, 0)


def take(page: Page, name: str) -> None:
    page.screenshot(path=PICTURES / f"{name}.png")


if __name__ == "__main__":
    main()
