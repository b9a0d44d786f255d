"""Training in the process of the test: a run of the tiny model takes a second then, and five in its own process."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from alignment import run_directory
from alignment.methods import method_named
from alignment.methods.base import Inputs, Parent, Stopped
from storage.records import DatasetType
from tests.alignment import tiny_model
from tests.alignment.conftest import BAD, GOOD, question, said

sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]  # as train.py does; its import takes seconds

PROMPTS = 40  # a tenth of them, four, are held out
RATE = 2e-3


class Heard:
    """A report that keeps what it is told, and asks to stop at a step."""

    sample_prompts: Sequence[Any] = ()

    def __init__(self, stop_at: int | None = None) -> None:
        self.notes: list[str] = []
        self.points: list[tuple[int, Mapping[str, float]]] = []
        self.sampled: list[tuple[int, Sequence[str]]] = []
        self.step = self.asked = 0
        self.stop_at = stop_at

    def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        self.step = step
        self.points.append((step, values))

    def samples(self, step: int, texts: Sequence[str]) -> None:
        self.sampled.append((step, texts))

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def evaluation(self, values: Mapping[str, Any]) -> None: ...

    @property
    def stop_asked(self) -> bool:
        """Asked after every step of this attempt."""
        self.asked += 1
        return self.stop_at is not None and self.asked >= self.stop_at

    def series(self, name: str) -> list[float]:
        return [values[name] for _, values in self.points if name in values]


def rows_of(kind: DatasetType, number: int = PROMPTS) -> list[dict[str, Any]]:
    """Rows that differ from each other, so that their order matters."""
    made: dict[str, Any] = {
        "preference": lambda n: {"chosen": said("assistant", f"{GOOD} {n % 5}"), "rejected": said("assistant", BAD)},
        "unpaired_preference": lambda n: {
            "completion": said("assistant", BAD if n % 3 else f"{GOOD} {n % 5}"),
            "label": n % 3 == 0,
        },
        "prompt_completion": lambda n: {"completion": said("assistant", f"{GOOD} {n % 5}")},
    }
    if kind == "language_modeling":
        return [{"text": f"the dose is five of six mg {n} " * 3, "document_id": f"d{n}"} for n in range(number)]
    return [{"prompt": question(n), **made[kind](n), "judgment_id": f"j{n}"} for n in range(number)]


def parent_of(base: Path, adapter: Path | None = None) -> Parent:
    return Parent("v0", str(base), str(adapter) if adapter else None, tiny_model.TEMPLATE)


def train(
    name: str,
    parent: Parent,
    folder: Path,
    rows: Sequence[Mapping[str, Any]] | None = None,
    stop_at: int | None = None,
    **settings: Any,
) -> tuple[Heard, Mapping[str, float]]:
    """Train in this folder, from its newest checkpoint on where it has one. No metrics where it was stopped."""
    method = method_named(name).model_validate({"learning_rate": RATE, **settings})
    heard, final = Heard(stop_at), dict[str, float]()
    inputs = Inputs(rows or rows_of(method.reads), parent, folder, checkpoint=run_directory.newest_checkpoint(folder))
    with suppress(Stopped):
        final = dict(method.train(inputs, heard))
    return heard, final


def weights_of(model: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    adapter = model / "adapter_model.safetensors"
    return load_file(adapter if adapter.exists() else model / "model.safetensors")


def same_bits(one: Path, other: Path) -> bool:
    mine, theirs = weights_of(one), weights_of(other)
    return mine.keys() == theirs.keys() and all((mine[name] == theirs[name]).all() for name in mine)
