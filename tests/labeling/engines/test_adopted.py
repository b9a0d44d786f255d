"""A server that somebody else runs: it is asked, gets our adapters beside theirs, and runs on when we leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labeling.engines.client import EngineClient
from labeling.engines.supervisor import Adopted, Engines, ServedVersion
from tests.app_process import wait_until

from .conftest import ServerUnderTest
from .tiny_models import write_model

PROMPT = "Tell me about the red fox."


@pytest.fixture
def engines(server: ServerUnderTest, tmp_path: Path) -> Iterator[Engines]:
    with Engines(tmp_path, adopted=Adopted(server.url)) as engines:
        yield engines


def test_versions_are_put_on_it_beside_what_is_there(engines: Engines, server: ServerUnderTest, client: EngineClient):
    # given two versions on its base
    there = set(client.models())
    versions = [ServedVersion("v0", str(server.folder), None), _version(server, "v1", "fox")]
    # when they are served
    engines.serve(versions)
    engines.wait_ready("v0", "v1")
    # then each answers as itself, also in one batch, and nobody else's adapter was touched
    assert _answer(engines, "v1") == client.complete("fox", PROMPT, temperature=0, max_tokens=24)[0].text
    assert _answer(engines, "v0") == client.complete("base", PROMPT, temperature=0, max_tokens=24)[0].text
    ours = set(client.models()) - there
    assert there < set(client.models()) and all(name.startswith("plumbline-") for name in ours)
    # when one is taken back, then only that one goes
    engines.serve(versions[:1])
    wait_until("v1 is unloaded", 30, lambda: not any(name.endswith("-v1") for name in client.models()))
    assert there <= set(client.models())
    # when we leave, then it runs on as it was found
    engines.stop()
    assert client.health() and set(client.models()) == there


def test_a_version_on_another_base_is_refused_with_both_named(
    engines: Engines, server: ServerUnderTest, tmp_path: Path
):
    other = write_model(tmp_path / "other", seed=3)
    engines.serve([ServedVersion("v0", str(other), None)])
    wait_until("it is said", 30, lambda: "v0" in engines.problems)
    assert f"serves {server.folder}, and this version stands on {other}" in engines.problems["v0"]


def test_nobody_there_is_said_and_who_comes_is_found(server: ServerUnderTest, tmp_path: Path):
    with Engines(tmp_path, adopted=Adopted("http://127.0.0.1:9")) as engines:
        engines.serve([ServedVersion("v0", str(server.folder), None)])
        wait_until("it is said", 30, lambda: "v0" in engines.problems)
        assert "Nobody answers at http://127.0.0.1:9" in engines.problems["v0"]


def _version(server: ServerUnderTest, version_id: str, adapter: str) -> ServedVersion:
    return ServedVersion(version_id, str(server.folder), str(server.adapters[adapter]))


def _answer(engines: Engines, version_id: str) -> str:
    client, name = engines.client(version_id)
    return client.complete(name, PROMPT, temperature=0, max_tokens=24)[0].text
