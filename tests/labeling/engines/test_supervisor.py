"""Servers are brought to what is wanted, come back when they are killed, and go when the app is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labeling.engines.model_folder import write_base_mark
from labeling.engines.supervisor import Engines, ServedVersion
from storage.errors import EngineUnavailable, ModelNotLoadable, NotFound

from .conftest import ROOT
from .tiny_models import write_model

PROMPT = "Tell me about the red fox."


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with Engines(tmp_path_factory.mktemp("logs")) as engines:
        yield engines


@pytest.fixture(scope="module")
def versions(base_folder: Path, adapter_folders: dict[str, Path]) -> list[ServedVersion]:
    base = ServedVersion("starter", str(base_folder), None)
    return [base, *(ServedVersion(name, str(base_folder), str(path)) for name, path in adapter_folders.items())]


@pytest.fixture
def serving(engines: Engines, versions: list[ServedVersion]) -> Engines:
    engines.serve(versions)
    engines.wait_ready(*(version.id for version in versions))
    return engines


def test_every_version_answers_under_its_own_id_from_one_server(serving: Engines, versions: list[ServedVersion]):
    answers = {_greedy(serving, version.id) for version in versions}
    assert len(answers) == 3
    assert [state.versions for state in serving.state()] == [("starter", "fox", "owl")]
    assert serving.state()[0].status == "ready" and not serving.problems


def test_a_version_nobody_wants_is_not_found(serving: Engines):
    with pytest.raises(NotFound, match="Version ghost is not served"):
        serving.client("ghost")


def test_what_is_no_longer_wanted_is_unloaded(serving: Engines, versions: list[ServedVersion]):
    client, _ = serving.client("starter")
    serving.serve(versions[:2])
    assert _within(5, lambda: client.models() == ["base", "fox"])
    with pytest.raises(NotFound):
        serving.client("owl")


def test_a_version_that_cannot_be_served_disturbs_no_other(
    serving: Engines, versions: list[ServedVersion], adapter_folders: dict[str, Path], tmp_path: Path
):
    marked = Path(shutil.copytree(adapter_folders["fox"], tmp_path / "marked"))
    write_base_mark(marked, write_model(tmp_path / "twin", seed=5))
    bad = [
        ServedVersion("lost", versions[0].base_path, "/no/such/adapter"),
        ServedVersion("stranger", versions[0].base_path, str(marked)),
        ServedVersion("nowhere", str(tmp_path / "no_model"), None),
    ]
    serving.serve([*bad, *versions])
    assert _within(10, lambda: len(serving.problems) == 3)
    serving.wait_ready("fox", "owl", timeout=5)
    assert "No adapter found for /no/such/adapter" in serving.problems["lost"]
    assert "trained on another base" in serving.problems["stranger"]
    assert "There is no folder" in serving.problems["nowhere"]
    for version in bad:
        with pytest.raises(ModelNotLoadable):
            serving.client(version.id)
    assert {state.status for state in serving.state()} == {"ready", "failed"}


def test_a_killed_server_comes_back_with_its_adapters(serving: Engines, versions: list[ServedVersion]):
    before = [_greedy(serving, version.id) for version in versions]
    killed = serving.state()[0].pid
    os.kill(killed, signal.SIGKILL)
    assert _within(5, lambda: serving.state()[0].status == "restarting")
    with pytest.raises(EngineUnavailable):
        serving.client("fox")
    serving.wait_ready("starter", "fox", "owl", timeout=60)
    assert serving.state()[0].pid != killed
    assert [_greedy(serving, version.id) for version in versions] == before


def test_nobody_waits_while_servers_start_and_stop(engines: Engines, versions: list[ServedVersion]):
    started = time.monotonic()
    engines.serve([])
    engines.serve(versions)
    engines.state(), engines.problems, engines.ready("fox")
    assert time.monotonic() - started < 0.1


def test_a_server_that_cannot_start_says_its_last_words(tmp_path: Path, base_folder: Path):
    failing = [sys.executable, "-c", "import sys; sys.exit('the disk is on fire')"]
    with Engines(tmp_path, command=lambda *_: failing) as engines:
        engines.serve([ServedVersion("starter", str(base_folder), None)])
        assert _within(10, lambda: "the disk is on fire" in "".join(state.detail for state in engines.state()))
        assert "exit code 1" in engines.state()[0].detail


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_a_server_dies_with_the_app_that_is_killed(base_folder: Path, tmp_path: Path):
    app = subprocess.Popen(
        [sys.executable, "-c", APP, str(base_folder), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert app.stdout is not None
    server = int(app.stdout.readline())
    assert _alive(server)
    app.kill()
    app.wait()
    assert _within(5, lambda: not _alive(server))


def test_the_web_process_imports_no_torch():
    """Everything the app imports of the engine."""
    code = "import sys, labeling.engines.supervisor, labeling.engines.template; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "peft"} & set(done.stdout.split())


APP = """
import sys, threading
from pathlib import Path
from labeling.engines.supervisor import Engines, ServedVersion

engines = Engines(Path(sys.argv[2]))
engines.serve([ServedVersion("starter", sys.argv[1], None)])
engines.wait_ready("starter")
client, name = engines.client("starter")
asking = {"n": 8, "max_tokens": 200}
threading.Thread(target=lambda: [client.complete(name, "Hello", **asking) for _ in range(1000)], daemon=True).start()
print(engines.state()[0].pid, flush=True)
threading.Event().wait()
"""


def _greedy(engines: Engines, version: str) -> str:
    client, name = engines.client(version)
    return client.complete(name, PROMPT, temperature=0, max_tokens=24)[0].text


def _alive(pid: int) -> bool:
    """A zombie, whose parent has not looked yet, is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
