"""What the embedded server does inside that a client cannot see, or can see only by luck."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Semaphore

import pytest
import torch
from safetensors.torch import load_file, save_file

from labeling.engines.adapter_check import AdapterRefused
from labeling.engines.embedded_adapters import BASE
from labeling.engines.embedded_model import Batch, EmbeddedModel, Row, Sampling, sample
from labeling.engines.embedded_scheduler import Order, Piece, Scheduler
from tests.app_process import wait_until

GREEDY = Sampling(temperature=0.0, top_p=1.0, max_tokens=12, seed=0)


@pytest.fixture(scope="module")
def model(base_folder: Path) -> EmbeddedModel:
    return EmbeddedModel(base_folder, max_lora_rank=16)


@pytest.fixture
def fox(model: EmbeddedModel, adapter_folders: dict[str, Path]) -> Iterator[str]:
    name = model.adapters.load(adapter_folders["fox"])
    yield name
    model.adapters.delete(name)


# ---- sampling


def _row(temperature: float = 1.0, top_p: float = 1.0, seed: int = 0) -> Row:
    return Row([1], BASE, Sampling(temperature, top_p, 1, seed))


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.7]]))
    row = _row()
    counts = torch.bincount(torch.tensor([sample(logits, [row])[0] for _ in range(4000)]), minlength=3) / 4000
    assert counts.tolist() == pytest.approx([0.1, 0.2, 0.7], abs=0.03)


def test_temperature_sharpens():
    logits = torch.log(torch.tensor([[0.4, 0.6]]))
    row = _row(temperature=0.5)  # 0.4² : 0.6² = 4 : 9
    drawn = sum(sample(logits, [row])[0] for _ in range(4000)) / 4000
    assert drawn == pytest.approx(9 / 13, abs=0.03)


def test_top_p_keeps_the_fewest_tokens_that_hold_it():
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]]))
    rows = {top_p: _row(top_p=top_p) for top_p in (0.5, 0.6, 0.81)}
    drawn = {top_p: {sample(logits, [row])[0] for _ in range(200)} for top_p, row in rows.items()}
    assert drawn == {0.5: {1}, 0.6: {1, 2}, 0.81: {0, 1, 2}}


def test_a_row_draws_the_same_beside_any_others():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    alone = sample(logits[1:2], [_row(seed=5, top_p=0.9)])
    beside = sample(logits, [_row(temperature=0.0), _row(seed=5, top_p=0.9), _row(seed=6, temperature=2.0)])
    assert beside[1] == alone[0] and beside[0] == int(logits[0].argmax())


# ---- the batch


def test_rows_that_join_late_and_leave_early_say_what_they_say_alone(model: EmbeddedModel, fox: str):
    prompts = [list(range(20, 20 + length)) for length in (3, 17, 9, 30, 5)]

    def rows() -> list[Row]:
        return [Row(prompt, version, GREEDY) for prompt in prompts for version in (BASE, fox)]

    alone = rows()
    for row in alone:
        batch = Batch(model)
        batch.join([row])
        for _ in range(11):
            batch.step()
    together, batch = rows(), Batch(model)
    for newcomers in (together[4:6], together[6:], together[:4]):  # short, then longer, then shorter prompts
        batch.join(newcomers)
        batch.step()
    while batch.rows:
        batch.keep([index for index, row in enumerate(batch.rows) if len(row.token_ids) < 12])
        if batch.rows:
            batch.step()
    assert [row.token_ids[:12] for row in together] == [row.token_ids for row in alone]


def test_an_adapter_with_numbers_that_are_not_finite_is_refused_and_leaves_nothing(
    model: EmbeddedModel, adapter_folders: dict[str, Path], tmp_path: Path
):
    folder = Path(shutil.copytree(adapter_folders["fox"], tmp_path / "broken"))
    weights = load_file(folder / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, folder / "adapter_model.safetensors")
    before = model.adapters.names()
    with pytest.raises(AdapterRefused, match="not finite"):
        model.adapters.load(folder)
    assert model.adapters.names() == before


# ---- the scheduler


def _order(pieces: Queue[Piece | Exception], name: str = "base", max_tokens: int = 12) -> Order:
    return Order(name, [5, 6, 7], [Sampling(0.0, 1.0, max_tokens, 0)], [], False, True, pieces.put)


def test_a_step_that_fails_fails_its_rows_and_no_others(model: EmbeddedModel, monkeypatch: pytest.MonkeyPatch):
    scheduler, pieces = Scheduler(model), Queue[Piece | Exception]()
    scheduler.start()
    with monkeypatch.context() as broken:
        broken.setattr(Batch, "step", lambda _: (_ for _ in ()).throw(MemoryError("no room")))
        scheduler.submit(_order(pieces), is_base=True)
        assert isinstance(pieces.get(timeout=60), MemoryError)
    scheduler.submit(_order(pieces), is_base=True)
    piece = pieces.get(timeout=60)
    assert isinstance(piece, Piece) and len(piece.token_ids) == 12
    wait_until("its row is gone", 60, lambda: scheduler.running == 0, pause=0.01)  # just after it has told the last
    assert scheduler.alive()


def test_weights_are_deleted_after_the_last_row_that_uses_them(
    base_folder: Path, adapter_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    steps, step = Semaphore(0), Batch.step
    monkeypatch.setattr(Batch, "step", lambda batch: (steps.acquire(timeout=60), step(batch)))
    model = EmbeddedModel(base_folder, max_lora_rank=16)
    scheduler, pieces = Scheduler(model), Queue[Piece | Exception]()
    scheduler.start()
    scheduler.load("fox", adapter_folders["fox"]).result(timeout=60)
    scheduler.submit(_order(pieces, "fox", max_tokens=200), is_base=False)
    unloading = scheduler.unload("fox")
    steps.release()
    unloading.result(timeout=60)
    assert len(model.adapters.names()) == 1  # the row is still being answered
    steps.release(1000)
    pieces.get(timeout=60)
    scheduler.submit(_order(pieces), is_base=True)
    pieces.get(timeout=60)
    assert model.adapters.names() == set()
