"""What several test files share: a database in a temporary folder, and a browser."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from playwright.sync_api import Browser, Page, expect, sync_playwright

from storage.database import Database
from tests import chromium

expect.set_options(timeout=60_000)  # ms: a state is waited for as long as a busy machine may take to reach it


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "plumbline.duckdb")
    yield opened
    opened.close()


@pytest.fixture(scope="module")  # and no longer: while it is open, nothing else in this process may drive a browser
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page at the `address` that a module serves; no script of it may fail."""
    problems: list[str] = []
    context = browser.new_context(base_url=address, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert problems == []


@pytest.fixture
def make_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Makes pages at the `address` that a module serves, each for somebody in a context of their own."""
    contexts = []

    def make(person: str = "maria", **settings: Any) -> Page:
        context = browser.new_context(base_url=address, **{"viewport": {"width": 1440, "height": 900}, **settings})
        context.add_cookies([{"name": "person", "value": person, "url": address}])
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()
