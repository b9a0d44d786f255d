"""Small records for tests, with only the fields that a test is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from storage import prompts
from storage.records import Judgment, Message, ModelVersion, Project, Prompt, Response, Run, Sampling, Verdict, new_id


def prompt(text: str = "How is Velorix stored?", **fields: Any) -> Prompt:
    made = prompts.make([Message("user", text)], source="test", licence="Own")
    return replace(made, **fields)


def some_prompts(count: int, *, held_out: bool = False) -> list[Prompt]:
    """Prompts that all lie on one side of the hash."""
    made = (prompt(f"Question number {number}?") for number in range(count * 20))
    return [one for one in made if one.held_out == held_out][:count]


def response(prompt_id: str, text: str = "At 4 degrees.", **fields: Any) -> Response:
    given = {"version_id": "base", "author": "base", "sampling": Sampling(), **fields}
    return Response(id=new_id(), prompt_id=prompt_id, text=text, **given)


def project(**fields: Any) -> Project:
    given: dict[str, Any] = {
        "id": "p1",
        "name": "Vaccines",
        "purpose": "labeling",
        "feedback_type": "ranking",
        "instruction": "Rank the answers.",
        "guidelines": "Be fair.",
        "guideline_version": 1,
        "version_ids": ("base",),
        "responses_per_prompt": 2,
        "sampling": Sampling(),
    }
    return Project(**{**given, **fields})


def judgment(prompt_id: str, *verdicts: Verdict, **fields: Any) -> Judgment:
    given: dict[str, Any] = {"id": new_id(), "labeler": "ines", "feedback_type": "ranking", "displayed_order": ()}
    return Judgment(prompt_id=prompt_id, verdicts=verdicts, **{**given, **fields})


def version(version_id: str = "base", **fields: Any) -> ModelVersion:
    given: dict[str, Any] = {
        "base_path": "/models/base",
        "adapter_path": None,
        "parent_id": None,
        "run_id": None,
        "template": "",
        "fingerprint": "f",
        "context_length": 512,
    }
    return ModelVersion(id=version_id, **{**given, **fields})


def run(run_id: str = "dpo-01", **fields: Any) -> Run:
    given: dict[str, Any] = {
        "method": "dpo",
        "settings": {},
        "snapshot_id": "s",
        "parent_id": "base",
        "directory": f"/runs/{run_id}",
        "state": "waiting",
    }
    return Run(id=run_id, **{**given, **fields})
