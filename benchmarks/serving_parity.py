"""Is what is served what was trained? Greedy tokens of the trainer's own libraries, the embedded server and vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from labeling.engines.client import EngineClient

NEAR = 1e-3  # logits so close together are a tie within rounding: float32 sums come in another order in a batch

Asked = tuple[str, tuple[int, ...]]
"""(version, token ids of the prompt)"""


@dataclass(frozen=True)
class Difference:
    """Where a server first said another token than the trainer, and how far apart the two best were there."""

    engine: str
    version: str
    prompt: int
    token: int
    gap: float

    @property
    def is_tie(self) -> bool:
        return self.gap < NEAR


def greedy_of_server(
    client: EngineClient, names: dict[str, str], asked: Sequence[Asked], tokens: int
) -> list[list[int]]:
    """All in one batch, as far as the server takes them. `names`: version → the server's name for it."""

    def ask(http: httpx.Client, one: Asked) -> list[int]:
        body = {"model": names[one[0]], "prompt": list(one[1]), "temperature": 0, "max_tokens": tokens}
        ids: list[int] = http.post("/v1/completions", json=body | {"return_token_ids": True}).json()["choices"][0][
            "token_ids"
        ]
        return ids

    with httpx.Client(base_url=client.url, timeout=600) as http, ThreadPoolExecutor(64) as pool:
        return list(pool.map(lambda one: ask(http, one), asked))


class Trainer:
    """The weights as training has them: transformers and PEFT, float32, one prompt at a time."""

    def __init__(self, base: Path, adapters: dict[str, Path]) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(base)
        load = AutoModelForCausalLM.from_pretrained
        self._models: dict[str, Any] = {"base": load(base, dtype=torch.float32).eval()}
        for name, folder in adapters.items():
            self._models[name] = PeftModel.from_pretrained(load(base, dtype=torch.float32), folder).eval()

    def greedy(self, one: Asked, tokens: int) -> list[int]:
        import torch

        version, prompt = one
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            answer = self._models[version].generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens
            )
        said: list[int] = answer[0, len(prompt) :].tolist()
        return said

    def gap(self, one: Asked, said: Sequence[int]) -> float:
        """Between the logits of its two likeliest next tokens."""
        import torch

        version, prompt = one
        with torch.inference_mode():
            best = self._models[version](torch.tensor([[*prompt, *said]])).logits[0, -1].topk(2).values
        return float(best[0] - best[1])


def differences(
    trainer: Trainer, engine: str, asked: Sequence[Asked], trained: Sequence[list[int]], served: Sequence[list[int]]
) -> list[Difference]:
    found = []
    for place, (one, ours, theirs) in enumerate(zip(asked, trained, served, strict=True)):
        if ours != theirs:
            pairs = zip(ours, theirs, strict=False)
            at = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
            found.append(Difference(engine, one[0], place, at, trainer.gap(one, ours[:at])))
    return found
