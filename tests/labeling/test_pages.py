"""What the buttons of the data page and the projects page do, without Gradio."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labeling.data_page import KINDS, import_upload, sources
from labeling.project_form import (
    GUIDELINES,
    INSTRUCTIONS,
    NEW,
    VERSIONS,
    project_from,
    saved_sentence,
    shown_as,
    texts_for,
    values_of,
)
from labeling.sampling_form import own_of
from storage import assignments, judgments, model_versions, projects, prompts
from storage.database import Database
from storage.errors import BadInput, BadRow, NotFound
from storage.records import ADJUDICATED, GOLD, Assignment, Message, Project, Sampling, now
from tests.makers import judgment, project, prompt, version

GOOD: dict[str, Any] = {
    "chosen": NEW,
    "name": "Field questions",
    "kind": "ranking",
    "instruction": "Rank them.",
    "guidelines": "Be fair.",
    "criteria": [],
    "reasons": [],
    "pair": True,
    "versions": ["base"],
    "count": 4,
    "sources": [],
    "temperature": 1.0,
    "top_p": 1.0,
    "max_tokens": 160,
    "seed": 0,
    "system": "",
    "own": None,
    "overlap": 1,
    "calibration": False,
    "gold": 0,
    "repeat": 0,
}


def made(database: Database, **changed: Any) -> Any:
    return project_from(database, list({**GOOD, **changed}.values()))


def made_again(database: Database, saved: Project) -> Project:
    """Saving the form as a project shows it."""
    return project_from(database, [saved.id, *values_of(database, saved.id)])


@pytest.fixture
def with_base(database: Database) -> Database:
    model_versions.add(database, version("base"))
    return database


def test_the_form_makes_a_project(with_base: Database) -> None:
    saved = projects.save(with_base, made(with_base))

    assert projects.list_all(with_base, "labeling") == [saved]
    assert (saved.feedback_type, saved.responses_per_prompt, saved.sampling.max_tokens) == ("ranking", 4, 160)


def test_what_the_form_says_about_people_and_criteria_comes_back_into_it(with_base: Database) -> None:
    said = {"overlap": 3, "calibration": True, "gold": 10, "repeat": 2.5, "reasons": [" correct ", "correct"]}
    saved = projects.save(with_base, made(with_base, **said, criteria=["helpful"], pair=False))

    assert (saved.overlap, saved.calibration, saved.gold_share, saved.repeat_share) == (3, True, 0.1, 0.025)
    assert (saved.criteria, saved.reasons, saved.pair_from_edit) == (("helpful",), ("correct",), False)
    assert made_again(with_base, saved) == replace(saved, guideline_version=1)


def test_another_feedback_type_brings_its_texts_and_a_number_of_answers_that_it_can_use() -> None:
    instruction, guidelines, count = texts_for("pairwise", INSTRUCTIONS["ranking"], GUIDELINES["ranking"], 4)
    assert (instruction, guidelines, count) == (INSTRUCTIONS["pairwise"], GUIDELINES["pairwise"], 2)
    assert texts_for("edit", "Mine.", "Mine too.", 2)[2] == 2


@pytest.mark.parametrize(("kind", "count", "shown"), [("ranking", 4, 4), ("pairwise", 4, 2), ("edit", None, 1)])
def test_a_preview_shows_as_many_answers_as_people_will_see(kind: str, count: int | None, shown: int) -> None:
    seen = shown_as(list({**GOOD, "kind": kind, "count": count, "criteria": ["kind"]}.values())[1:])
    assert len(seen["item"]["responses"]) == shown
    assert (seen["project"]["feedback_type"], seen["project"]["criteria"]) == (kind, ["kind"])


def test_an_edit_keeps_what_it_must_not_change(with_base: Database) -> None:
    before = projects.save(with_base, project())
    after = projects.save(with_base, made(with_base, chosen="p1", guidelines="Be fair and quick."))

    assert (after.id, after.created_at) == (before.id, before.created_at)
    assert after.guideline_version == 2
    assert values_of(with_base, "p1")[3] == "Be fair and quick."


def test_the_feedback_of_a_project_stays_once_people_have_begun_to_judge(with_base: Database) -> None:
    projects.save(with_base, project(id="p1", feedback_type="ranking"))
    assert made(with_base, chosen="p1", kind="thumbs").feedback_type == "thumbs"
    asked = prompt()
    prompts.add(with_base, [asked])
    assignments.add(with_base, [Assignment("a1", "p1", asked.id, "ines", (), now())])

    with pytest.raises(BadInput, match=r"judge this project by ranking\. Make a new project for thumbs"):
        made(with_base, chosen="p1", kind="thumbs")
    assert made(with_base, chosen="p1", name="Another name").name == "Another name"


def test_the_feedback_of_a_project_stays_once_a_lead_gave_a_known_answer(with_base: Database) -> None:
    projects.save(with_base, project(id="p1", feedback_type="ranking"))
    asked = prompt()
    prompts.add(with_base, [asked])
    known = judgment(asked.id, project_id="p1", labeler="lead", flags=(ADJUDICATED, GOLD))
    with_base.write(lambda cursor: judgments.add(cursor, known))

    with pytest.raises(BadInput, match=r"Make a new project for thumbs"):
        made(with_base, chosen="p1", kind="thumbs")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": " "}, "Name:"),
        ({"kind": None}, "Feedback:"),
        ({"versions": []}, "Versions that answer:"),
        ({"count": 1}, "Answers per prompt: ranking needs 2 to 6"),
        ({"count": 7}, "2 to 6"),
        ({"count": None}, "Answers per prompt: ranking needs 2 to 6; it is empty"),
        ({"temperature": -1}, "Temperature: .* it is -1"),
        ({"temperature": None}, "Temperature: .* it is empty"),
        ({"top_p": 0}, "Top-p:"),
        ({"max_tokens": 0}, "Longest answer:"),
        ({"max_tokens": 1.024}, "Longest answer: a whole number of tokens, at least 1; it is 1.024"),
        ({"max_tokens": float("inf")}, "Longest answer: .* it is inf"),
        ({"max_tokens": float("nan")}, "Longest answer: .* it is nan"),
        ({"seed": 7.5}, "Seed: a whole number .* it is 7.5"),
        ({"kind": "pairwise"}, "Answers per prompt: pairwise needs 2; it is 4"),
        ({"overlap": 0}, "People per prompt: a whole number from 1 to 100; it is 0"),
        ({"gold": 60}, "Known answers: from 0 to 50 %"),
        ({"repeat": None}, "Repeated items: .* it is empty"),
        ({"criteria": ["x" * 61]}, "Criteria: up to 8 of up to 60 letters"),
        ({"reasons": [str(n) for n in range(9)]}, "Reasons: up to 8"),
        ({"max_tokens": 512}, "Longest answer: base has 512 tokens for prompt and answer together"),
        ({"chosen": None, "versions": []}, "Project: its list was not loaded yet"),
    ],
)
def test_a_field_that_is_wrong_is_named_and_nothing_is_stored(
    with_base: Database, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        made(with_base, **changed)
    assert projects.list_all(with_base) == []


def test_a_version_that_is_gone_is_named(with_base: Database) -> None:
    with pytest.raises(NotFound, match="v9"):
        made(with_base, versions=["v9"])


def test_a_new_project_starts_with_the_newest_served_version(with_base: Database) -> None:
    model_versions.add(with_base, replace(version("v1"), served=False))

    assert values_of(with_base, NEW)[VERSIONS] == ["base"]


def test_a_name_belongs_to_one_project(with_base: Database) -> None:
    projects.save(with_base, project(id="p1", name="Field questions"))

    with pytest.raises(BadInput, match="there is a project field questions already"):
        made(with_base, name="field questions ")
    assert made(with_base, chosen="p1").name == "Field questions"


def test_saving_names_the_versions_that_cannot_answer_yet(with_base: Database) -> None:
    model_versions.add(with_base, replace(version("documents-only"), served=False))

    assert saved_sentence(with_base, made(with_base)) == "Field questions is saved. Its guidelines are number 1."
    said = saved_sentence(with_base, made(with_base, versions=["base", "documents-only"]))
    assert said.endswith("documents-only is not loaded; load it on the models page.")


def test_another_feedback_type_brings_its_own_texts_where_nobody_has_written_any() -> None:
    begun = texts_for("thumbs", INSTRUCTIONS["ranking"], GUIDELINES["ranking"].strip(), 4)
    assert begun == ("Is this answer good enough to send?", GUIDELINES["thumbs"], 4)
    kept, *_ = texts_for("thumbs", "Is it kind?", "", 4)
    assert kept is None


def uploaded(folder: Path, *lines: str) -> str:
    file = folder / "a.jsonl"
    file.write_text("\n".join(lines))
    return str(file)


SHOWN = ('{"prompt": "One?", "completion": "Yes."}', '{"prompt": "Two?", "completion": "No."}')


def test_import_says_what_came_of_it(database: Database, tmp_path: Path) -> None:
    first = import_upload(database, uploaded(tmp_path, *SHOWN), "Prompts", "book", "Own", lambda messages: "")
    second = import_upload(database, uploaded(tmp_path, *SHOWN), "Demonstrations", "book", "Own", lambda messages: "")

    assert first.startswith("2 prompts imported")
    assert second.startswith("2 demonstrations imported")
    assert sum(row["prompts"] for row in prompts.sources(database)) == 2
    assert len(judgments.list_all(database)) == 2


def test_import_asks_for_file_and_source(database: Database, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No file is chosen"):
        import_upload(database, None, "Prompts", "book", "Own", lambda messages: "")
    with pytest.raises(BadInput, match="where the rows come from"):
        import_upload(database, str(tmp_path), "Prompts", " ", "Own", lambda messages: "")


def test_an_upload_is_removed_once_it_is_imported_and_kept_for_another_try_where_it_is_refused(
    database: Database, tmp_path: Path
) -> None:
    broken = uploaded(tmp_path, '{"prompt": ""}')
    with pytest.raises(BadRow):
        import_upload(database, broken, "Prompts", "book", "Own", lambda messages: "")
    assert Path(broken).exists()

    good = uploaded(tmp_path, *SHOWN)
    import_upload(database, good, "Prompts", "book", "Own", lambda messages: "")
    assert not Path(good).exists()


def test_only_prompts_that_are_to_be_answered_have_to_fit_the_model(database: Database, tmp_path: Path) -> None:
    for kind in ("Prompts", "Demonstrations"):
        file = uploaded(tmp_path, *SHOWN)
        if kind == "Prompts":
            with pytest.raises(BadRow, match="it is too long"):
                import_upload(database, file, kind, "book", "Own", lambda messages: "it is too long")
        else:
            said = import_upload(database, file, kind, "book", "Own", lambda messages: "it is too long")
            assert said.startswith("2 demonstrations imported")


def test_the_sources_show_every_kind_with_the_licence_it_came_under(database: Database, tmp_path: Path) -> None:
    learned = next(f"Question {n}?" for n in range(99) if not prompts.is_held_out([Message("user", f"Question {n}?")]))
    rows = {
        "Preferences": {"prompt": learned, "chosen": "Yes.", "rejected": "No."},
        "Thumbs": {"prompt": learned, "completion": "Yes.", "label": True},
        "Demonstrations": {"prompt": learned, "completion": "Yes."},
        "Documents": {"text": "A fox."},
    }
    for kind, row in rows.items():
        import_upload(database, uploaded(tmp_path, json.dumps(row)), kind, f"my {kind}", f"{kind} licence", str)

    found = [(row["source"], row["kind"], row["rows"], row["licence"]) for row in sources(database)]

    assert found == [
        ("my Preferences", "Prompts", 1, "Preferences licence"),
        ("my Preferences", "Preferences", 1, "Preferences licence"),
        ("my Thumbs", "Thumbs", 1, "Thumbs licence"),
        ("my Demonstrations", "Demonstrations", 1, "Demonstrations licence"),
        ("my Documents", "Documents", 1, "Documents licence"),
    ]


def test_every_kind_says_which_shapes_it_takes() -> None:
    assert list(KINDS) == ["Prompts", "Demonstrations", "Preferences", "Thumbs", "Documents"]
    for kind, field in zip(KINDS.values(), ("prompt", "output", "rejected", "label", "text"), strict=True):
        assert field in kind.takes


def test_a_kind_that_is_none_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Say what the rows are"):
        import_upload(database, uploaded(tmp_path, *SHOWN), "Pictures", "book", "Own", lambda messages: "")


OWN = {"rows": [{"version": "base", "temperature": "0,2", "system": " Be brief. "}, {"version": "gone", "seed": "4"}]}


def test_what_is_typed_for_a_version_is_its_own_and_the_rest_is_the_projects(with_base: Database) -> None:
    saved = projects.save(with_base, made(with_base, own=OWN, seed=7, top_p=0.9))

    assert saved.samplings == {"base": Sampling(0.2, 0.9, 160, 7, "Be brief.")}
    assert saved.sampling_of("base") != saved.sampling_of("another") == saved.sampling
    assert projects.get(with_base, saved.id) == saved
    # when the project draws otherwise, what was not typed follows it
    again = project_from(with_base, [saved.id, *values_of(with_base, saved.id)])
    assert again.samplings == saved.samplings
    fields = list({**GOOD, "chosen": saved.id, "own": own_of(saved), "seed": 7, "top_p": 0.5}.values())
    assert project_from(with_base, fields).sampling_of("base") == Sampling(0.2, 0.5, 160, 7, "Be brief.")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"temperature": "warm"}, "Temperature of base: a number, not 'warm'."),
        ({"temperature": "3"}, "Temperature of base: a number from 0 to 2; it is 3."),
        ({"max_tokens": "600"}, "Longest answer: base has 512 tokens for prompt and answer together"),
        ({"max_tokens": "1,024"}, "Longest answer: base has 512 tokens .* so 1,024 is too long"),
        ({"max_tokens": "12,5"}, "Longest answer of base: a whole number of tokens, at least 1; it is 12.5."),
        ({"max_tokens": "inf"}, "Longest answer of base: a whole number of tokens, at least 1; it is inf."),
        ({"seed": "-1"}, "Seed of base: a whole number from 0"),
    ],
)
def test_what_a_version_cannot_do_is_said_by_its_name(with_base: Database, row: dict[str, str], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        made(with_base, own={"rows": [{"version": "base", **row}]})
