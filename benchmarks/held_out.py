"""Held-out measures taken by code of their own: the loss of a version on rows, and pairs that a reward model orders."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.preferred import rater_likes
from labeling.answering import Answering, rendered, seed_of
from labeling.engines.reward_scorer import load
from storage.records import DatasetType, ModelVersion, Prompt

SAMPLES = 4
RESAMPLES = 2000
AT_ONCE = 16

Pair = tuple[Prompt, str, str]  # prompt, the liked answer, the other


def losses(version: ModelVersion, rows: Sequence[Mapping[str, Any]], reads: DatasetType) -> list[float]:
    """For each row the mean negative log-likelihood of the tokens that training learns from."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from alignment.rows_as_tokens import row_tokens

    tokenizer = AutoTokenizer.from_pretrained(version.base_path)
    tokenizer.chat_template = version.template
    model: Any = AutoModelForCausalLM.from_pretrained(version.base_path, dtype=torch.float32)
    if version.adapter_path:
        model = PeftModel.from_pretrained(model, version.adapter_path)
    model.eval()
    found = []
    for row in rows:
        answer = row_tokens(row, reads, tokenizer, model.config.max_position_embeddings).answers[0]
        length = model.config.max_position_embeddings
        ids, in_loss = torch.tensor(answer.tokens[:length]), torch.tensor(answer.in_loss[:length])
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
        found.append(float(each[in_loss[1:]].mean()))
    return found


def bootstrap(values: Sequence[float], seed: int) -> tuple[float, float]:
    """A 95 % percentile interval of the mean."""
    chance = random.Random(seed)
    means = sorted(sum(chance.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def sampled_pairs(engines: Answering, version: ModelVersion, prompts: Sequence[Prompt], seed: int) -> list[Pair]:
    """One pair a prompt, from the version's own samples at T = 1, where the rater likes one and not another."""
    client, name = engines.client(version.id)

    def ask(prompt: Prompt) -> Pair | None:
        drawn = seed_of("pairs", seed, prompt.text, version.id)
        answers = client.complete(
            name, rendered(version, prompt), n=SAMPLES, temperature=1.0, max_tokens=160, seed=drawn
        )
        liked = [one.text for one in answers if rater_likes(prompt.text, one.text)]
        others = [one.text for one in answers if not rater_likes(prompt.text, one.text)]
        return (prompt, liked[0], others[0]) if liked and others else None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [pair for pair in pool.map(ask, prompts) if pair]


def ordered_pairs(version: ModelVersion, pairs: Sequence[Pair]) -> int:
    """How many of the pairs a reward model scores in the rater's order."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(version.base_path)
    tokenizer.chat_template = version.template

    def tokens(prompt: Prompt, text: str) -> list[int]:
        asked = [message.as_dict() for message in prompt.messages]
        whole = [*asked, {"role": "assistant", "content": text}]
        return list(tokenizer.apply_chat_template(whole, tokenize=True, return_dict=True)["input_ids"])

    scorer = load(version.base_path, version.adapter_path)
    liked = scorer.score([tokens(prompt, better) for prompt, better, _ in pairs])
    others = scorer.score([tokens(prompt, worse) for prompt, _, worse in pairs])
    return sum(better > worse for better, worse in zip(liked, others, strict=True))
