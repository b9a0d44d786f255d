"""Servers are brought to what is wanted, come back when they are killed, and go when the app is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labeling.engines import server_with_adapters
from labeling.engines.faithful import WEIGHTS, Trained
from labeling.engines.model_folder import tokenizer_fingerprint, write_base_mark
from labeling.engines.model_server import embedded_command
from labeling.engines.supervisor import Engines, ServedVersion
from storage import snapshots
from storage.errors import EngineUnavailable, ModelNotLoadable, NotFound

from .conftest import ROOT
from .tiny_models import write_model, write_reward_adapter

PROMPT = "Tell me about the red fox."


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with Engines(tmp_path_factory.mktemp("logs")) as engines:
        yield engines


@pytest.fixture(scope="module")
def versions(base_folder: Path, adapter_folders: dict[str, Path]) -> list[ServedVersion]:
    base = ServedVersion("starter", str(base_folder), None)
    return [base, *(ServedVersion(name, str(base_folder), str(adapter_folders[name])) for name in ("fox", "owl"))]


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
    assert _within(60, lambda: client.models() == ["base", "fox"])
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
    assert _within(60, lambda: len(serving.problems) == 3)
    serving.wait_ready("fox", "owl")
    assert "No adapter found for /no/such/adapter" in serving.problems["lost"]
    assert "trained on another base" in serving.problems["stranger"]
    assert "There is no folder" in serving.problems["nowhere"]
    for version in bad:
        with pytest.raises(ModelNotLoadable):
            serving.client(version.id)
    assert {state.status for state in serving.state()} == {"ready", "failed"}


def test_what_has_changed_since_it_was_stored_is_not_served(
    serving: Engines, versions: list[ServedVersion], tmp_path: Path
):
    base, fox, owl = versions
    stored = Trained(
        snapshots.fingerprint(Path(str(fox.adapter_path)) / WEIGHTS), tokenizer_fingerprint(base.base_path)
    )
    other = [
        replace(fox, id="same", trained=stored),
        replace(owl, id="swapped", trained=stored),
        replace(owl, id="reworded", trained=Trained(tokenizer="sha256:another")),
        replace(base, id="retrained", trained=Trained("sha256:another")),
    ]
    serving.serve([*versions, *other])
    serving.wait_ready("same", "fox", "owl")
    assert _within(60, lambda: set(serving.problems) == {"swapped", "reworded", "retrained"})
    assert "have changed since they were stored as swapped" in serving.problems["swapped"]
    assert "not the one that reworded was trained with" in serving.problems["reworded"]
    assert "have changed since they were stored as retrained" in serving.problems["retrained"]


def test_an_adapter_that_is_changed_while_it_is_served_is_taken_off_until_it_is_put_back(
    serving: Engines, versions: list[ServedVersion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server_with_adapters, "TRY_AGAIN_SECONDS", 0.5)
    fox, owl = (Path(str(version.adapter_path)) for version in versions[1:])
    copied = Path(shutil.copytree(fox, tmp_path / "copied"))
    copy = ServedVersion(
        "copy", versions[0].base_path, str(copied), trained=Trained(snapshots.fingerprint(fox / WEIGHTS))
    )
    serving.serve([*versions, copy])
    serving.wait_ready("copy")
    client, _ = serving.client("starter")
    shutil.copyfile(owl / WEIGHTS, copied / WEIGHTS)
    assert _within(60, lambda: "copy" in serving.problems and "copy" not in client.models())
    assert "have changed since they were stored as copy" in serving.problems["copy"] and not serving.ready("copy")
    shutil.copyfile(fox / WEIGHTS, copied / WEIGHTS)
    assert _within(60, lambda: serving.ready("copy")) and _greedy(serving, "copy") == _greedy(serving, "fox")


def test_a_tokenizer_that_is_changed_and_put_back_is_seen_and_the_server_reads_it_anew(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server_with_adapters, "TRY_AGAIN_SECONDS", 0.5)  # or half a minute is waited
    # given a server whose base has another tokenizer than its version was trained with
    folder = Path(shutil.copytree(base_folder, tmp_path / "base"))
    file = folder / "tokenizer.json"
    whole, trained = file.read_text(), Trained(tokenizer=tokenizer_fingerprint(folder))
    changed = json.loads(whole) | {"normalizer": {"type": "Lowercase"}}
    file.write_text(json.dumps(changed))
    with Engines(tmp_path) as engines:
        engines.serve([ServedVersion("v0", str(folder), None, trained=trained)])
        assert _within(60, lambda: "the tokenizer in" in engines.problems.get("v0", ""))
        before = engines.state()[0].pid
        # when the old one is put back, then the server reads it before it answers: in memory it has the wrong one
        file.write_text(whole)
        assert _within(120, lambda: engines.ready("v0"))
        client, name = engines.client("v0")
        assert engines.state()[0].pid != before and client.tokenize(name, "A") != client.tokenize(name, "a")


def test_a_reward_model_is_checked_before_it_scores(base_folder: Path, tmp_path: Path):
    adapter = write_reward_adapter(tmp_path / "reward", base_folder)
    stored = Trained(snapshots.fingerprint(adapter / WEIGHTS), tokenizer_fingerprint(base_folder))
    judge = ServedVersion("judge", str(base_folder), str(adapter), "reward_model", stored)
    with Engines(tmp_path / "logs") as engines:
        engines.serve([judge, replace(judge, id="reworded", trained=replace(stored, tokenizer="sha256:another"))])
        engines.wait_ready("judge")
        assert _within(30, lambda: set(engines.problems) == {"reworded"}) and not engines.ready("reworded")
        client, name = engines.client("judge")
        assert len(client.score(name, ["A fox.", "An owl."])) == 2


def test_a_server_gets_no_keys(base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("PLUMBLINE_ENGINE_KEY", "JUDGE_KEY", "HF_TOKEN", "VLLM_API_KEY", "HOUSE_JUDGE"):
        monkeypatch.setenv(name, "very-secret")
    program = "import os; print(list(os.environ.values())); raise SystemExit('seen')"
    command = [sys.executable, "-c", program]
    with Engines(tmp_path, command=lambda *_: command, keys=["HOUSE_JUDGE"]) as engines:
        engines.serve([ServedVersion("v0", str(base_folder), None)])
        assert _within(60, lambda: "seen" in engines.state()[0].detail if engines.state() else False)
    (log,) = tmp_path.glob("*.log")
    assert "very-secret" not in log.read_text() and str(tmp_path.home()) in log.read_text()


def test_an_adapter_whose_folder_is_gone_is_unloaded_and_said(
    serving: Engines, versions: list[ServedVersion], tmp_path: Path
):
    copied = Path(shutil.copytree(str(versions[1].adapter_path), tmp_path / "copied"))
    serving.serve([*versions, replace(versions[1], id="copy", adapter_path=str(copied))])
    serving.wait_ready("copy")
    client, _ = serving.client("starter")
    shutil.rmtree(copied)
    assert _within(60, lambda: "copy" in serving.problems and "copy" not in client.models())
    assert "No adapter found" in serving.problems["copy"]


def test_what_each_version_was_asked_is_counted(serving: Engines, versions: list[ServedVersion]):
    before = serving.usage("owl")
    client, name = serving.client("owl")
    answers = client.complete(name, PROMPT, n=3, seed=1, max_tokens=24)
    used = serving.usage("owl")
    assert used.requests == before.requests + 1 and used.in_flight == 0
    assert used.tokens == before.tokens + sum(answer.completion_tokens for answer in answers)
    assert used.tokens_per_second and used.tokens_per_second > 1 and used.seconds_a_request
    assert serving.usage("ghost").requests == 0


def test_a_killed_server_comes_back_with_its_adapters(serving: Engines, versions: list[ServedVersion]):
    before = [_greedy(serving, version.id) for version in versions]
    killed = serving.state()[0].pid
    os.kill(killed, signal.SIGKILL)
    assert _within(60, lambda: serving.state()[0].status == "restarting")
    with pytest.raises(EngineUnavailable):
        serving.client("fox")
    serving.wait_ready("starter", "fox", "owl")
    assert serving.state()[0].pid != killed
    assert [_greedy(serving, version.id) for version in versions] == before


def test_nobody_waits_while_a_server_is_being_started(versions: list[ServedVersion], tmp_path: Path):
    begun, may_go_on, over = threading.Event(), threading.Event(), threading.Event()

    def held_up(*_: object) -> list[str]:
        begun.set()
        may_go_on.wait(60)
        over.set()
        return ["false"]

    with Engines(tmp_path, held_up) as engines:
        engines.serve(versions)
        assert begun.wait(60)
        engines.state(), engines.problems, engines.ready("fox"), engines.serve([])
        assert not over.is_set()
        may_go_on.set()


def test_a_lost_reply_makes_no_problem_and_leaves_nothing_behind(versions: list[ServedVersion], tmp_path: Path):
    """The server does what it is asked, and its reply gets lost every time."""

    def forgetful(base: Path, name: str, port_file: Path) -> list[str]:
        return [sys.executable, "-c", FORGETFUL, str(port_file)]

    base, fox, owl = versions
    with Engines(tmp_path, forgetful) as engines:
        engines.serve([base, fox, owl])
        engines.wait_ready("starter", "fox", "owl")
        client, _ = engines.client("starter")
        engines.serve([base, owl])
        assert _within(60, lambda: client.models() == ["base", "owl"])
        engines.serve([base, fox, owl])
        engines.wait_ready("fox")
        assert sorted(client.models()) == ["base", "fox", "owl"] and not engines.problems


def test_what_the_server_has_already_is_loaded(versions: list[ServedVersion], tmp_path: Path):
    """It was still loading when it was asked what it has, so it is asked to load once more, and refuses."""

    def slow_to_tell(base: Path, name: str, port_file: Path) -> list[str]:
        return [sys.executable, "-c", FORGETFUL, str(port_file), "fox"]

    with Engines(tmp_path, slow_to_tell) as engines:
        engines.serve(versions[:2])
        engines.wait_ready("starter", "fox")
        assert not engines.problems


def test_a_server_is_started_with_the_context_that_is_stored_of_its_model(base_folder: Path, tmp_path: Path):
    command = embedded_command(base_folder, "base", tmp_path / "port")
    assert command[command.index("--max-model-len") + 1] == "256"


def test_a_server_that_cannot_start_says_its_last_words(tmp_path: Path, base_folder: Path):
    failing = [sys.executable, "-c", "import sys; sys.exit('the disk is on fire')"]
    with Engines(tmp_path, command=lambda *_: failing) as engines:
        engines.serve([ServedVersion("starter", str(base_folder), None)])
        assert _within(60, lambda: "the disk is on fire" in "".join(state.detail for state in engines.state()))
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
    assert _within(60, lambda: not _alive(server))


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


FORGETFUL = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

loaded, untold = [], sys.argv[2:]  # untold: there, and not in the first list of models

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        cards = [{"id": "base"}, *({"id": name, "parent": "base"} for name in loaded)]
        self.answer(200, {"data": cards, "name": "forgetful", "version": "1"})
        if self.path == "/v1/models":
            loaded.extend(untold)
            untold.clear()

    def do_POST(self):
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["lora_name"]
        loading = self.path == "/v1/load_lora_adapter"
        if loading == (name in loaded):
            self.answer(400, {"error": {"message": f"{name} is as you want it."}})
        else:
            (loaded.append if loading else loaded.remove)(name)  # and no reply

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

server = HTTPServer(("127.0.0.1", 0), Handler)
open(sys.argv[1], "w").write(str(server.server_port))
server.serve_forever()
"""


def _greedy(engines: Engines, version: str) -> str:
    client, name = engines.client(version)
    return client.complete(name, PROMPT, temperature=0, max_tokens=24)[0].text


def _alive(pid: int) -> bool:
    """A zombie, whose parent has not looked yet, is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
