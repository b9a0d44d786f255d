from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labeling.importers.demonstrations import import_demonstrations
from labeling.importers.prompts import import_prompts
from storage import judgments, prompts
from storage.database import Database
from storage.errors import BadInput, BadRow
from storage.records import Demonstration

DATA = Path(__file__).parents[3] / "shared" / "data"


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
        ("a.txt", "One?\n\nTwo?\nThree?\n"),
    ],
)
def test_every_form_of_file_is_read(database: Database, tmp_path: Path, name: str, content: Any) -> None:
    assert bring(database, write(tmp_path, name, content)).new == 3


def test_input_and_system_become_part_of_the_prompt(database: Database, tmp_path: Path) -> None:
    bring(database, write(tmp_path, "a.jsonl", [{"instruction": "Sum up.", "input": "A text.", "system": "Be brief."}]))

    (stored,) = [*prompts.in_order(database, held_out=False), *prompts.in_order(database, held_out=True)]

    assert [(one.role, one.content) for one in stored.messages] == [
        ("system", "Be brief."),
        ("user", "Sum up.\n\nA text."),
    ]


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

    with pytest.raises(BadInput, match="byte 2"):
        bring(database, path)


def test_a_prompt_that_does_not_fit_is_named_and_nothing_is_stored(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "Short?\n" + "long " * 50)

    with pytest.raises(BadRow, match="row 2: too long"):
        bring(database, path, fits=lambda messages: "too long" if len(messages[-1].content) > 100 else "")
    assert count(database) == 0


def test_demonstrations_become_judgments_by_their_source(database: Database, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.jsonl",
        [
            {"prompt": "One?", "completion": " Yes."},
            {"instruction": "Two", "output": "No."},
            {"messages": [{"role": "user", "content": "Three?"}, {"role": "assistant", "content": "Perhaps."}]},
        ],
    )

    first = import_demonstrations(database, path, source="book", licence="Own")
    again = import_demonstrations(database, path, source="book", licence="Own")

    assert (first.new, again.new, again.known) == (3, 0, 3)
    said = judgments.list_all(database)
    assert {one.labeler for one in said} == {"import: book"}
    assert Demonstration(" Yes.") in [one.verdicts[0] for one in said]  # white space is part of an answer


def test_a_demonstration_without_an_answer_is_refused(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", [{"prompt": "One?", "completion": "Yes."}, {"prompt": "Two?"}])

    with pytest.raises(BadRow, match="row 2: there is no answer"):
        import_demonstrations(database, path, source="book", licence="Own")
    assert judgments.list_all(database) == [] and count(database) == 0


@pytest.mark.skipif(not DATA.exists(), reason="the public demonstration sets are not beside this checkout")
def test_public_demonstrations_are_read(database: Database) -> None:
    found = import_demonstrations(database, DATA / "alpaca_en_demo.json", source="alpaca", licence="Apache-2.0")

    assert found.rows == 999
    assert found.new > 980 and found.new + found.known == 999
