"""What a new Plumbline holds, so that the first page a person opens has something to judge."""

from __future__ import annotations

from pathlib import Path

from labeling.importers.prompts import import_prompts
from storage import projects
from storage.database import Database
from storage.records import Project, Sampling, new_id

SOURCE = "Plumbline's sample questions"
LICENCE = "Apache-2.0"
GUIDELINES = """\
Put the answer **you would rather send to a colleague** first.

1. **It answers the question that was asked**, about the vaccine that was asked about.
2. **It can be checked**: a source is better than enthusiasm.
3. **It wastes no time.** Length alone is not quality.

Give the same rank to answers you cannot separate. If none can be judged, skip and say why.
"""


def add_first_project(database: Database, version_id: str, prompt_file: Path) -> Project:
    """The sample questions, and a project that asks people to rank the starter model's answers to them."""
    import_prompts(database, prompt_file, source=SOURCE, licence=LICENCE)
    return projects.save(database, first_project(version_id))


def first_project(version_id: str) -> Project:
    return Project(
        id=new_id(),
        name="Vaccine questions",
        purpose="labeling",
        feedback_type="ranking",
        instruction="Rank the answers: which would you rather send to a colleague?",
        guidelines=GUIDELINES,
        guideline_version=1,
        version_ids=(version_id,),
        responses_per_prompt=4,
        sampling=Sampling(temperature=1.0, top_p=1.0, max_tokens=160),
    )
