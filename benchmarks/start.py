"""What a warm start costs until the label page shows its first item, and whether the web process stays without torch.

    python -m benchmarks.start [--quick]

CPU seconds of the web process alone (the model server is another one), read from the kernel. Median of three starts
on a home that has been used before; `--quick` starts once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.bars import Bar, report
from tests import loop
from tests.app_process import AppProcess

MOST_CPU_SECONDS = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one start instead of three")
    starts = 1 if parser.parse_args().quick else 3
    with tempfile.TemporaryDirectory() as home:
        until_first_item(Path(home))  # the first start fills the home: it is not a warm one
        found = [until_first_item(Path(home)) for _ in range(starts)]
    seconds = statistics.median(cpu for cpu, _ in found)
    torch = any(loaded for _, loaded in found)
    bars = [
        Bar(
            "CPU of the web process",
            f"{seconds:.1f} s",
            f"at most {MOST_CPU_SECONDS:.0f} s",
            seconds <= MOST_CPU_SECONDS,
        ),
        Bar("torch in the web process", "loaded" if torch else "not loaded", "not loaded", not torch),
    ]
    return report(bars, f"{starts} warm starts.")


def until_first_item(home: Path) -> tuple[float, bool]:
    """CPU seconds of the web process when the first item is on the page, and whether it has torch."""
    with AppProcess(home) as app, loop.browser_page(app.url) as page:
        loop.enter(page, "rater")
        page.wait_for_selector(loop.ITEM)
        return app.cpu_seconds(), app.has_loaded("libtorch")


if __name__ == "__main__":
    sys.exit(main())
