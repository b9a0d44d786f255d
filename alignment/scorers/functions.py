"""Rewards that are Python: prompts and answers in, a number for each answer out.

    def short(prompts, answers):
        return [-len(answer) / 100 for answer in answers]

A prompt is a list of messages ({"role", "content"}), an answer a text. The server's settings say which functions there
are and where they are imported from; a browser can only name one. Those that come along know the invented world of the
starter model and nothing else: they are there to see a reward and what it should have rewarded side by side.

    python -m alignment.scorers.functions        tries one: {"name", "at", "prompts"} in, {"scores"} or {"error"} out
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from alignment.methods.base import Messages, TextReward
from storage.errors import AppError, RunFailed

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds for a trial: a function may load a model
TRIED_ON = "An answer."


@dataclass(frozen=True)
class Function:
    """A function by its name in the settings, and where it is imported from: package.module:function."""

    name: str
    at: str
    note: str = ""


READY_MADE = (
    Function(
        "starter-preferred",
        "assets.starter_model.rewards:preferred",
        "Only for the starter model: 1 for a concise, cited, well-formed answer, 0.3 for another well-formed one.",
    ),
    Function(
        "starter-well-formed",
        "assets.starter_model.rewards:well_formed",
        "Only for the starter model: 1 for an answer that is whole and about the vaccine that was asked about.",
    ),
)


class FunctionReward:
    """A function that is held to its word. Each fault ends the run with a sentence that names the function."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._named = f"The reward function {function.name} ({function.at})"
        self._score = self._imported()

    def __call__(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[float]:
        try:
            given = self._score(prompts, texts)
        except Exception as error:
            raise RunFailed(
                f"{self._named} raised {type(error).__name__}: {error}. Mend it, or choose another reward. The whole "
                "story is in log.txt of this run."
            ) from error
        return self._numbers(given, len(texts))

    def _imported(self) -> TextReward:
        module, _, name = self._function.at.partition(":")
        try:
            found = getattr(import_module(module), name)
        except Exception as error:  # whatever its module does when it is imported
            raise RunFailed(
                f"{self._named} cannot be imported ({type(error).__name__}: {error}). It must be on the path of the "
                "Python that Plumbline runs in: install its package there, or name its folder in PYTHONPATH."
            ) from error
        if not callable(found):
            raise RunFailed(f"{self._named} is no function but {_shown(found)}. Name one in the server's settings.")
        score: TextReward = found
        return score

    def _numbers(self, given: Any, wanted: int) -> list[float]:
        try:
            values = [] if isinstance(given, (str, Mapping)) else list(given)
        except TypeError:
            values = []
        if not values:
            raise RunFailed(f"{self._named} must return a list of {wanted} numbers, and returned {_shown(given)}.")
        if len(values) != wanted:
            raise RunFailed(
                f"{self._named} returned {len(values)} scores for {wanted} answers. It must return one for each, in "
                "their order."
            )
        return [self._number(value, place) for place, value in enumerate(values)]

    def _number(self, value: Any, place: int) -> float:
        try:
            number = math.nan if isinstance(value, (str, bytes)) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise RunFailed(f"{self._named} returned no number for answer {place + 1}, but {_shown(value)}.")
        return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


# ---- a trial in a process of its own, since a function may do anything and import much -------------------------------


def tried(function: Function, prompts: Sequence[Messages], environment: Mapping[str, str]) -> list[float]:
    """What it gives a made-up answer to each of these prompts. Raises RunFailed with what a run would end with."""
    question = {"name": function.name, "at": function.at, "prompts": [list(prompt) for prompt in prompts]}
    command = [sys.executable, "-m", "alignment.scorers.functions"]
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=dict(environment), input=json.dumps(question), stdout=subprocess.PIPE,
            text=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
        answer = json.loads(done.stdout.splitlines()[-1])  # the function may print as well
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        raise RunFailed(f"The reward function {function.name} ({function.at}) could not be tried: {error}.") from error
    if "error" in answer:
        raise RunFailed(answer["error"])
    scores: list[float] = answer["scores"]
    return scores


def main() -> int:
    asked = json.load(sys.stdin)
    prompts = asked["prompts"]
    try:
        reward = FunctionReward(Function(asked["name"], asked["at"]))
        answer: dict[str, Any] = {"scores": reward(prompts, [TRIED_ON] * len(prompts))}
    except AppError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
