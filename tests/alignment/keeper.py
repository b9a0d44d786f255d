"""The part of the app that follows runs, as a process that a test can kill: python -m tests.alignment.keeper HOME"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from alignment import run_queue
from storage.database import Database


def main(home: Path) -> None:
    database = Database.open(home / "plumbline.duckdb")
    while True:
        run_queue.follow(database, on_version=lambda version: None)
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
