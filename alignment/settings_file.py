"""The settings of a run as YAML, out and in: to keep beside a paper, to send to a colleague, to start again from.

    method: dpo
    settings:
      learning_rate: 0.0012
      beta: 0.1
    launch:
      where: local

What is read is held against the class of the method, and what is wrong is said with its line and its field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from alignment.methods import METHODS
from alignment.methods.base import Method
from alignment.setting_faults import faults, title_of
from storage.errors import BadInput

KNOWN = ("method", "settings", "launch")
DEEPEST = 5  # lists and tables within each other: settings need two
Given = tuple[str, dict[str, Any], dict[str, Any]]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML brings no types
    """YAML 1.1 reads 2e-5 as a word, because it asks for a point; every engineer means a number."""


_Loader.yaml_implicit_resolvers = dict(yaml.SafeLoader.yaml_implicit_resolvers)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


def to_yaml(method_name: str, settings: Mapping[str, Any], launch: Mapping[str, Any] | None = None) -> str:
    """What is written is what is given: a file says everything, so that it means the same next year."""
    whole = {"method": method_name, "settings": dict(settings), **({"launch": dict(launch)} if launch else {})}
    return str(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))


def from_yaml(text: str, launch_form: type[BaseModel] | None = None) -> Given:
    """(method, settings, launch). Raises BadInput that names the line and the field."""
    whole, lines = _parsed(text)
    for (key, *below), line in lines.items():
        if not below and key not in KNOWN:
            raise BadInput(f"Line {line}: {key!r} is not known here. Known are {', '.join(KNOWN)}.")
    method = _method(whole, lines)
    settings, launch = (_table(whole, lines, name) for name in ("settings", "launch"))
    _refuse_faults("settings", method, settings, lines)
    if launch_form is not None:
        _refuse_faults("launch", launch_form, launch, lines)
    return method.name, settings, launch


def _parsed(text: str) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """The mapping, and at which line each of its keys stands."""
    try:
        _refuse_tricks(text)
        node = yaml.compose(text, Loader=_Loader)
        whole = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"Line {mark.line + 1}, column {mark.column + 1}" if mark else "This text"
        problem = getattr(error, "problem", None) or str(error)
        raise BadInput(f"{where}: this is not YAML ({problem}). Mend it and try again.") from error
    if not isinstance(whole, dict):
        raise BadInput("This is not a settings file: it begins with a line such as `method: dpo`.")
    lines = dict(_refuse_twice(_lines(node)))
    return whole, lines


def _refuse_tricks(text: str) -> None:
    """Lines that repeat each other by name unfold to gigabytes, and deep nesting takes minutes to read."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        where = f"Line {event.start_mark.line + 1}"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise BadInput(f"{where}: this is nested too deep for settings. Mend it and try again.")
        if isinstance(event, yaml.AliasEvent):
            raise BadInput(f"{where}: write the value in place of *{event.anchor}.")


def _lines(node: Any, above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], int]]:
    if not isinstance(node, yaml.MappingNode):
        return []
    found = []
    for key, value in node.value:
        path = (*above, str(key.value))
        found += [(path, key.start_mark.line + 1), *_lines(value, path)]
    return found


def _refuse_twice(lines: list[tuple[tuple[str, ...], int]]) -> list[tuple[tuple[str, ...], int]]:
    """YAML keeps the last of two equal keys and says nothing."""
    there: dict[tuple[str, ...], int] = {}
    for path, line in lines:
        if path in there:
            raise BadInput(f"Line {line}: {path[-1]!r} is there twice, first in line {there[path]}. Remove one.")
        there[path] = line
    return lines


def _method(whole: Mapping[str, Any], lines: Mapping[tuple[str, ...], int]) -> type[Method]:
    names = ", ".join(method.name for method in METHODS)
    if "method" not in whole:
        raise BadInput(f"`method` is missing. Add a line `method: …` with one of {names}.")
    for method in METHODS:
        if method.name == whole["method"]:
            return method
    raise BadInput(f"Line {lines['method',]}: there is no method {whole['method']!r}. There are: {names}.")


def _table(whole: Mapping[str, Any], lines: Mapping[tuple[str, ...], int], name: str) -> dict[str, Any]:
    given = whole.get(name) or {}
    if not isinstance(given, dict):
        raise BadInput(f"Line {lines[name,]}: {name} holds lines of `name: value`, and here it is {given!r}.")
    return {str(key): value for key, value in given.items()}


def _refuse_faults(
    table: str, form: type[BaseModel], given: Mapping[str, Any], lines: Mapping[tuple[str, ...], int]
) -> None:
    found = faults(form, given)
    if found:
        said = [
            f"Line {lines.get((table, name), lines.get((table,), 1))}, {_both_names(form, name)}: {words}."
            for name, words in found.items()
        ]
        raise BadInput(" ".join(said))


def _both_names(form: type[BaseModel], name: str) -> str:
    """As the file has it, and as the form does where that is another."""
    title = title_of(form, name)
    return name if title == name else f"{name} ({title})"
