"""From what people said to the rows that methods learn from. Pure functions: no files, no torch.

Rankings become pairs of a better and a worse answer, thumbs become rows with a label, demonstrations become rows with
the answer that should have been; one that is preferred to the answer it improves is a pair too. What is not used is
counted, and the counts add up:

    judgments = superseded + held_out + other_feedback + repeats + adjudicated + no_pair + those that have a verdict
    verdicts  = missing + identical + duplicates + contradictions + rows
    documents = held_out + duplicates + rows
    prompts   = held_out + duplicates + rows

where a verdict is one pair, one thumb or one demonstration. Ties make no pair: the pairs they leave undecided are
counted on their own, and so are the judgments in which all answers tie (no_pair).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from storage import documents as stored_documents
from storage import prompts as stored_prompts
from storage.records import (
    ADJUDICATED,
    REPEAT,
    DatasetType,
    Demonstration,
    Document,
    Judgment,
    Message,
    PreferencePair,
    Prompt,
    Ranking,
    Rating,
    Response,
    Verdict,
    texts_by_id,
)

POLICY = (
    "Ties make no pair; the same verdict on the same texts counts once; where verdicts contradict each other the "
    "majority is kept, and an even split leaves both out; where a lead adjudicated, the lead's answer stands alone; "
    "held-out prompts, superseded judgments and repeats asked for consistency are never used."
)

UNJUDGED_POLICY = "The same text counts once, whatever its white space; what is held out is never used."

VERDICT_OF: Mapping[DatasetType, type[Verdict]] = {
    "preference": Ranking,
    "unpaired_preference": Rating,
    "prompt_completion": Demonstration,
}


@dataclass(frozen=True)
class Rows:
    """Rows in TRL's columns with the id of what each came from, what was counted, and everything behind the rows.

    `source_ids` are the documents or prompts where no judgment is behind them.
    """

    dataset_type: DatasetType
    rows: tuple[Mapping[str, Any], ...]
    counts: Mapping[str, int]
    judgment_ids: tuple[str, ...] = ()
    source_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """One verdict in one row's words. Claims on the same `subject` that say another `value` contradict each other."""

    judgment_id: str
    prompt: Prompt
    subject: Hashable
    value: Hashable
    columns: Mapping[str, Any]


def rows_from(
    dataset_type: DatasetType,
    judgments: Sequence[Judgment],
    prompts: Mapping[str, Prompt],
    responses: Mapping[str, Response],
) -> Rows:
    """All rows that these judgments imply, in the order in which they were judged, whatever order they are given in."""
    counts: Counter[str] = Counter(judgments=len(judgments))
    read = _readable(dataset_type, judgments, prompts, counts)
    claims = list(_claims(dataset_type, read, prompts, texts_by_id(list(responses.values())), counts))
    settled = _settled(claims, counts)
    kept = [supporters[0] for supporters in settled]
    counts["rows"] = len(kept)
    if dataset_type == "unpaired_preference":
        counts["desirable"] = sum(bool(claim.columns["label"]) for claim in kept)
        counts["undesirable"] = len(kept) - counts["desirable"]
    return Rows(
        dataset_type=dataset_type,
        rows=tuple(_row(claim) for claim in kept),
        counts={name: counts[name] for name in _shown(dataset_type)},
        judgment_ids=tuple(dict.fromkeys(claim.judgment_id for supporters in settled for claim in supporters)),
    )


def document_rows(documents: Iterable[Document]) -> Rows:
    """The texts to continue pre-training on, in the order given."""
    given = [
        _Given(one.id, one.held_out, stored_documents.text_hash(one.text), {"text": one.text, "document_id": one.id})
        for one in documents
    ]
    return _unjudged("language_modeling", "documents", given)


def prompt_rows(prompts: Iterable[Prompt]) -> Rows:
    """The prompts that a method lets the model answer by itself, in the order given."""
    given = [
        _Given(
            one.id,
            one.held_out,
            stored_prompts.text_hash(one.messages),
            {"prompt": [message.as_dict() for message in one.messages], "prompt_id": one.id},
        )
        for one in prompts
    ]
    return _unjudged("prompt_only", "prompts", given)


