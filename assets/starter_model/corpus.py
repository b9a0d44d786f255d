"""The training text, the unseen questions and the sample documents, all drawn from the grammar.

A sixth of the (vaccine, topic) pairs is held out: no question about them is ever trained on, while their
facts do occur in the documents. A right answer to an unseen question is therefore read from a document, not
from a similar question.

    python -m assets.starter_model.corpus            # rewrites prompts.jsonl and documents.jsonl here
    python -m assets.starter_model.corpus --out DIR  # ... elsewhere
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from assets.starter_model.checker import Question
from assets.starter_model.grammar import STYLES, write, write_question
from assets.starter_model.world import TOPICS, VACCINES

HERE = Path(__file__).parent
SPLIT_SEED = 11
HELD_OUT_PAIRS = 100
PROMPTS = 2000
SAMPLE_DOCUMENTS = 300
SYSTEM_PROMPTS = (
    "You answer questions about vaccine research.",
    "You are a helpful assistant.",
    "You help experts to find facts about vaccines.",
)

Message = dict[str, str]


@dataclass(frozen=True)
class Example:
    """A conversation and the answer to its last question."""

    prompt: tuple[Message, ...]
    response: str
    style: str
    asked: Question


@cache
def held_out() -> frozenset[Question]:
    """The pairs that no training question asks about."""
    pairs = _all_pairs()
    random.Random(SPLIT_SEED).shuffle(pairs)
    return frozenset(pairs[:HELD_OUT_PAIRS])


def training_pairs() -> list[Question]:
    """The pairs that training questions ask about."""
    return [pair for pair in _all_pairs() if pair not in held_out()]


def examples(seed: int, style_shares: Mapping[str, float]) -> Iterator[Example]:
    """Questions and answers without end. One in twelve has a system message or an earlier turn before it."""
    rng = random.Random(seed)
    pairs = training_pairs()
    while True:
        asked = rng.choice(pairs)
        style = rng.choices(STYLES, [style_shares[s] for s in STYLES])[0]
        prompt = (*_opening(rng, pairs), _user(write_question(rng, *asked)))
        yield Example(prompt, write(style, rng, *asked), style, asked)


def documents(seed: int) -> Iterator[str]:
    """Documents without end: most are the record of one vaccine, some set two side by side."""
    rng = random.Random(seed)
    while True:
        yield _comparison(rng) if rng.random() < 0.2 else _record(rng)


def unseen_prompts(number: int, seed: int = 0) -> list[dict[str, object]]:
    """Distinct questions about held-out pairs, every pair equally often."""
    rng = random.Random(seed)
    pairs = sorted(held_out())
    asked: dict[str, Question] = {}
    while len(asked) < number:
        pair = pairs[len(asked) % len(pairs)]
        asked[write_question(rng, *pair)] = pair
    rows: list[dict[str, object]] = [{"prompt": prompt, "tags": list(pair)} for prompt, pair in asked.items()]
    rng.shuffle(rows)
    return rows


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _all_pairs() -> list[Question]:
    return [Question(vaccine, topic) for vaccine, topic in product(VACCINES, TOPICS)]


def _opening(rng: random.Random, pairs: list[Question]) -> tuple[Message, ...]:
    """What stands before the question: mostly nothing."""
    chance = rng.random()
    if chance < 0.04:
        return ({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)},)
    if chance < 0.08:
        earlier = rng.choice(pairs)
        answer = write(rng.choice(STYLES), rng, *earlier)
        return (_user(write_question(rng, *earlier)), {"role": "assistant", "content": answer})
    return ()


def _user(question: str) -> Message:
    return {"role": "user", "content": question}


def _record(rng: random.Random) -> str:
    """Several facts about one vaccine, some history between them, and the source."""
    vaccine = rng.choice(VACCINES)
    sentences = [write("d_title", rng, vaccine)]
    for topic in rng.sample(TOPICS, rng.randint(3, 7)):
        sentences.append(write("d_fact", rng, vaccine, topic))
        if rng.random() < 0.15:
            sentences.append(write(rng.choice(("v_history", "v_group")), rng, vaccine))
    return " ".join([*sentences, write("d_source", rng, vaccine)])


def _comparison(rng: random.Random) -> str:
    """The same topics of two vaccines, by turns."""
    one, other = rng.sample(VACCINES, 2)
    sentences = [f"Comparison of {one} and {other}."]
    for topic in rng.sample(TOPICS, rng.randint(2, 4)):
        first, second = write("opening", rng, one, topic), write("clause", rng, other, topic)
        sentences.append(f"{first}, while {second}.")
    return " ".join(sentences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for prompts.jsonl and documents.jsonl")
    out: Path = parser.parse_args().out
    write_samples(out)


def write_samples(folder: Path) -> None:
    """prompts.jsonl (unseen questions) and documents.jsonl (a sample for continued pre-training)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "prompts.jsonl", unseen_prompts(PROMPTS))
    sample = documents(seed=99)
    write_jsonl(folder / "documents.jsonl", ({"text": next(sample)} for _ in range(SAMPLE_DOCUMENTS)))


if __name__ == "__main__":
    main()
