from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from labeling.compare_routes import own_votes, votes_of
from labeling.importers.prompts import import_prompts
from storage import judgments, model_versions, projects, prompts
from storage.database import Database
from storage.errors import BadInput, BadRow
from storage.records import Message, Prompt
from tests.makers import judgment, project, some_prompts, version


def write(folder: Path, name: str, content: str | list[Any]) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else "\n".join(json.dumps(row) for row in content))
    return path


def bring(database: Database, path: Path, **more: Any) -> Any:
    return import_prompts(database, path, source="test", licence="Own", **more)


def count(database: Database) -> int:
    return sum(row["prompts"] for row in prompts.sources(database))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", [{"prompt": "One?"}, {"question": "Two?"}, {"messages": [{"role": "user", "content": "Three?"}]}]),
        (
            "a.json",
            json.dumps(["One?", {"instruction": "Two?"}, {"conversations": [{"from": "human", "value": "3?"}]}]),
        ),
        ("a.csv", 'prompt,tags\nOne?,x\n"Two,\nreally?",y\nThree?,z\n'),
        ("a.csv", "prompt;tags\nOne?;x\nTwo, really?;y\nThree?;z\n"),
        ("a.txt", "One?\n\nTwo?\nThree?\n"),
    ],
)
def test_every_form_of_file_is_read(database: Database, tmp_path: Path, name: str, content: Any) -> None:
    assert bring(database, write(tmp_path, name, content)).new == 3


