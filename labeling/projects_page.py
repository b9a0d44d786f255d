"""The projects page: what is asked of people, who answers and how often, and a preview as labelers will see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from labeling import label_page
from labeling.drawn_page import drawn_preview, drawn_said, drawn_samplings, plain
from labeling.feedback import FEEDBACK_TYPES
from labeling.guard import require
from labeling.identity import PersonOf
from labeling.project_form import (
    COUNT,
    CRITERIA,
    GUIDELINES_TEXT,
    INSTRUCTION,
    KIND,
    MOST_NAMES,
    NEW,
    OWN,
    REASONS,
    SEEN,
    SOURCES,
    VERSIONS,
    project_from,
    saved_sentence,
    shown_as,
    texts_for,
    values_of,
)
from labeling.sampling_form import own_shown
from storage import model_versions, projects, prompts
from storage.database import Database
from storage.errors import AppError
from storage.records import Project

SCRIPTS = ("said.js", *label_page.SCRIPTS, "preview.js", "samplings.js")
STYLES = (*label_page.STYLES, "projects.css")
PREVIEW_HEAD = """<div class="pl"><div class="head"><div><h2>As labelers will see it</h2><p class="lede">An invented
prompt with invented answers. Try it: nothing here is stored.</p></div></div></div>"""
HEAD = """<div class="pl"><div class="head"><div><h1>Projects</h1><p class="lede">A project says what people are asked,
which model versions answer, and how the answers are drawn. Changed guidelines get a new number; each judgment
remembers the number it was made under.</p></div></div></div>"""
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
NEWEST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}  # what is chosen while an answer is awaited counts


def build(database: Database, person_of: PersonOf, changed: Callable[[Project], None]) -> gr.Blocks:
    """`changed` is told of each project that was made or edited."""
    with gr.Blocks(title="Projects · Plumbline", fill_width=True) as page:
        with gr.Column(elem_classes="pl-page"):
            gr.HTML(HEAD, padding=False, apply_default_css=False)
            chosen, fields = _form()
            with gr.Row(elem_classes="pl-acts"):
                go = gr.Button("Save", variant="primary", elem_id="save")
            said = drawn_said()
            gr.HTML(PREVIEW_HEAD, padding=False, apply_default_css=False)
            seen = drawn_preview()
        _show_what_is_chosen(database, page, chosen, fields, said, seen)
        _follow_the_form(database, fields, seen)
        go.click(_saving(database, person_of, changed), [chosen, *fields], [chosen, said], **QUIET)
    return page


def _saving(
    database: Database, person_of: PersonOf, changed: Callable[[Project], None]
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    def save(request: gr.Request, *fields: Any) -> tuple[Any, dict[str, Any]]:
        try:
            require(person_of(plain(request)), "lead")
            project = projects.save(database, project_from(database, fields))
            text = saved_sentence(database, project)
        except AppError as error:
            return gr.skip(), {"kind": "bad", "text": str(error)}
        changed(project)
        link = {"href": f"/label/?project={project.id}", "text": "Open it on the label page"}
        return gr.update(choices=_choices(database), value=project.id), {"kind": "ok", "text": text, "link": link}

    return save


def _show_what_is_chosen(
    database: Database, page: gr.Blocks, chosen: gr.Dropdown, fields: list[Any], said: gr.HTML, seen: gr.HTML
) -> None:
    def show(project_id: str) -> list[Any]:
        values = values_of(database, project_id)
        return [*values, None, shown_as(values)]

    lists, shown = [chosen, fields[VERSIONS], fields[SOURCES]], [*fields, said, seen]
    page.load(lambda: _lists(database), None, lists, **QUIET).then(show, chosen, shown, **QUIET)
    # Not `input`, which a dropdown fires twice: the second answer would overwrite what was typed after the first.
    chosen.select(show, chosen, shown, **NEWEST)


def _follow_the_form(database: Database, fields: list[Any], seen: gr.HTML) -> None:
    """The preview, and each version's own sampling, are of the form as it stands."""

    def own(versions: list[str] | None, typed: dict[str, Any] | None) -> dict[str, Any]:
        return own_shown(database, versions or [], typed)

    def begin(kind: str, instruction: str, guidelines: str, count: float | None) -> list[Any]:
        return [gr.skip() if text is None else text for text in texts_for(kind, instruction, guidelines, count)]

    texts = [fields[INSTRUCTION], fields[GUIDELINES_TEXT]]
    drawing: tuple[Any, ...] = (lambda *values: shown_as(values), fields, seen)
    begun = fields[KIND].input(begin, [fields[KIND], *texts, fields[COUNT]], [*texts, fields[COUNT]], **NEWEST)
    begun.then(*drawing, **QUIET)
    gr.on([event for one in SEEN for event in _edits(fields[one])], *drawing, **NEWEST)
    fields[VERSIONS].input(own, [fields[VERSIONS], fields[OWN]], fields[OWN], **NEWEST)


def _form() -> tuple[gr.Dropdown, list[Any]]:
    """The menu of projects, and the fields in the order of their places."""
    chosen, asked = _asked_fields()
    return chosen, [*asked, *_answer_fields(), *_people_fields()]


