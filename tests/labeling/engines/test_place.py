"""Several servers behind one engine: the least loaded is asked, a dead one is passed over, a version may be pinned."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from labeling.engines.client import EngineClient
from labeling.engines.model_server import serving
from labeling.engines.supervisor import Adopted, Engines, ServedVersion
from storage.errors import ModelNotLoadable
from tests.app_process import wait_until

PROMPT = "Tell me about the red fox."
NOBODY_THERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def urls(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two servers of the same base."""
    folder = tmp_path_factory.mktemp("two")
    with serving(str(base_folder), folder / "a") as first, serving(str(base_folder), folder / "b") as second:
        yield [first.url, second.url]


@pytest.fixture
def versions(base_folder: Path, adapter_folders: dict[str, Path]) -> list[ServedVersion]:
    base = ServedVersion("v0", str(base_folder), None)
    return [base, *(ServedVersion(name, str(base_folder), str(adapter_folders[name])) for name in ("fox", "owl"))]


def test_each_request_goes_to_the_server_with_the_fewest_in_flight(
    urls: list[str], versions: list[ServedVersion], tmp_path: Path
):
    with Engines(tmp_path, adopted=Adopted(urls, "home")) as engines:
        engines.serve(versions)
        everywhere(engines, urls, {"v0", "fox", "owl"})
        # given nobody is asking, then they take turns
        assert [url_of(engines, "fox") for _ in range(4)] in ([*urls, *urls], [*urls[::-1], *urls[::-1]])
        # given one request on the first, of whatever version, then the second is asked, until it has two
        first, second = (client_at(engines, url) for url in urls)
        with first.usage.asking("any"):
            assert {url_of(engines, "fox") for _ in range(4)} == {second.url}
            with second.usage.asking("any"), second.usage.asking("any"):
                assert {url_of(engines, "v0") for _ in range(4)} == {first.url}
        # and what a version was asked is counted on both together
        for client in (first, second):
            name = next(name for name in client.models() if name.endswith("fox"))
            client.complete(name, PROMPT, max_tokens=4)
        assert engines.usage("fox").requests == 2


def test_a_dead_server_stops_nobody_and_is_shown(urls: list[str], versions: list[ServedVersion], tmp_path: Path):
    with Engines(tmp_path, adopted=Adopted([NOBODY_THERE, urls[0]], "home")) as engines:
        engines.serve(versions)
        engines.wait_ready("v0", "fox", "owl")
        wait_until("it is seen", 30, lambda: engines.state()[0].status == "failed")
        assert [state.status for state in engines.state()] == ["failed", "ready"] and not engines.problems
        assert {url_of(engines, "fox") for _ in range(3)} == {urls[0]}
        assert f"Nobody answers at {NOBODY_THERE}" in engines.state()[0].detail


def test_a_server_that_dies_is_passed_over_as_soon_as_it_is_seen(
    base_folder: Path, versions: list[ServedVersion], urls: list[str], tmp_path: Path
):
    with (
        serving(str(base_folder), tmp_path / "mortal") as mortal,
        Engines(tmp_path, adopted=Adopted([mortal.url, urls[0]], "home")) as engines,
    ):
        engines.serve(versions)
        everywhere(engines, [mortal.url, urls[0]], {"v0", "fox", "owl"})
        os.killpg(leader_of(mortal.url), signal.SIGKILL)
        wait_until("it is passed over", 30, lambda: {url_of(engines, "owl") for _ in range(3)} == {urls[0]})
        assert not engines.problems


def test_a_pinned_version_is_only_on_its_server(urls: list[str], versions: list[ServedVersion], tmp_path: Path):
    with Engines(tmp_path, adopted=Adopted(urls, "home", pinned={"fox": urls[1]})) as engines:
        engines.serve(versions)
        everywhere(engines, urls[1:], {"v0", "fox", "owl"})
        wait_until("the first has the others", 30, lambda: set(engines.state()[0].versions) == {"v0", "owl"})
        assert engines.state()[0].wanted == ("v0", "owl")
        assert {url_of(engines, "fox") for _ in range(4)} == {urls[1]}
        assert {url_of(engines, "owl") for _ in range(4)} == set(urls)


def test_a_version_that_no_server_can_answer_for_says_why_of_each(versions: list[ServedVersion], tmp_path: Path):
    with Engines(tmp_path, adopted=Adopted([NOBODY_THERE, "http://127.0.0.1:7"], "home")) as engines:
        engines.serve(versions[:1])
        wait_until("it is said", 30, lambda: "v0" in engines.problems)
        assert NOBODY_THERE in engines.problems["v0"] and "http://127.0.0.1:7" in engines.problems["v0"]
        with pytest.raises(ModelNotLoadable):
            engines.client("v0")


def everywhere(engines: Engines, urls: list[str], version_ids: set[str]) -> None:
    """Waits until these servers have these versions."""

    def there() -> bool:
        states = [state for state in engines.state() if state.url in urls]
        return len(states) == len(urls) and all(set(state.versions) == version_ids for state in states)

    wait_until("all have all", 60, there, pause=0.05)


def url_of(engines: Engines, version_id: str) -> str:
    return engines.client(version_id)[0].url


def client_at(engines: Engines, url: str) -> EngineClient:
    return next(client for _ in range(8) if (client := engines.client("v0")[0]).url == url)


def leader_of(url: str) -> int:
    """The process group of the server that listens there."""
    import psutil

    port = int(url.rsplit(":", 1)[1])
    listening = (one for one in psutil.net_connections("tcp") if one.laddr.port == port and one.status == "LISTEN")
    pid = next(listening).pid
    assert pid is not None
    return os.getpgid(pid)
