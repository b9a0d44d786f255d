"""Four roles on one frozen backbone: policy, reference, reward and value. Imported inside a run only.

    policy      the adapter that is trained ("default", as PEFT calls the first)
    reference   the parent: its adapter, or no adapter
    reward      the reward model's adapter and head, read at the last token, where it stands on the same base
    value       a head of one number on the policy's last hidden states

Prior art: Hydra-PPO, arXiv:2309.00754. One step further: what lies below the lowest adapted layer is the same for all
roles and never changes, so its hidden states are computed once, while sampling, and every later pass starts from them.
Rows are padded behind, where a causal model does not look, so padding moves neither positions nor values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer

from alignment.methods.base import Inputs, Parent, TunedMethod
from alignment.methods.ppo_mathematics import TokenLogProbabilities
from alignment.methods.ppo_passes import LOGITS_AT_ONCE, ROWS_AT_ONCE, TOKENS_AT_ONCE
from alignment.methods.rloo_training import ends_of
from alignment.methods.weights import let_gradients_through, loading, lora
from labeling.engines.attention import read_in_place
from labeling.engines.reward_scorer import saved_head
from storage.errors import RunFailed

POLICY, REFERENCE, REWARD = "default", "reference", "reward"


@dataclass(frozen=True)
class Row:
    """A prompt and the answer that was sampled: token ids (length,), of which the first `asked` are the prompt.

    sampled: log-probability of each answer token as it was drawn, (answer,); value: the same shape; lower: hidden
    states below the lowest adapted layer, (length - 1, width), where passes share them.
    """

    tokens: Tensor
    asked: int
    sampled: Tensor
    value: Tensor
    lower: Tensor | None

    @property
    def answer(self) -> Tensor:
        return self.tokens[self.asked :]

    @classmethod
    def of(cls, tokens: Sequence[int], device: torch.device) -> Row:
        """Text that was not sampled here, to be scored."""
        none = torch.empty(0, device=device)
        return cls(torch.tensor(tokens, device=device), len(tokens), none, none, None)


class Backbone:
    """A causal language model with its adapters, in eval mode: dropout would move the ratio away from 1."""

    def __init__(self, model: PeftModel, ends: Iterable[int], head: Tensor | None = None) -> None:
        whole = model.get_base_model()
        self.model = model.eval()
        self.body = getattr(whole, whole.base_model_prefix)
        self.output = whole.get_output_embeddings()
        self.reward_head = None if head is None else head.to(model.device, torch.float32)
        self.value_head = nn.Linear(self.output.weight.shape[1], 1).to(model.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self.ends = torch.tensor(sorted(ends), device=model.device)
        self._reference = REFERENCE if REFERENCE in model.peft_config else None
        self._layers = next(name for name, part in self.body.named_children() if isinstance(part, nn.ModuleList))
        self.shared = self._lowest(POLICY)

    @property
    def device(self) -> torch.device:
        return self.value_head.weight.device

    @property
    def equal(self) -> float:
        """How far two ways of computing a log-probability or a score may lie apart by rounding."""
        return 2e-3 if self.computes_as_it_samples else 0.5

    @property
    def computes_as_it_samples(self) -> bool:
        """With a KV cache and without, the same to rounding. In half precision the difference is no rounding."""
        return self.output.weight.dtype == torch.float32 and not getattr(self.model, "is_quantized", False)

    def learned(self) -> list[nn.Parameter]:
        policy = [weight for name, weight in self.model.named_parameters() if f".{POLICY}." in name]
        return [*policy, *self.value_head.parameters()]

    # ---- passes over whole rows

    def read(
        self, rows: Sequence[Row], temperature: float, role: str = POLICY, entropy_too: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability, entropy and value at each answer token, (rows, longest answer) each, nought behind."""
        hidden, lengths = self._at_answers(rows, role)
        tokens = torch.cat([row.answer for row in rows])
        found = TokenLogProbabilities.apply(
            hidden, self.output.weight, tokens, temperature, entropy_too, LOGITS_AT_ONCE
        )
        values = self.value_head(hidden.float()).squeeze(-1)
        logp, entropy, value = (pad_sequence(part.split(lengths), batch_first=True) for part in (*found, values))
        return logp, entropy, value

    def read_all(self, rows: Sequence[Row], temperature: float, role: str) -> tuple[Tensor, Tensor]:
        """Log-probability and value at each answer token of any number of rows, (rows, longest answer) each."""
        logps, values = ([torch.empty(0)] * len(rows) for _ in range(2))
        for part in in_passes(rows):
            with torch.no_grad():
                logp, _, value = self.read([rows[place] for place in part], temperature, role)
            for number, place in enumerate(part):
                own = len(rows[place].answer)
                logps[place], values[place] = logp[number, :own], value[number, :own]
        return pad_sequence(logps, batch_first=True), pad_sequence(values, batch_first=True)

    def scores(self, rows: Sequence[Row]) -> Tensor:
        """The reward model's raw score of each row, read at its last token. (rows,)"""
        found = torch.zeros(len(rows), device=self.device)
        for part in in_passes(rows):
            with torch.no_grad():
                found[part] = self._scores([rows[place] for place in part])
        return found

    def _scores(self, rows: Sequence[Row]) -> Tensor:
        if self.reward_head is None:
            raise RunFailed("There is no reward model on this backbone.")
        hidden = self._hidden(rows, REWARD, read_last=True)
        last = torch.tensor([len(row.tokens) - 1 for row in rows], device=self.device)
        at_end = hidden[torch.arange(len(rows), device=self.device), last]
        return linear(at_end.float(), self.reward_head).squeeze(-1)

    def _at_answers(self, rows: Sequence[Row], role: str) -> tuple[Tensor, list[int]]:
        """The hidden states that predict the answers' tokens, one row's after the other. (answer tokens, width)"""
        hidden = self._hidden(rows, role)
        parts = [hidden[index, row.asked - 1 : len(row.tokens) - 1] for index, row in enumerate(rows)]
        return torch.cat(parts), [len(part) for part in parts]

    def _hidden(self, rows: Sequence[Row], role: str, read_last: bool = False) -> Tensor:
        """(rows, longest, width). The last token predicts nothing more, so only a reward needs it read."""
        with self.role(role):
            upto = None if read_last else -1
            lower = [row.lower[:upto] for row in rows if row.lower is not None]
            if len(lower) == len(rows) and self._lowest(role) >= self.shared:
                with self._from_shared():
                    body = self.body(inputs_embeds=pad_sequence(lower, batch_first=True), use_cache=False)
            else:
                ids = pad_sequence([row.tokens[:upto] for row in rows], batch_first=True)
                body = self.body(input_ids=ids, use_cache=False)
        hidden: Tensor = body.last_hidden_state
        return hidden

    # ---- sampling

    def sample(self, prompts: Sequence[Sequence[int]], longest: int, temperature: float) -> list[Row]:
        """An answer to each prompt, in their order; prompts of like length are sampled together."""
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        rows: dict[int, Row] = {}
        for start in range(0, len(order), ROWS_AT_ONCE):
            batch = order[start : start + ROWS_AT_ONCE]
            asked = [prompts[index] for index in batch]
            with torch.no_grad():
                sampled = Sampling(self, asked, longest, temperature).to_the_end()
            rows |= dict(zip(batch, sampled, strict=True))
        return [rows[index] for index in range(len(prompts))]

    # ---- roles

    @contextmanager
    def role(self, name: str) -> Iterator[None]:
        """Run as this role. Only the policy is ever trainable; PEFT would make trainable what it switches to."""
        adapter = self._reference if name == REFERENCE else name
        if adapter == POLICY:
            yield
        elif adapter is None:
            with self.model.disable_adapter():
                yield
        else:
            self.model.base_model.set_adapter(adapter, inference_mode=True)
            try:
                yield
            finally:
                self.model.base_model.set_adapter(POLICY)

    def _lowest(self, role: str) -> int:
        """The lowest layer that the role changes; behind all layers for the base itself."""
        adapter = self._reference if role == REFERENCE else role
        if adapter is None:
            return len(self._stack)
        layers = self.model.peft_config[adapter].layers_to_transform
        return min(layers) if layers else 0

    @property
    def _stack(self) -> nn.ModuleList:
        stack: nn.ModuleList = getattr(self.body, self._layers)
        return stack

    @contextmanager
    def _from_shared(self) -> Iterator[None]:
        whole = self._stack
        setattr(self.body, self._layers, whole[self.shared :])
        try:
            yield
        finally:
            setattr(self.body, self._layers, whole)

    @contextmanager
    def noting_lower(self, noted: list[Tensor]) -> Iterator[None]:
        """Appends what goes into the lowest adapted layer, (rows, tokens, width), at each pass."""
        if not self.shared:
            with nullcontext():
                yield
            return
        hook = self._stack[self.shared].register_forward_pre_hook(
            lambda module, given, named: noted.append(given[0] if given else named["hidden_states"]), with_kwargs=True
        )
        try:
            yield
        finally:
            hook.remove()


