"""Settings go out as YAML and come back the same; what is wrong in a file is said with its line and its field."""

from __future__ import annotations

import pytest

from alignment.launchers import Launch
from alignment.methods import METHODS
from alignment.methods.base import Method
from alignment.settings_file import from_yaml, to_yaml
from storage.errors import BadInput


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_what_is_written_is_read_again(method: type[Method]) -> None:
    settings = method.model_validate({}).model_dump()
    launch = Launch().model_dump()

    assert from_yaml(to_yaml(method.name, settings, launch), Launch) == (method.name, settings, launch)


def test_a_number_as_engineers_write_it_is_a_number() -> None:
    _, settings, _ = from_yaml("method: dpo\nsettings:\n  learning_rate: 2e-5\n")

    assert settings == {"learning_rate": 0.00002}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method: dpo\nsettings:\n  epochs: 2\n  beta: -1\n", "Line 4, beta (Loyalty to the parent (beta)): must be"),
        ("method: dpo\nsettings:\n  learning_rte: 1\n", "Line 3, learning_rte: there is no such setting."),
        ("method: dpo\nsettings:\n  epochs: two\n", "Line 3, epochs (Passes over the data): must be a whole number"),
        ("method: magic\n", "Line 1: there is no method 'magic'. There are: "),
        ("settings: {}\n", "`method` is missing."),
        ("method: dpo\nsetings: {}\n", "Line 2: 'setings' is not known here."),
        ("method: dpo\nsettings: 3\n", "Line 2: settings holds lines of `name: value`"),
        ("method: dpo\nsettings:\n  epochs: 1\n  epochs: 2\n", "Line 4: 'epochs' is there twice, first in line 3."),
        ("method: dpo\nsettings: [\n", "Line 3, column 1: this is not YAML"),
        ("1: dpo\n", "Line 1: '1' is not known here."),
        ("method: &m dpo\nsettings:\n  loss: *m\n", "Line 3: write the value in place of *m."),
        ("settings: " + "[" * 50_000, "Line 1: this is nested too deep"),
        ("just words", "This is not a settings file"),
        ("", "This is not a settings file"),
        ("method: dpo\nlaunch:\n  processes: 0\n", "Line 3, processes (Processes): must be at least 1, and is 0."),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_field(text: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        from_yaml(text, Launch)
    assert str(refused.value).startswith(said)


def test_a_file_cannot_make_python_objects() -> None:
    with pytest.raises(BadInput, match="not YAML"):
        from_yaml("method: !!python/object/apply:os.getcwd []")
