"""Rows for benchmarks, written by the grammar of the invented world: no model has to be sampled for them.

The wanted style is `concise` (short, with a citation); the others stand for what people did not want.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment.base_models import add_base
from assets.starter_model.checker import asked_about
from assets.starter_model.corpus import unseen_prompts
from assets.starter_model.grammar import write
from storage import snapshots
from storage.database import Database
from storage.records import DatasetType

STARTER = Path(__file__).parents[1] / "assets" / "starter_model" / "chat"
UNWANTED = ("verbose", "hedging", "hype")
PROMPT_SEED = 77


def messages(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def questions(number: int) -> list[str]:
    return [str(row["prompt"]) for row in unseen_prompts(number, seed=PROMPT_SEED)]


def written(question: str, style: str, rng: random.Random) -> list[dict[str, str]]:
    """An answer in this style, as a message."""
    return messages("assistant", write(style, rng, *asked_about(question)))


def rows(dataset_type: DatasetType, number: int, seed: int = 0) -> list[dict[str, Any]]:
    """So many rows in the columns of their type, one a question."""
    rng = random.Random(seed)
    return [_row(dataset_type, place, question, rng) for place, question in enumerate(questions(number))]


def _row(dataset_type: DatasetType, place: int, question: str, rng: random.Random) -> dict[str, Any]:
    prompt, judgment = messages("user", question), {"judgment_id": f"j{place}"}
    if dataset_type == "preference":
        chosen, rejected = written(question, "concise", rng), written(question, rng.choice(UNWANTED), rng)
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **judgment}
    if dataset_type == "unpaired_preference":
        style = "concise" if place % 4 == 0 else rng.choice(UNWANTED)
        return {"prompt": prompt, "completion": written(question, style, rng), "label": style == "concise", **judgment}
    if dataset_type == "prompt_completion":
        return {"prompt": prompt, "completion": written(question, "concise", rng), **judgment}
    if dataset_type == "language_modeling":
        vaccine, topic = asked_about(question)
        return {"text": write("concise", rng, vaccine, topic), "document_id": f"d{place}"}
    return {"prompt": prompt, "prompt_id": f"p{place}"}


def frozen(database: Database, home: Path, dataset_type: DatasetType, found: Sequence[dict[str, Any]]) -> str:
    """The id of a snapshot of these rows."""
    counts = {"rows": len(found)}
    if dataset_type == "unpaired_preference":
        counts["desirable"] = sum(row["label"] for row in found)
        counts["undesirable"] = len(found) - counts["desirable"]
    return snapshots.freeze(
        database,
        home / "snapshots",
        name=f"{len(found)} {dataset_type}",
        dataset_type=dataset_type,
        rows=found,
        counts=counts,
        policy="Written by the grammar.",
    ).id


def home_with_pairs(home: Path, pairs: int) -> tuple[Database, str]:
    """A database with the starter model as `base`, and the id of a snapshot of so many pairs."""
    database = Database.open(home / "plumbline.duckdb")
    add_base(database, str(STARTER), version_id="base")
    return database, frozen(database, home, "preference", rows("preference", pairs))
