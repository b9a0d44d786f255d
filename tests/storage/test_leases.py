"""A device is the servers', a run's or nobody's, and changes hands in one way only."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from storage import leases
from storage.database import Database
from storage.leases import NOBODY, SERVER
from storage.records import now

GPU = "cuda:0"


@pytest.fixture(autouse=True)
def shared(database: Database) -> None:
    leases.share(database, [GPU])


def held(database: Database) -> tuple[str, str]:
    (lease,) = leases.list_all(database)
    return lease.holder, lease.wanted_by


def test_what_is_free_is_taken_by_whoever_comes_first(database: Database):
    assert held(database) == (NOBODY, NOBODY)
    leases.take(database, GPU)
    assert held(database) == (SERVER, NOBODY)


def test_a_run_asks_the_servers_and_waits_until_they_hand_over(database: Database):
    leases.take(database, GPU)
    leases.due(database, GPU, "dpo-01")
    assert held(database) == (SERVER, "dpo-01")
    leases.hand_over(database, GPU)
    assert held(database) == ("dpo-01", NOBODY)


def test_the_servers_take_nothing_from_a_run(database: Database):
    leases.due(database, GPU, "dpo-01")
    leases.take(database, GPU)
    leases.hand_over(database, GPU)
    assert held(database) == ("dpo-01", NOBODY)


def test_what_the_servers_hand_over_is_nobodys_where_no_run_waits_for_it_any_more(database: Database):
    leases.take(database, GPU)
    leases.due(database, GPU, "dpo-01")
    leases.due(database, GPU, NOBODY)
    leases.hand_over(database, GPU)
    assert held(database) == (NOBODY, NOBODY)


def test_the_device_of_a_run_that_has_ended_goes_to_the_next_or_to_nobody(database: Database):
    leases.due(database, GPU, "dpo-01")
    since = leases.list_all(database)[0].since
    leases.due(database, GPU, "dpo-01", free_at=now() + timedelta(hours=1))
    assert leases.list_all(database)[0].since == since  # it is still the same run's
    leases.due(database, GPU, "dpo-02")
    (lease,) = leases.list_all(database)
    assert (lease.holder, lease.free_at) == ("dpo-02", None) and lease.since != since
    leases.due(database, GPU, NOBODY)
    assert held(database) == (NOBODY, NOBODY)


def test_a_lease_outlives_the_app_and_goes_when_the_device_is_shared_no_more(tmp_path: Path):
    first = Database.open(tmp_path / "home.duckdb")
    leases.share(first, [GPU])
    leases.due(first, GPU, "dpo-01")
    first.close()
    second = Database.open(tmp_path / "home.duckdb")
    leases.share(second, [GPU, "cuda:1"])
    assert [(one.device, one.holder) for one in leases.list_all(second)] == [(GPU, "dpo-01"), ("cuda:1", NOBODY)]
    leases.share(second, [])
    assert leases.list_all(second) == []
    second.close()
