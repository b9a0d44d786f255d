"""The projects page: what is asked of people, who answers and how often, and a preview as labelers will see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from labeling import label_page
from labeling.drawn_page import drawn_preview, drawn_said, plain
from labeling.feedback import FEEDBACK_TYPES, feedback_type
from labeling.guard import require
from labeling.identity import PersonOf
from labeling.preview import preview
from storage import assignments, model_versions, projects, prompts
from storage.database import Database
from storage.errors import AppError, BadInput
from storage.records import ModelVersion, Project, Sampling, new_id

SCRIPTS = ("said.js", *label_page.SCRIPTS, "preview.js")
STYLES = label_page.STYLES
NEW = "A new project"
MOST_SHARE = 50  # per cent of a person's items that may be known or repeated
MOST_NAMES, LONGEST_NAME = 8, 60
CRITERIA = ("helpful", "honest", "harmless")
REASONS = ("correct", "clearer", "shorter", "safer", "follows the instructions")
INSTRUCTIONS = {  # by feedback type: what a new project begins with, whatever it will be about
    "ranking": "Which answer is better?",
    "thumbs": "Is this answer good enough to send?",
    "pairwise": "Which answer is better, and by how much?",
    "edit": "Rewrite the best answer into the one you would send.",
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
    "pairwise": """\
Choose the answer **you would rather send to a colleague**: 1 for A much better, 4 for a tie, 7 for B much better.

1. **It answers the question that was asked.**
2. **It is right, and can be checked.**
3. **It wastes no time.** Length alone is not quality.

"Both bad" is for two answers that nobody should get. If you cannot judge them, skip and say why.
""",
    "edit": """\
Change as little as it takes until **you would send this answer to a colleague**.

1. **It answers the question that was asked.**
2. **It is right, and can be checked.**
3. **It wastes no time.** Leave out what nobody needs.

