"""A database from before projects had an overlap and judgments had scores: it opens whole, and people label on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from labeling.quality_routes import material
from storage import assignments, judgments, migrations, projects, prompts, responses
from storage.database import Database
from storage.records import LATE, Demonstration, Judgment, Ranking, Rating
from tests.labeling.judging_app import new_queue
from tests.labeling.test_assignment import ranked

STEPS_BEFORE = 2
THEN = "2021-01-01 00:00:00+00"
ROWS = (  # ines ranked q0 and changed her mind, tom skipped q1 and lost q2; one thumbed and rewrote in another project
    f"""
    INSERT INTO model_versions
    VALUES ('base', '/models/base', NULL, NULL, NULL, '', 'f', 512, 'policy', true, '', '{THEN}');
    INSERT INTO projects
    VALUES ('p1', 'Vaccines', 'labeling', 'ranking', 'Rank.', ['base'], ['book'], 2, 0.7, 0.9, 128, '{THEN}'),
           ('p2', 'Thumbs', 'labeling', 'thumbs', 'Thumb.', ['base'], [], 2, 1.0, 1.0, 256, '{THEN}');
    INSERT INTO guidelines VALUES ('p1', 1, 'Be fair.', '{THEN}'), ('p1', 2, 'Be fair and kind.', '{THEN}'),
                                  ('p2', 1, 'Be quick.', '{THEN}');
    """,
    f"""
    INSERT INTO prompts
    SELECT 'q' || n, 'hash ' || n, [{{'role': 'user', 'content': 'Question ' || n}}], false, 'book', 'Own', [], '{THEN}'
    FROM range(4) AS numbers (n);
    INSERT INTO responses
    SELECT 'r' || n || letter, 'q' || n, 'Answer ' || letter, 'base', 'base', 0.7, 0.9, 128, 1, 5, 5, 0.1, 'stop',
           'embedded', 'p1', '{THEN}'
    FROM range(4) AS numbers (n), (VALUES ('a'), ('b')) AS letters (letter);
    """,
    f"""
    INSERT INTO assignments
    VALUES ('a0', 'p1', 'q0', 'ines', ['r0b', 'r0a'], '{THEN}', 'judged', NULL, '{THEN}'),
           ('a1', 'p1', 'q1', 'tom', ['r1a', 'r1b'], '{THEN}', 'skipped', 'not my field', '{THEN}'),
           ('a2', 'p1', 'q2', 'tom', ['r2a', 'r2b'], '{THEN}', 'open', NULL, '{THEN}');
    INSERT INTO judgments
    VALUES ('j0', 'q0', 'p1', 'a0', 'ines', 'ranking', ['r0b', 'r0a'], 1, 12.5, 'a note', ['late'], NULL, '{THEN}'),
           ('j1', 'q0', 'p1', 'a0', 'ines', 'ranking', ['r0b', 'r0a'], 2, 20.0, NULL, ['late'], 'j0', '{THEN}'),
           ('j2', 'q3', 'p2', NULL, 'ines', 'thumbs', ['r3a', 'r3b'], 1, 9.0, NULL, [], NULL, '{THEN}');
    INSERT INTO verdicts
    VALUES ('j0', 0, 'ranking', NULL, NULL, [['r0a'], ['r0b']], NULL, NULL),
           ('j1', 0, 'ranking', NULL, NULL, [['r0b'], ['r0a']], 2, NULL),
           ('j2', 0, 'rating', 'r3a', true, NULL, NULL, NULL),
           ('j2', 1, 'demonstration', 'r3b', NULL, NULL, NULL, 'What it should have been.');
    """,
)


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    path = tmp_path / "old.duckdb"
    with monkeypatch.context() as before, duckdb.connect(str(path)) as connection:
        before.setattr(migrations, "STEPS", migrations.STEPS[:STEPS_BEFORE])
        migrations.apply(connection)
        for rows in ROWS:
            connection.execute(rows)
    database = Database.open(path)
    yield database
    database.close()


def said(database: Database, judgment_id: str) -> Judgment:
    found = judgments.get(database, judgment_id)
    assert found is not None
    return found


def test_every_row_is_there_with_what_it_said(old: Database) -> None:
    first, changed, other = (said(old, name) for name in ("j0", "j1", "j2"))

    assert first.verdicts == (Ranking((("r0a",), ("r0b",))),)
    assert (first.note, first.flags, first.focused_seconds, first.guideline_version) == ("a note", (LATE,), 12.5, 1)
    assert changed.verdicts == (Ranking((("r0b",), ("r0a",)), strength=2),)
    assert other.verdicts == (Rating("r3a", True), Demonstration("What it should have been.", "r3b"))
    assert judgments.standing(old) == [changed, other]
    assert [one.state for one in assignments.list_all(old, "p1")] == ["judged", "skipped", "open"]
    assert assignments.get(old, "a1").skip_reason == "not my field"
    assert len(prompts.in_order(old, held_out=False)) == 4 and len(responses.by_prompt(old, "p1")) == 4


def test_what_is_new_is_as_if_it_had_not_been_asked(old: Database) -> None:
    project, judgment = projects.get(old, "p1"), said(old, "j1")

    assert (project.guidelines, project.guideline_version, project.sampling.temperature) == (
        "Be fair and kind.",
        2,
        0.7,
    )
    assert (project.overlap, project.gold_share, project.repeat_share, project.calibration) == (1, 0.0, 0.0, False)
    assert (project.criteria, project.reasons, project.pair_from_edit) == ((), (), True)
    assert (judgment.scores, judgment.reasons) == ((), ())


def test_people_label_on_and_the_lead_reads_old_and_new_together(old: Database) -> None:
    project, queue = projects.get(old, "p1"), new_queue(old)

    assert queue.progress(project, "ines").mine == 1
    hers = queue.take(project, "ines", 9, "tab")
    assert {item.prompt.id for item in hers} == {"q1", "q2", "q3"}  # q2's lease ran out long ago; q0 is judged
    new = queue.judge(ranked(hers[0], note="on we go"))
    again = queue.judge(ranked(queue.item("a0"), supersedes="j1"))

    assert again.flags == (LATE,)
    assert {one.id for one in material(old, project).firsts} == {new.id, again.id}
    assert queue.progress(project, "tom").team == 2
