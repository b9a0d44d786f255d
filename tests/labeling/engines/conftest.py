"""One server of each kind for the session: ours, and a real vLLM; or any that speaks the protocol.

PLUMBLINE_ENGINE_URL holds the contract test against a server that is running already. It serves the model in the folder
PLUMBLINE_ENGINE_MODEL in float32 under the name `base`, with ranks up to 16, and loads adapters at run time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from labeling.engines.base_layers import write_untrained_adapter
from labeling.engines.client import EngineClient
from labeling.engines.model_server import embedded_command, serving
from tests.vllm_process import skip_without_vllm, vllm

from .tiny_models import write_adapter, write_model

ROOT = Path(__file__).parents[3]


ADAPTERS = ("fox", "owl", "elk", "hen")


@dataclass(frozen=True)
class ServerUnderTest:
    url: str
    folder: Path
    adapters: dict[str, Path]  # loaded under these names
    is_ours: bool
    base: str = "base"  # what the base is asked as in a batch with adapters: of vLLM, the adapter that changes nothing


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("PLUMBLINE_ENGINE_MODEL"):
        return Path(given)
    return write_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def adapter_folders(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(parent / name, base_folder, seed) for seed, name in enumerate(ADAPTERS, start=1)}


@pytest.fixture(scope="session", params=["embedded", "vllm"])
def server(
    request: pytest.FixtureRequest,
    base_folder: Path,
    adapter_folders: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerUnderTest]:
    folder = tmp_path_factory.mktemp("server")
    if url := os.environ.get("PLUMBLINE_ENGINE_URL"):
        yield _with_adapters(url, base_folder, adapter_folders, folder)
        return
    with STARTERS[request.param](base_folder, folder / "log") as client:
        yield _with_adapters(client.url, base_folder, adapter_folders, folder)


@pytest.fixture
def client(server: ServerUnderTest) -> Iterator[EngineClient]:
    client = EngineClient(server.url)
    yield client
    client.close()


@contextmanager
def _vllm(base: Path, log: Path) -> Iterator[EngineClient]:
    skip_without_vllm()
    with vllm(base, log) as client:
        yield client


def _embedded(base: Path, log: Path) -> AbstractContextManager[EngineClient]:
    def command(base: Path, name: str, port_file: Path) -> list[str]:
        return [*embedded_command(base, name, port_file), "--max-lora-rank", "16"]

    return serving(str(base), log, command)


STARTERS = {"embedded": _embedded, "vllm": _vllm}


def _with_adapters(url: str, base: Path, adapters: dict[str, Path], folder: Path) -> ServerUnderTest:
    client = EngineClient(url)
    is_ours = client.server_name().startswith("embedded")
    if not is_ours:
        client.load_adapter("untrained", str(write_untrained_adapter(folder / "untrained", base)))
    for name, path in adapters.items():
        client.load_adapter(name, str(path))
    client.close()
    return ServerUnderTest(url, base, adapters, is_ours, "base" if is_ours else "untrained")