An answer that needs no change is submitted as it is. If you cannot tell what is right, skip and say why.
""",
}
PREVIEW_HEAD = """<div class="pl"><div class="head"><div><h2>As labelers will see it</h2><p class="lede">An invented
prompt with invented answers. Try it: nothing here is stored.</p></div></div></div>"""
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
        values = values_of(database, chosen)
        return [*values, None, shown_as(values)]

    with gr.Blocks(title="Projects · Plumbline", fill_width=True) as page:
        with gr.Column(elem_classes="pl-page"):
            gr.HTML(HEAD, padding=False, apply_default_css=False)
            chosen, fields = _form()
            with gr.Row(elem_classes="pl-acts"):
                go = gr.Button("Save", variant="primary", elem_id="save")
            said = drawn_said()
            gr.HTML(PREVIEW_HEAD, padding=False, apply_default_css=False)
            seen = drawn_preview()
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        lists = [chosen, fields[VERSIONS], fields[SOURCES]]
        page.load(lambda: _lists(database), None, lists, **quiet).then(show, chosen, [*fields, said, seen], **quiet)
        # Not `input`, which a dropdown fires twice: the second answer would overwrite what was typed after the first.
        chosen.select(show, chosen, [*fields, said, seen], **quiet)
        texts = [fields[INSTRUCTION], fields[GUIDELINES_TEXT]]
        drawing: tuple[Any, ...] = (lambda *values: shown_as(values), fields, seen)
        begun = fields[KIND].input(texts_for, [fields[KIND], *texts, fields[COUNT]], [*texts, fields[COUNT]], **quiet)
        begun.then(*drawing, **quiet)
        gr.on([event for one in SEEN for event in _edits(fields[one])], *drawing, **quiet)
        go.click(save, [chosen, *fields], [chosen, said], **quiet)
    return page


# The places of the fields, in the order of the form.
NAME, KIND, INSTRUCTION, GUIDELINES_TEXT, CRITERIA_NAMES, REASON_NAMES, PAIR = range(7)
VERSIONS, COUNT, SOURCES, TEMPERATURE, TOP_P, MAX_TOKENS = range(7, 13)
OVERLAP, CALIBRATION, GOLD, REPEAT = range(13, 17)
SEEN = (NAME, INSTRUCTION, GUIDELINES_TEXT, CRITERIA_NAMES, REASON_NAMES, COUNT)  # what the preview depends on


def _form() -> tuple[gr.Dropdown, list[Any]]:
    """The menu of projects, and the fields in the order of their places."""
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
                label="Top-p", step=0.05, interactive=True, elem_id="top-p", info="1 leaves nothing out.",
            )  # fmt: skip
            max_tokens = gr.Number(
                label="Longest answer, in tokens", precision=0, interactive=True, elem_id="max-tokens",
            )  # fmt: skip
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
    asked = [name, kind, instruction, guidelines, criteria, reasons, pair]
    answered = [versions, count, sources, temperature, top_p, max_tokens]
    return chosen, [*asked, *answered, overlap, calibration, gold, repeat]


def _edits(field: Any) -> list[Any]:
    """The events that end an edit: not every letter that is typed."""
    return [field.blur, field.submit] if isinstance(field, gr.Textbox) else [field.change]


def project_from(database: Database, fields: Fields) -> Project:
    """The project that the form describes: its menu, then its fields. Raises BadInput that names the field."""
    chosen, *given = fields
    if chosen in (None, ""):
        raise BadInput("Project: its list was not loaded yet, so nothing was saved. Choose a project and save again.")
    name, kind, names, count = given[NAME], given[KIND], given[VERSIONS], given[COUNT]
    _check_name(database, chosen, name)
    if not kind:
        raise BadInput("Feedback: choose what people are asked.")
    _check_feedback_stays(database, chosen, kind)
    if not names:
        raise BadInput("Versions that answer: choose at least one.")
    versions = [model_versions.get(database, one) for one in names]
    _check_count(count, kind, versions)
    sampling = sampling_from(given[TEMPERATURE], given[TOP_P], given[MAX_TOKENS])
    _check_room(sampling, versions)
    return Project(
        id=new_id() if chosen == NEW else str(chosen),
        name=str(name).strip(),
        purpose="labeling",
        feedback_type=kind,
        instruction=str(given[INSTRUCTION] or "").strip(),
        guidelines=str(given[GUIDELINES_TEXT] or "").strip(),
        guideline_version=1,
        version_ids=tuple(one.id for one in versions),
        responses_per_prompt=int(count),
        sampling=sampling,
        sources=tuple(given[SOURCES] or ()),
        overlap=_overlap(given[OVERLAP]),
        calibration=bool(given[CALIBRATION]),
        gold_share=_share("Known answers", given[GOLD]),
        repeat_share=_share("Repeated items", given[REPEAT]),
        criteria=_names("Criteria", given[CRITERIA_NAMES]),
        reasons=_names("Reasons", given[REASON_NAMES]),
        pair_from_edit=bool(given[PAIR]),
        **_kept(database, chosen),
    )


def shown_as(given: Sequence[Any]) -> dict[str, Any]:
    """The preview of a form that may not be finished: what cannot be shown yet is left out."""
    kind = given[KIND] or "ranking"
    asked = feedback_type(kind)
    project = Project(
        id="preview",
        name=str(given[NAME] or "").strip() or NEW,
        purpose="labeling",
        feedback_type=kind,
        instruction=str(given[INSTRUCTION] or "").strip(),
        guidelines=str(given[GUIDELINES_TEXT] or ""),
        guideline_version=1,
        version_ids=(),
        responses_per_prompt=int(given[COUNT] or asked.minimum_responses),
        sampling=Sampling(),
        criteria=tuple(given[CRITERIA_NAMES] or ())[:MOST_NAMES],
        reasons=tuple(given[REASON_NAMES] or ())[:MOST_NAMES],
    )
    return preview(project)


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
        asked = ["", "ranking", INSTRUCTIONS["ranking"], GUIDELINES["ranking"], [], [], True]
        return [*asked, newest, 4, [], 1.0, 1.0, 256, 1, False, 0, 0]
    project = projects.get(database, chosen)
    sampling = project.sampling
    return [
        project.name,
        project.feedback_type,
        project.instruction,
        project.guidelines,
        list(project.criteria),
        list(project.reasons),
        project.pair_from_edit,
        list(project.version_ids),
        project.responses_per_prompt,
        list(project.sources),
        sampling.temperature,
        sampling.top_p,
        sampling.max_tokens,
        project.overlap,
        project.calibration,
        round(100 * project.gold_share, 1),
        round(100 * project.repeat_share, 1),
    ]


def texts_for(kind: str, instruction: str, guidelines: str, count: float | None) -> tuple[Any, Any, Any]:
    """Another feedback type brings its own instruction and guidelines, where nobody has written any.

    The number of answers stays as near as the type allows.
    """
    asked = feedback_type(kind)
    fits = min(max(int(count or 0), asked.minimum_responses), asked.maximum_responses)
    return _begun(INSTRUCTIONS, kind, instruction), _begun(GUIDELINES, kind, guidelines), fits


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
    asked = feedback_type(kind)
    least, most = asked.minimum_responses, asked.maximum_responses
    if count is None or not least <= int(count) <= most:
        needed = f"{least} to {most}" if least < most else str(least)
        raise BadInput(f"Answers per prompt: {kind} needs {needed}; {_found(count)}.")
    if len(versions) > int(count):
        raise BadInput(f"Answers per prompt: {len(versions)} versions cannot share {count} answers. Ask for more.")


def _overlap(people: float | None) -> int:
    """Raises BadInput."""
    if people is None or not 1 <= int(people) <= 100:
        raise BadInput(f"People per prompt: a whole number from 1 to 100; {_found(people)}.")
    return int(people)


def _share(label: str, per_cent: float | None) -> float:
    """Raises BadInput."""
    if per_cent is None or not 0 <= per_cent <= MOST_SHARE:
        raise BadInput(f"{label}: from 0 to {MOST_SHARE} % of the items; {_found(per_cent)}.")
    return float(per_cent) / 100


def _names(label: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """Without white space around them and without doubles. Raises BadInput."""
    names = tuple(dict.fromkeys(" ".join(str(one).split()) for one in given or ()))
    if len(names) > MOST_NAMES or any(not 0 < len(one) <= LONGEST_NAME for one in names):
        raise BadInput(
            f"{label}: up to {MOST_NAMES} of up to {LONGEST_NAME} letters each. Take some out or shorten them."
        )
    return names


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
