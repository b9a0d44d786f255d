"""How long from a person's first vote to a new version that is compared with the old one.

    python -m benchmarks.first_vote_to_proof [--quick]

The real app, driven in Chromium by the scripted rater: 50 rankings, DPO with the form's defaults, 24 blind comparisons
on held-out prompts. `--quick` does fewer of both. The clock starts when the first item is on the page.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from benchmarks.bars import Bar, report
from benchmarks.preferred import rater_likes
from tests import loop
from tests.app_process import AppProcess

MOST_SECONDS = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 rankings and 16 comparisons")
    items, compared = (30, 16) if parser.parse_args().quick else (50, 24)
    with tempfile.TemporaryDirectory() as home, AppProcess(Path(home)) as app, loop.browser_page(app.url) as page:
        loop.enter(page, "rater")
        page.wait_for_selector(loop.ITEM)
        marks = [time.monotonic()]
        loop.label(page, items, rater_likes)
        marks.append(time.monotonic())
        outcome = loop.train(page, "DPO")
        marks.append(time.monotonic())
        verdict = loop.compare(page, "base", "v1", compared, rater_likes)
        marks.append(time.monotonic())
    labelling, training, comparing = (after - before for before, after in pairwise(marks))
    print(f"{items} rankings {labelling:.0f} s, training {training:.0f} s, {compared} comparisons {comparing:.0f} s")
    print(outcome)
    print(" ".join(verdict.split()), end="\n\n")
    total = marks[-1] - marks[0]
    bar = Bar(
        "first vote to a compared new version", f"{total:.0f} s", f"at most {MOST_SECONDS} s", total <= MOST_SECONDS
    )
    proven = Bar(
        "the new version beats the old one", "yes" if "beats base" in verdict else "no", "yes", "beats base" in verdict
    )
    return report([bar, proven], f"{total / 60:.1f} minutes from the first vote to the proof.")


if __name__ == "__main__":
    sys.exit(main())
