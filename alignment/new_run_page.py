"""The form that starts a run.

It is ordinary Gradio controls, made from the fields of each method, so a new method needs nothing here. What its
buttons do are plain functions above the layout.

The form holds the settings of every method at once and shows those of the chosen one: what was typed survives a look at
another method, and one function takes all values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo
from starlette.requests import Request

from alignment import run_queue
from alignment.drawn_page import drawn
from alignment.freezing import freeze_snapshot, rows_of_projects
from alignment.methods import METHODS, method_named
from alignment.routes import PersonOf, require_engineer, snapshot_json
from alignment.run_offers import (
    EVERYTHING,
    chosen_projects,
    not_frozen_yet,
    offers,
    other_author,
    parent_choices,
    project_choices,
    proposed_parent,
    snapshot_choices,
)
from storage import snapshots
from storage.database import Database
from storage.errors import AppError
from storage.records import Run, Snapshot

NOTHING = ""  # said: what was said before is over


# ---- what its buttons do --------------------------------------------------------------------------------------------


def freeze(database: Database, home: Path, method_name: str, project_id: str) -> Snapshot:
    """Raises NotEnoughFeedback or BadInput, with nothing stored."""
    method = method_named(method_name)
    found = rows_of_projects(database, chosen_projects(project_id), method.reads)
    method.refuse_too_little(len(found.rows), found.counts)
    return freeze_snapshot(
        database, home / "snapshots", project_ids=chosen_projects(project_id), dataset_type=method.reads
    )


def start(
    database: Database,
    home: Path,
    started_by: str,
    method_name: str,
    parent_id: str | None,
    snapshot_id: str | None,
    settings: Mapping[str, Any],
) -> Run:
    """Raises what run_queue.start_run raises, and asks for what was not chosen."""
    if not snapshot_id:
        raise AppError(
            "There is no snapshot to learn from yet. Freeze one first: the button is under What it learns from."
        )
    if not parent_id:
        raise AppError("There is no version to start from. Add a base model on the Models page.")
    return run_queue.start_run(database, method_name, settings, snapshot_id, parent_id, started_by, home)


# ---- the settings of a method as controls ---------------------------------------------------------------------------


def control(name: str, field: FieldInfo) -> gr.components.FormComponent:
    """The control for one field; its description is the help under it."""
    given: dict[str, Any] = {
        "value": field.default,
        "label": field.title or name,
        "info": field.description,
        "interactive": True,
        "elem_id": f"setting-{name}",
    }
    kinds = set(get_args(field.annotation)) or {field.annotation}
    if get_origin(field.annotation) is Literal:
        return gr.Dropdown(list(get_args(field.annotation)), **given)
    if bool in kinds:
        return gr.Checkbox(**given)
    if str in kinds:
        return gr.Textbox(**given)
    return gr.Number(**given, precision=0 if int in kinds else None, step=_step(field.default, float in kinds))


def _step(default: object, is_float: bool) -> float:
    """What the arrows of a number add: a tenth of the default's leading digit, so that 1.2e-3 goes to 1.3e-3."""
    if not is_float or not isinstance(default, float) or default <= 0:
        return 1
    return float(10 ** (floor(log10(default)) - 1))


