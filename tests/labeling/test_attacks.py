"""Wherever a text of somebody else's is shown on the label page, it runs nothing and fetches nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from storage.database import Database
from tests.labeling.attacked_page import ATTACKS, DRAW_ITEMS, DRAW_NAMES, HARMLESS, attack, fill
from tests.labeling.judging_app import judging_app, new_queue, serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = Database.open(tmp_path_factory.mktemp("attacks") / "plumbline.duckdb")
    fill(database)
    with serving(judging_app(database, new_queue(database))) as address:
        yield address
    database.close()


def test_there_are_many_attacks() -> None:
    assert len(set(ATTACKS)) == len(ATTACKS) >= 150


def test_prompts_answers_comments_rewrites_and_criteria_run_nothing(browser: Browser, address: str) -> None:
    assert attack(browser, address, DRAW_ITEMS) == HARMLESS


def test_guidelines_and_names_run_nothing(browser: Browser, address: str) -> None:
    assert attack(browser, address, DRAW_NAMES) == HARMLESS