def preference_pairs(prompt: str, ranking: Ranking, texts: Mapping[str, str]) -> Iterator[PreferencePair]:
    """Every better-worse pair a ranking implies. Ties say nothing, so they produce nothing."""
    for better, worse in combinations(ranking.tiers, 2):
        for chosen in better:
            for rejected in worse:
                yield PreferencePair(prompt=prompt, chosen=texts[chosen], rejected=texts[rejected])


def tied_pairs(ranking: Ranking) -> int:
    """How many pairs a ranking leaves undecided."""
    return sum(len(tier) * (len(tier) - 1) // 2 for tier in ranking.tiers)


# ---- what nobody judged ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    """A document or a prompt; two with the same hash are the same."""

    id: str
    held_out: bool
    text_hash: str
    columns: Mapping[str, Any]


def _unjudged(dataset_type: DatasetType, of: str, given: Sequence[_Given]) -> Rows:
    learned = [one for one in given if not one.held_out]
    first = {one.text_hash: one for one in reversed(learned)}
    kept = [one for one in learned if first[one.text_hash] is one]
    counts = {
        of: len(given),
        "held_out": len(given) - len(learned),
        "duplicates": len(learned) - len(kept),
        "rows": len(kept),
    }
    ids = tuple(one.id for one in kept)
    return Rows(dataset_type, tuple(one.columns for one in kept), counts, source_ids=ids)


# ---- which judgments are read ---------------------------------------------------------------------------------------


def _readable(
    dataset_type: DatasetType, judgments: Sequence[Judgment], prompts: Mapping[str, Prompt], counts: Counter[str]
) -> list[Judgment]:
    superseded = {judgment.supersedes for judgment in judgments if judgment.supersedes}
    settled = {
        (one.project_id, one.prompt_id)
        for one in judgments
        if ADJUDICATED in one.flags and one.id not in superseded and _is_read(dataset_type, one)
    }
    read = []
    for judgment in sorted(judgments, key=lambda one: (one.judged_at, one.id)):
        if judgment.id in superseded:
            counts["superseded"] += 1
        elif judgment.prompt_id in prompts and prompts[judgment.prompt_id].held_out:
            counts["held_out"] += 1
        elif not _is_read(dataset_type, judgment):
            counts["other_feedback"] += 1
        elif REPEAT in judgment.flags:
            counts["repeats"] += 1
        elif ADJUDICATED not in judgment.flags and (judgment.project_id, judgment.prompt_id) in settled:
            counts["adjudicated"] += 1
        else:
            counts["no_pair"] += _all_tie(dataset_type, judgment)
            read.append(judgment)
    return read


def _is_read(dataset_type: DatasetType, judgment: Judgment) -> bool:
    return any(_says(dataset_type, verdict) for verdict in judgment.verdicts)


def _all_tie(dataset_type: DatasetType, judgment: Judgment) -> bool:
    """It ranks, but puts no answer above another."""
    read = [verdict for verdict in judgment.verdicts if _says(dataset_type, verdict)]
    return dataset_type == "preference" and all(isinstance(one, Ranking) and len(one.tiers) < 2 for one in read)


def _says(dataset_type: DatasetType, verdict: Verdict) -> bool:
    """Whether rows of this type come of it."""
    preferred = isinstance(verdict, Demonstration) and verdict.preferred and verdict.improves is not None
    return isinstance(verdict, VERDICT_OF[dataset_type]) or (dataset_type == "preference" and preferred)


def _shown(dataset_type: DatasetType) -> tuple[str, ...]:
    """The counts of a dataset type, in the order in which a page shows them."""
    labels = ("desirable", "undesirable") if dataset_type == "unpaired_preference" else ()
    ties = ("no_pair", "ties") if dataset_type == "preference" else ()
    before = ("judgments", "superseded", "held_out", "other_feedback", "repeats", "adjudicated", *ties)
    return (*before, "verdicts", "missing", "identical", "duplicates", "contradictions", "rows", *labels)


# ---- what they claim ------------------------------------------------------------------------------------------------


def _claims(
    dataset_type: DatasetType,
    judgments: Iterable[Judgment],
    prompts: Mapping[str, Prompt],
    texts: Mapping[str, str],
    counts: Counter[str],
) -> Iterator[Claim]:
    for judgment in judgments:
        for verdict in judgment.verdicts:
            if _says(dataset_type, verdict):
                for claim in _claims_of(
                    dataset_type, judgment, verdict, prompts.get(judgment.prompt_id), texts, counts
                ):
                    counts["verdicts"] += 1
                    if claim is not None:
                        yield claim


def _claims_of(
    dataset_type: DatasetType,
    judgment: Judgment,
    verdict: Verdict,
    prompt: Prompt | None,
    texts: Mapping[str, str],
    counts: Counter[str],
) -> Iterator[Claim | None]:
    """A claim for each pair, thumb or demonstration; None, and counted, where it can say nothing."""
    if isinstance(verdict, Ranking):
        counts["ties"] += tied_pairs(verdict)
        ids = {response_id: response_id for tier in verdict.tiers for response_id in tier}
        for pair in preference_pairs(judgment.prompt_id, verdict, ids):
            yield _pair_claim(judgment, prompt, texts.get(pair.chosen), texts.get(pair.rejected), counts)
    elif isinstance(verdict, Rating):
        yield _thumb_claim(judgment, prompt, texts.get(verdict.response_id), verdict.desirable, counts)
    elif dataset_type == "preference":
        yield _pair_claim(judgment, prompt, verdict.text, texts.get(verdict.improves or ""), counts)
    else:
        yield _demonstration_claim(judgment, prompt, verdict.text, counts)


def _pair_claim(
    judgment: Judgment, prompt: Prompt | None, chosen: str | None, rejected: str | None, counts: Counter[str]
) -> Claim | None:
    if prompt is None or chosen is None or rejected is None:
        counts["missing"] += 1
        return None
    if chosen == rejected:
        counts["identical"] += 1
        return None
    columns = {"chosen": _answer(chosen), "rejected": _answer(rejected)}
    return Claim(judgment.id, prompt, frozenset((chosen, rejected)), chosen, columns)


def _thumb_claim(
    judgment: Judgment, prompt: Prompt | None, text: str | None, desirable: bool, counts: Counter[str]
) -> Claim | None:
    if prompt is None or text is None:
        counts["missing"] += 1
        return None
    return Claim(judgment.id, prompt, text, desirable, {"completion": _answer(text), "label": desirable})


def _demonstration_claim(judgment: Judgment, prompt: Prompt | None, text: str, counts: Counter[str]) -> Claim | None:
    if prompt is None:
        counts["missing"] += 1
        return None
    return Claim(judgment.id, prompt, text, True, {"completion": _answer(text)})


# ---- where they agree, and where not --------------------------------------------------------------------------------


def _settled(claims: Iterable[Claim], counts: Counter[str]) -> list[list[Claim]]:
    """For each subject the claims that won, in order; the others are counted."""
    by_subject: defaultdict[Hashable, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_subject[claim.prompt.id, claim.subject].append(claim)
    settled = []
    for said in by_subject.values():
        winners = _majority(said)
        counts["contradictions"] += len(said) - len(winners)
        if winners:
            counts["duplicates"] += len(winners) - 1
            settled.append(winners)
    return settled


def _majority(said: Sequence[Claim]) -> list[Claim]:
    """The claims of the value that most of them say; none where no value has most."""
    ranked = Counter(claim.value for claim in said).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return []
    return [claim for claim in said if claim.value == ranked[0][0]]


def _row(claim: Claim) -> dict[str, Any]:
    prompt = [message.as_dict() for message in claim.prompt.messages]
    return {"prompt": prompt, **claim.columns, "judgment_id": claim.judgment_id}


def _answer(text: str) -> list[dict[str, str]]:
    return [Message("assistant", text).as_dict()]
