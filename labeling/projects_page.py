"""The projects page: what is asked of people, which versions answer, and with which sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from labeling.drawn_page import drawn_said, plain
from labeling.feedback import FEEDBACK_TYPES, feedback_type
from labeling.first_project import GUIDELINES
from labeling.guard import require
from labeling.identity import PersonOf
from storage import assignments, model_versions, projects, prompts
from storage.database import Database
from storage.errors import AppError, BadInput
from storage.records import Project, Sampling, new_id

SCRIPTS = ("said.js",)
STYLES: tuple[str, ...] = ()
NEW = "A new project"
ON_LABEL_PAGE = ("thumbs", "ranking")  # the others of FEEDBACK_TYPES are asked on pages of their own
MOST_RESPONSES = 6
HEAD = """<div class="pl"><div class="head"><div><h1>Projects</h1><p class="lede">A project says what people are asked,
which model versions answer, and how the answers are drawn. Changed guidelines get a new number; each judgment
remembers the number it was made under.</p></div></div></div>"""

Fields = Sequence[Any]


def build(database: Database, person_of: PersonOf, changed: Callable[[Project], None]) -> gr.Blocks:
    """`changed` is told of each project that was made or edited."""

    def save(request: gr.Request, *fields: Any) -> tuple[Any, dict[str, Any]]:
        try:
            require(person_of(plain(request)), "lead")
            project = projects.save(database, project_from(database, fields))
        except AppError as error:
            return gr.skip(), {"kind": "bad", "text": str(error)}
        changed(project)
        text = f"{project.name} is saved. Its guidelines are number {project.guideline_version}."
        link = {"href": f"/label/?project={project.id}", "text": "Open it on the label page"}
        return gr.update(choices=_choices(database), value=project.id), {"kind": "ok", "text": text, "link": link}

    def show(chosen: str) -> list[Any]:
        return [*values_of(database, chosen), None]

    with gr.Blocks(title="Projects · Plumbline", fill_width=True) as page:
        with gr.Column(elem_classes="pl-page"):
            gr.HTML(HEAD, padding=False, apply_default_css=False)
            with gr.Column(elem_classes="pl-card"):
                with gr.Row(elem_classes="pl-fields"):
                    chosen = gr.Dropdown([], label="Project", interactive=True, elem_id="project")
                    name = gr.Textbox(label="Name", interactive=True, max_lines=1, elem_id="name")
                    kind = gr.Radio(
                        [(one.title, one.name) for one in FEEDBACK_TYPES if one.name in ON_LABEL_PAGE],
                        label="Feedback", interactive=True, elem_id="feedback",
                        info="Rankings become pairs (DPO); thumbs become single rows (KTO).",
                    )  # fmt: skip
                instruction = gr.Textbox(
                    label="Instruction", interactive=True, max_lines=2, elem_id="instruction",
                    info="One line above every prompt.",
                )  # fmt: skip
                guidelines = gr.Textbox(
                    label="Guidelines", lines=8, max_lines=24, interactive=True, elem_id="guidelines",
                    info="Markdown; labelers open them with G.",
                )  # fmt: skip
            with gr.Column(elem_classes="pl-card"):
                with gr.Row(elem_classes="pl-fields"):
                    versions = gr.Dropdown(
                        [], multiselect=True, label="Versions that answer", interactive=True, elem_id="versions",
                        info="They share the answers evenly, unseen by the labelers.",
                    )  # fmt: skip
                    count = gr.Number(
                        label="Answers per prompt", minimum=1, maximum=MOST_RESPONSES, precision=0, interactive=True,
                        elem_id="count",
                        info="Equal answers are shown once.",
                    )  # fmt: skip
                    sources = gr.Dropdown(
                        [], multiselect=True, label="Prompts from", interactive=True, elem_id="sources",
                        info="Nothing chosen means all prompts.",
                    )  # fmt: skip
                with gr.Row(elem_classes="pl-fields"):
                    temperature = gr.Number(
                        label="Temperature", minimum=0, maximum=2, step=0.1, interactive=True, elem_id="temperature",
                        info="Higher is more varied. 1 is the model as it is.",
                    )  # fmt: skip
                    top_p = gr.Number(
                        label="Top-p", minimum=0.01, maximum=1, step=0.05, interactive=True, elem_id="top-p",
                        info="1 leaves nothing out.",
                    )  # fmt: skip
                    max_tokens = gr.Number(
                        label="Longest answer, in tokens",
                        minimum=1,
                        precision=0,
                        interactive=True,
                        elem_id="max-tokens",
                    )
                with gr.Row(elem_classes="pl-acts"):
                    go = gr.Button("Save", variant="primary", elem_id="save")
                said = drawn_said()
        fields = [name, kind, instruction, guidelines, versions, count, sources, temperature, top_p, max_tokens]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        page.load(lambda: _lists(database), None, [chosen, versions, sources], **quiet).then(
            show, chosen, [*fields, said], **quiet
        )
        chosen.input(show, chosen, [*fields, said], **quiet)
        go.click(save, [chosen, *fields], [chosen, said], **quiet)
    return page


def project_from(database: Database, fields: Fields) -> Project:
    """The project that the form describes. Raises BadInput that names the field."""
    chosen, name, kind, instruction, guidelines, versions, count, sources, temperature, top_p, max_tokens = fields
    if not str(name or "").strip():
        raise BadInput("Name: give the project a name, so that people can find it.")
    needed = feedback_type(kind or "").minimum_responses if kind else 0
    if not kind:
        raise BadInput("Feedback: choose what people are asked.")
    _check_feedback_stays(database, chosen, kind)
    if not versions:
        raise BadInput("Versions that answer: choose at least one.")
    if count is None or not needed <= int(count) <= MOST_RESPONSES:
        raise BadInput(f"Answers per prompt: {kind} needs {needed} to {MOST_RESPONSES}, not {count}.")
    if len(versions) > int(count):
        raise BadInput(f"Answers per prompt: {len(versions)} versions cannot share {count} answers. Ask for more.")
    return Project(
        id=new_id() if chosen in (None, "", NEW) else str(chosen),
        name=str(name).strip(),
        purpose="labeling",
        feedback_type=kind,
        instruction=str(instruction or "").strip(),
        guidelines=str(guidelines or "").strip(),
        guideline_version=1,
        version_ids=tuple(model_versions.get(database, one).id for one in versions),
        responses_per_prompt=int(count),
        sampling=sampling_from(temperature, top_p, max_tokens),
        sources=tuple(sources or ()),
        **_kept(database, chosen),
    )


def sampling_from(temperature: float | None, top_p: float | None, max_tokens: float | None) -> Sampling:
    """Raises BadInput."""
    if temperature is None or not 0 <= temperature <= 2:
        raise BadInput(f"Temperature: a number from 0 to 2, not {temperature}.")
    if top_p is None or not 0 < top_p <= 1:
        raise BadInput(f"Top-p: a number above 0 and up to 1, not {top_p}.")
    if max_tokens is None or max_tokens < 1:
        raise BadInput(f"Longest answer: at least 1 token, not {max_tokens}.")
    return Sampling(float(temperature), float(top_p), int(max_tokens))


def values_of(database: Database, chosen: str) -> list[Any]:
    """What the form shows for a project; sensible beginnings for a new one."""
    if chosen in (None, "", NEW):
        newest = [one.id for one in model_versions.served(database)][-1:]
        return ["", "ranking", "Which answer is better?", GUIDELINES, newest, 4, [], 1.0, 1.0, 256]
    project = projects.get(database, chosen)
    sampling = project.sampling
    return [
        project.name,
        project.feedback_type,
        project.instruction,
        project.guidelines,
        list(project.version_ids),
        project.responses_per_prompt,
        list(project.sources),
        sampling.temperature,
        sampling.top_p,
        sampling.max_tokens,
    ]


def _check_feedback_stays(database: Database, chosen: Any, kind: str) -> None:
    """Judgments on their way are read as what the project asks: another question would lose them. Raises BadInput."""
    if chosen in (None, "", NEW):
        return
    before = projects.get(database, str(chosen)).feedback_type
    if kind != before and assignments.list_all(database, str(chosen)):
        raise BadInput(f"Feedback: people have begun to judge this project by {before}. Make a new project for {kind}.")


def _kept(database: Database, chosen: Any) -> dict[str, Any]:
    """What an edit must not change."""
    if chosen in (None, "", NEW):
        return {}
    return {"created_at": projects.get(database, str(chosen)).created_at}


def _lists(database: Database) -> tuple[Any, Any, Any]:
    choices = _choices(database)
    versions = [one.id for one in model_versions.list_all(database) if one.kind == "policy"]
    sources = [row["source"] for row in prompts.sources(database)]
    return gr.update(choices=choices, value=choices[-1][1]), gr.update(choices=versions), gr.update(choices=sources)


def _choices(database: Database) -> list[tuple[str, str]]:
    return [(NEW, NEW)] + [(one.name, one.id) for one in projects.list_all(database, "labeling")]
