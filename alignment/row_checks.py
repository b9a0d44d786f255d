"""What would go wrong with the rows of a snapshot: pure functions over rows, and over rows as tokens.

Each function looks at one thing that has wasted somebody's run, and gives one check: fine, a warning, or a refusal
with a way out. A row that cannot be used is left out by the run itself, so it is a warning until few are left.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from alignment.methods.base import Method
from alignment.methods.held_out import Split, enough_share
from alignment.methods.kto import DESIRABLE_TO_UNDESIRABLE, KTO
from alignment.rows_as_tokens import ANSWERS, CHANGED, OTHER_PROMPT, RowTokens, prompt_fills
from storage import documents, prompts
from storage.errors import NotEnoughFeedback
from storage.records import DatasetType, Message

Kind = Literal["ok", "warn", "bad"]
Row = Mapping[str, Any]

LENGTH_STEP = 64  # tokens: a longer limit is offered as a multiple of this
SHORTEST_ANSWER = 8  # tokens: the form takes no fewer
MUCH_LONGER = 0.25  # of the other answers' words, and …
MOSTLY_LONGER = 0.65  # … of all pairs: then length alone tells most answers apart
FAR_BALANCE = 10.0  # times the balance that was measured to work
USUAL_SHARE = 0.1  # of the prompts, held out to measure on
TOO_MANY = 0.5  # of the rows: a fault in more of them is refused


@dataclass(frozen=True)
class WayOut:
    """What a button does: other settings, or another method with them."""

    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""

    def as_json(self) -> dict[str, Any]:
        method = {"method": self.method} if self.method else {}
        return {"label": self.label, "settings": dict(self.settings), **method}


@dataclass(frozen=True)
class Check:
    """One line of the page: what was looked at, what was found, and what to do about it."""

    kind: Kind
    title: str
    figure: str
    detail: str = ""
    ways_out: tuple[WayOut, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "ways_out": [way.as_json() for way in self.ways_out]}


@dataclass(frozen=True)
class Seen:
    """The rows as they are stored and, in the same order, as the model sees them; and what they are called.

    What is told from text alone is told of more rows than there are tokens of.
    """

    rows: Sequence[Row]
    tokens: Sequence[RowTokens]
    reads: DatasetType
    rows_are: str

    @property
    def usable(self) -> list[Row]:
        return [row for row, seen in zip(self.rows, self.tokens, strict=True) if not seen.fault]

    @property
    def longest(self) -> int:
        return max((seen.longest for seen in self.tokens if not seen.fault), default=0)

    def longer_than(self, length: int) -> int:
        return sum(seen.longest > length for seen in self.tokens if not seen.fault)


# ---- as tokens ------------------------------------------------------------------------------------------------------


def ends(seen: Seen, bos: int | None, eos: int | None) -> Check:
    """One BOS at most, and one EOS among the tokens that are learned, in every answer of every row that is used."""
    found = [_wrong_ends(one, bos, eos) for one in seen.tokens if not one.fault]
    wrong = Counter(words for words in found if words)
    detail = " ".join(f"{number} of {len(found)}: {words}" for words, number in wrong.items())
    what = "One BOS at most in every prompt" if seen.reads == "prompt_only" else ONE_OF_EACH
    return _share(what, wrong.total(), len(found), detail)


ONE_OF_EACH = "One BOS at most and one EOS in every row"
TWO_BOS = "the template and the tokenizer both write a beginning, so the model reads one it will never be given."
MORE_EOS = "the end-of-text token stands within the answer, which teaches to go on after it. Take it out of the text."
NO_EOS = "no end-of-text token is learned, so the model would not learn to stop. Choose a template that writes one."


def _wrong_ends(one: RowTokens, bos: int | None, eos: int | None) -> str:
    """The first fault of a row's beginning or end; empty where there is none. Of a prompt alone nothing is learned."""
    for answer in one.answers:
        learned = [token for token, counts in zip(answer.tokens, answer.in_loss, strict=True) if counts]
        if _count(answer.tokens, bos) > 1:
            return TWO_BOS
        if learned and _count(learned, eos) != 1:
            return MORE_EOS if _count(learned, eos) else NO_EOS
    return ""


def _count(tokens: Sequence[int], wanted: int | None) -> int:
    return 0 if wanted is None else sum(token == wanted for token in tokens)


def template_keeps(seen: Seen) -> Check:
    wrong = _with_fault(seen, CHANGED)
    detail = "These rows are left out: their answers would be learned as another text than people judged."
    return _share("The template keeps every answer as it was written", wrong, len(seen.rows), detail)


