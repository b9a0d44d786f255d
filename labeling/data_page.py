"""The data page: bring rows of every kind, and see where each came from and what was made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import APIRouter, Request

from labeling.body import Body
from labeling.drawn_page import drawn, drawn_said, plain
from labeling.guard import require
from labeling.identity import PersonOf
from labeling.importers.demonstrations import import_demonstrations
from labeling.importers.documents import import_documents
from labeling.importers.imported import NEVER_LEARNED, Imported
from labeling.importers.judged import BY, LICENCE
from labeling.importers.preferences import import_preferences
from labeling.importers.prompts import Fits, import_prompts
from labeling.importers.thumbs import import_thumbs
from storage import documents, judgments, prompts, snapshots
from storage.database import Database, Row
from storage.errors import AppError, BadInput
from storage.records import Snapshot

SCRIPTS = ("said.js", "data.js")
STYLES = ("data.css",)


@dataclass(frozen=True)
class Kind:
    """A kind of rows. `takes` says which files it reads, `verdict` is what its rows become where they judge."""

    takes: str
    held_out: str
    bring: Callable[..., Imported] | None = None  # None: prompts, which alone are asked whether they fit the model
    verdict: str = ""


KINDS: Mapping[str, Kind] = {
    "Prompts": Kind(
        "Questions that models answer and people judge. A text file has one a line; rows have prompt, question or "
        "instruction (with input, context, system), or messages that end with the user's turn.",
        "held out",
    ),
    "Demonstrations": Kind(
        "A prompt and the answer it should get, for SFT. Rows have instruction, input and output (Alpaca), "
        "instruction, context and response (Dolly), prompt and completion, or messages that end with the answer.",
        NEVER_LEARNED,
        import_demonstrations,
        "demonstration",
    ),
    "Preferences": Kind(
        "Two answers to a prompt, one better, for DPO, ORPO and reward models. Rows have chosen and rejected: "
        "beside a prompt or conversations, or as whole conversations (UltraFeedback, ShareGPT and hh-rlhf).",
        NEVER_LEARNED,
        import_preferences,
        "ranking",
    ),
    "Thumbs": Kind(
        "An answer and whether it is good, for KTO. Rows have a label that is true or false, beside messages that end "
        "with the answer, or beside prompt and completion.",
        NEVER_LEARNED,
        import_thumbs,
        "rating",
    ),
    "Documents": Kind(
        "Plain text to continue pre-training on. In a text file a blank line ends a document; where there is no blank "
        "line, each line is one. Rows have text.",
        "held out",
        import_documents,
    ),
}
LICENCES = ["Own", "CC BY 4.0", "CC BY-SA 4.0", "CC0", "Apache-2.0", "MIT", "Unknown"]


def build(database: Database, fits: Fits, person_of: PersonOf, changed: Callable[[], None]) -> gr.Blocks:
    """`fits` says why a prompt is too long for the model; `changed` is told when there are new prompts."""

    def run_import(
        file: str | None, kind: str, source: str, licence: str, confidential: bool, request: gr.Request
    ) -> tuple[dict[str, Any], Any]:
        try:
            require(person_of(plain(request)), "lead")
            said = import_upload(database, file, kind, source, licence, fits, bool(confidential))
        except AppError as error:
            return {"kind": "bad", "text": str(error)}, gr.skip()  # the file stays chosen
        changed()
        return {"kind": "ok", "text": said}, None

    with gr.Blocks(title="Data · Plumbline", fill_width=True) as page:
        with gr.Column(elem_classes="pl-page"):
            drawn("data", part="head")
            with gr.Column(elem_classes="pl-card", elem_id="import"):
                gr.HTML('<div class="pl"><h2>Import</h2></div>', padding=False, apply_default_css=False)
                with gr.Row(elem_classes="pl-fields"):
                    kind = gr.Dropdown(
                        list(KINDS), value="Prompts", label="Kind", interactive=True, elem_id="kind",
                        info="What a row of the file is.",
                    )  # fmt: skip
                    source = gr.Textbox(
                        label="Comes from", interactive=True, elem_id="source", max_lines=1,
                        info="Whoever wonders about a row a year from now reads this.",
                    )  # fmt: skip
                    licence = gr.Dropdown(
                        LICENCES, value="Own", label="Licence", allow_custom_value=True, interactive=True,
                        elem_id="licence", info="What you may do with these rows.",
                    )  # fmt: skip
                confidential = gr.Checkbox(
                    label="Confidential", interactive=True, elem_id="confidential",
                    info="No prompt of this file is ever sent to an endpoint or a judge outside. A row's own field "
                    "confidential (true or false) comes first.",
                )  # fmt: skip
                takes = gr.HTML(_takes("Prompts"), padding=False, apply_default_css=False, elem_id="takes")
                file = gr.File(
                    label="File (.jsonl, .json, .csv or .txt)", file_types=[".jsonl", ".json", ".csv", ".txt"],
                    elem_id="file", height=150, interactive=True,
                )  # fmt: skip
                with gr.Row(elem_classes="pl-acts"):
                    go = gr.Button("Import", variant="primary", elem_id="go")
                said = drawn_said()
            drawn("data", part="tables")
        kind.change(_takes, kind, takes, api_visibility="private", show_progress="hidden", queue=False)
        go.click(
            run_import, [file, kind, source, licence, confidential], [said, file],
            api_visibility="private", show_progress="hidden", queue=False,
        )  # fmt: skip
    return page


def import_upload(
    database: Database,
    file: str | None,
    kind: str,
    source: str,
    licence: str,
    fits: Fits,
    confidential: bool = False,
) -> str:
    """Imports an uploaded file, removes it, and says what came of it. Raises BadInput, BadRow; then the file stays."""
    if not file:
        raise BadInput("No file is chosen. Drop one into the box above, or click it.")
    if not source.strip():
        raise BadInput("Say where the rows come from; it cannot be found out later.")
    if kind not in KINDS:
        raise BadInput(f"Say what the rows are: {', '.join(KINDS)}.")
    found = _bring(
        KINDS[kind], database, Path(file), {"source": source.strip(), "licence": licence}, fits, confidential
    )
    Path(file).unlink(missing_ok=True)
    return found.sentence(kind.lower(), KINDS[kind].held_out)


def _bring(
    kind: Kind, database: Database, file: Path, origin: Mapping[str, str], fits: Fits, confidential: bool
) -> Imported:
    if kind.bring is None:
        return import_prompts(database, file, **origin, confidential=confidential, fits=fits)
    if kind.bring is import_documents:  # nobody is asked about documents
        return import_documents(database, file, **origin)
    return kind.bring(database, file, **origin, confidential=confidential)


def _takes(kind: str) -> str:
    """Markup of the sentence on the shapes that are read; the texts are constants of ours."""
    return f'<div class="pl"><p class="mut small" aria-live="polite">{escape(KINDS[kind].takes)}</p></div>'


class ConfidentialBody(Body):
    source: str
    confidential: bool


def data_router(database: Database, person_of: PersonOf, changed: Callable[[], None] = lambda: None) -> APIRouter:
    """`changed` is told when prompts become confidential, or are so no more."""
    router = APIRouter(prefix="/api/data")

    @router.get("")
    def overview(request: Request) -> dict[str, Any]:
        require(person_of(request), "lead")
        return {
            "sources": sources(database),
            "snapshots": [snapshot_json(one) for one in snapshots.list_all(database)],
            "judgments": judgments.count(database),
            "held_out_percent": prompts.HELD_OUT_PERCENT,
        }

    @router.post("/confidential")
    def mark(request: Request, body: ConfidentialBody) -> dict[str, Any]:
        require(person_of(request), "lead")
        count = prompts.mark_confidential(database, body.source, body.confidential)
        changed()
        return {"prompts": count}

    return router


def sources(database: Database) -> list[Row]:
    """One row a source and kind: source, kind, rows, held_out, confidential, licence, first_at; oldest first."""
    found = [
        *({**row, "kind": "Prompts", "rows": row["prompts"]} for row in prompts.sources(database)),
        *({**row, "kind": "Documents", "rows": row["documents"]} for row in documents.sources(database)),
        *(_judged_source(row) for row in judgments.imported(database)),
    ]
    names = ("source", "kind", "rows", "held_out", "confidential", "licence", "first_at")
    return sorted(({name: row[name] for name in names} for row in found), key=lambda row: row["first_at"])


def _judged_source(row: Row) -> Row:
    """Judgments that came before licences were noted have none."""
    return {
        **row,
        "confidential": 0,  # their prompts stand in a row of their own
        "source": row["labeler"].removeprefix(BY),
        "kind": next(name for name, kind in KINDS.items() if kind.verdict == row["kind"]),
        "rows": row["judgments"],
        "licence": (row["note"] or "Unknown").removeprefix(LICENCE),
    }


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "dataset_type": snapshot.dataset_type,
        "rows": snapshot.rows,
        "fingerprint": snapshot.fingerprint,
        "policy": snapshot.policy,
        "counts": dict(snapshot.counts),
        "created_at": snapshot.created_at.isoformat(),
    }
