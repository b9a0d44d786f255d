"""Comparisons: an evaluation is a project whose items show one answer of each version to a held-out prompt."""

from __future__ import annotations

from labeling import win_rate
from labeling.compare_routes import votes_of
from storage import model_versions, projects, prompts
from storage.database import Database
from storage.errors import BadInput
from storage.records import Project, Sampling

SAMPLING = Sampling(temperature=0.7, top_p=1.0, max_tokens=256)
KEPT = "What becomes of them there is up to whoever runs it. What is confidential stays here."
GUIDELINES = "Prefer the answer you would rather send under your own name. Call it a tie when you cannot say which."


def comparison_of(database: Database, first: str, second: str) -> Project:
    """The comparison of two versions, made on first use; the order in which they are named makes no difference.

    Raises BadInput for a version against itself, NotFound for one that is not there.
    """
    if first == second:
        raise BadInput(f"{first} cannot be compared with itself. Choose two versions.")
    older, newer = _in_order(database, first, second)
    return _found(database, older, newer) or projects.save(database, _comparison(older, newer))


def leaving(database: Database, first: str, second: str) -> str:
    """What to say before a comparison sends its first prompt outside; empty where none leaves, or it has begun.

    Raises NotFound.
    """
    older, newer = _in_order(database, first, second)
    outside = [one for one in (model_versions.get(database, name) for name in (older, newer)) if one.is_outside]
    if not outside or _found(database, older, newer):
        return ""
    count = len([one for one in prompts.in_order(database, held_out=True) if not one.confidential])
    are = "1 held-out prompt is" if count == 1 else f"{count:,} held-out prompts are"
    return f"{are} sent to {' and '.join(one.base_path for one in outside)}, and what you ask here too. {KEPT}"


def win_rate_of(database: Database, version_id: str, against: str) -> dict[str, float] | None:
    """How often a version beat another in blind comparisons: value, low, high, judgments. None where there are none."""
    project = _found(database, against, version_id) or _found(database, version_id, against)
    result = win_rate.win_rate(votes_of(database, project, version_id)) if project else None
    if result is None or not result.judgments:
        return None
    wins = result.wins
    return {"value": wins.value, "low": wins.low, "high": wins.high, "judgments": result.judgments}


def _in_order(database: Database, first: str, second: str) -> tuple[str, str]:
    """Endpoints, then versions from the oldest on. Raises NotFound."""
    known = {model_versions.get(database, one).id for one in (first, second)}
    every = [*model_versions.endpoints(database), *model_versions.list_all(database)]
    older, newer = (one.id for one in every if one.id in known)
    return older, newer


def _found(database: Database, older: str, newer: str) -> Project | None:
    comparisons = projects.list_all(database, "comparison")
    return next((one for one in comparisons if one.id == _id_of(older, newer)), None)


def _id_of(older: str, newer: str) -> str:
    return f"compare-{older}-{newer}"


def _comparison(older: str, newer: str) -> Project:
    return Project(
        id=_id_of(older, newer),
        name=f"{newer} against {older}",
        purpose="comparison",
        feedback_type="pairwise",
        instruction="Which answer is better?",
        guidelines=GUIDELINES,
        guideline_version=1,
        version_ids=(older, newer),
        responses_per_prompt=2,
        sampling=SAMPLING,
    )
