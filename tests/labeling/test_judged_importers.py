"""Answers that come with a verdict: every shape is read, nothing is stored twice, and nothing is dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labeling.importers.demonstrations import import_demonstrations
from labeling.importers.imported import Imported
from labeling.importers.preferences import import_preferences
from labeling.importers.thumbs import import_thumbs
from storage import judgments, prompts, responses
from storage.database import Database
from storage.errors import BadInput, BadRow
from storage.records import Demonstration, Judgment, Message, Ranking, Rating

USER = {"role": "user", "content": "Why?"}
YES, NO = {"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "No."}
HUMAN = {"from": "human", "value": "Why?"}
ASKED = [("user", "Why?")]
LONG = [("user", "Hi."), ("assistant", "Hello."), ("user", "Why?")]
Importer = Callable[..., Imported]


def bring(database: Database, importer: Importer, folder: Path, *rows: Any, name: str = "a.json") -> Imported:
    path = folder / name
    path.write_text(json.dumps(rows) if name.endswith("json") else rows[0])
    return importer(database, path, source="book", licence="MIT")


def stored(database: Database) -> list[tuple[list[tuple[str, str]], Judgment]]:
    """(the turns that ask, the judgment) of all that was imported."""
    found = judgments.list_all(database)
    by_id = prompts.get_many(database, {one.prompt_id for one in found})
    return [([(turn.role, turn.content) for turn in by_id[one.prompt_id].messages], one) for one in found]


def texts(database: Database, verdict: Any) -> Any:
    """The verdict with texts in place of ids."""
    match verdict:
        case Ranking(tiers):
            ids = [one for tier in tiers for one in tier]
            by_id = responses.get_many(database, ids)
            return [by_id[one].text for one in ids]
        case Rating(response_id, desirable):
            return responses.get_many(database, [response_id])[response_id].text, desirable
        case Demonstration(text):
            return text


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"prompt": "Why?", "chosen": "Yes.", "rejected": "No."}, ASKED),
        ({"prompt": [USER], "chosen": [YES], "rejected": [NO]}, ASKED),
        ({"prompt": "Why?", "chosen": [USER, YES], "rejected": [USER, NO]}, ASKED),
        ({"chosen": [USER, YES], "rejected": [USER, NO], "score_chosen": 8.0}, ASKED),
        (
            {
                "conversations": [HUMAN],
                "chosen": {"from": "gpt", "value": "Yes."},
                "rejected": {"from": "gpt", "value": "No."},
            },
            ASKED,
        ),
        (
            {
                "conversations": [{"from": "system", "value": "Be brief."}, HUMAN],
                "chosen": {"from": "gpt", "value": "Yes."},
                "rejected": {"from": "gpt", "value": "No."},
            },
            [("system", "Be brief."), *ASKED],
        ),
        (
            {
                "chosen": "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant: Yes.",
                "rejected": "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant: No.",
            },
            LONG,
        ),
        (
            {
                "prompt": "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:",
                "chosen": "Yes.",
                "rejected": "No.",
            },
            LONG,
        ),
    ],
)
def test_every_shape_of_a_preference_is_read(
    database: Database, tmp_path: Path, row: dict[str, Any], asked: list[tuple[str, str]]
) -> None:
    assert bring(database, import_preferences, tmp_path, row).new == 1

    ((found, judgment),) = stored(database)
    assert found == asked
    assert texts(database, judgment.verdicts[0]) == ["Yes.", "No."]  # the better one first
    assert (judgment.labeler, judgment.feedback_type, judgment.note) == ("import: book", "import", "Licence: MIT")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, YES], "label": True},
        {"conversations": [HUMAN, {"from": "gpt", "value": "Yes."}], "kto_tag": True},
        {"prompt": "Why?", "completion": "Yes.", "label": 1},
        {"prompt": [USER], "completion": [YES], "label": "True"},
    ],
)
def test_every_shape_of_a_thumb_is_read(database: Database, tmp_path: Path, row: dict[str, Any]) -> None:
    assert bring(database, import_thumbs, tmp_path, row).new == 1

    ((found, judgment),) = stored(database)
    assert found == ASKED
    assert texts(database, judgment.verdicts[0]) == ("Yes.", True)


def test_thumbs_come_from_a_spreadsheet_too(database: Database, tmp_path: Path) -> None:
    bring(database, import_thumbs, tmp_path, "prompt,completion,label\nWhy?,Yes.,TRUE\nHow?,No.,0\n", name="a.csv")

    assert {texts(database, judgment.verdicts[0]) for _, judgment in stored(database)} == {
        ("Yes.", True),
        ("No.", False),
    }


@pytest.mark.parametrize(
    ("row", "asked", "answer"),
    [
        ({"prompt": "Why?", "completion": " Yes."}, ASKED, " Yes."),  # white space is part of an answer
        ({"instruction": "Why?", "input": "", "output": "Yes."}, ASKED, "Yes."),
        ({"instruction": "Why?", "input": "It is so.", "output": "Yes."}, [("user", "Why?\n\nIt is so.")], "Yes."),
        (
            {"instruction": "Why?", "context": "It is so.", "response": "Yes.", "category": "qa"},
            [("system", "It is so."), ("user", "Why?")],
            "Yes.",
        ),
        ({"messages": [USER, YES]}, ASKED, "Yes."),
        ({"prompt": "Why?", "chosen": [USER, YES], "rejected": [USER, NO]}, ASKED, "Yes."),
    ],
)
def test_every_shape_of_a_demonstration_is_read(
    database: Database, tmp_path: Path, row: dict[str, Any], asked: list[tuple[str, str]], answer: str
) -> None:
    assert bring(database, import_demonstrations, tmp_path, row).new == 1

    ((found, judgment),) = stored(database)
    assert found == asked
    assert texts(database, judgment.verdicts[0]) == answer


@pytest.mark.parametrize(
    ("importer", "rows"),
    [
        (
            import_preferences,
            [
                {"prompt": "Why?", "chosen": "Yes.", "rejected": "No."},
                {"prompt": "Why?", "chosen": "Yes.", "rejected": "Perhaps."},
            ],
        ),
        (
            import_thumbs,
            [
                {"prompt": "Why?", "completion": "Yes.", "label": True},
                {"prompt": "Why?", "completion": "No.", "label": False},
            ],
        ),
        (import_demonstrations, [{"prompt": "Why?", "completion": "Yes."}, {"prompt": "Why?", "completion": "No."}]),
    ],
)
def test_the_same_file_again_brings_nothing_new(
    database: Database, tmp_path: Path, importer: Importer, rows: list[Any]
) -> None:
    first = bring(database, importer, tmp_path, *rows, rows[0])
    before = judgments.list_all(database), responses.get_many(database, _all_responses(database))

    again = bring(database, importer, tmp_path, *rows, rows[0])

    assert (first.rows, first.new, first.known) == (3, 2, 1)
    assert (again.new, again.known) == (0, 3)
    assert (judgments.list_all(database), responses.get_many(database, _all_responses(database))) == before


def test_an_answer_in_several_pairs_is_one_response(database: Database, tmp_path: Path) -> None:
    pairs = [{"prompt": "Why?", "chosen": "Yes.", "rejected": worse} for worse in ("No.", "Perhaps.")]

    bring(database, import_preferences, tmp_path, *pairs)

    assert len(_all_responses(database)) == 3


@pytest.mark.parametrize(
    ("importer", "row", "said"),
    [
        (import_preferences, {"prompt": "Why?", "chosen": "Yes."}, "no 'rejected' answer"),
        (import_preferences, {"chosen": "Yes.", "rejected": "No."}, "no prompt"),
        (import_preferences, {"prompt": "Why?", "chosen": 5, "rejected": "No."}, "a number, not text"),
        (
            import_preferences,
            {"prompt": [USER], "chosen": [YES, USER, YES], "rejected": [NO]},
            "the answer has more than one turn",
        ),
        (import_thumbs, {"prompt": "Why?", "completion": "Yes."}, "there is no label"),
        (import_thumbs, {"prompt": "Why?", "completion": "Yes.", "label": 0.5}, "the label is '0.5'"),
        (import_thumbs, {"prompt": "Why?", "label": True}, "there is no answer"),
        (import_demonstrations, {"prompt": "Why?"}, "there is no answer"),
        (import_demonstrations, {"prompt": [YES], "completion": "Yes."}, "user's turn"),
    ],
)
def test_a_row_of_the_wrong_shape_is_named_and_nothing_is_stored(
    database: Database, tmp_path: Path, importer: Importer, row: dict[str, Any], said: str
) -> None:
    good = {"prompt": "How?", "completion": "So.", "chosen": "So.", "rejected": "Not so.", "label": True}

    with pytest.raises(BadRow, match=f"row 2: .*{said}.*Nothing was imported"):
        bring(database, importer, tmp_path, good, row)
    assert judgments.list_all(database) == [] and prompts.in_order(database) == [] == _all_responses(database)


@pytest.mark.parametrize(
    ("importer", "row", "why"),
    [
        (import_preferences, {"prompt": "Why?", "chosen": "Yes.", "rejected": "Yes."}, "both answers are the same"),
        (import_preferences, {"prompt": "Why?", "chosen": "Yes.", "rejected": " "}, "an answer is empty"),
        (
            import_preferences,
            {"chosen": [USER, YES], "rejected": [{**USER, "content": "How?"}, NO]},
            "the two conversations differ before the last answer",
        ),
        (
            import_preferences,
            {"chosen": "\n\nHuman: Why?\n\nAssistant: ", "rejected": "\n\nHuman: Why?\n\nAssistant: No."},
            "the conversation does not end with a question and its answer",
        ),
        (import_demonstrations, {"instruction": "Why?", "input": "", "output": ""}, "an answer is empty"),
        (
            import_thumbs,
            {"messages": [USER, YES, USER], "label": True},
            "the conversation does not end with a question and its answer",
        ),
    ],
)
def test_a_row_that_says_nothing_is_left_out_and_counted(
    database: Database, tmp_path: Path, importer: Importer, row: dict[str, Any], why: str
) -> None:
    good = {"prompt": "How?", "completion": "So.", "chosen": "So.", "rejected": "Not so.", "label": True}

    found = bring(database, importer, tmp_path, row, good, row)

    assert (found.rows, found.new, found.known, found.left_out) == (3, 1, 0, {why: 2})
    assert found.sentence("rows").endswith(f"2 rows left out: {why}.")
    with pytest.raises(BadInput, match=f"no row to learn from .1 row: {why}"):
        bring(database, importer, tmp_path, row)


def test_the_sentence_says_which_are_kept_to_measure_with(database: Database, tmp_path: Path) -> None:
    questions = [f"Question {number}?" for number in range(40)]
    held_out = sum(prompts.is_held_out([Message("user", one)]) for one in questions)
    assert 0 < held_out < 40

    found = bring(database, import_demonstrations, tmp_path, *[{"prompt": q, "completion": "Yes."} for q in questions])

    assert found.held_out == held_out
    assert found.sentence("demonstrations", "set apart") == f"40 demonstrations imported, {held_out} of them set apart."


def _all_responses(database: Database) -> list[str]:
    return [row["id"] for row in database.read("SELECT id FROM responses ORDER BY id")]


def test_the_prompts_of_judged_rows_may_be_confidential_too(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"prompt": "Why?", "completion": "Yes.", "label": True}]))

    import_thumbs(database, path, source="book", licence="MIT", confidential=True)

    assert [one.confidential for one in prompts.in_order(database)] == [True]
