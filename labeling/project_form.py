"""What the projects page's form says: its fields as a project, a project as its fields, and what cannot be.

Plain functions, which tests call without a page. A form that cannot be saved is refused by the name of the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from labeling.feedback import feedback_type
from labeling.preview import preview
from labeling.sampling import kept_here_sentence
from labeling.sampling_form import found, own_of, own_shown, sampling_from, samplings_from
from storage import assignments, judgments, model_versions, projects
from storage.database import Database
from storage.errors import BadInput
from storage.records import ModelVersion, Project, Sampling, new_id

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

Fields = Sequence[Any]

# The places of the fields, in the order of the form.
NAME, KIND, INSTRUCTION, GUIDELINES_TEXT, CRITERIA_NAMES, REASON_NAMES, PAIR = range(7)
VERSIONS, COUNT, SOURCES, TEMPERATURE, TOP_P, MAX_TOKENS, SEED, SYSTEM, OWN = range(7, 16)
OVERLAP, CALIBRATION, GOLD, REPEAT = range(16, 20)
SEEN = (NAME, INSTRUCTION, GUIDELINES_TEXT, CRITERIA_NAMES, REASON_NAMES, COUNT)  # what the preview depends on


def project_from(database: Database, fields: Fields) -> Project:
    """The project that the form describes: its menu, then its fields. Raises BadInput that names the field."""
    chosen, *given = fields
    if chosen in (None, ""):
        raise BadInput("Project: its list was not loaded yet, so nothing was saved. Choose a project and save again.")
    _check_asked(database, chosen, given)
    versions = _versions(database, given)
    project = Project(
        id=new_id() if chosen == NEW else str(chosen),
        name=str(given[NAME]).strip(),
        purpose="labeling",
        feedback_type=given[KIND],
        instruction=str(given[INSTRUCTION] or "").strip(),
        guidelines=str(given[GUIDELINES_TEXT] or "").strip(),
        guideline_version=1,
        version_ids=tuple(one.id for one in versions),
        responses_per_prompt=int(given[COUNT]),
        sampling=sampling_from(given[TEMPERATURE], given[TOP_P], given[MAX_TOKENS], given[SEED], given[SYSTEM]),
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
    project = replace(project, samplings=samplings_from(given[OWN], project))
    for one in versions:
        _check_room(project.sampling_of(one.id), one)
    return project


def _check_asked(database: Database, chosen: Any, given: Fields) -> None:
    """Raises BadInput."""
    _check_name(database, chosen, given[NAME])
    if not given[KIND]:
        raise BadInput("Feedback: choose what people are asked.")
    _check_feedback_stays(database, chosen, given[KIND])


def _versions(database: Database, given: Fields) -> list[ModelVersion]:
    """Who answers. Raises BadInput."""
    if not given[VERSIONS]:
        raise BadInput("Versions that answer: choose at least one.")
    versions = [model_versions.get(database, one) for one in given[VERSIONS]]
    _check_count(given[COUNT], given[KIND], versions)
    return versions


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


def values_of(database: Database, chosen: str) -> list[Any]:
    """What the form shows for a project; sensible beginnings for a new one."""
    if chosen in (None, "", NEW):
        newest = [one.id for one in model_versions.served(database) if one.kind == "policy"][-1:]
        asked = ["", "ranking", INSTRUCTIONS["ranking"], GUIDELINES["ranking"], [], [], True]
        return [*asked, newest, 4, [], 1.0, 1.0, 256, 0, "", own_shown(database, newest, None), 1, False, 0, 0]
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
        sampling.seed,
        sampling.system,
        own_shown(database, project.version_ids, own_of(project), project),
        project.overlap,
        project.calibration,
        round(100 * project.gold_share, 1),
        round(100 * project.repeat_share, 1),
    ]


def texts_for(kind: str, instruction: str, guidelines: str, count: float | None) -> tuple[str | None, str | None, int]:
    """Another feedback type brings its own instruction and guidelines; None where somebody has written some.

    The number of answers stays as near as the type allows.
    """
    asked = feedback_type(kind)
    fits = min(max(int(count or 0), asked.minimum_responses), asked.maximum_responses)
    return _begun(INSTRUCTIONS, kind, instruction), _begun(GUIDELINES, kind, guidelines), fits


def saved_sentence(database: Database, project: Project) -> str:
    """What was saved, and which of its versions cannot answer yet."""
    said = f"{project.name} is saved. Its guidelines are number {project.guideline_version}."
    idle = [one for one in project.version_ids if not model_versions.get(database, one).served]
    return " ".join(filter(None, (said, _idle_sentence(database, idle), kept_here_sentence(database, project))))


def _idle_sentence(database: Database, idle: Sequence[str]) -> str:
    """Versions are loaded on a page, endpoints are named in a file."""
    gone = [one for one in idle if model_versions.get(database, one).is_endpoint]
    off = [one for one in idle if one not in gone]
    are, them = ("is", "it") if len(off) == 1 else ("are", "them")
    said = [f"{' and '.join(off)} {are} not loaded; load {them} on the models page."] if off else []
    return " ".join([*said, *(f"{one} is not in settings.toml any more." for one in gone)])


def _begun(texts: Mapping[str, str], kind: str, text: str) -> str | None:
    return texts[kind] if text.strip() in ("", *(one.strip() for one in texts.values())) else None


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
        raise BadInput(f"Answers per prompt: {kind} needs {needed}; {found(count)}.")
    if len(versions) > int(count):
        raise BadInput(f"Answers per prompt: {len(versions)} versions cannot share {count} answers. Ask for more.")


def _overlap(people: float | None) -> int:
    """Raises BadInput."""
    if people is None or not 1 <= int(people) <= 100:
        raise BadInput(f"People per prompt: a whole number from 1 to 100; {found(people)}.")
    return int(people)


def _share(label: str, per_cent: float | None) -> float:
    """Raises BadInput."""
    if per_cent is None or not 0 <= per_cent <= MOST_SHARE:
        raise BadInput(f"{label}: from 0 to {MOST_SHARE} % of the items; {found(per_cent)}.")
    return float(per_cent) / 100


def _names(label: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """Without white space around them and without doubles. Raises BadInput."""
    names = tuple(dict.fromkeys(" ".join(str(one).split()) for one in given or ()))
    if len(names) > MOST_NAMES or any(not 0 < len(one) <= LONGEST_NAME for one in names):
        raise BadInput(
            f"{label}: up to {MOST_NAMES} of up to {LONGEST_NAME} letters each. Take some out or shorten them."
        )
    return names


def _check_room(sampling: Sampling, version: ModelVersion) -> None:
    """Prompt and answer share the context; of an endpoint nobody knows it. Raises BadInput."""
    if not version.is_endpoint and sampling.max_tokens >= version.context_length:
        raise BadInput(
            f"Longest answer: {version.id} has {version.context_length:,} tokens for prompt and answer together, "
            f"so {sampling.max_tokens:,} is too long. Ask for fewer."
        )


def _check_feedback_stays(database: Database, chosen: Any, kind: str) -> None:
    """Judgments on their way are read as what the project asks: another question would lose them. Raises BadInput."""
    if chosen in (None, "", NEW):
        return
    chosen = str(chosen)
    before = projects.get(database, chosen).feedback_type
    begun = kind != before and (assignments.list_all(database, chosen) or judgments.list_all(database, chosen))
    if begun:
        raise BadInput(f"Feedback: people have begun to judge this project by {before}. Make a new project for {kind}.")


def _kept(database: Database, chosen: Any) -> dict[str, Any]:
    """What an edit must not change."""
    if chosen in (None, "", NEW):
        return {}
    return {"created_at": projects.get(database, str(chosen)).created_at}
