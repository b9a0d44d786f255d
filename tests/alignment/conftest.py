"""A home with a tiny base model, feedback on it, and a queue to run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")

from alignment import run_queue
from alignment.datasets import POLICY
from storage import model_versions, prompts, runs, snapshots
from storage.database import Database
from storage.records import RUN_ENDED, DatasetType, Message, ModelVersion, Prompt, Run, Snapshot
from tests.alignment import tiny_model

GOOD, BAD = "take five mg daily", "ask your doctor maybe"


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def question(number: int) -> list[dict[str, str]]:
    return said("user", f"what is the dose {number}")


def rows_of(kind: DatasetType, number: int) -> list[dict[str, Any]]:
    """Rows in which GOOD is what people want, for this many prompts."""
    if kind == "prompt_only":
        return [{"prompt": question(n), "prompt_id": f"p{n}"} for n in range(number)]
    if kind == "language_modeling":
        return [{"text": f"{GOOD}, five of six. " * (1 + n % 3), "document_id": f"d{n}"} for n in range(number)]
    answers: dict[DatasetType, Any] = {
        "preference": lambda n: {"chosen": said("assistant", GOOD), "rejected": said("assistant", BAD)},
        "unpaired_preference": lambda n: {
            "completion": said("assistant", BAD if n % 3 else GOOD),
            "label": n % 3 == 0,
        },
        "prompt_completion": lambda n: {"completion": said("assistant", GOOD)},
    }
    return [{"prompt": question(n), **answers[kind](n), "judgment_id": f"j{n}"} for n in range(number)]


@dataclass
class Lab:
    """Everything a run needs, and short words for it."""

    home: Path
    database: Database

    def freeze(self, kind: DatasetType, number: int = 24) -> Snapshot:
        return snapshots.freeze(
            self.database,
            self.home / "snapshots",
            name=f"{number} {kind}",
            dataset_type=kind,
            rows=rows_of(kind, number),
            counts={"rows": number},
            policy=POLICY,
            judgment_ids=[f"j{n}" for n in range(number)],
        )

    def start(self, method: str, snapshot: Snapshot, parent: str = "v0", **settings: Any) -> Run:
        return run_queue.start_run(self.database, method, settings, snapshot.id, parent, "eve", self.home)

    def follow_until(self, run: Run, *states: str, patience: float = 120) -> Run:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            run_queue.follow(self.database, on_version=lambda version: None)
            run = runs.get(self.database, run.id)
            if run.state in (states or RUN_ENDED):
                return run
            time.sleep(0.1)
        raise AssertionError(f"{run.id} is still {run.state}: {(Path(run.directory) / 'log.txt').read_text()}")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("tiny_base"))


def make_lab(home: Path, base: Path) -> Lab:
    database = Database.open(home / "plumbline.duckdb")
    model_versions.add(
        database,
        ModelVersion(
            id="v0",
            base_path=str(base),
            adapter_path=None,
            parent_id=None,
            run_id=None,
            template=tiny_model.TEMPLATE,
            fingerprint="base",
            context_length=128,
        ),
    )
    asked = [Prompt(f"held{n}", (Message("user", f"how daily {n}"),), True, "test", "CC0") for n in range(4)]
    prompts.add(database, asked)
    return Lab(home, database)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A home of one's own, with a base that nobody loads."""
    made = make_lab(tmp_path, tmp_path / "base")
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def training_lab(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[Lab]:
    """A home whose base can be trained, shared by the tests of a module, because a run takes seconds."""
    made = make_lab(tmp_path_factory.mktemp("home"), tiny_base)
    yield made
    made.database.close()
