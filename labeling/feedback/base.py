"""What every feedback type says about itself, and what all of them check.

A feedback type turns what the browser sends (its payload) into verdicts, the three things the rest of Plumbline knows.
The way back, from verdicts to a payload, is what reopens a judgment to change it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from storage.errors import BadInput
from storage.records import Verdict

Payload = Mapping[str, Any]
BOTH_BAD = "both_bad"  # the flag of a tie between answers of which none is good
LETTERS = "ABCDEF"  # the names of answers wherever people judge them; none is shown more


class FeedbackType(ABC):
    """One way to ask a person about the responses to a prompt."""

    name: ClassVar[str]
    title: ClassVar[str]
    explanation: ClassVar[str]  # for the lead who chooses between them
    minimum_responses: ClassVar[int]
    maximum_responses: ClassVar[int] = len(LETTERS)

    @abstractmethod
    def verdicts(self, payload: Payload, displayed: Sequence[str]) -> tuple[Verdict, ...]:
        """What was said. `displayed` holds the response ids in the order in which they were shown."""

    @abstractmethod
    def payload(
        self, verdicts: Sequence[Verdict], displayed: Sequence[str], flags: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The payload that would say this again."""

    def flags(self, payload: Payload) -> tuple[str, ...]:
        """What was said beside the verdicts."""
        return ()


def answers_by_response(payload: Payload, field: str, displayed: Sequence[str]) -> dict[str, Any]:
    """`payload[field]`, once it is known to be an object that speaks only of responses that were shown."""
    answers = payload.get(field)
    if not isinstance(answers, Mapping):
        raise BadInput(
            f"A judgment needs {field}, an object with one entry per response. Reload the page and try again."
        )
    strangers = [response for response in answers if response not in displayed]
    if strangers:
        raise BadInput(
            f"{field} speaks of a response that was not shown ({strangers[0]}). Nothing was saved; reload the page."
        )
    return dict(answers)
