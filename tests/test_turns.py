"""The real app whose model server and runs take the processor in turns; killed with -9 in the middle, started again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from alignment import run_directory
from alignment.base_models import add_base
from storage.database import Database
from storage.records import Run
from tests.alignment import tiny_model
from tests.alignment.conftest import Lab
from tests.app_process import AppProcess, wait_until


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "settings.toml").write_text('serving_and_training = "in turns"\n')
    return tmp_path


@pytest.fixture
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run in line, which would train for long; the base that it starts from is served."""
    base = tiny_model.write(tmp_path_factory.mktemp("base"))
    lab = Lab(home, Database.open(home / "plumbline.duckdb"))
    add_base(lab.database, str(base), version_id="v0")
    run = lab.start("dpo", lab.freeze("preference", 480), epochs=20, batch_size=1)
    lab.database.close()
    yield run
    ask_to_stop(run)
    wait_until("the run has ended", 60, lambda: not run_directory.lock_is_held(Path(run.directory)))


def test_the_server_sleeps_while_a_run_trains_and_wakes_after_it_also_when_the_app_was_killed_in_between(
    home: Path, run: Run
):
    directory = Path(run.directory)
    # given an app that has given its processor to the run
    app = AppProcess(home).wait_ready()
    try:
        wait_until("the run trains", 120, lambda: run_directory.lock_is_held(directory))
        wait_until("it is said", 60, lambda: version_state(app)["state"] == "asleep")
        asleep = version_state(app)
    finally:
        app.kill()
    # then its version is asleep, and says for which run
    assert asleep["state"] == "asleep" and f"the run {run.id} trains on the processor" in asleep["sentence"]
    # when the app was killed and is started again, then the run goes on, and no server beside it
    with AppProcess(home) as app:
        wait_until("it is said again", 60, lambda: version_state(app)["state"] == "asleep")
        assert run_directory.lock_is_held(directory) and not servers_of(app)
        assert f"asleep while the run {run.id}" in why_labelers_wait(app)
        # when the run is stopped, then the server starts, and labelers have something to judge
        ask_to_stop(run)
        wait_until("the version is served", 120, lambda: version_state(app)["state"] == "served")
        wait_until("there is something to judge", 120, lambda: next_items(app)["items"])
        assert len(servers_of(app)) == 1 and not run_directory.lock_is_held(directory)


def ask_to_stop(run: Run) -> None:
    (Path(run.directory) / run_directory.STOP).touch()


def asked(app: AppProcess, path: str) -> Any:
    with httpx.Client(base_url=app.url, trust_env=False, follow_redirects=True, timeout=30) as http:
        http.post("/who", data={"name": "Eve", "next": "/api/me"}, headers={"origin": app.url})
        answer = http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


def version_state(app: AppProcess) -> dict[str, Any]:
    """Of the base, as the models page has it."""
    return next(one for one in asked(app, "/api/models")["versions"] if one["id"] == "v0")


def next_items(app: AppProcess) -> Any:
    return asked(app, "/api/label/next?tab=test")


def why_labelers_wait(app: AppProcess) -> str:
    """Once nobody is about to sample any more."""
    wait_until("a reason is given", 60, lambda: "asleep" in str(next_items(app)["progress"]))
    return str(next_items(app)["progress"])


def servers_of(app: AppProcess) -> list[psutil.Process]:
    found = []
    for one in psutil.Process(app.pid).children():
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "embedded_server" in " ".join(one.cmdline()):
                found.append(one)
    return found
