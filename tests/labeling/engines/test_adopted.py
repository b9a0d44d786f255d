"""A server that somebody else runs: it is asked, gets our adapters beside theirs, and runs on when we leave."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from labeling.engines import adopted_server, server_with_adapters
from labeling.engines.adopted_server import home_id, prefix_of
from labeling.engines.base_layers import write_untrained_adapter
from labeling.engines.client import EngineClient
from labeling.engines.supervisor import Adopted, Engines, ServedVersion
from tests.app_process import wait_until

from .conftest import ServerUnderTest
from .scripted_server import Scripted, scripted
from .tiny_models import write_model

PROMPT = "Tell me about the red fox."


@pytest.fixture
def engines(server: ServerUnderTest, tmp_path: Path) -> Iterator[Engines]:
    with Engines(tmp_path, adopted=Adopted([server.url], "ours")) as engines:
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
    wait_until("it is healthy", 60, client.health)
    assert set(client.models()) == there


def test_a_version_on_another_base_is_refused_with_both_named(
    engines: Engines, server: ServerUnderTest, tmp_path: Path
):
    other = write_model(tmp_path / "other", seed=3)
    engines.serve([ServedVersion("v0", str(other), None)])
    wait_until("it is said", 30, lambda: "v0" in engines.problems)
    assert f"serves {server.folder}, and this version stands on {other}" in engines.problems["v0"]


def test_nobody_there_is_said_and_who_comes_is_found(server: ServerUnderTest, tmp_path: Path):
    with Engines(tmp_path, adopted=Adopted(["http://127.0.0.1:9"], "ours")) as engines:
        engines.serve([ServedVersion("v0", str(server.folder), None)])
        wait_until("it is said", 30, lambda: "v0" in engines.problems)
        assert "Nobody answers at http://127.0.0.1:9" in engines.problems["v0"]


def test_what_somebody_else_unloads_is_put_back(
    engines: Engines, server: ServerUnderTest, client: EngineClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server_with_adapters, "LIST_SECONDS", 0.3)
    there = set(client.models())
    engines.serve([ServedVersion("v0", str(server.folder), None), _version(server, "v1", "fox")])
    engines.wait_ready("v0", "v1")
    ours, before = set(client.models()) - there, (_answer(engines, "v0"), _answer(engines, "v1"))
    for name in ours:
        client.unload_adapter(name)
    wait_until("all are back", 30, lambda: set(client.models()) == there | ours)
    engines.wait_ready("v0", "v1")
    assert (_answer(engines, "v0"), _answer(engines, "v1")) == before


def test_two_homes_on_one_server_leave_each_other_alone(server: ServerUnderTest, client: EngineClient, tmp_path: Path):
    # given two homes that have a version of one name, and the same paths
    ids = [home_id(tmp_path / name) for name in ("one", "two")]
    with ExitStack() as stack:
        one, two = (stack.enter_context(Engines(tmp_path, adopted=Adopted([server.url], id_))) for id_ in ids)
        one.serve([_version(server, "v1", "fox")])
        two.serve([_version(server, "v1", "owl")])
        one.wait_ready("v1")
        two.wait_ready("v1")
        # then each is answered by its own; when the first leaves, the other stays
        assert _answer(one, "v1") == client.complete("fox", PROMPT, temperature=0, max_tokens=24)[0].text
        one.stop()
        assert _answer(two, "v1") == client.complete("owl", PROMPT, temperature=0, max_tokens=24)[0].text


def test_the_id_of_a_home_is_made_once_and_is_its_own(tmp_path: Path):
    ids = [home_id(tmp_path / name) for name in ("one", "two", "one")]
    assert ids[0] == ids[2] != ids[1] and len(ids[0]) == 32
    assert (
        prefix_of(ids[0], "/base")
        == prefix_of(ids[2], "/base")
        not in (
            prefix_of(ids[1], "/base"),
            prefix_of(ids[0], "/other"),
        )
    )


# ---- a server that says what is written down


@pytest.fixture
def script(base_folder: Path) -> Iterator[Scripted]:
    with scripted(base_folder) as script:
        yield script


@contextmanager
def adopting(script: Scripted, folder: Path, key: str | None = None) -> Iterator[Engines]:
    """With the base, v0, and an adapter on it, v1."""
    base, adapter = str(script.root), write_untrained_adapter(folder / "v1", script.root)
    with Engines(folder, adopted=Adopted([script.url], "ours", key)) as engines:
        engines.serve([ServedVersion("v0", base, None), ServedVersion("v1", base, str(adapter))])
        yield engines


def test_it_is_given_time_before_it_counts_as_gone(script: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adopted_server, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(adopted_server, "DEAF_AFTER", 100_000)  # looks: what it says meanwhile cannot be missed
    with adopting(script, tmp_path) as engines:
        engines.wait_ready("v0", "v1")
        # when it misses a few looks, then that is said, and nobody is sent away
        script.is_up = False
        wait_until("it is said", 30, lambda: "has not answered for" in engines.state()[0].detail, pause=0.01)
        assert engines.state()[0].status == "ready" and engines.ready("v0") and engines.ready("v1")
        # when it is back, then nothing is left of it
        script.is_up = True
        wait_until("all is well", 30, lambda: engines.state()[0].detail == "", pause=0.01)
        # when it stays away, then it counts as gone; and who comes is found
        monkeypatch.setattr(adopted_server, "DEAF_AFTER", 8)
        script.is_up = False
        wait_until("it counts as gone", 30, lambda: set(engines.problems) == {"v0", "v1"}, pause=0.01)
        assert "Nobody answers at" in engines.problems["v1"] and engines.state()[0].status == "failed"
        script.is_up = True
        wait_until("both answer", 30, lambda: engines.ready("v0") and engines.ready("v1"))


def test_one_that_is_started_anew_with_another_model_is_no_longer_asked(
    script: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(adopted_server, "LOOK_SECONDS", 0.05)
    with adopting(script, tmp_path) as engines:
        engines.wait_ready("v0")
        script.root, script.adapters = write_model(tmp_path / "other", seed=3), []
        wait_until("it is said", 30, lambda: set(engines.problems) == {"v0", "v1"})
        assert f"serves {script.root}, and this version stands on" in engines.problems["v0"]


def test_where_the_base_is_gone_it_answers_on_and_where_it_is_damaged_that_is_said(
    script: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server_with_adapters, "TRY_AGAIN_SECONDS", 0.2)
    there, away = Path(shutil.copytree(script.root, tmp_path / "base")), tmp_path / "away"
    script.root = there
    with adopting(script, tmp_path) as engines:
        engines.wait_ready("v0", "v1")
        there.rename(away)
        time.sleep(0.5)
        assert engines.ready("v0") and engines.ready("v1") and not engines.problems
        (away / "config.json").write_text("{")
        away.rename(there)
        wait_until("it is said", 30, lambda: set(engines.problems) == {"v0", "v1"})
        assert f"The files of {there} cannot be read" in engines.problems["v0"]


def test_a_server_with_a_key_is_asked_with_it(script: Scripted, tmp_path: Path):
    script.key = "key-of-the-house"
    with adopting(script, tmp_path, "key-of-the-house") as engines:
        engines.wait_ready("v0", "v1")


@pytest.mark.parametrize(("key", "said"), [(None, "wants a key"), ("key-of-somebody-else", "wants another key")])
def test_a_key_that_is_missing_or_wrong_is_said_with_where_it_belongs(
    script: Scripted, tmp_path: Path, key: str | None, said: str
):
    script.key = "key-of-the-house"
    with adopting(script, tmp_path, key) as engines:
        wait_until("it is said", 30, lambda: set(engines.problems) == {"v0", "v1"})
        assert f"{said}. Put it into the variable PLUMBLINE_ENGINE_KEY" in engines.problems["v0"]
        assert "(401)" in engines.problems["v0"] and "key-of-somebody-else" not in engines.problems["v0"]


def test_the_base_is_refused_where_the_adapter_that_stands_for_it_is(script: Scripted, tmp_path: Path):
    script.refuses_adapters = (404, {"error": {"message": "Loading lora x failed: No adapter found for /x"}})
    with adopting(script, tmp_path) as engines:
        wait_until("it is said", 30, lambda: set(engines.problems) == {"v0", "v1"})
        assert "did not take the adapter that stands for it" in engines.problems["v0"]
        assert "No adapter found for /x" in engines.problems["v0"] and not engines.ready("v0")


@pytest.mark.parametrize(
    "refusal",
    [
        (404, {"detail": "Not Found"}),
        (500, {"error": {"message": "Call to add_lora method failed: LoRA is not enabled. Use --enable-lora."}}),
    ],
)
def test_a_server_that_takes_no_adapters_answers_the_base_under_its_own_name(
    script: Scripted, tmp_path: Path, refusal: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server_with_adapters, "LIST_SECONDS", 0.3)
    monkeypatch.setattr(server_with_adapters, "TRY_AGAIN_SECONDS", 600.0)  # of v1, which is not counted here
    script.refuses_adapters = refusal
    with adopting(script, tmp_path) as engines:
        engines.wait_ready("v0")
        assert engines.client("v0")[1] == "base"
        wait_until("the adapter is refused", 30, lambda: set(engines.problems) == {"v1"})
        # it is asked once whether it takes any
        time.sleep(1)
        assert engines.ready("v0") and len([path for path, _ in script.asked if "/load" in path]) == 2
        # when it has some all the same, which it was started with, then the base is no longer asked
        script.adapters = ["theirs"]
        wait_until("it is said", 30, lambda: set(engines.problems) == {"v0", "v1"})


def test_nothing_is_ever_loaded_in_place(script: Scripted, tmp_path: Path):
    """vLLM would read it from disk again at every step, and swap weights in the middle of a text."""
    with adopting(script, tmp_path) as engines:
        engines.wait_ready("v0", "v1")
    loaded = [body for path, body in script.asked if path == "/v1/load_lora_adapter"]
    assert [set(body) for body in loaded] == [{"lora_name", "lora_path"}] * 2
    assert len({body["lora_path"] for body in loaded}) == len({body["lora_name"] for body in loaded}) == 2


def _version(server: ServerUnderTest, version_id: str, adapter: str) -> ServedVersion:
    return ServedVersion(version_id, str(server.folder), str(server.adapters[adapter]))


def _answer(engines: Engines, version_id: str) -> str:
    client, name = engines.client(version_id)
    return client.complete(name, PROMPT, temperature=0, max_tokens=24)[0].text
