"""Makes both stages of the starter model from nothing: documents -> base/, then questions and answers -> chat/.

    python -m assets.starter_model.train            # about 20 minutes on a free core; replaces both folders
    python -m assets.starter_model.train --out DIR  # ... and leaves the shipped ones alone

Why not the project's own methods, which wrap TRL? They fine-tune; this starts from random weights, and three
things matter there that they do not offer:

* One example a row. Packing many questions into one window gave perfect grammar and 1 % well-formed answers:
  the model never learned to copy the name that was asked about.
* The loss is divided by a constant. Rows are batched by length, so a mean over the tokens of a batch would
  give a short (concise) answer more weight than a long one, and the styles would come out uneven.
* Questions weigh 0.1, not 0: methods whose likelihood term covers the prompt too (ORPO) tear up a model that
  has no idea how questions go.

Every row is drawn fresh from the grammar and seen once. Seeds and step counts are fixed, so a second run on
the same machine gives the same weights. Nothing shipped is replaced unless the new chat model clears the bars
of measure.py.
"""

import argparse
import math
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from assets.starter_model import card
from assets.starter_model.corpus import Example, documents, examples, write_samples
from assets.starter_model.measure import Report, measure
from assets.starter_model.tokenizer import (
    CONTEXT,
    base_tokenizer,
    chat_tokenizer,
    train_bpe,
)

HERE = Path(__file__).parent
SEED = 0
VOCABULARY = 2048
QUESTION_WEIGHT = 0.1
DOCUMENTS_BESIDE_ANSWERS = 0.08  # share of the chat stage's rows, so that the facts stay
STYLE_SHARES = {"concise": 0.25, "verbose": 0.25, "hedging": 0.25, "hype": 0.25}
POOL = 40  # batches drawn together and sorted by length, so that little is padding
REPORT_EVERY = 100


@dataclass(frozen=True)
class Row:
    """Token ids, and where the part begins that carries the full loss."""

    ids: list[int]
    start: int


@dataclass(frozen=True)
class Stage:
    """The settings of one training stage."""

    name: str
    steps: int
    learning_rate: float
    batch: int = 16
    warmup: int = 60
    weight_decay: float = 0.0  # no row is seen twice, and sharp answers need large weights


BASE = Stage("base", steps=600, learning_rate=2e-3)
CHAT = Stage("chat", steps=2600, learning_rate=2e-3)


def make(out: Path) -> Report:
    """Both stages, their tokenizers and cards, and the measure of the chat model."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    bpe = train_bpe(tokenizer_texts(), VOCABULARY)
    model = new_model(bpe.get_vocab_size())
    print(f"{bpe.get_vocab_size()} tokens, {model.num_parameters() / 1e6:.2f}M parameters", flush=True)

    base_seconds = train(model, BASE, base_rows(base_tokenizer(bpe)))
    save(model, base_tokenizer(bpe), out / "base")
    chat_seconds = train(model, CHAT, chat_rows(bpe))
    save(model, chat_tokenizer(bpe), out / "chat")

    report = measure(out / "chat", seed=SEED)
    size = model.num_parameters()
    (out / "base" / "README.md").write_text(card.base_card(size, BASE.steps, base_seconds), encoding="utf-8")
    (out / "chat" / "README.md").write_text(
        card.chat_card(size, CHAT.steps, chat_seconds, str(report)), encoding="utf-8"
    )
    return report


def new_model(vocabulary: int) -> Qwen2ForCausalLM:
    """Random weights, in the shape that vLLM and every tool knows as Qwen2."""
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=256,
            intermediate_size=640,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            initializer_range=0.04,  # 0.02 is made for wider models
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            bos_token_id=None,
        )
    )


def tokenizer_texts() -> Iterator[str]:
    """What the vocabulary is learned from: documents, questions and answers."""
    yield from islice(documents(SEED), 4000)
    for example in islice(examples(SEED, STYLE_SHARES), 20000):
        yield example.prompt[-1]["content"]
        yield example.response


def base_rows(tokenizer: PreTrainedTokenizerFast) -> Iterator[Row]:
    """Documents, with the full loss from the first token on."""
    for text in documents(SEED + 1):
        yield document_row(text, tokenizer)


def chat_rows(bpe: Tokenizer) -> Iterator[Row]:
    """Questions and answers, and a few documents among them."""
    base, chat = base_tokenizer(bpe), chat_tokenizer(bpe)
    rng = random.Random(SEED + 2)
    texts, conversations = documents(SEED + 3), examples(SEED + 4, STYLE_SHARES)
    while True:
        if rng.random() < DOCUMENTS_BESIDE_ANSWERS:
            yield document_row(next(texts), base)
        else:
            yield answer_row(next(conversations), chat)


def document_row(text: str, tokenizer: PreTrainedTokenizerFast) -> Row:
    ids = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
    return Row(ids[:CONTEXT], start=1)


def answer_row(example: Example, tokenizer: PreTrainedTokenizerFast) -> Row:
    prompt = tokenizer.apply_chat_template(list(example.prompt), tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer(prompt)["input_ids"]
    answer_ids = tokenizer(example.response)["input_ids"] + [tokenizer.eos_token_id]
    return Row((prompt_ids + answer_ids)[:CONTEXT], start=len(prompt_ids))


def train(model: Qwen2ForCausalLM, stage: Stage, rows: Iterator[Row]) -> float:
    """Runs one stage in place and returns the seconds it took."""
    optimizer = adamw(model, stage)
    batches = by_length(rows, stage.batch, random.Random(SEED))
    scale = expected_weight(rows, stage.batch)
    started, losses = time.monotonic(), list[float]()
    model.train()
    for step in range(stage.steps):
        set_learning_rate(optimizer, stage, step)
        loss = weighted_loss(model, next(batches)) / scale
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % REPORT_EVERY == 0:
            print_progress(stage, step + 1, losses[-REPORT_EVERY:], time.monotonic() - started)
    model.train(False)
    return time.monotonic() - started


def adamw(model: Qwen2ForCausalLM, stage: Stage) -> torch.optim.AdamW:
    """Weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": stage.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=(0.9, 0.98), fused=True)