def prompt_is_prefix(seen: Seen) -> Check:
    wrong = _with_fault(seen, OTHER_PROMPT)
    detail = "These rows are left out: they would train on another prompt than the one that is asked later."
    return _share("A prompt is the same tokens with and without its answer", wrong, len(seen.rows), detail)


def long_prompts(seen: Seen, max_length: int, context: int, room: int = 1) -> list[Check]:
    """Rows that are left out because their prompts leave less than `room` tokens within the limit.

    Most of them are refused only where other settings would help. Where the model itself reads no more, the run does
    what can be done, which is to leave them out; whether enough rows remain is looked at alone.
    """
    limit = min(max_length, context)
    fault = prompt_fills(limit, room)
    longest = max((one.longest for one in seen.tokens if one.fault == fault), default=0)
    if not longest:
        return [_room_for_all(seen, limit, room)] if room > 1 else []
    length = longer_limit(longest + max(room, LENGTH_STEP), limit, context)
    left = limit - longest
    ways_out = [WayOut(_allow(length, 0), {"max_length": length})] if length else []
    if room > left >= SHORTEST_ANSWER:
        ways_out.append(WayOut(f"Answers of {left} tokens at most", {"longest_answer": left}))
    detail = "" if length else f"The model reads {context:,} tokens and no more; the run learns from the other rows."
    number = _with_fault(seen, fault)
    kind = _grade(number, len(seen.rows)) if ways_out else "warn"
    return [Check(kind, f"Left out: {fault}", f"{number} of {len(seen.rows)}", detail, tuple(ways_out))]


def _room_for_all(seen: Seen, limit: int, room: int) -> Check:
    title = f"Every prompt leaves room for {room:,} tokens of answer"
    return Check("ok", title, f"longest {seen.longest:,} of {limit:,}")


def other_faults(seen: Seen, limit: int, room: int = 1) -> list[Check]:
    """Whatever else makes a row unusable, in the words of the run that leaves it out."""
    named = (CHANGED, OTHER_PROMPT, prompt_fills(limit, room))
    found = Counter(one.fault for one in seen.tokens if one.fault and one.fault not in named)
    return [
        Check(_grade(number, len(seen.rows)), f"Left out: {fault}", f"{number} of {len(seen.rows)}")
        for fault, number in found.items()
    ]


def truncation(seen: Seen, max_length: int, context: int, costs: Mapping[int, int]) -> Check:
    """`costs`: MB more for each longer limit, for the button's words; without one, nothing here would help."""
    limit = min(max_length, context)
    cut = seen.longer_than(limit)
    if not cut:
        return Check("ok", f"Every row fits in {limit:,} tokens", f"longest {seen.longest:,}")
    detail = "These rows would lose their end, and with it the EOS."
    if seen.longest > context:
        beyond = seen.longer_than(context)
        detail += f" {beyond} are longer than the {context:,} tokens that the model reads: shorten or drop them."
    kind = _grade(cut, len(seen.rows)) if costs else "warn"
    ways_out = tuple(WayOut(_allow(length, more), {"max_length": length}) for length, more in costs.items())
    return Check(kind, f"Longer than {limit:,} tokens", _number(cut, "row"), detail, ways_out)


