"""The data page: bring prompts and demonstrations, and see where every row came from and what was made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import APIRouter, Request

from labeling.drawn_page import drawn, drawn_said, plain
from labeling.guard import require
from labeling.identity import PersonOf
from labeling.importers.demonstrations import import_demonstrations
from labeling.importers.prompts import Fits, import_prompts
from storage import judgments, prompts, snapshots
from storage.database import Database
from storage.errors import AppError, BadInput
from storage.records import Snapshot

SCRIPTS = ("said.js", "data.js")
STYLES = ("data.css",)
KINDS = {"Prompts": "prompts", "Demonstrations": "demonstrations"}
LICENCES = ["Own", "CC BY 4.0", "CC BY-SA 4.0", "CC0", "Apache-2.0", "MIT", "Unknown"]


def build(database: Database, fits: Fits, person_of: PersonOf, changed: Callable[[], None]) -> gr.Blocks:
    """`fits` says why a prompt is too long for the model; `changed` is told when there are new prompts."""

    def run_import(
        file: str | None, kind: str, source: str, licence: str, request: gr.Request
    ) -> tuple[dict[str, Any], Any]:
        try:
            require(person_of(plain(request)), "lead")
            said = import_upload(database, file, kind, source, licence, fits)
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
                        info="Prompts are answered by models; demonstrations bring the answer along.",
                    )  # fmt: skip
                    source = gr.Textbox(
                        label="Comes from", interactive=True, elem_id="source", max_lines=1,
                        info="Whoever wonders about a row a year from now reads this.",
                    )  # fmt: skip
                    licence = gr.Dropdown(
                        LICENCES, value="Own", label="Licence", allow_custom_value=True, interactive=True,
                        elem_id="licence", info="What you may do with these rows.",
                    )  # fmt: skip
                file = gr.File(
                    label="File (.jsonl, .json, .csv or .txt)", file_types=[".jsonl", ".json", ".csv", ".txt"],
                    elem_id="file", height=150, interactive=True,
                )  # fmt: skip
                with gr.Row(elem_classes="pl-acts"):
                    go = gr.Button("Import", variant="primary", elem_id="go")
                said = drawn_said()
            drawn("data", part="tables")
        go.click(
            run_import, [file, kind, source, licence], [said, file],
            api_visibility="private", show_progress="hidden", queue=False,
        )  # fmt: skip
    return page


def import_upload(database: Database, file: str | None, kind: str, source: str, licence: str, fits: Fits) -> str:
    """Imports an uploaded file, removes it, and says what came of it. Raises BadInput, BadRow; then the file stays."""
    if not file:
        raise BadInput("No file is chosen. Drop one into the box above, or click it.")
    if not source.strip():
        raise BadInput("Say where the rows come from; it cannot be found out later.")
    if KINDS.get(kind) == "demonstrations":
        found = import_demonstrations(database, Path(file), source=source.strip(), licence=licence, fits=fits)
    else:
        found = import_prompts(database, Path(file), source=source.strip(), licence=licence, fits=fits)
    Path(file).unlink(missing_ok=True)
    return found.sentence(KINDS.get(kind, "prompts"))


def data_router(database: Database, person_of: PersonOf) -> APIRouter:
    router = APIRouter(prefix="/api/data")

    @router.get("")
    def overview(request: Request) -> dict[str, Any]:
        require(person_of(request), "lead")
        return {
            "sources": prompts.sources(database),
            "snapshots": [snapshot_json(one) for one in snapshots.list_all(database)],
            "judgments": judgments.count(database),
            "held_out_percent": prompts.HELD_OUT_PERCENT,
        }

    return router


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