def is_advanced(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return bool(extra.get("advanced")) if isinstance(extra, dict) else False


# ---- the form -------------------------------------------------------------------------------------------------------


class NewRun:
    """What the form's events do. Each answers with what the controls are to show; a refusal is a sentence, in place."""

    def __init__(self, database: Database, home: Path, person_of: PersonOf) -> None:
        self.database = database
        self.home = home
        self.person_of = person_of

    def cards(self, project_id: str, chosen: str = "") -> str:
        found = offers(self.database, project_id)
        possible = [offer for offer in found if not offer.missing]
        chosen = chosen or max(possible, key=lambda one: one.rows, default=found[0]).name
        return json.dumps({"offers": [vars(offer) for offer in found], "chosen": chosen})

    def counts(self, snapshot_id: str | None, parent_id: str | None = None, project_id: str = EVERYTHING) -> str:
        """What is in the snapshot, and what to know before it is used."""
        if not snapshot_id:
            return json.dumps(None)
        snapshot = snapshots.get(self.database, snapshot_id)
        notes = [
            other_author(self.database, snapshot_id, parent_id),
            not_frozen_yet(self.database, snapshot, project_id),
        ]
        return json.dumps({**snapshot_json(self.database, snapshot), "notes": [note for note in notes if note]})

    def freeze(self, request: Request, method_name: str, project_id: str) -> tuple[str | None, str]:
        """(the snapshot's id, what to say)"""
        try:
            require_engineer(self.person_of(request))
            there = {one.id for one in snapshots.list_all(self.database)}
            snapshot = freeze(self.database, self.home, method_name, project_id)
        except AppError as error:
            return None, refusal(error)
        if snapshot.id in there:
            return snapshot.id, said("", f"Nothing is new since {snapshot.name}.")
        return snapshot.id, said("ok", f"Frozen as {snapshot.name}.")

    def start(
        self,
        request: Request,
        method_name: str,
        parent_id: str | None,
        snapshot_id: str | None,
        settings: Mapping[str, Any],
    ) -> str:
        """What to say, or where to go."""
        try:
            person = self.person_of(request)
            require_engineer(person)
            run = start(self.database, self.home, person.name, method_name, parent_id, snapshot_id, settings)
        except AppError as error:
            return refusal(error)
        return json.dumps({"go": f"/runs?run={run.id}"})


def said(kind: str, sentence: str) -> str:
    return json.dumps({"kind": kind, "sentence": sentence})


def refusal(error: AppError) -> str:
    return said("bad", str(error))


def lay_out(page: gr.Blocks, does: NewRun) -> None:
    """Puts the form on the page and connects its controls."""
    with gr.Column(elem_classes="pl-page new-run"):
        with gr.Row(elem_classes="nr-head"):
            drawn("newRunHead")
            start_button = gr.Button("Start run", variant="primary", elem_id="start", scale=0)
        say = drawn("said", elem_id="said")
        with gr.Row(elem_classes="nr-two"):
            with gr.Column(elem_classes="nr-main"):
                with gr.Column(elem_classes="pl-card"):
                    cards = drawn("methods", events="'click'", elem_id="methods")
                with gr.Column(elem_classes="pl-card"):
                    _title("Settings")
                    with gr.Row(elem_classes="pl-fields"):
                        parent = gr.Dropdown(
                            [], label="Start from", info="The version that is improved. It stays as it is.",
                            interactive=True, elem_id="parent",
                        )  # fmt: skip
                    groups, controls = _all_settings()
            with gr.Column(elem_classes="pl-card nr-data"):
                _title("What it learns from")
                snapshot = gr.Dropdown(
                    [], label="Snapshot", info="A frozen copy; later judgments do not change this run.",
                    interactive=True, elem_id="snapshot",
                )  # fmt: skip
                counts = drawn("snapshotCounts", elem_id="counts")
                project = gr.Dropdown(
                    [], label="Judgments of", info="Taken as they are now, for the next snapshot.", interactive=True,
                    elem_id="project",
                )  # fmt: skip
                freeze_button = gr.Button("Freeze a snapshot now", elem_id="freeze")
    _connect(
        page, does, _Form(say, cards, parent, snapshot, counts, project, groups, controls), start_button, freeze_button
    )


def _title(text: str) -> None:
    """`text` is a constant of ours: a template is no place for anything else."""
    gr.HTML(f'<div class="pl"><h2>{text}</h2></div>', apply_default_css=False, padding=False, container=False)


@dataclass(frozen=True)
class _Form:
    say: gr.HTML
    cards: gr.HTML
    parent: gr.Dropdown
    snapshot: gr.Dropdown
    counts: gr.HTML
    project: gr.Dropdown
    groups: Mapping[str, gr.Column]
    controls: Mapping[tuple[str, str], gr.components.FormComponent]


def _all_settings() -> tuple[dict[str, gr.Column], dict[tuple[str, str], gr.components.FormComponent]]:
    groups, controls = {}, {}
    for method in METHODS:
        with gr.Column(visible=False, elem_classes="nr-settings") as groups[method.name]:
            usual = {name: field for name, field in method.model_fields.items() if not is_advanced(field)}
            folded = {name: field for name, field in method.model_fields.items() if is_advanced(field)}
            with gr.Row(elem_classes="pl-fields"):
                controls.update({(method.name, name): control(name, field) for name, field in usual.items()})
            with gr.Accordion(f"{len(folded)} more settings", open=False), gr.Row(elem_classes="pl-fields"):
                controls.update({(method.name, name): control(name, field) for name, field in folded.items()})
    return groups, controls


def _connect(page: gr.Blocks, does: NewRun, form: _Form, start_button: gr.Button, freeze_button: gr.Button) -> None:
    database, names = does.database, list(form.groups)
    quick: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}

    picked = gr.State("")  # the parent that the person chose themselves, which no snapshot changes

    def for_snapshot(snapshot_id: str | None, project_id: str, parent_id: str) -> list[Any]:
        """The parent, and what is in the snapshot."""
        proposed = parent_id or proposed_parent(database, snapshot_id)
        parent = gr.Dropdown(parent_choices(database), value=proposed)
        return [parent, does.counts(snapshot_id, proposed, project_id)]

    def for_method(method_name: str, project_id: str, parent_id: str, snapshot_id: str | None = None) -> list[Any]:
        """The settings of this method, its snapshots, and what goes with the newest or the given one."""
        choices = snapshot_choices(database, method_name)
        chosen = snapshot_id or (choices[0][1] if choices else None)
        shown = [gr.Column(visible=name == method_name) for name in names]
        return [*shown, gr.Dropdown(choices, value=chosen), *for_snapshot(chosen, project_id, parent_id)]

    snapshot_outputs = [form.parent, form.counts]
    method_outputs = [*form.groups.values(), form.snapshot, *snapshot_outputs]

    def on_load() -> list[Any]:
        cards = does.cards(EVERYTHING)
        projects_now = gr.Dropdown(project_choices(database), value=EVERYTHING)
        return [cards, projects_now, *for_method(_method_in(cards), EVERYTHING, "")]

    def on_parent(parent_id: str, snapshot_id: str | None, project_id: str) -> list[Any]:
        return [parent_id, does.counts(snapshot_id, parent_id, project_id)]

    def on_project(cards: str, project_id: str, snapshot_id: str | None, parent_id: str | None) -> list[Any]:
        counts = does.counts(snapshot_id, parent_id, project_id)
        return [NOTHING, does.cards(project_id, _method_in(cards)), counts]

    def on_freeze(
        cards: str, project_id: str, snapshot_id: str | None, parent_id: str, request: gr.Request
    ) -> list[Any]:
        method_name = _method_in(cards)
        frozen_id, sentence = does.freeze(_plain(request), method_name, project_id)
        return [sentence, *for_method(method_name, project_id, parent_id, frozen_id or snapshot_id)]

    def on_start(request: gr.Request, cards: str, parent_id: str, snapshot_id: str, *values: Any) -> str:
        method_name = _method_in(cards)
        given = dict(zip(form.controls, values, strict=True))
        settings = {name: value for (method, name), value in given.items() if method == method_name}
        return does.start(_plain(request), method_name, parent_id, snapshot_id, settings)

    page.load(on_load, None, [form.cards, form.project, *method_outputs], **quick)
    form.cards.click(
        lambda cards, of, parent_id: [NOTHING, *for_method(_method_in(cards), of, parent_id)],
        [form.cards, form.project, picked], [form.say, *method_outputs], **quick,
    )  # fmt: skip
    form.snapshot.input(
        lambda *chosen: [NOTHING, *for_snapshot(*chosen)],
        [form.snapshot, form.project, picked], [form.say, *snapshot_outputs], **quick,
    )  # fmt: skip
    form.parent.input(on_parent, [form.parent, form.snapshot, form.project], [picked, form.counts], **quick)
    form.project.input(
        on_project, [form.cards, form.project, form.snapshot, form.parent], [form.say, form.cards, form.counts], **quick
    )
    freeze_button.click(
        on_freeze, [form.cards, form.project, form.snapshot, picked], [form.say, *method_outputs], **quick
    )
    start_button.click(on_start, [form.cards, form.parent, form.snapshot, *form.controls.values()], form.say, **quick)


def _method_in(cards: str) -> str:
    return str(json.loads(cards)["chosen"])


def _plain(request: gr.Request) -> Request:
    """The request itself, whose session says who is asking."""
    assert request.request is not None  # only queued events come without it, and none here is queued
    plain: Request = request.request
    return plain
