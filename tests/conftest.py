"""What several test files share: a database in a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from playwright.sync_api import expect

from storage.database import Database

expect.set_options(timeout=60_000)  # ms: a state is waited for as long as a busy machine may take to reach it


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "plumbline.duckdb")
    yield opened
    opened.close()