def test_input_belongs_to_the_question_and_system_and_context_come_before_it(
    database: Database, tmp_path: Path
) -> None:
    row = {"instruction": "Sum up.", "input": "A text.", "system": "Be brief.", "context": "Foxes.", "category": "sum"}

    bring(database, write(tmp_path, "a.jsonl", [row]))

    (stored,) = prompts.in_order(database)
    assert [(one.role, one.content) for one in stored.messages] == [
        ("system", "Be brief.\n\nFoxes."),
        ("user", "Sum up.\n\nA text."),
    ]
    assert stored.tags == ("sum",)


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_a_row_ends_at_a_line_feed_and_nowhere_else(database: Database, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    asked = ["One\u2028and\u0085a half?", "Two?"]
    rows = [json.dumps(one, ensure_ascii=False) if name == "a.jsonl" else one for one in asked]
    path.write_bytes("\r\n".join(rows).encode())

    bring(database, path)

    stored = prompts.in_order(database)
    assert sorted(one.text for one in stored) == sorted(asked)


def test_prompts_that_are_there_are_counted_not_doubled(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "One?\nTwo?\nOne?\n")

    first, second = bring(database, path), bring(database, path)

    assert (first.rows, first.new, first.known) == (3, 2, 1)
    assert (second.new, second.known) == (0, 3)


@pytest.mark.parametrize(
    ("name", "content", "row", "said"),
    [
        ("a.jsonl", '{"prompt": "One?"}\n{"prompt": "Two', 2, "not JSON"),
        ("a.jsonl", [{"prompt": "One?"}, {"prompt": " "}], 2, "no prompt"),
        ("a.jsonl", [{"prompt": "One?"}, {"text": "Two?"}], 2, "fields here: text"),
        ("a.jsonl", [["One?"]], 1, "is an object"),
        ("a.jsonl", [{"prompt": 5}], 1, "a number, not text"),
        ("a.csv", 'prompt,x\nOne?,1\n"Two?,2\n', 3, "not CSV"),
        (
            "a.jsonl",
            [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}],
            1,
            "user's turn",
        ),
        ("a.jsonl", [{"messages": [{"role": "robot", "content": "a"}]}], 1, "no known role"),
        ("a.jsonl", [{"messages": "hello"}], 1, "not a list of turns"),
        ("a.json", '[{"prompt": "One?"},\n{"prompt": ]', 2, "not JSON"),
        ("a.csv", "prompt,x\nOne?,1\n,2\n", 3, "no prompt"),
        pytest.param("a.csv", "prompt\nOne?\n" + "x" * 200_000, 3, "field larger than", id="long field"),
        pytest.param(
            "a.jsonl",
            '{"prompt": "One?"}\n{"prompt": "\\ud800"}',
            2,
            "half a character",
            id="half a character in a line",
        ),
        pytest.param("a.json", '["One?", "\\ud800"]', 2, "half a character", id="half a character in a list"),
        pytest.param("a.jsonl", '"One?"\n' + "[" * 100_000, 2, "recursion", id="deep line"),
        pytest.param("a.json", '["One?", ' + "[" * 100_000, 2, "recursion", id="deep list"),
        pytest.param(
            "a.jsonl", '"One?"\n{"prompt": ' + "9" * 5_000 + "}", 2, "4300 digits", id="long number in a line"
        ),
        pytest.param(
            "a.json", '["One?", {"prompt": ' + "9" * 5_000 + "}]", 2, "4300 digits", id="long number in a list"
        ),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_nothing_is_stored(
    database: Database, tmp_path: Path, name: str, content: Any, row: int, said: str
) -> None:
    with pytest.raises(BadRow, match=f"row {row}: .*{said}.*Nothing was imported"):
        bring(database, write(tmp_path, name, content))
    assert count(database) == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", "", "is empty"),
        ("a.txt", "\n \n", "is empty"),
        ("a.json", '{"prompt": "One?"}', "not a list"),
        ("a.xlsx", "x", "may end in"),
    ],
)
def test_a_file_that_is_no_list_of_prompts_is_refused(
    database: Database, tmp_path: Path, name: str, content: str, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        bring(database, write(tmp_path, name, content))


def test_a_file_that_is_not_utf_8_is_refused_with_the_place(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Prüfung?".encode("latin-1"))

    with pytest.raises(BadInput, match="byte 2, in line 1"):
        bring(database, path)


def test_a_prompt_that_does_not_fit_is_named_and_nothing_is_stored(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "Short?\n" + "long " * 50)

    with pytest.raises(BadRow, match="row 2: too long"):
        bring(database, path, fits=lambda messages: "too long" if len(messages[-1].content) > 100 else "")
    assert count(database) == 0


def test_a_prompt_that_the_chat_template_refuses_is_named(database: Database, tmp_path: Path) -> None:
    def fits(messages: Sequence[Message]) -> str:
        if messages[0].role == "system":
            raise BadInput("The chat template knows no system turn.")
        return ""

    path = write(tmp_path, "a.jsonl", [{"prompt": "One?"}, {"prompt": "Two?", "system": "Be brief."}])

    with pytest.raises(BadRow, match=r"row 2: The chat template knows no system turn\. Mend"):
        bring(database, path, fits=fits)


def test_a_batch_is_confidential_and_a_row_may_say_otherwise(database: Database, tmp_path: Path) -> None:
    rows = [{"prompt": "One?"}, {"prompt": "Two?", "confidential": False}, {"prompt": "Three?", "confidential": "yes"}]

    bring(database, write(tmp_path, "a.jsonl", rows), confidential=True)
    bring(database, write(tmp_path, "b.csv", "prompt,confidential\nFour?,\nFive?,true\n"))

    kept = {one.text for one in prompts.in_order(database) if one.confidential}
    assert kept == {"One?", "Three?", "Five?"}


def test_what_is_neither_yes_nor_no_is_no_word_on_confidence(database: Database, tmp_path: Path) -> None:
    with pytest.raises(BadRow, match=r"row 1: confidential is 'maybe'. Write true or false"):
        bring(database, write(tmp_path, "a.jsonl", [{"prompt": "One?", "confidential": "maybe"}]))
    assert count(database) == 0


def test_a_prompt_that_is_here_becomes_confidential_and_never_the_other_way(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "One?\n")
    for confidential in (False, True, False):
        bring(database, path, confidential=confidential)

    (only,) = prompts.in_order(database)
    assert only.confidential and prompts.is_confidential(database, [Message("user", "One?")])


def test_a_prompt_that_was_asked_on_the_compare_page_is_asked_by_projects_after_its_import(
    database: Database, tmp_path: Path
) -> None:
    # given a prompt that somebody asked there, held out or not, and their vote on it
    model_versions.add(database, version("v1"))
    typed = [prompts.make(one.messages, source=prompts.OWN_PROMPTS, licence="Own") for one in held_out_and_not()]
    prompts.add(database, typed)
    compared = projects.save(database, project(purpose="comparison", version_ids=("base", "v1")))
    vote = judgment(typed[0].id, project_id=compared.id)
    database.write(lambda cursor: judgments.add(cursor, vote))
    assert prompts.asked_by(database, compared) == prompts.asked_by(database, project()) == []
    # when a file brings both
    rows = "".join(json.dumps({"prompt": one.text, "tags": ["fox"]}) + "\n" for one in typed)
    file = tmp_path / "prompts.jsonl"
    file.write_text(rows)
    found = import_prompts(database, file, source="book", licence="CC0")
    # then they are asked as its prompts are, and the vote stays apart from what is measured
    assert (found.new, [one.text for one in prompts.asked_by(database, compared)]) == (0, [typed[0].text])
    (learned,) = prompts.asked_by(database, project())
    assert (learned.id, learned.source, learned.licence, learned.tags) == (typed[1].id, "book", "CC0", ("fox",))
    assert (own_votes(database, compared), votes_of(database, compared, "v1")) == (1, [])


def held_out_and_not() -> list[Prompt]:
    return [*some_prompts(1, held_out=True), *some_prompts(1)]
