"""Public files, as their publishers ship them, become snapshots whose rows TRL reads, without hand work."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from alignment.base_models import add_base
from alignment.freezing import freeze_snapshot
from alignment.run_queue import follow, start_run
from labeling.engines.template import INSTRUCTION_TEMPLATE
from labeling.importers.demonstrations import import_demonstrations
from labeling.importers.documents import import_documents
from labeling.importers.imported import Imported
from labeling.importers.preferences import import_preferences
from labeling.importers.prompts import import_prompts
from labeling.importers.thumbs import import_thumbs
from storage import runs, snapshots
from storage.database import Database
from storage.records import RUN_ENDED, DatasetType, Snapshot

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the public sets are not in ../shared/data of this checkout")

Files = tuple[str, Callable[..., Imported], DatasetType, int, int]
FILES: list[Files] = [  # (file, importer, what it is frozen as, rows in the file, of them the same as an earlier one)
    ("dpo_en_demo.json", import_preferences, "preference", 300, 5),
    ("kto_en_demo.json", import_thumbs, "unpaired_preference", 300, 0),
    ("alpaca_en_demo.json", import_demonstrations, "prompt_completion", 999, 14),
    ("wiki_demo.txt", import_documents, "language_modeling", 30, 0),
]


def frozen(database: Database, folder: Path, name: str, importer: Callable[..., Imported], kind: DatasetType) -> Any:
    found = importer(database, DATA / name, source=name, licence="Apache-2.0")
    return found, freeze_snapshot(database, folder, dataset_type=kind)


def rows_of(snapshot: Snapshot) -> list[dict[str, Any]]:
    return snapshots.read_rows(Path(snapshot.path))


@pytest.mark.parametrize(("name", "importer", "kind", "rows", "twice"), FILES)
def test_a_public_file_is_taken_whole_and_every_row_is_accounted_for(
    database: Database,
    tmp_path: Path,
    name: str,
    importer: Callable[..., Imported],
    kind: DatasetType,
    rows: int,
    twice: int,
) -> None:
    found, snapshot = frozen(database, tmp_path, name, importer, kind)

    assert (found.rows, found.new, found.known, found.left_out) == (rows, rows - twice, twice, {})
    assert snapshot.rows == found.new - found.held_out
    assert 0.14 < found.held_out / found.new < 0.26
    assert importer(database, DATA / name, source=name, licence="Apache-2.0").new == 0


@pytest.mark.parametrize(("name", "importer", "kind", "rows", "twice"), FILES[:3])
def test_trl_renders_every_row_of_a_public_file(
    database: Database,
    tmp_path: Path,
    name: str,
    importer: Callable[..., Imported],
    kind: DatasetType,
    rows: int,
    twice: int,
) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl.data_utils import apply_chat_template, is_conversational

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), eos_token="</s>", chat_template=INSTRUCTION_TEMPLATE
    )
    _, snapshot = frozen(database, tmp_path, name, importer, kind)

    for row in rows_of(snapshot):
        assert set(row) == set(snapshots.COLUMNS[kind]) and is_conversational(row)
        rendered = apply_chat_template(row, tokenizer)
        answers = [rendered[column] for column in ("chosen", "rejected", "completion") if column in row]
        assert rendered["prompt"].endswith("### Response:\n")
        assert answers and all(answer.endswith("</s>") and answer != "</s>" for answer in answers)


def test_what_the_public_files_hold_is_what_the_rows_say(database: Database, tmp_path: Path) -> None:
    _, pairs = frozen(database, tmp_path, *FILES[0][:3])
    _, thumbs = frozen(database, tmp_path, *FILES[1][:3])
    _, texts = frozen(database, tmp_path, *FILES[3][:3])

    first = {row["prompt"][0]["content"]: row for row in rows_of(pairs) if len(row["prompt"]) == 1}
    angela = first["Hi! I'd like to create a new language game simulating the first person perspective of a character "
                   "named Angela."]  # fmt: skip
    assert angela["chosen"][0]["content"].startswith("That sounds like a fun and engaging idea!")
    assert Counter(row["prompt"][0]["role"] for row in rows_of(pairs))["system"] > 50
    assert Counter(row["label"] for row in rows_of(thumbs)) == {
        True: thumbs.counts["desirable"],
        False: thumbs.counts["undesirable"],
    }
    assert min(thumbs.counts["desirable"], thumbs.counts["undesirable"]) > 100
    assert sum(len(row["text"]) for row in rows_of(texts)) > 700_000


def test_the_questions_of_a_public_file_are_prompts_to_learn_from_online(database: Database, tmp_path: Path) -> None:
    found = import_prompts(database, DATA / "alpaca_en_demo.json", source="alpaca", licence="Apache-2.0")

    snapshot = freeze_snapshot(database, tmp_path, sources=["alpaca"], dataset_type="prompt_only")

    assert snapshot.rows == found.new - found.held_out == len(snapshot.source_ids)
    assert all(row["prompt"][-1]["role"] == "user" for row in rows_of(snapshot))


# ---- from the file to a version ------------------------------------------------------------------------------------

STARTER = Path(__file__).parents[1] / "assets" / "starter_model"
SHORT = {"epochs": 1, "evaluations": 1}
Runs = tuple[str, Callable[..., Imported], DatasetType, str, int]
RUNS: list[Runs] = [  # (file, importer, what it is frozen as, method, of its first rows so many)
    ("dpo_en_demo.json", import_preferences, "preference", "dpo", 60),
    ("kto_en_demo.json", import_thumbs, "unpaired_preference", "kto", 100),
    ("alpaca_en_demo.json", import_demonstrations, "prompt_completion", "sft", 30),
    ("wiki_demo.txt", import_documents, "language_modeling", "pretrain", 12),
]


@pytest.mark.parametrize(("name", "importer", "kind", "method", "first"), RUNS, ids=[one[3] for one in RUNS])
def test_a_public_file_trains_the_starter_model_without_hand_work(
    database: Database,
    tmp_path: Path,
    name: str,
    importer: Callable[..., Imported],
    kind: DatasetType,
    method: str,
    first: int,
) -> None:
    """Its prompts are long for a model that reads 512 tokens: what does not fit is left out or cut, and said."""
    base = add_base(database, str(STARTER / "chat"), version_id="base")
    importer(database, beginning(name, first, tmp_path), source=name, licence="Apache-2.0")
    snapshot = freeze_snapshot(database, tmp_path, dataset_type=kind)

    run = start_run(database, method, SHORT, snapshot.id, base.id, "eve", tmp_path)
    deadline = monotonic() + 600
    while runs.get(database, run.id).state not in RUN_ENDED and monotonic() < deadline:
        follow(database, on_version=lambda version: None)
        sleep(0.2)

    ended = runs.get(database, run.id)
    assert (ended.state, ended.version_id) == ("succeeded", "v1"), ended.message
    assert ended.message.startswith("Trained on")


def beginning(name: str, rows: int, folder: Path) -> Path:
    """The first rows of a public file, in a file of the same name: all of them take minutes to train on."""
    text = (DATA / name).read_text(encoding="utf-8")
    file = folder / name
    if name.endswith(".txt"):
        file.write_text("\n".join(text.splitlines()[:rows]), encoding="utf-8")
    else:
        file.write_text(json.dumps(json.loads(text)[:rows]), encoding="utf-8")
    return file
