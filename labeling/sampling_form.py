"""How answers are drawn, as the projects page's form says it: for the project, and for single versions.

Of a version only what is typed is its own; the rest is as in the project, also when the project changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from labeling.sampling import kept_here_sentence
from storage import model_versions
from storage.database import Database
from storage.errors import BadInput
from storage.records import Project, Sampling

OWN_FIELDS: Mapping[str, str] = {  # of Sampling, and what the form calls them
    "temperature": "Temperature",
    "top_p": "Top-p",
    "max_tokens": "Longest answer",
    "seed": "Seed",
    "system": "System prompt",
}
WHOLE = ("max_tokens", "seed")
GROUPED = re.compile(r"\d{1,3}(?:[,.' \u00a0\u202f]\d{3})+")  # 1,024 as well as 1.024 and 1 024


def sampling_from(
    temperature: float | None, top_p: float | None, max_tokens: float | None, seed: float | None, system: str | None
) -> Sampling:
    """Raises BadInput."""
    if temperature is None or not 0 <= temperature <= 2:
        raise BadInput(f"Temperature: a number from 0 to 2; {found(temperature)}.")
    if top_p is None or not 0 < top_p <= 1:
        raise BadInput(f"Top-p: a number above 0 and up to 1; {found(top_p)}.")
    if max_tokens is None or max_tokens < 1 or not float(max_tokens).is_integer():
        raise BadInput(f"Longest answer: a whole number of tokens, at least 1; {found(max_tokens)}.")
    if seed is None or not 0 <= seed < 2**31 or not float(seed).is_integer():
        raise BadInput(f"Seed: a whole number from 0 to 2,147,483,647; {found(seed)}.")
    return Sampling(float(temperature), float(top_p), int(max_tokens), int(seed), (system or "").strip())


def own_shown(
    database: Database, version_ids: Sequence[str], own: Mapping[str, Any] | None, project: Project | None = None
) -> dict[str, Any]:
    """What assets/samplings.js draws: a row a version with what is typed there, and what leaves this machine."""
    typed = {row["version"]: row for row in (own or {}).get("rows", ())}
    blank = dict.fromkeys(OWN_FIELDS, "")
    rows = [{**blank, **typed.get(one, {}), "version": one} for one in version_ids]
    return {"rows": rows, "notice": leaving_sentence(database, version_ids, project)}


def own_of(project: Project) -> dict[str, Any]:
    """What a project stores, as it is typed: only what differs from the project's own."""
    common = asdict(project.sampling)
    return {
        "rows": [
            {"version": one, **{name: _typed(value) for name, value in asdict(own).items() if value != common[name]}}
            for one, own in project.samplings.items()
        ]
    }


def samplings_from(own: Mapping[str, Any] | None, project: Project) -> dict[str, Sampling]:
    """The rows in which something is typed; what is not, is as in the project. Raises BadInput."""
    found = {}
    for row in (own or {}).get("rows", ()):
        typed = {name: text for name in OWN_FIELDS if (text := str(row.get(name) or "").strip())}
        if typed and row["version"] in project.version_ids:
            found[row["version"]] = _own_sampling(row["version"], typed, project.sampling)
    return found


def leaving_sentence(database: Database, version_ids: Sequence[str], project: Project | None = None) -> str:
    """What is to be known before a project is saved whose prompts are sent outside; empty where none are."""
    chosen = [model_versions.get(database, one) for one in version_ids]
    outside = [one.base_path for one in chosen if one.is_outside]
    if not outside:
        return ""
    said = f"Once this is saved, its prompts are sent to {' and '.join(outside)}, outside this machine."
    asked = replace(project, version_ids=tuple(version_ids)) if project else None
    left_out = kept_here_sentence(database, asked) if asked else "What is confidential is never sent."
    return f"{said} What becomes of them there is up to whoever runs it. {left_out}".strip()


def _own_sampling(version_id: str, typed: Mapping[str, str], common: Sampling) -> Sampling:
    """Raises BadInput that names the version and the field."""
    given: dict[str, Any] = asdict(common)
    for name, text in typed.items():
        given[name] = text if name == "system" else _number(name, text, version_id)
    try:
        return sampling_from(**given)
    except BadInput as error:
        field, _, problem = str(error).partition(":")
        raise BadInput(f"{field} of {version_id}:{problem}") from error


def _number(name: str, text: str, version_id: str) -> float:
    """As people write it: a comma may stand before decimals, or in a whole number before every three digits."""
    plain = re.sub(r"\D", "", text) if name in WHOLE and GROUPED.fullmatch(text) else text.replace(",", ".")
    try:
        return float(plain)
    except ValueError as error:
        label = f"{OWN_FIELDS[name]} of {version_id}"
        raise BadInput(f"{label}: a number, not {text!r}. Leave it empty to have it as in the project.") from error


def _typed(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def found(value: float | None) -> str:
    return "it is empty" if value is None else f"it is {value:g}"