def _asked_fields() -> tuple[gr.Dropdown, list[Any]]:
    with gr.Column(elem_classes="pl-card"):
        with gr.Row(elem_classes="pl-fields"):
            chosen = gr.Dropdown([], label="Project", interactive=True, elem_id="project")
            name = gr.Textbox(label="Name", interactive=True, max_lines=1, elem_id="name")
            kind = gr.Radio(
                [(one.title, one.name) for one in FEEDBACK_TYPES], label="Feedback", interactive=True,
                elem_id="feedback", info="Rankings and pairwise give pairs (DPO), thumbs rows (KTO), edits SFT texts.",
            )  # fmt: skip
        instruction = gr.Textbox(
            label="Instruction", interactive=True, max_lines=2, elem_id="instruction",
            info="One line above every prompt.",
        )  # fmt: skip
        guidelines = gr.Textbox(
            label="Guidelines", lines=8, max_lines=24, interactive=True, elem_id="guidelines",
            info="Markdown; labelers open them with G. A change gets a new number, and labelers are told.",
        )  # fmt: skip
        with gr.Row(elem_classes="pl-fields"):
            criteria = gr.Dropdown(
                list(CRITERIA), multiselect=True, allow_custom_value=True, label="Criteria", interactive=True,
                elem_id="criteria", info="Each answer may be scored from 1 to 5 on these. Type others.",
            )  # fmt: skip
            reasons = gr.Dropdown(
                list(REASONS), multiselect=True, allow_custom_value=True, label="Reasons", interactive=True,
                elem_id="reasons", info=f"What may decide, up to {MOST_NAMES}: one key each, never required.",
            )  # fmt: skip
            pair = gr.Checkbox(
                label="A rewritten answer beats its original", interactive=True, elem_id="pair",
                info="It becomes a pair for DPO, beside the demonstration.",
            )  # fmt: skip
    return chosen, [name, kind, instruction, guidelines, criteria, reasons, pair]


def _answer_fields() -> list[Any]:
    with gr.Column(elem_classes="pl-card"):
        with gr.Row(elem_classes="pl-fields"):
            versions = gr.Dropdown(
                [], multiselect=True, label="Versions that answer", interactive=True, elem_id="versions",
                info="They share the answers evenly, unseen by the labelers. Endpoints of settings.toml too.",
            )  # fmt: skip
            count = gr.Number(
                label="Answers per prompt", precision=0, interactive=True, elem_id="count",
                info="Equal answers are shown once.",
            )  # fmt: skip
            sources = gr.Dropdown(
                [], multiselect=True, label="Prompts from", interactive=True, elem_id="sources",
                info="Nothing chosen means all prompts.",
            )  # fmt: skip
        with gr.Row(elem_classes="pl-fields"):
            temperature = gr.Number(
                label="Temperature", step=0.1, interactive=True, elem_id="temperature",
                info="Higher is more varied. 1 is the model as it is.",
            )  # fmt: skip
            top_p = gr.Number(
                label="Top-p", step=0.05, interactive=True, elem_id="top-p", info="1 leaves nothing out.",
            )  # fmt: skip
            max_tokens = gr.Number(
                label="Longest answer, in tokens", precision=0, interactive=True, elem_id="max-tokens",
            )  # fmt: skip
            seed = gr.Number(
                label="Seed", precision=0, interactive=True, elem_id="seed", info="Another one draws other answers.",
            )  # fmt: skip
        system = gr.Textbox(
            label="System prompt", interactive=True, max_lines=6, elem_id="system",
            info="Said before each prompt. Empty: the prompts as they are.",
        )  # fmt: skip
        own = drawn_samplings()
    return [versions, count, sources, temperature, top_p, max_tokens, seed, system, own]


def _people_fields() -> list[Any]:
    with gr.Column(elem_classes="pl-card"), gr.Row(elem_classes="pl-fields"):
        overlap = gr.Number(
            label="People per prompt", precision=0, interactive=True, elem_id="overlap",
            info="2 or more let the quality page say how far people agree.",
        )  # fmt: skip
        calibration = gr.Checkbox(
            label="Calibration round", interactive=True, elem_id="calibration",
            info="Everybody judges the same prompts; discuss the answers before the real work.",
        )  # fmt: skip
        gold = gr.Number(
            label="Known answers, %", interactive=True, elem_id="gold",
            info="Of a person's items, those a lead has answered. They look like all others.",
        )  # fmt: skip
        repeat = gr.Number(
            label="Repeated items, %", interactive=True, elem_id="repeat",
            info="Shown to the same person again: how far people agree with themselves.",
        )  # fmt: skip
    return [overlap, calibration, gold, repeat]


def _edits(field: Any) -> list[Any]:
    """The events that end an edit: not every letter that is typed."""
    return [field.blur, field.submit] if isinstance(field, gr.Textbox) else [field.change]


def _lists(database: Database) -> tuple[Any, Any, Any]:
    choices = _choices(database)
    versions = [one.id for one in model_versions.answering(database)]
    sources = [row["source"] for row in prompts.sources(database)]
    return gr.update(choices=choices, value=choices[-1][1]), gr.update(choices=versions), gr.update(choices=sources)


def _choices(database: Database) -> list[tuple[str, str]]:
    return [(NEW, NEW)] + [(one.name, one.id) for one in projects.list_all(database, "labeling")]
