"""The weights of one base and of its adapters, and the batch that they answer.

Rows of several versions go through one forward pass (embedded_adapters), so a version costs the memory of its adapter
only. The batch is left-padded, with positions counted from each row's own first token, and every row draws from its own
generator, so what a row says depends on nothing else in the batch (float32).

Rows join and leave between two steps. Joining pads the shorter of the old and the new keys and values on the left;
leaving drops rows, and the columns that none of the remaining rows uses.

Not safe for threads: one thread owns it (embedded_scheduler).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from labeling.engines.attention import read_in_place
from labeling.engines.embedded_adapters import Adapters
from labeling.engines.model_folder import base_fingerprint, context_length


@dataclass(frozen=True)
class Sampling:
    """How one row is sampled. Temperature 0 is greedy. `weighed`: keep how likely each token was."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    weighed: bool = False


@dataclass(eq=False)
class Row:
    """One sequence being answered: `version` is a name that Adapters gave, or BASE; `token_ids` what it has said.

    logprobs: of each token, by the model itself: before temperature and top-p, as vLLM has it. Where it is asked for.
    """

    prompt: Sequence[int]
    version: str
    sampling: Sampling
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(f"sample {self.sampling.seed}")  # of a text: near seeds give unrelated draws


class EmbeddedModel:
    """A base with any number of adapters, and its tokenizer."""

    def __init__(self, folder: Path, max_lora_rank: int, max_model_len: int | None = None) -> None:
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        read_in_place(base)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.vocabulary: int = base.get_input_embeddings().num_embeddings
        longest = context_length(folder)
        self.max_model_len: int = min(max_model_len or longest, longest)
        self.eos_ids = _eos_ids(base.generation_config.eos_token_id, self.tokenizer.eos_token_id)
        self.adapters = Adapters(base, max_lora_rank, base_fingerprint(folder))
        self._base = base

    def decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache, versions: Sequence[str]
    ) -> Tensor:
        """Logits of the next token: (rows, vocabulary). ids, positions: (rows, new); mask: (rows, old + new)."""
        self.adapters.choose(versions)
        with torch.inference_mode():
            output = self._base(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: Tensor = output.logits[:, -1].float()
        return logits


class Batch:
    """The rows that are being answered, with their keys and values."""

    def __init__(self, model: EmbeddedModel) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._cache = DynamicCache()  # without a config: full length in every layer, so that rows can be joined
        self._mask = torch.zeros(0, 0, dtype=torch.long)

    def step(self) -> None:
        """Every row says one more token."""
        ids = torch.tensor([row.token_ids[-1:] for row in self.rows])
        positions = torch.tensor([[len(row.prompt) + len(row.token_ids) - 1] for row in self.rows])
        self._mask = functional.pad(self._mask, (0, 1), value=1)
        versions = [row.version for row in self.rows]
        _say(self.rows, self._model.forward(ids, self._mask, positions, self._cache, versions))

    def join(self, rows: Sequence[Row]) -> None:
        """Rows enter the batch and say their first token. Samples of one prompt share the reading of it."""
        numbers: dict[tuple[str, tuple[int, ...]], int] = {}
        which = [numbers.setdefault((row.version, tuple(row.prompt)), len(numbers)) for row in rows]
        versions, prompts = [version for version, _ in numbers], [prompt for _, prompt in numbers]
        ids, mask = _left_padded(prompts)
        cache = DynamicCache()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = self._model.forward(ids, mask, positions, cache, versions)
        _say(rows, logits[which])
        self._append(cache, mask, which)
        self.rows.extend(rows)

    def keep(self, indices: Sequence[int]) -> None:
        """All other rows leave."""
        if len(indices) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in indices]
        if not self.rows:
            self._cache, self._mask = DynamicCache(), self._mask[:0, :0]
            return
        mask = self._mask[indices]
        unused = int(mask.any(0).int().argmax())  # columns on the left that are padding in every row
        self._mask = mask[:, unused:]
        which = torch.tensor(indices)
        self._cache = _cache_of(
            [(keys[which, :, unused:], values[which, :, unused:]) for keys, values in _pairs(self._cache)]
        )

    def _append(self, cache: DynamicCache, mask: Tensor, which: Sequence[int]) -> None:
        mask, chosen = mask[which], torch.tensor(which)
        new = [(keys[chosen], values[chosen]) for keys, values in _pairs(cache)]
        if self.rows:
            length = max(mask.shape[1], self._mask.shape[1])
            mask = torch.cat([_pad_left(self._mask, length), _pad_left(mask, length)])
            new = [
                (_join(old_keys, keys, length), _join(old_values, values, length))
                for (old_keys, old_values), (keys, values) in zip(_pairs(self._cache), new, strict=True)
            ]
        self._mask, self._cache = mask, _cache_of(new)


def sample(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """One token a row, where the row's own draw falls in the cumulative distribution. logits: (rows, vocabulary)."""
    best: list[int] = logits.argmax(-1).tolist()
    drawing = [index for index, row in enumerate(rows) if row.sampling.temperature > 0]
    if not drawing:
        return best
    settings = [rows[index].sampling for index in drawing]
    temperatures = torch.tensor([[setting.temperature] for setting in settings])
    probabilities = torch.softmax(logits[drawing] / temperatures, -1, dtype=torch.float64)
    if any(setting.top_p < 1 for setting in settings):
        probabilities = _nucleus(probabilities, torch.tensor([[setting.top_p] for setting in settings]))
    cumulative = probabilities.cumsum(-1)
    draws = torch.tensor([[rows[index].random.random()] for index in drawing], dtype=torch.float64)
    chosen = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True).squeeze(1)
    for index, token in zip(drawing, chosen.tolist(), strict=True):
        best[index] = min(token, logits.shape[1] - 1)
    return best


def _nucleus(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """The fewest, most likely tokens that together hold at least top_p; the others become 0."""
    ordered, order = probabilities.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    dropped = (before >= top_p).scatter(-1, order, before >= top_p)
    return probabilities.masked_fill(dropped, 0.0)


def _say(rows: Sequence[Row], logits: Tensor) -> None:
    for row, token in zip(rows, sample(logits, rows), strict=True):
        row.token_ids.append(token)
    weighed = [index for index, row in enumerate(rows) if row.sampling.weighed]
    if not weighed:
        return
    logprobs = logits[weighed].log_softmax(-1)
    for place, index in enumerate(weighed):
        rows[index].logprobs.append(float(logprobs[place, rows[index].token_ids[-1]]))


def _left_padded(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """ids and mask: (prompts, longest)."""
    length = max(map(len, prompts))
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, prompt in enumerate(prompts):
        ids[index, length - len(prompt) :] = torch.tensor(prompt)
        mask[index, length - len(prompt) :] = 1
    return ids, mask


def _pad_left(mask: Tensor, length: int) -> Tensor:
    return functional.pad(mask, (length - mask.shape[1], 0))


def _join(old: Tensor, new: Tensor, length: int) -> Tensor:
    """(old rows + new rows, heads, length, width)"""
    return torch.cat([functional.pad(part, (0, 0, length - part.shape[2], 0)) for part in (old, new)])


def _pairs(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _cache_of(pairs: list[tuple[Tensor, Tensor]]) -> DynamicCache:
    return DynamicCache(pairs)


def _eos_ids(*given: int | list[int] | None) -> frozenset[int]:
    """A model may end in several ways: its generation config and its tokenizer each name some."""
    listed = (ids if isinstance(ids, list) else [ids] for ids in given if ids is not None)
    return frozenset(token for ids in listed for token in ids)