def longer_limit(longest: int, max_length: int, context: int) -> int | None:
    """The limit to offer: room for the longest row, within the context; None where there is nothing to gain."""
    wanted = min(context, -(-longest // LENGTH_STEP) * LENGTH_STEP)
    return wanted if longest > max_length and wanted > max_length else None


def _allow(length: int, more_mb: int) -> str:
    return f"Allow {length:,} (+{more_mb / 1024:.1f} GB)" if more_mb >= 52 else f"Allow {length:,}"


# ---- as text --------------------------------------------------------------------------------------------------------


def duplicates(seen: Seen) -> Check:
    number = len(seen.rows) - len({_text(row, seen.reads) for row in seen.rows})
    detail = "A row that comes again counts again, as if more people had said so. Drop the copies."
    return _warn("No row comes twice", number, len(seen.rows), detail)


def empty_answers(seen: Seen) -> Check:
    """An answer, or a document, of nothing but white space."""
    number = sum(any(not text.strip() for text in _answer_texts(row, seen.reads)) for row in seen.rows)
    detail = "An empty answer teaches the model to say nothing. Drop these rows."
    return _share("No answer is empty", number, len(seen.rows), detail)


def identical_pairs(seen: Seen) -> Check:
    number = sum(_said(row["chosen"]) == _said(row["rejected"]) for row in seen.rows)
    detail = "Both answers are the same, so there is nothing to prefer. Drop these rows."
    return _share("Chosen and rejected differ", number, len(seen.rows), detail)


def conflicts(seen: Seen) -> Check:
    """The same two answers preferred both ways round, or the same answer liked and disliked."""
    said: defaultdict[str, set[str]] = defaultdict(set)
    for row in seen.rows:
        about, verdict = _verdict(row, seen.reads)
        said[about].add(verdict)
    number = sum(len(verdicts) > 1 for verdicts in said.values())
    detail = "These rows say one thing and its opposite, so they only add noise. Keep the majority, or drop both."
    return _warn("No two rows contradict each other", number, len(said), detail)


def _verdict(row: Row, reads: DatasetType) -> tuple[str, str]:
    prompt = _said(row["prompt"])
    if reads == "preference":
        pair = sorted((_said(row["chosen"]), _said(row["rejected"])))
        return json.dumps([prompt, *pair]), _said(row["chosen"])
    return json.dumps([prompt, _said(row["completion"])]), str(row["label"])


def length_bias(seen: Seen) -> Check:
    """Whether length alone would tell the better answers from the worse."""
    better, worse, longer = _lengths(seen)
    difference = better - worse
    words = (
        f"{abs(difference):.0f} words {'longer' if difference > 0 else 'shorter'}" if round(difference) else "as long"
    )
    better_are = "Chosen answers" if seen.reads == "preference" else "Liked answers"
    if difference > MUCH_LONGER * worse and longer >= MOSTLY_LONGER:
        detail = (
            f"{longer:.0%} of them are longer than the others, so the model may learn length in place of quality. "
            "Compare lengths as it trains, or label pairs of similar length."
        )
        return Check("warn", f"{better_are} are longer", words, detail)
    return Check("ok", f"{better_are} are not much longer", words)


def _lengths(seen: Seen) -> tuple[float, float, float]:
    """(words of the better ones, of the worse ones, how often a better one is longer: than its own, or the usual)."""
    if seen.reads == "preference":
        pairs = [(_words(row["chosen"]), _words(row["rejected"])) for row in seen.rows]
        longer = fmean(chosen > rejected for chosen, rejected in pairs)
        return fmean(chosen for chosen, _ in pairs), fmean(rejected for _, rejected in pairs), longer
    liked = [_words(row["completion"]) for row in seen.rows if row["label"]]
    disliked = [_words(row["completion"]) for row in seen.rows if not row["label"]]
    if not liked or not disliked:
        return 0.0, 0.0, 0.0
    usual = fmean(disliked)
    return fmean(liked), usual, fmean(one > usual for one in liked)


def label_balance(learned: Sequence[Row], method: KTO) -> Check:
    """How many thumbs of each kind are learned from, and what follows for their weights."""
    up = sum(bool(row["label"]) for row in learned)
    down = len(learned) - up
    figure = f"{up} up, {down} down"
    weight_up, weight_down = method.weights_on(learned)
    weights = f"A thumb up weighs {weight_up:.3g} and a thumb down {weight_down:.3g}"
    ratio = weight_up * up / max(1e-9, weight_down * down)
    why = (
        f"{weights}, so that all thumbs up together weigh {ratio:.3g} times all thumbs down: it is easier to make an "
        "answer unlikely than to make a good one likely, so unweighted thumbs down tear a small model apart."
    )
    if method.desirable_weight is None and method.undesirable_weight is None:
        return Check("ok", "Thumbs are weighed by how rare they are", figure, why)
    return _by_hand(ratio, figure, weights)


def _by_hand(ratio: float, figure: str, weights: str) -> Check:
    off = max(ratio / DESIRABLE_TO_UNDESIRABLE, DESIRABLE_TO_UNDESIRABLE / max(ratio, 1e-9))
    detail = f"{weights}: together {ratio:.3g} to 1, where {DESIRABLE_TO_UNDESIRABLE:.0f} to 1 was measured to work."
    from_counts = WayOut("Set them from the counts", {"desirable_weight": None, "undesirable_weight": None})
    if off >= FAR_BALANCE:
        return Check("warn", "The weights of thumbs are far from balanced", figure, detail, (from_counts,))
    return Check("ok", "The weights of thumbs are balanced", figure, detail)


# ---- how many, and which side of the line ---------------------------------------------------------------------------


def enough(seen: Seen, method: type[Method], counts: Mapping[str, int]) -> Check:
    """Of the rows that can be used."""
    usable = seen.usable
    title, figure = f"Enough {seen.rows_are}", f"{len(usable):,}; needs {method.needs}"
    labels = {}
    if seen.reads == "unpaired_preference":
        up = sum(bool(row["label"]) for row in usable)
        labels = {"desirable": up, "undesirable": len(usable) - up}
    try:
        method.refuse_too_little(len(usable), {**counts, **labels})
    except NotEnoughFeedback as error:
        return Check("bad", f"Not enough {seen.rows_are}", figure, str(error))
    return Check("ok", title, figure)


def split_by_prompt(split: Split, share: float, seen: Seen) -> Check:
    """What is measured on, and that it is not what is learned."""
    of = "document" if seen.reads == "language_modeling" else "prompt"
    figure = f"{len(split.held_out):,} of {len(split.learned) + len(split.held_out):,} {seen.rows_are}"
    if split.held_out:
        detail = f"{len(split.learned):,} are learned from; no {of} is on both sides."
        return Check("ok", f"Held out by {of}, to measure on", figure, detail)
    nobody = "Nothing tells whether the run learned or only memorised, and which checkpoint was best."
    enough_to_measure = enough_share(split.learned)
    wanted = max(USUAL_SHARE, enough_to_measure) if enough_to_measure else share
    ways_out = (WayOut(f"Hold out {100 * wanted:.0f} %", {"held_out_share": wanted}),) if wanted > share else ()
    return Check("warn", "No rows are held out", figure, f"{split.note} {nobody}".strip(), ways_out)


def no_held_out(seen: Seen, held_out: Collection[str]) -> Check:
    """`held_out`: the text hashes of the prompts, or documents, that are kept for comparisons between versions."""
    number = sum(_hash(row, seen.reads) in held_out for row in seen.rows)
    of = "document" if seen.reads == "language_modeling" else "prompt"
    title, figure = f"No held-out {of} is among the rows", f"{number} of {len(held_out)}"
    if not number:
        return Check("ok", title, figure)
    detail = (
        f"Comparisons on these {of}s would praise what was learned by heart. Freeze a new snapshot: it leaves them out."
    )
    return Check("bad", f"Held-out {of}s are among the rows", figure, detail)


def licences(unknown: int, documents_in_all: int) -> Check:
    title, figure = "Every document has a licence", f"{unknown} of {documents_in_all} unknown"
    if not unknown:
        return Check("ok", title, f"{documents_in_all} of {documents_in_all}")
    detail = "Nobody noted whether these texts may be trained on. Find out before you share the model."
    return Check("warn", "Licence unknown", figure, detail)


# ---- small things ---------------------------------------------------------------------------------------------------


def _share(title: str, wrong: int, of: int, detail: str) -> Check:
    """Fine where none is wrong, refused where most are."""
    return Check(_grade(wrong, of), title, f"{of - wrong:,} of {of:,}", detail if wrong else "")


def _warn(title: str, wrong: int, of: int, detail: str) -> Check:
    """Never refused: such rows waste some of the run, not all of it."""
    return Check("warn" if wrong else "ok", title, f"{of - wrong:,} of {of:,}", detail if wrong else "")


def _grade(wrong: int, of: int) -> Kind:
    if not wrong:
        return "ok"
    return "bad" if wrong > TOO_MANY * of else "warn"


def _number(count: int, one: str) -> str:
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def _with_fault(seen: Seen, fault: str) -> int:
    return sum(one.fault == fault for one in seen.tokens)


def _said(messages: Sequence[Mapping[str, str]]) -> str:
    return json.dumps([[message["role"], message["content"]] for message in messages], ensure_ascii=False)


def _words(messages: Sequence[Mapping[str, str]]) -> int:
    return sum(len(message["content"].split()) for message in messages)


def _answer_texts(row: Row, reads: DatasetType) -> list[str]:
    if reads == "language_modeling":
        return [row["text"]]
    return [row[name][-1]["content"] for name in ANSWERS.get(reads, ())]


def _text(row: Row, reads: DatasetType) -> str:
    """What makes two rows the same."""
    if reads == "language_modeling":
        return str(row["text"])
    said = [_said(row[name]) for name in ("prompt", *ANSWERS.get(reads, ()))]
    return json.dumps([*said, row.get("label")])


def _hash(row: Row, reads: DatasetType) -> str:
    if reads == "language_modeling":
        return documents.text_hash(row["text"])
    return prompts.text_hash([Message(message["role"], message["content"]) for message in row["prompt"]])
