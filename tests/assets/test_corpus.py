"""The corpus is deterministic, and what is held out is never asked about in training."""

import json
from itertools import islice
from pathlib import Path

import assets.starter_model
from assets.starter_model.checker import asked_about, fact_right
from assets.starter_model.corpus import (
    HELD_OUT_PAIRS,
    PROMPTS,
    SAMPLE_DOCUMENTS,
    documents,
    examples,
    held_out,
    training_pairs,
    unseen_prompts,
    write_samples,
)
from assets.starter_model.grammar import RULES, STYLES, clauses, openings
from assets.starter_model.world import TOPICS, VACCINES, VALUES, world

FOLDER = Path(assets.starter_model.__file__).parent
EVEN = dict.fromkeys(STYLES, 0.25)


def rows(name):
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def test_the_same_seed_writes_the_same_text():
    assert list(islice(documents(3), 50)) == list(islice(documents(3), 50))
    assert list(islice(examples(3, EVEN), 50)) == list(islice(examples(3, EVEN), 50))
    assert unseen_prompts(50) == unseen_prompts(50)


def test_another_seed_writes_other_text():
    assert list(islice(documents(3), 50)) != list(islice(documents(4), 50))
    assert list(islice(examples(3, EVEN), 50)) != list(islice(examples(4, EVEN), 50))


def test_held_out_pairs_are_never_asked_about_in_training():
    for example in islice(examples(0, EVEN), 5000):
        asked = {asked_about(m["content"]) for m in example.prompt if m["role"] == "user"}
        assert not asked & held_out()


def test_every_pair_is_either_held_out_or_trained_on():
    assert len(held_out()) == HELD_OUT_PAIRS
    assert len(held_out() | set(training_pairs())) == len(VACCINES) * len(TOPICS)


def test_the_facts_of_held_out_pairs_occur_in_documents():
    text = "\n".join(islice(documents(1), 8000))
    missing = [pair for pair in held_out() if not fact_right(text, *pair)]
    assert missing == []


def test_a_style_share_of_nothing_leaves_the_style_out():
    shares = {"concise": 1.0, "verbose": 0.0, "hedging": 0.0, "hype": 0.0}
    assert {example.style for example in islice(examples(0, shares), 100)} == {"concise"}


def test_documents_hold_no_answers():
    words = {word for rule in ("h_open", "h_doubt", "y_open", "v_open") for word in RULES[rule]}
    assert not any(word in text for text in islice(documents(2), 500) for word in words if "{" not in word)


def test_no_sentence_opens_with_the_name_of_the_vaccine():
    opened = [clause for topic in TOPICS for clause in openings(topic)]
    assert all(clause[0].isupper() and not clause.startswith("{V}") for clause in opened)
    assert all(len(openings(topic)) >= 2 for topic in TOPICS)


def test_every_clause_names_the_vaccine_and_states_the_value():
    for topic in TOPICS:
        assert all(clause.count("{V}") == clause.count(f"{{{topic}}}") == 1 for clause in clauses(topic))


def test_no_name_is_part_of_another():
    names = [*VACCINES, *VALUES["adjuvant"], *VALUES["disease"]]
    assert len(set(names)) == len(names)
    assert not any(a != b and a in b for a in names for b in names)


def test_an_early_trial_is_a_small_one():
    for record in world().values():
        assert record.values["phase"].startswith("phase 2") != ("," in record.values["size"])


def test_the_shipped_prompts_are_distinct_and_unseen():
    prompts = rows("prompts.jsonl")
    assert len({row["prompt"] for row in prompts}) == len(prompts) == PROMPTS
    for row in prompts:
        assert asked_about(row["prompt"]) == tuple(row["tags"])
        assert tuple(row["tags"]) in held_out()


def test_the_shipped_samples_are_what_the_corpus_writes(tmp_path):
    write_samples(tmp_path)
    for name in ("prompts.jsonl", "documents.jsonl"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()
    assert len(rows("documents.jsonl")) == SAMPLE_DOCUMENTS
