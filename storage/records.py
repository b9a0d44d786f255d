"""The nouns of Plumbline, as frozen values.

This is the narrow waist of the design: labeling writes these, alignment reads them, and neither knows the other.
Standard library only. What a person says about responses is one of three verdicts, however it was asked:
a Rating, a Ranking or a Demonstration. A judgment holds a tuple of them, because four thumbs are four ratings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

Role = Literal["labeler", "lead", "engineer"]
ROLES: tuple[Role, ...] = ("labeler", "lead", "engineer")

DatasetType = Literal["prompt_completion", "preference", "unpaired_preference", "language_modeling", "prompt_only"]
Purpose = Literal["labeling", "comparison"]
RunState = Literal["waiting", "training", "succeeded", "failed", "stopped", "killed"]
RUN_ENDED: tuple[RunState, ...] = ("succeeded", "failed", "stopped", "killed")
VersionKind = Literal["policy", "reward_model", "endpoint", "outside_endpoint"]
AssignmentState = Literal["open", "judged", "skipped", "expired"]

# What is noted about a judgment (its flags), where more than one room reads it.
LATE = "late"  # it came after its lease ran out; others may have judged the item meanwhile
REPEAT = "repeat"  # the same person judged the same item before: it measures self-consistency and is no second opinion
ADJUDICATED = "adjudicated"  # a lead's own answer to an item; kept apart from the labelers'
GOLD = "gold"  # beside ADJUDICATED: the answer is known to be right, so labelers are measured by it


def new_id() -> str:
    """32 hexadecimal digits."""
    return uuid4().hex


def now() -> datetime:
    return datetime.now(UTC)


# ---- what is asked --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str

    def as_dict(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True)
class Prompt:
    """Messages given to a model. `held_out` is decided once, by the hash of the text, when it is imported.

    What is confidential never leaves for an endpoint outside, whoever asks.
    """

    id: str
    messages: tuple[Message, ...]
    held_out: bool
    source: str
    licence: str
    tags: tuple[str, ...] = ()
    confidential: bool = False
    created_at: datetime = field(default_factory=now)

    @property
    def text(self) -> str:
        """The last user turn: what a person reads first."""
        return self.messages[-1].content


@dataclass(frozen=True)
class Document:
    """Text to continue pre-training on. `held_out` is decided once, by the hash of the text, when it is imported."""

    id: str
    text: str
    held_out: bool
    source: str
    licence: str
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class Sampling:
    """How a response was drawn. `max_tokens` counts new tokens.

    `system` is said before the prompt's own messages. Each seed is derived from the prompt and the version; another
    `seed` here draws other answers.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int = 0
    system: str = ""


@dataclass(frozen=True)
class Project:
    """A labelling task, or a comparison of versions (an evaluation is a project too).

    `overlap` is how many people judge each prompt; `gold_share` and `repeat_share` are the parts of a person's items
    with a known answer, and that come a second time. In a calibration round everybody judges the same prompts.
    """

    id: str
    name: str
    purpose: Purpose
    feedback_type: str
    instruction: str
    guidelines: str
    guideline_version: int
    version_ids: tuple[str, ...]
    responses_per_prompt: int
    sampling: Sampling
    sources: tuple[str, ...] = ()  # which prompts; empty means all of them
    overlap: int = 1
    gold_share: float = 0.0
    repeat_share: float = 0.0
    calibration: bool = False
    criteria: tuple[str, ...] = ()  # each response may be scored on these too: helpful, honest, harmless
    reasons: tuple[str, ...] = ()  # what may have decided, offered to the labelers as chips
    pair_from_edit: bool = True  # a rewritten answer is also better than the one it was made from
    samplings: Mapping[str, Sampling] = field(default_factory=dict)  # version id → its own, in place of `sampling`
    created_at: datetime = field(default_factory=now)

    def sampling_of(self, version_id: str) -> Sampling:
        return self.samplings.get(version_id, self.sampling)


