"""The projects page: what is asked of people, which versions answer, and with which sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from labeling.drawn_page import drawn_said, plain
from labeling.feedback import FEEDBACK_TYPES, feedback_type
from labeling.guard import require
from labeling.identity import PersonOf
from storage import assignments, model_versions, projects, prompts
from storage.database import Database
from storage.errors import AppError, BadInput
from storage.records import ModelVersion, Project, Sampling, new_id

SCRIPTS = ("said.js",)
STYLES: tuple[str, ...] = ()
NEW = "A new project"
ON_LABEL_PAGE = ("thumbs", "ranking")  # the others of FEEDBACK_TYPES are asked on pages of their own
MOST_RESPONSES = 6
INSTRUCTIONS = {  # by feedback type: what a new project begins with, whatever it will be about
    "ranking": "Which answer is better?",
    "thumbs": "Is this answer good enough to send?",
}
GUIDELINES = {
    "ranking": """\
Put the answer **you would rather send to a colleague** first.

1. **It answers the question that was asked.**
2. **It is right, and can be checked.**
3. **It wastes no time.** Length alone is not quality.

Give the same rank to answers you cannot separate. If none can be judged, skip and say why.
""",
    "thumbs": """\
Thumb up: you would **send this answer to a colleague as it is**. Thumb down: you would not.

1. **It answers the question that was asked.**
2. **It is right, and can be checked.**
3. **It wastes no time.** Length alone is not quality.

Judge each answer by itself; all may be good, or none. If you cannot judge them, skip and say why.
""",
}
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
            text = saved_sentence(database, project)
        except AppError as error:
            return gr.skip(), {"kind": "bad", "text": str(error)}
        changed(project)
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
                        label="Top-p", step=0.05, interactive=True, elem_id="top-p",
                        info="1 leaves nothing out.",
                    )  # fmt: skip
                    max_tokens = gr.Number(
                        label="Longest answer, in tokens", precision=0, interactive=True, elem_id="max-tokens",
                    )  # fmt: skip
                with gr.Row(elem_classes="pl-acts"):
                    go = gr.Button("Save", variant="primary", elem_id="save")
                said = drawn_said()
        fields = [name, kind, instruction, guidelines, versions, count, sources, temperature, top_p, max_tokens]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        page.load(lambda: _lists(database), None, [chosen, versions, sources], **quiet).then(
            show, chosen, [*fields, said], **quiet
        )
        # Not `input`, which a dropdown fires twice: the second answer would overwrite what was typed after the first.
        chosen.select(show, chosen, [*fields, said], **quiet)
        kind.input(texts_for, [kind, instruction, guidelines], [instruction, guidelines], **quiet)
        go.click(save, [chosen, *fields], [chosen, said], **quiet)
    return page


def project_from(database: Database, fields: Fields) -> Project:
    """The project that the form describes. Raises BadInput that names the field."""
    chosen, name, kind, instruction, guidelines, names, count, sources, temperature, top_p, max_tokens = fields
    if chosen in (None, ""):
        raise BadInput("Project: its list was not loaded yet, so nothing was saved. Choose a project and save again.")
    _check_name(database, chosen, name)
    if not kind:
        raise BadInput("Feedback: choose what people are asked.")
    _check_feedback_stays(database, chosen, kind)
    if not names:
        raise BadInput("Versions that answer: choose at least one.")
    versions = [model_versions.get(database, one) for one in names]
    _check_count(count, kind, versions)
    sampling = sampling_from(temperature, top_p, max_tokens)
    _check_room(sampling, versions)
    return Project(
        id=new_id() if chosen == NEW else str(chosen),
        name=str(name).strip(),
        purpose="labeling",
        feedback_type=kind,
        instruction=str(instruction or "").strip(),
        guidelines=str(guidelines or "").strip(),
        guideline_version=1,
        version_ids=tuple(one.id for one in versions),
        responses_per_prompt=int(count),
        sampling=sampling,
        sources=tuple(sources or ()),
        **_kept(database, chosen),
    )


def sampling_from(temperature: float | None, top_p: float | None, max_tokens: float | None) -> Sampling:
    """Raises BadInput."""
    if temperature is None or not 0 <= temperature <= 2:
        raise BadInput(f"Temperature: a number from 0 to 2; {_found(temperature)}.")
    if top_p is None or not 0 < top_p <= 1:
        raise BadInput(f"Top-p: a number above 0 and up to 1; {_found(top_p)}.")
    if max_tokens is None or max_tokens < 1:
        raise BadInput(f"Longest answer: at least 1 token; {_found(max_tokens)}.")
    return Sampling(float(temperature), float(top_p), int(max_tokens))


def values_of(database: Database, chosen: str) -> list[Any]:
    """What the form shows for a project; sensible beginnings for a new one."""
    if chosen in (None, "", NEW):
        newest = [one.id for one in model_versions.served(database) if one.kind == "policy"][-1:]
        return ["", "ranking", INSTRUCTIONS["ranking"], GUIDELINES["ranking"], newest, 4, [], 1.0, 1.0, 256]
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


def texts_for(kind: str, instruction: str, guidelines: str) -> tuple[Any, Any]:
    """Another feedback type brings its own instruction and guidelines, where nobody has written any."""
    return _begun(INSTRUCTIONS, kind, instruction), _begun(GUIDELINES, kind, guidelines)


def saved_sentence(database: Database, project: Project) -> str:
    """What was saved, and which of its versions cannot answer yet."""
    said = f"{project.name} is saved. Its guidelines are number {project.guideline_version}."
    idle = [one for one in project.version_ids if not model_versions.get(database, one).served]
    if not idle:
        return said
    are, them = ("is", "it") if len(idle) == 1 else ("are", "them")
    return f"{said} {' and '.join(idle)} {are} not loaded; load {them} on the models page."


def _begun(texts: Mapping[str, str], kind: str, text: str) -> Any:
    return texts[kind] if text.strip() in ("", *(one.strip() for one in texts.values())) else gr.skip()


def _found(value: float | None) -> str:
    return "it is empty" if value is None else f"it is {value:g}"


def _check_name(database: Database, chosen: Any, name: Any) -> None:
    """Raises BadInput."""
    wanted = str(name or "").strip()
    if not wanted:
        raise BadInput("Name: give the project a name, so that people can find it.")
    others = [one.name for one in projects.list_all(database, "labeling") if one.id != chosen]
    if wanted.casefold() in (other.casefold() for other in others):
        raise BadInput(f"Name: there is a project {wanted} already. Choose another name, or edit that project.")


def _check_count(count: float | None, kind: str, versions: Sequence[ModelVersion]) -> None:
    """Raises BadInput."""
    needed = feedback_type(kind).minimum_responses
    if count is None or not needed <= int(count) <= MOST_RESPONSES:
        raise BadInput(f"Answers per prompt: {kind} needs {needed} to {MOST_RESPONSES}; {_found(count)}.")
    if len(versions) > int(count):
        raise BadInput(f"Answers per prompt: {len(versions)} versions cannot share {count} answers. Ask for more.")


def _check_room(sampling: Sampling, versions: Sequence[ModelVersion]) -> None:
    """Prompt and answer share the context. Raises BadInput."""
    smallest = min(versions, key=lambda one: one.context_length)
    if sampling.max_tokens >= smallest.context_length:
        raise BadInput(
            f"Longest answer: {smallest.id} has {smallest.context_length:,} tokens for prompt and answer together, "
            f"so {sampling.max_tokens:,} is too long. Ask for fewer."
        )


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
