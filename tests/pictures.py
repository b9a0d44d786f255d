"""Takes the README's pictures again, from the app itself: `python -m tests.pictures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

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
        loop.start_run(page, "DPO")
        page.wait_for_function("document.querySelectorAll('.ans .cols .a').length >= 9")
        page.wait_for_timeout(1500)  # the bar and the curves catch up
        page.screenshot(path=PICTURES / "run.png")


if __name__ == "__main__":
    main()
