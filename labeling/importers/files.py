"""Rows of a file, whatever its form: JSON Lines, a JSON list, CSV with a header, or plain text with a row a line."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from storage.errors import BadInput, BadRow
from storage.records import Message

FORMS = (".jsonl", ".json", ".csv", ".txt")
_BARE = ""  # the field of a row that is a text and no object


@dataclass(frozen=True)
class FileRow:
    """One row and where it stands; `number` counts from 1, as an editor counts lines where rows are lines."""

    file: str
    number: int
    fields: dict[str, Any]

    def refuse(self, problem: str, way_out: str) -> NoReturn:
        raise BadRow(self.file, self.number, problem, way_out)

    def first_of(self, *names: str) -> Any:
        """The first of these fields that is there and not null; None where none is."""
        return next((self.fields[name] for name in names if self.fields.get(name) is not None), None)


def read_rows(path: Path, plain: str = "prompt") -> list[FileRow]:
    """The rows of a file; a bare text is taken as the field `plain`.

    Raises BadInput for a file that is empty, not text or of no known form, BadRow for a row that cannot be read.
    """
    form = path.suffix.lower()
    if form not in FORMS:
        raise BadInput(f"{path.name} ends in {form or 'nothing'}; files may end in {', '.join(FORMS)}. Save it as one.")
    text = text_of(path)
    readers = {".jsonl": _json_lines, ".json": _json_list, ".csv": _csv, ".txt": _lines}
    rows = [_named(row, plain) for row in readers[form](path.name, text)]
    if not rows:
        raise BadInput(f"{path.name} is empty: it has no row to import. Choose another file.")
    return rows


def _named(row: FileRow, plain: str) -> FileRow:
    """A bare text gets its field."""
    return replace(row, fields={plain: row.fields[_BARE]}) if _BARE in row.fields else row


_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def kind_of(value: Any) -> str:
    """What a value is, in JSON's words."""
    return _KINDS.get(type(value), "nothing")


def messages_of(row: FileRow, turns: Any) -> list[Message]:
    """A conversation as TRL and OpenAI write it, [{role, content}], or as ShareGPT does, [{from, value}]."""
    if not isinstance(turns, list) or not turns:
        row.refuse("the conversation is not a list of turns", 'Write [{"role": "user", "content": "…"}].')
    return [_message(row, turn) for turn in turns]


_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}


def _message(row: FileRow, turn: Any) -> Message:
    role = _ROLES.get(str(turn.get("role") or turn.get("from"))) if isinstance(turn, dict) else None
    content = (turn.get("content") or turn.get("value")) if isinstance(turn, dict) else None
    if role is None or not isinstance(content, str) or not content.strip():
        row.refuse(
            "a turn has no known role or no text", 'Each turn is {"role": "system|user|assistant", "content": "…"}.'
        )
    return Message(role, content)  # type: ignore[arg-type]  # _ROLES holds nothing else


def text_of(path: Path) -> str:
    """UTF-8, or UTF-16 where the file says so at its start, as some spreadsheets save it. Raises BadInput."""
    raw = path.read_bytes()
    try:
        return raw.decode("utf-16" if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{path.name} is not UTF-8 text: byte {error.start}, in line {line}, cannot be read. "
            "Save it as UTF-8 and import it again."
        ) from error


def _json_lines(name: str, text: str) -> Iterator[FileRow]:
    for number, line in _numbered(text):
        try:
            value = json.loads(line)
        except _UNREADABLE as error:
            raise BadRow(name, number, f"this is not JSON ({_said(error)})", "Mend or remove the row.") from error
        yield _json_row(name, number, value)


def _json_list(name: str, text: str) -> Iterator[FileRow]:
    try:
        found = json.loads(text) if text.strip() else []
    except _UNREADABLE as error:
        raise BadRow(name, _rows_read(text) + 1, f"this is not JSON ({error})", "Mend the row.") from error
    if not isinstance(found, list):
        raise BadInput(
            f"{name} holds {_KINDS.get(type(found), 'something else')}, not a list of rows. Write [{{…}}, {{…}}]."
        )
    for number, value in enumerate(found, start=1):
        yield _json_row(name, number, value)


_UNREADABLE = (ValueError, RecursionError)  # bad JSON, a number of thousands of digits; nesting without end


def _said(error: Exception) -> str:
    return f"{error.msg} in column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _rows_read(text: str) -> int:
    """How many rows of a JSON list can be read before the one that cannot."""
    decoder, place = json.JSONDecoder(), text.find("[") + 1
    for count in itertools.count():
        try:
            between = re.compile(r"[\s,]*").match(text, place)
            _, place = decoder.raw_decode(text, between.end())  # type: ignore[union-attr]  # it matches nothing, too
        except _UNREADABLE:
            return count
    raise AssertionError("a text ends")


def _json_row(name: str, number: int, value: Any) -> FileRow:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadRow(name, number, "it holds half a character (a lone surrogate)", "Mend or remove the row.") from error
    except RecursionError as error:
        raise BadRow(name, number, "it is nested too deep", "Mend or remove the row.") from error
    if isinstance(value, str):
        return FileRow(name, number, {_BARE: value})
    if not isinstance(value, dict):
        raise BadRow(name, number, f"a row is an object, this is {kind_of(value)}", 'Write {"prompt": "…"}.')
    return FileRow(name, number, value)


def _csv(name: str, text: str) -> Iterator[FileRow]:
    numbered = _csv_rows(name, text)
    _, header = next(numbered, (0, []))
    for number, cells in numbered:
        if cells:
            named = zip(header, cells, strict=False)
            yield FileRow(name, number, {key: value for key, value in named if key and value})


def _csv_rows(name: str, text: str) -> Iterator[tuple[int, list[str]]]:
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)  # spreadsheets of many countries write semicolons
    rows = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    for number in itertools.count(1):
        try:
            yield number, next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadRow(name, number, f"this is not CSV ({error})", "Mend or remove the row.") from error


def _lines(name: str, text: str) -> Iterator[FileRow]:
    for number, line in _numbered(text):
        yield FileRow(name, number, {_BARE: line})


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines that hold anything. Not splitlines(): that parts a JSON string at U+2028 and its like."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.strip()
