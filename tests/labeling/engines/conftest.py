"""One server for the session: ours, or any that speaks the protocol.

PLUMBLINE_ENGINE_URL holds the contract test against a server that is running already. It serves the model in the folder
PLUMBLINE_ENGINE_MODEL in float32 under the name `base`, with ranks up to 16, and loads adapters at run time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labeling.engines.client import EngineClient

from .tiny_models import write_adapter, write_model

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class ServerUnderTest:
    url: str
    folder: Path
    adapters: dict[str, Path]  # loaded under these names
    is_ours: bool


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("PLUMBLINE_ENGINE_MODEL"):
        return Path(given)
    return write_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def adapter_folders(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(parent / name, base_folder, seed) for seed, name in enumerate(("fox", "owl"), start=1)}


@pytest.fixture(scope="session", params=["embedded"])
def server(
    request: pytest.FixtureRequest,
    base_folder: Path,
    adapter_folders: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerUnderTest]:
    if url := os.environ.get("PLUMBLINE_ENGINE_URL"):
        yield _with_adapters(url, base_folder, adapter_folders, is_ours=False)
        return
    starters = {"embedded": _embedded}
    command, port_file = starters[request.param](base_folder, tmp_path_factory.mktemp("server"))
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        url = f"http://127.0.0.1:{_port(process, port_file)}"
        yield _with_adapters(url, base_folder, adapter_folders, is_ours=True)
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def client(server: ServerUnderTest) -> Iterator[EngineClient]:
    client = EngineClient(server.url)
    yield client
    client.close()


def _embedded(base: Path, folder: Path) -> tuple[list[str], Path]:
    port_file = folder / "port"
    command = [sys.executable, "-m", "labeling.engines.embedded_server", "--model", str(base)]
    command += ["--served-model-name", "base", "alias", "--port-file", str(port_file), "--max-lora-rank", "16"]
    return command, port_file


def _port(process: subprocess.Popen[bytes], file: Path) -> int:
    deadline = time.monotonic() + 300
    while not file.exists():
        assert process.poll() is None, "the server ended before it answered"
        assert time.monotonic() < deadline, "the server did not start within five minutes"
        time.sleep(0.05)
    return int(file.read_text())


def _with_adapters(url: str, base: Path, adapters: dict[str, Path], is_ours: bool) -> ServerUnderTest:
    client = EngineClient(url)
    for name, folder in adapters.items():
        client.load_adapter(name, str(folder))
    client.close()
    return ServerUnderTest(url, base, adapters, is_ours)