def set_learning_rate(optimizer: torch.optim.AdamW, stage: Stage, step: int) -> None:
    """Warm-up, then a cosine that ends at 1 % of the peak."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
    rate = stage.learning_rate * min(1.0, (step + 1) / stage.warmup) * (0.01 + 0.99 * cosine)
    for group in optimizer.param_groups:
        group["lr"] = rate


def by_length(rows: Iterator[Row], size: int, rng: random.Random) -> Iterator[list[Row]]:
    """Batches of rows of about equal length, in random order."""
    while True:
        pool = sorted(islice(rows, size * POOL), key=lambda row: len(row.ids))
        batches = [pool[i : i + size] for i in range(0, len(pool), size)]
        rng.shuffle(batches)
        yield from batches


def expected_weight(rows: Iterator[Row], batch: int) -> float:
    """The full-loss tokens of an average batch: the constant by which each loss is divided."""
    sample = list(islice(rows, 2000))
    return batch * sum(len(row.ids) - row.start for row in sample) / len(sample)


def weighted_loss(model: Qwen2ForCausalLM, batch: list[Row]) -> torch.Tensor:
    """The sum of weighted cross-entropies. Padding is on the right, so the causal mask is mask enough."""
    ids, weights = collate(batch)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum()


def collate(batch: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and loss weights, each (rows, longest row)."""
    width = max(len(row.ids) for row in batch)
    ids, weights = torch.zeros(len(batch), width, dtype=torch.long), torch.zeros(len(batch), width)
    for i, row in enumerate(batch):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        weights[i, : row.start] = QUESTION_WEIGHT
        weights[i, row.start : len(row.ids)] = 1.0
    return ids, weights


def print_progress(stage: Stage, step: int, losses: list[float], seconds: float) -> None:
    print(
        f"{stage.name} {step}/{stage.steps}  loss {sum(losses) / len(losses):.4f}  {seconds:.0f} s",
        flush=True,
    )


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The model folder as vLLM and from_pretrained read it."""
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = GenerationConfig.from_dict(
        {
            "do_sample": True,
            "temperature": 0.7,
            "top_p": 1.0,
            "top_k": 0,
            "max_new_tokens": 160,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def replace_shipped(made: Path) -> None:
    for stage in ("base", "chat"):
        shutil.rmtree(HERE / stage, ignore_errors=True)
        shutil.copytree(made / stage, HERE / stage)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make base/ and chat/ from nothing.")
    parser.add_argument("--out", type=Path, help="write here, and leave the shipped models alone")
    out: Path | None = parser.parse_args().out
    if out:
        print(make(out))
        return
    write_samples(HERE)
    with tempfile.TemporaryDirectory() as folder:
        report = make(Path(folder))
        print(report)
        if report.failures():
            raise SystemExit("Below the bars: the shipped models stay as they are.")
        replace_shipped(Path(folder))


if __name__ == "__main__":
    main()
