"""A world so small that every answer can be listed: what is true of it needs no sampling.

Four prompts of four symbols; answers of at most three of eleven symbols, then an end: 1,464 answers to each. So the
reward and the KL of any model are sums over all of them, and so is the optimum of reward - beta KL,
p*(y|x) = p_ref(y|x) exp(r(x, y) / beta) / Z(x)  (Eq. 4 of arXiv:2305.18290).

What a reader would question: the reward reads an answer as a person would, decoded, without <pad>. But a model may say
<pad>, so it is one of the eleven symbols here, and answers that differ only in it have the same reward. All prompts
have the same length, so that the longest row cuts an answer of three symbols before its end, as sampling does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignment.methods.base import Messages

PAD, END = 0, 1
SYMBOLS = ("<pad>", "<eos>", *"abcdefghij")
SAID = tuple(token for token in range(len(SYMBOLS)) if token != END)
PROMPTS = ("abab", "bcde", "fgfg", "hija")
LONGEST = 3  # symbols of an answer
LONGEST_ROW = 4 + LONGEST
TEMPLATE = "{%- for m in messages -%}{{ m['content'] + ('<eos>' if m['role'] == 'assistant' else '') }}{%- endfor -%}"


# ---- what can be said, and what it is worth


def answers() -> list[tuple[int, ...]]:
    """Every answer as tokens; those of three symbols are cut before an end."""
    one = [(first,) for first in SAID]
    two = [(*begun, then) for begun in one for then in SAID]
    three = [(*begun, then) for begun in two for then in SAID]
    return [*((*begun, END) for begun in [(), *one, *two]), *three]


def text_of(answer: Sequence[int]) -> str:
    return "".join(SYMBOLS[token] for token in answer if token != END)


def worth(weights: Sequence[float], text: str) -> float:
    """Each symbol has a weight, saying one again costs 0.8, and two symbols are the right number."""
    said = text.replace(SYMBOLS[PAD], "")
    return (
        sum(weights[SYMBOLS.index(symbol)] for symbol in said) - 0.8 * (len(said) - len(set(said))) + (len(said) == 2)
    )


def weights_of_symbols() -> dict[str, list[float]]:
    """For each prompt, drawn once from a normal distribution."""
    noise = torch.Generator().manual_seed(5)
    return {prompt: torch.randn(len(SYMBOLS), generator=noise).tolist() for prompt in PROMPTS}


class TrueReward:
    """What a run is scored by."""

    def __init__(self) -> None:
        self.weights = weights_of_symbols()
        self.asked = 0

    def __call__(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[float]:
        self.asked += len(texts)
        asked = [prompt[-1]["content"] for prompt in prompts]
        return [worth(self.weights[prompt], text) for prompt, text in zip(asked, texts, strict=True)]


# ---- the truth


@dataclass(frozen=True)
class Point:
    """Where a policy stands: its KL from the reference, in nats an answer, and its reward, means over the prompts."""

    kl: float
    reward: float


class Truth:
    """reference: log-probability of every answer, rewards: its reward; (prompts, answers), float64."""

    def __init__(self, reference: Tensor, rewards: Tensor) -> None:
        self.reference, self.rewards = reference.double(), rewards.double()

    @cached_property
    def start(self) -> float:
        """The reward of the reference."""
        return self.place(self.reference).reward

    @cached_property
    def most(self) -> float:
        return float(self.rewards.max(1).values.mean())

    def place(self, logp: Tensor) -> Point:
        p = logp.double().exp()
        return Point(
            kl=float((p * (logp.double() - self.reference)).sum(1).mean()),
            reward=float((p * self.rewards).sum(1).mean()),
        )

    def objective(self, logp: Tensor, beta: float) -> Tensor:
        """reward - beta KL, with a gradient. logp: (prompts, answers)"""
        return (logp.exp() * (self.rewards - beta * (logp - self.reference))).sum(1).mean()

    def optimum(self, beta: float) -> Point:
        return self.place((self.reference + self.rewards / beta).log_softmax(1))

    def share(self, point: Point, beta: float) -> float:
        """Of what the optimum gains in reward - beta KL over the reference, how much this policy gains."""
        best = self.optimum(beta)
        return (point.reward - beta * point.kl - self.start) / (best.reward - beta * best.kl - self.start)

    def missing(self, point: Point) -> float:
        """Reward missing to the frontier at the same KL, of all that could be gained over the reference."""
        return (self.best_at(point.kl).reward - point.reward) / (self.most - self.start)

    def best_at(self, kl: float) -> Point:
        """The point of the frontier with this KL: its beta is found by halving, because KL falls as beta grows."""
        low, high = -7.0, 7.0  # log beta
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self.optimum(float(torch.tensor(middle).exp())).kl > kl else (low, middle)
        return self.optimum(float(torch.tensor(high).exp()))

    def best_of(self, n: int) -> Point:
        """The best of n answers of the reference: the chance that none is better, less that all are worse."""
        found = []
        for logp, rewards in zip(self.reference, self.rewards, strict=True):
            p = logp.exp()
            _, level = rewards.unique(return_inverse=True)  # answers of the same reward are one level
            at_level = torch.zeros(int(level.max()) + 1, dtype=p.dtype).index_add(0, level, p)
            upto = at_level.cumsum(0) / at_level.sum()
            chance = upto**n - (upto - at_level / at_level.sum()).clamp(min=0) ** n
            found.append((p * (chance / at_level)[level]).clamp(min=1e-300).log())
        return self.place(torch.stack(found))


# ---- the model of this world


def write_base(folder: Path) -> Path:
    """A Qwen2 with random weights, two layers of 32, as from_pretrained reads it.

    Its config names no padding: the embedding of <pad> would be nought, and no adapter could make <pad> less likely.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    letters = Tokenizer(models.BPE(vocab={symbol: token for token, symbol in enumerate(SYMBOLS)}, merges=[]))
    letters.pre_tokenizer, letters.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(SYMBOLS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=END,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def load(base: Path, adapter: Path | None = None) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return (PeftModel.from_pretrained(model, str(adapter)) if adapter else model).eval()


def log_probabilities(model: Any) -> Tensor:
    """Of every answer to every prompt, in the order of `answers`: (prompts, answers).

    One pass over all beginnings of two symbols gives them all: what follows nothing, one symbol, and two.
    """
    begun = torch.tensor([(first, second) for first in SAID for second in SAID])
    asked = torch.tensor([[SYMBOLS.index(symbol) for symbol in prompt] for prompt in PROMPTS])
    rows = torch.cat([asked.repeat_interleave(len(begun), 0), begun.repeat(len(asked), 1)], 1)
    logp = model(input_ids=rows).logits[:, asked.shape[1] - 1 :].log_softmax(-1)
    return torch.stack([_answers_of(one) for one in logp.view(len(asked), len(begun), LONGEST, len(SYMBOLS))])


def _answers_of(logp: Tensor) -> Tensor:
    """logp: (beginnings of two, place, symbols), of which what follows fewer symbols is the same many times over."""
    said = list(SAID)
    first, second, third = logp[0, 0], logp[:: len(said), 1], logp[:, 2]
    one = first[said]
    two = (one[:, None] + second[:, said]).flatten()
    three = (two[:, None] + third[:, said]).flatten()
    return torch.cat([first[[END]], one + second[:, END], two + third[:, END], three])


class World:
    """The base on disk, and the truth about it."""

    def __init__(self, folder: Path) -> None:
        self.base = write_base(folder)
        self.weights = weights_of_symbols()
        self.texts = [text_of(answer) for answer in answers()]
        rewards = [[worth(self.weights[prompt], text) for text in self.texts] for prompt in PROMPTS]
        with torch.no_grad():
            reference = log_probabilities(load(self.base))
        self.truth = Truth(reference, torch.tensor(rewards, dtype=torch.float64))

    def place(self, adapter: Path) -> Point:
        with torch.no_grad():
            return self.truth.place(log_probabilities(load(self.base, adapter)))

    def prompts(self) -> list[dict[str, Any]]:
        return [{"prompt": _message("user", prompt), "prompt_id": prompt} for prompt in PROMPTS]

    def pairs(self, number: int, seed: int) -> list[dict[str, Any]]:
        """Two answers of the reference each, and which is the better one as people say it, who err.

        The first is preferred with the chance sigmoid(its reward - that of the other) (Bradley and Terry 1952).
        """
        noise = torch.Generator().manual_seed(seed)
        p, rewards = self.truth.reference.exp(), self.truth.rewards
        rows = []
        for turn in range(number):
            prompt = turn % len(PROMPTS)
            first, second = torch.multinomial(p[prompt], 2, replacement=True, generator=noise).tolist()
            chance = torch.sigmoid(rewards[prompt, first] - rewards[prompt, second])
            better = bool(torch.rand((), generator=noise) < chance)
            chosen, rejected = (first, second) if better else (second, first)
            rows.append({
                "prompt": _message("user", PROMPTS[prompt]),
                "chosen": _message("assistant", self.texts[chosen]),
                "rejected": _message("assistant", self.texts[rejected]),
                "judgment_id": str(turn),
            })  # fmt: skip
        return rows


def _message(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]
