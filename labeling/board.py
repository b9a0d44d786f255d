"""One project's queue in memory: what is known of each prompt, which are free, and for whom.

The tables are the truth; this is the same truth arranged for the one question that a labeler waits for. Prompts that
can take another judgment lie on shelves, the least judged in front, and among those what the newest version wrote; so
the next one is the first on the first shelf that this person has not had, and nothing is counted or sorted for it.

No database and no clock: whoever uses a board has written every change before telling the board of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from storage.records import Assignment, Project, Prompt, Response

SKIPS_TO_SET_ASIDE = 2  # people; then it waits for the lead instead of going round
REPEAT_AFTER = 10  # judgments of one's own; sooner a person remembers what they said
READY_COUNTED = 100

Shelf = tuple[int, int]  # people who judged it, minus the rank of the version that wrote it


@dataclass(eq=False)
class Entry:
    """One prompt: its answers and who had to do with it."""

    prompt: Prompt
    sampled: list[Response] = field(default_factory=list)
    shown: list[Response] = field(default_factory=list)  # empty while there are too few
    given: bool = False  # somebody has seen `shown`, so everybody after sees the same
    times: dict[str, int] = field(default_factory=dict)  # labeler -> judgments, of which all but the first are repeats
    holders: set[str] = field(default_factory=set)
    lapsed: dict[str, Assignment] = field(default_factory=dict)  # labeler -> a lease of theirs that ran out
    skipped: set[str] = field(default_factory=set)
    settled: bool = False  # by a lead: no more judgments are wanted
    gold: str = ""  # the lead who says that their answer is known to be right
    shelf: Shelf | None = None

    @property
    def people(self) -> int:
        """How many have judged it or are about to: what an overlap limits."""
        return len(self.times.keys() | self.holders)

    @property
    def set_aside(self) -> bool:
        """Enough people would not judge it; who skips a repeat has judged it before."""
        return len(self.skipped - self.times.keys()) >= SKIPS_TO_SET_ASIDE

    def is_new_to(self, labeler: str) -> bool:
        return not (labeler in self.times or labeler in self.holders or labeler in self.skipped)


class Board:
    """All prompts of one project. `newest` ranks version ids: the higher, the newer."""

    def __init__(
        self, project: Project, prompts: Iterable[Prompt], minimum_responses: int, newest: Mapping[str, int]
    ) -> None:
        self.project = project
        self.entries = {one.id: Entry(one) for one in prompts}
        self.leases: dict[str, Assignment] = {}  # live ones by assignment id
        self._minimum = minimum_responses
        self._newest = newest
        self._shelves: dict[Shelf, dict[str, Entry]] = {}
        self._history: dict[str, list[Entry]] = {}  # labeler -> what they judged, in that order
        self._judgments = 0  # of those that are wanted
        self._golden: dict[str, Entry] = {}

    @property
    def by_everybody(self) -> bool:
        return everybody_judges(self.project)

    # ---- choosing ----

    def work_for(self, labeler: str) -> Iterator[Entry]:
        """What this person may judge next, in order."""
        for shelf in sorted(self._shelves):
            yield from (one for one in self._shelves[shelf].values() if one.is_new_to(labeler))

    def unseen(self) -> Entry | None:
        """The first that nobody judged or holds."""
        return next((one for one in self.work_for("") if not (one.times or one.holders)), None)

    def gold_for(self, labeler: str) -> list[Entry]:
        """Prompts with a known answer that this person neither gave nor was asked for."""
        return [one for one in self._golden.values() if one.gold != labeler and one.shown and one.is_new_to(labeler)]

    def repeats_for(self, labeler: str) -> list[Entry]:
        """What this person judged once, long enough ago."""
        old = self._history.get(labeler, [])[:-REPEAT_AFTER]
        return [one for one in old if one.times[labeler] == 1 and labeler not in one.holders | one.skipped]

    # ---- counting ----

    def ready_for(self, labeler: str) -> int:
        """How many could be handed out now; counted no further than READY_COUNTED."""
        return sum(1 for _ in islice(self.work_for(labeler), READY_COUNTED))

    def judged_by(self, labeler: str) -> int:
        """Prompts, however often each."""
        return len(self._history.get(labeler, ()))

    @property
    def judgments(self) -> int:
        """How many of the wanted judgments there are; what a lead settled wants no more."""
        return self._judgments

    @property
    def wanted(self) -> int:
        """How many judgments there are to be; where everybody judges everything, one a prompt."""
        return len(self.entries) * self._overlap

    def lacking(self) -> list[Entry]:
        """What nobody judged, and has too few answers to be shown."""
        return [one for one in self.entries.values() if not (one.shown or one.times or one.settled)]

    def untouched(self) -> int:
        """How many are ready for whoever comes."""
        return sum(
            1
            for shelf, entries in self._shelves.items()
            if shelf[0] == 0
            for one in entries.values()
            if not (one.holders or one.skipped)
        )

    def unfinished(self) -> list[Entry]:
        return [one for one in self.entries.values() if self._counted(one) < self._overlap or self.by_everybody]

    # ---- what happened ----

    def add_responses(self, responses: Iterable[Response]) -> None:
        for response in responses:
            entry = self.entries.get(response.prompt_id)
            if entry is not None:
                entry.sampled.append(response)
                self._show(entry)

    def give(self, assignment: Assignment) -> None:
        """It is leased to this labeler: for the first time, again, or for longer."""
        entry = self.entries[assignment.prompt_id]
        self.leases[assignment.id] = assignment
        entry.holders.add(assignment.labeler)
        entry.lapsed.pop(assignment.labeler, None)
        self._fix(entry, assignment.displayed_order)
        self._put(entry)

    def expire(self, assignment: Assignment) -> None:
        """Its lease ran out: free for others, and still this person's if it comes to them again."""
        entry = self._let_go(assignment)
        entry.lapsed[assignment.labeler] = assignment
        self._loosen(entry)

    def skip(self, assignment: Assignment) -> None:
        entry = self._let_go(assignment)
        entry.skipped.add(assignment.labeler)
        self._loosen(entry)

    def judge(self, assignment: Assignment) -> None:
        entry, labeler = self._let_go(assignment), assignment.labeler
        entry.lapsed.pop(labeler, None)
        entry.skipped.discard(labeler)
        before = self._counted(entry)
        if labeler not in entry.times:
            self._history.setdefault(labeler, []).append(entry)
        entry.times[labeler] = entry.times.get(labeler, 0) + 1
        self._judgments += self._counted(entry) - before
        self._fix(entry, assignment.displayed_order)
        self._put(entry)

    def settle(self, prompt_id: str, displayed_order: Sequence[str], gold_by: str = "") -> None:
        """A lead has answered it; `gold_by` where that answer is known to be right."""
        entry = self.entries[prompt_id]
        before = self._counted(entry)
        self._fix(entry, displayed_order)
        entry.settled, entry.gold = True, gold_by
        self._judgments += self._counted(entry) - before
        if gold_by:
            self._golden[prompt_id] = entry
        else:
            self._golden.pop(prompt_id, None)
        self._put(entry)

    # ---- arithmetic ----

    @property
    def _overlap(self) -> int:
        """How many judgments of a prompt count as progress."""
        return 1 if self.by_everybody else self.project.overlap

    def _counted(self, entry: Entry) -> int:
        return self._overlap if entry.settled else min(len(entry.times), self._overlap)

    def _is_free(self, entry: Entry) -> bool:
        full = not self.by_everybody and entry.people >= self.project.overlap
        return bool(entry.shown) and not (full or entry.settled or entry.set_aside)

    def _put(self, entry: Entry) -> None:
        """On the shelf where it belongs now, or on none."""
        shelf = (len(entry.times), -self._rank(entry)) if self._is_free(entry) else None
        if shelf == entry.shelf:
            return
        if entry.shelf is not None:
            del self._shelves[entry.shelf][entry.prompt.id]
        if shelf is not None:
            self._shelves.setdefault(shelf, {})[entry.prompt.id] = entry
        entry.shelf = shelf

    def _rank(self, entry: Entry) -> int:
        return max(self._newest.get(one.version_id or "", 0) for one in entry.shown)

    def _show(self, entry: Entry) -> None:
        if not entry.given:
            entry.shown = answers_to_show(self.project, entry.sampled, self._minimum)
            self._put(entry)

    def _fix(self, entry: Entry, displayed_order: Sequence[str]) -> None:
        """From now on everybody sees the answers that the first person saw, or agreement could not be measured."""
        if not entry.given:
            entry.shown = [one for one in entry.sampled if one.id in displayed_order]
            entry.given = True

    def _loosen(self, entry: Entry) -> None:
        """Whoever had it is gone without a word, so newer answers may take the place of those they saw."""
        entry.given = bool(entry.times or entry.holders or entry.settled)
        self._show(entry)
        self._put(entry)

    def _let_go(self, assignment: Assignment) -> Entry:
        entry = self.entries[assignment.prompt_id]
        if self.leases.pop(assignment.id, None):
            entry.holders.discard(assignment.labeler)
        return entry


def everybody_judges(project: Project) -> bool:
    """Whether each person judges every prompt, however many have."""
    return project.purpose == "comparison" or project.calibration


def answers_to_show(project: Project, sampled: Sequence[Response], minimum: int) -> list[Response]:
    """What one prompt's item shows, or nothing while it cannot be judged.

    A comparison shows one answer a version, equal or not. A labelling item shows different answers only: equal ones
    among the samples of a prompt are shown once.
    """
    if project.purpose == "comparison":
        latest = {response.version_id: response for response in sampled if response.version_id in project.version_ids}
        return list(latest.values()) if len(latest) == len(project.version_ids) else []
    current = [response for response in sampled if response.version_id in project.version_ids]
    distinct: dict[str, Response] = {}
    for response in current:
        distinct.setdefault(response.text, response)
    shown = list(distinct.values())[: project.responses_per_prompt]
    return shown if len(shown) >= minimum else []
