"""Takes the README's pictures again, from the app itself: `python -m tests.pictures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect

from benchmarks.preferred import rater_likes
from tests import loop
from tests.app_process import ROOT, AppProcess

PICTURES = ROOT / "assets" / "pictures"


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, AppProcess(Path(home)) as app, loop.browser_page(app.url) as page:
        loop.enter(page, "Ines")
        loop.label(page, 50, rater_likes)
        page.wait_for_selector(loop.ITEM)
        for key in ("2", "1", "3", "3"):
            page.keyboard.press(key)
        page.screenshot(path=PICTURES / "label.png")
        new_run(page)
        page.screenshot(path=PICTURES / "new_run.png")
        loop.start_run(page, "DPO")
        page.wait_for_function("document.querySelectorAll('.ans .cols .a').length >= 9", timeout=4 * loop.SLOW)
        page.wait_for_timeout(1500)  # the bar and the curves catch up
        page.screenshot(path=PICTURES / "run.png")


def new_run(page: Page) -> None:
    """The form, with all that is known before the run starts: rows, checks, memory and time."""
    page.goto("/runs/new?method=dpo")
    page.wait_for_selector(".new-run[data-ready=yes]")
    loop.freeze(page)
    expect(page.locator(".before .verdict")).to_contain_text("Can start", timeout=4 * loop.SLOW)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.mouse.move(0, 0)


if __name__ == "__main__":
    main()