class Sampling:
    """One batch of answers, a token at a time, with a KV cache; answers that have ended leave the batch."""

    def __init__(self, backbone: Backbone, prompts: Sequence[Sequence[int]], longest: int, temperature: float) -> None:
        self.backbone, self.temperature = backbone, temperature
        self.prompts = [torch.tensor(prompt, device=backbone.device) for prompt in prompts]
        self.alive = torch.arange(len(prompts), device=backbone.device)
        self.lengths = torch.zeros_like(self.alive)
        self.tokens = self.alive.new_zeros(len(prompts), longest)
        self.logp = torch.zeros(len(prompts), longest, device=backbone.device)
        self.values = torch.zeros_like(self.logp)
        self.lower: list[list[Tensor]] = [[] for _ in prompts]
        self.cache = DynamicCache(config=backbone.body.config)
        self.cache.layers = [Roomy(longest) if type(one) is DynamicLayer else one for one in self.cache.layers]
        asked = [torch.ones_like(prompt) for prompt in self.prompts]
        self.mask = pad_sequence(asked, batch_first=True, padding_side="left")

    def to_the_end(self) -> list[Row]:
        """Where lower hidden states are shared, an answer's last token is read too: its reward is read there."""
        hidden = self._read(pad_sequence(self.prompts, batch_first=True, padding_side="left"))
        for number in range(self.tokens.shape[1]):
            drawn = self._draw(hidden, number)
            goes_on = ~torch.isin(drawn, self.backbone.ends) & (number + 1 < self.tokens.shape[1])
            if not self.backbone.shared:
                drawn, goes_on = self._keep(goes_on, drawn), goes_on[goes_on]
            if not len(drawn):
                break
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(drawn), 1)], 1)
            hidden = self._keep(goes_on, self._read(drawn[:, None]))
        return [self._row(index) for index in range(len(self.prompts))]

    def _read(self, tokens: Tensor) -> Tensor:
        """The last hidden state behind these tokens, (alive, tokens), of each answer: (alive, width)."""
        noted: list[Tensor] = []
        real = self.mask[:, -tokens.shape[1] :].bool()
        with self.backbone.noting_lower(noted):
            hidden: Tensor = self.backbone.body(
                input_ids=tokens,
                attention_mask=self.mask,
                position_ids=(self.mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :],
                past_key_values=self.cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
        for lower in noted:
            for place, index in enumerate(self.alive.tolist()):
                self.lower[index].append(lower[place, real[place]])
        return hidden

    def _draw(self, hidden: Tensor, number: int) -> Tensor:
        logp = (self.backbone.output(hidden).float() / self.temperature).log_softmax(-1)
        drawn = drawn_from(logp.exp())
        self.tokens[self.alive, number] = drawn.squeeze(1)
        self.logp[self.alive, number] = logp.gather(1, drawn).squeeze(1)
        self.values[self.alive, number] = self.backbone.value_head(hidden.float()).squeeze(-1)
        self.lengths[self.alive] += 1
        return drawn.squeeze(1)

    def _keep(self, goes_on: Tensor, values: Tensor) -> Tensor:
        """Let the others leave the batch; of `values`, (alive, …), those that stay."""
        if not goes_on.all():
            self.alive, self.mask = self.alive[goes_on], self.mask[goes_on]
            self.cache.batch_select_indices(goes_on.nonzero().squeeze(1))
        return values[goes_on]

    def _row(self, index: int) -> Row:
        asked, own = self.prompts[index], slice(int(self.lengths[index]))
        lower = torch.cat(self.lower[index]) if self.lower[index] else None
        tokens = torch.cat([asked, self.tokens[index, own]])
        return Row(tokens, len(asked), self.logp[index, own].clone(), self.values[index, own].clone(), lower)


class Roomy(DynamicLayer):  # type: ignore[misc, unused-ignore]  # transformers has no types here
    """Keys and values of one layer, with room for `longest` tokens more: else each token would copy them all."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self._longest, self._read = longest, 0
        self._all: tuple[Tensor, ...] = ()  # keys and values, (answers, heads, tokens, width) each

    def update(self, keys: Tensor, values: Tensor, *given: Any, **named: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
            answers, heads, asked, width = keys.shape
            self._all = tuple(one.new_empty(answers, heads, asked + self._longest, width) for one in (keys, values))
        place = slice(self._read, self._read + keys.shape[2])
        for room, new in zip(self._all, (keys, values), strict=True):
            room[:, :, place] = new
        self._read = place.stop
        return self._seen()

    def batch_select_indices(self, indices: Tensor) -> None:
        self._all = tuple(one[indices] for one in self._all)
        self._seen()

    def _seen(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (one[:, :, : self._read] for one in self._all)
        return self.keys, self.values


# ---- how it is put together -----------------------------------------------------------------------------------------


def load(method: TunedMethod, inputs: Inputs, tokenizer: Any, reward: Parent | None) -> Backbone:
    """The base once, with the policy's adapter, the parent's where it has one, the reward model's where it is given."""
    base: Any = AutoModelForCausalLM.from_pretrained(inputs.parent.base_path, **loading(method))
    if torch.cuda.is_available():
        base = base.to("cuda")
    read_in_place(base)
    base = let_gradients_through(base).requires_grad_(False)
    if inputs.parent.adapter_path:
        model = PeftModel.from_pretrained(base, inputs.parent.adapter_path, is_trainable=True)
        model.load_adapter(inputs.parent.adapter_path, REFERENCE)
    else:
        model = get_peft_model(base, lora(method, base))
    head = None
    if reward and reward.adapter_path:
        add_reward(model, reward.adapter_path)
        head = saved_head(reward.adapter_path)
    model.base_model.set_adapter(POLICY)
    return Backbone(model, ends_of(model, tokenizer), head)


def add_reward(model: PeftModel, folder: str) -> None:
    """The adapter of a sequence classifier, on a causal model: the same matrices, its head kept apart."""
    config = LoraConfig.from_pretrained(folder)
    config.task_type, config.modules_to_save, config.inference_mode = "CAUSAL_LM", None, True
    model.add_adapter(REWARD, config)
    weights = {name: weight for name, weight in load_peft_weights(folder, device="cpu").items() if "lora_" in name}
    outcome = set_peft_model_state_dict(model, weights, adapter_name=REWARD)
    missing = [name for name in outcome.missing_keys if f".{REWARD}." in name]
    if outcome.unexpected_keys or missing:
        raise RunFailed(
            f"The reward model's adapter does not fit the parent's base ({len(outcome.unexpected_keys)} of its "
            f"matrices have no place, {len(missing)} places stay empty). Train a reward model from this base."
        )


def drawn_from(chances: Tensor) -> Tensor:
    """An index from each row, by its chance: where the running sum passes a uniform number. (rows, 1)

    torch.multinomial draws a number for each word of the vocabulary, which is a third of the work of a step.
    """
    sums = chances.cumsum(1)
    above_nought = 1 - torch.rand(len(chances), 1, device=chances.device)  # so that no word without a chance is drawn
    return torch.searchsorted(sums, above_nought * sums[:, -1:])


def in_passes(rows: Sequence[Row]) -> list[list[int]]:
    """Which rows are read together: like in length, so that there is little padding, and not too many at once."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].tokens))
    passes: list[list[int]] = []
    for index in order:
        tokens = rows[index].tokens
        if passes and (len(passes[-1]) + 1) * len(tokens) <= TOKENS_AT_ONCE[tokens.device.type]:
            passes[-1].append(index)
        else:
            passes.append([index])
    return passes