# ---- what is answered -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Response:
    """One answer to one prompt. `version_id` is None for a person's or an imported answer, named by `author`."""

    id: str
    prompt_id: str
    text: str
    version_id: str | None
    author: str
    sampling: Sampling | None = None
    seed: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_seconds: float | None = None
    finish_reason: str | None = None
    engine: str | None = None
    project_id: str | None = None
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class Assignment:
    """This labeler holds these responses, in this displayed order, until then."""

    id: str
    project_id: str
    prompt_id: str
    labeler: str
    displayed_order: tuple[str, ...]
    leased_until: datetime
    state: AssignmentState = "open"
    skip_reason: str | None = None
    created_at: datetime = field(default_factory=now)


# ---- what is said about it ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rating:
    """This response is desirable, or not."""

    response_id: str
    desirable: bool


@dataclass(frozen=True)
class Ranking:
    """Tiers of response ids, best first. A tie is a shared tier; a pairwise choice is a ranking of two."""

    tiers: tuple[tuple[str, ...], ...]
    strength: int | None = None  # 1 slightly, 2 clearly, 3 much better: pairwise choices only


@dataclass(frozen=True)
class Demonstration:
    """What the response should have been."""

    text: str
    improves: str | None = None  # the response that was rewritten, where there was one
    preferred: bool = False  # it also counts as better than that one: a preference pair


Verdict = Rating | Ranking | Demonstration


@dataclass(frozen=True)
class Score:
    """How well one response meets one criterion of the project: 1 not at all, 5 fully. No method reads it."""

    response_id: str
    criterion: str
    value: int


@dataclass(frozen=True)
class Judgment:
    """What one labeler said about the responses to one prompt. Its id is the idempotency key of the submit."""

    id: str
    prompt_id: str
    labeler: str
    feedback_type: str
    verdicts: tuple[Verdict, ...]
    displayed_order: tuple[str, ...]
    project_id: str | None = None
    assignment_id: str | None = None
    guideline_version: int | None = None
    focused_seconds: float | None = None
    note: str | None = None
    flags: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    supersedes: str | None = None
    judged_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class PreferencePair:
    """Derived from a ranking, never stored as a fact of its own."""

    prompt: str
    chosen: str
    rejected: str


# ---- what is learned from it ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """An immutable set of rows in Parquet, its fingerprint, and the judgments it came from.

    `source_ids` are the documents or prompts of a snapshot that no judgment is behind.
    """

    id: str
    name: str
    dataset_type: DatasetType
    rows: int
    fingerprint: str
    path: str
    policy: str
    counts: Mapping[str, int]
    judgment_ids: tuple[str, ...]
    source_ids: tuple[str, ...] = ()
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class Run:
    """Method, settings, snapshot and parent version, on the way to an outcome. Its id names its directory.

    `launch` says where it runs and as how many processes; `repeats` is the run that this one does again.
    """

    id: str
    method: str
    settings: Mapping[str, Any]
    snapshot_id: str
    parent_id: str
    directory: str
    state: RunState
    message: str = ""
    version_id: str | None = None
    started_by: str = ""
    launch: Mapping[str, Any] = field(default_factory=dict)
    repeats: str | None = None
    created_at: datetime = field(default_factory=now)
    ended_at: datetime | None = None


@dataclass(frozen=True)
class ModelVersion:
    """Base weights and, where it was trained here, an adapter on them. Immutable but for `served`.

    An endpoint answers as a version does, but has no weights here: `base_path` is its address, and `served` says
    whether the settings still name it. Nothing is trained from it, and no server of ours is asked to be it.
    """

    id: str
    base_path: str
    adapter_path: str | None
    parent_id: str | None
    run_id: str | None
    template: str
    fingerprint: str
    context_length: int
    kind: VersionKind = "policy"
    served: bool = True
    note: str = ""
    created_at: datetime = field(default_factory=now)

    @property
    def is_endpoint(self) -> bool:
        return self.kind in ("endpoint", "outside_endpoint")

    @property
    def is_outside(self) -> bool:
        """What it is asked leaves this machine, so it is never asked what is confidential."""
        return self.kind == "outside_endpoint"


@dataclass(frozen=True)
class Person:
    name: str
    role: Role


def texts_by_id(responses: Sequence[Response]) -> dict[str, str]:
    return {response.id: response.text for response in responses}
