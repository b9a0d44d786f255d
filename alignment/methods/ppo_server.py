"""A model server as PPO's sampler: it answers with the policy as it is now. Imported inside a run only.

Each iteration writes the policy's adapter into a folder of its own, has the server load it under a name of its own,
asks for one answer a prompt, unloads it and deletes the folder. No name and no path ever comes twice: a server keeps
what it has computed by name and path, and would answer with the weights of the iteration before. Unloading comes first:
deleting the folder of a loaded adapter can end a server.

Decisions a reader would question:

* Each answer has a seed of its own, made of the run's seed, the iteration and its place, so a run that is resumed asks
  for the very answers that one which was not stopped asks for.
* The server computes a little otherwise than the update. What it says of its tokens only weighs them (ppo_training.py);
  where that lies further off than rounding can explain, it serves other weights, and the run ends.
* Where an answer ends is decided here, by the ends that the run knows, and not by the server's.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from uuid import uuid4

import torch

from alignment.methods.base import Inputs, Parent
from alignment.methods.ppo_backbone import POLICY, Backbone, Row
from labeling.engines.client import EngineClient, SampledTokens
from labeling.engines.model_folder import base_fingerprint, check_model_folder, write_base_mark
from storage.errors import AppError, EngineRefused, EngineUnavailable, ModelNotLoadable, RunFailed, WrongKey
from storage.keys import SAMPLING_KEY, key_in

FOLDER = "sampler"  # in the run's directory
IN_FLIGHT = 64


class ServerSampler:
    """Raises RunFailed, with what to do, whenever the server cannot answer for this run."""

    def __init__(self, inputs: Inputs, seed: int) -> None:
        try:
            self._client = EngineClient(inputs.sampled_by, key_in(SAMPLING_KEY))
        except EngineRefused as error:
            raise RunFailed(f"{error} Set it before Plumbline is started, and resume the run.") from error
        self._parent, self._seed = inputs.parent, seed
        self._run, self._folder = inputs.folder.name, inputs.folder.resolve() / FOLDER
        with self._in_words():
            refuse_other_base(self._client, inputs.parent)
            self._sweep()

    def sample(self, backbone: Backbone, prompts: Sequence[Sequence[int]], longest: int, noise: str) -> list[Row]:
        """An answer to each prompt, in their order. `noise`: another word, other answers."""
        seeds = [seed_of(self._seed, noise, place) for place in range(len(prompts))]
        with self._in_words(), self._served(backbone) as name:
            sampled = self._ask(name, prompts, seeds, longest)
        return [self._row(backbone, *pair, longest) for pair in zip(prompts, sampled, strict=True)]

    def close(self) -> None:
        self._client.close()
        with suppress(OSError):  # something is left in it, or it was never made
            self._folder.rmdir()

    # ---- the adapter of an iteration

    @contextmanager
    def _served(self, backbone: Backbone) -> Iterator[str]:
        """The name under which the server knows the policy as it is now."""
        name = f"{self._run}-{uuid4().hex[:16]}"
        backbone.model.save_pretrained(str(self._folder / name), selected_adapters=[POLICY])
        write_base_mark(self._folder / name, self._parent.base_path)
        try:
            self._load(name)
            yield name
        finally:
            with suppress(EngineUnavailable):  # what is left is swept when the run is resumed
                self._let_go(name)

    def _load(self, name: str) -> None:
        """A lost connection is tried again where the server, asked for its models, does not know the name."""
        path = str(self._folder / name)
        try:
            self._client.load_adapter(name, path)
        except EngineUnavailable:
            if name not in self._client.models():
                self._client.load_adapter(name, path)

    def _let_go(self, name: str) -> None:
        if name in self._client.models():
            self._client.unload_adapter(name)
        shutil.rmtree(self._folder / name)

    def _sweep(self) -> None:
        """What an attempt that was killed has left, here and on the server."""
        for left in sorted(self._folder.glob("*")):
            self._let_go(left.name)

    # ---- the answers

    def _ask(
        self, name: str, prompts: Sequence[Sequence[int]], seeds: Sequence[int], longest: int
    ) -> list[SampledTokens]:
        def ask(prompt: Sequence[int], seed: int) -> SampledTokens:
            return self._client.sample_tokens(name, prompt, max_tokens=longest, seed=seed)

        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            try:
                return list(pool.map(ask, prompts, seeds))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _row(self, backbone: Backbone, prompt: Sequence[int], sampled: SampledTokens, longest: int) -> Row:
        """What lies below the adapted layers was not computed here, and its values will be: see ppo_training.py."""
        answer = whole_answer(sampled, backbone.ends.tolist(), longest)
        logprobs = torch.tensor(answer.logprobs, dtype=torch.float32, device=backbone.device)
        tokens = torch.tensor([*prompt, *answer.token_ids], device=backbone.device)
        return Row(tokens, len(prompt), logprobs, torch.zeros_like(logprobs), None)

    # ---- what went wrong

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Every failure of the server, as the end of a run and with the way on."""
        url = self._client.url
        try:
            yield
        except WrongKey as error:
            raise RunFailed(
                f"The model server at {url} wants another key. Put it into the variable {SAMPLING_KEY} before "
                f"Plumbline is started, and resume the run. ({error})"
            ) from error
        except EngineUnavailable as error:
            raise RunFailed(
                f"The model server at {url}, which was to answer for this run, is gone or was never there. Start it "
                f"with the base {self._parent.base_path} and resume the run. ({error.__cause__ or error})"
            ) from error
        except ModelNotLoadable as error:
            raise RunFailed(
                f"{error} The server at {url} must take adapters while it runs (vLLM: --enable-lora, --max-lora-rank "
                "of at least the adapter's rank, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment) and see "
                "the folder of this run under the same path. Start it so, and resume the run."
            ) from error
        except RunFailed:
            raise
        except AppError as error:
            raise RunFailed(
                f"The model server at {url} could not answer for this run. {error} Mend that and resume the run, or "
                "start it anew with its answers coming from its own process."
            ) from error


def refuse_other_base(client: EngineClient, parent: Parent) -> None:
    """Raises RunFailed where the server's base can be read here and is another than the parent's.

    Where it cannot, its first answers will tell: see `refuse_other_weights`.
    """
    root = client.base_root()
    try:
        served = base_fingerprint(check_model_folder(root))
    except ModelNotLoadable:
        return
    if served != base_fingerprint(check_model_folder(parent.base_path)):
        raise RunFailed(
            f"The model server at {client.url} serves {root}, and this run trains {parent.base_path}: an adapter of "
            "the one means nothing on the other. Start the server with the base of the run."
        )


def refuse_other_weights(gap: float, equal: float) -> None:
    """`gap`: how far, on average, its log-probabilities lie from ours. Raises RunFailed beyond what is rounding."""
    if gap > equal:
        raise RunFailed(
            f"The model server gives its words other chances than this run does (log-probabilities lie {gap:.3g} apart "
            "on average), so it does not answer with the weights that are trained. Start it with the base of this run "
            "and without settings that change its answers, and resume the run."
        )


def whole_answer(sampled: SampledTokens, ends: Sequence[int], longest: int) -> SampledTokens:
    """Up to its first end. Raises RunFailed where it has none and is shorter than it should be.

    vLLM gives fewer tokens than were asked for, without a word, where the context is full.
    """
    length = next((place for place, token in enumerate(sampled.token_ids, 1) if token in ends), longest)
    if len(sampled.token_ids) < length:
        raise RunFailed(
            f"The model server ended an answer after {len(sampled.token_ids)} tokens, where the run takes {longest} or "
            "the end of a turn. Start it with a longer context (--max-model-len) and with the tokenizer of the run's "
            "base, and resume the run."
        )
    return SampledTokens(sampled.token_ids[:length], sampled.logprobs[:length])


def seed_of(seed: int, noise: str, place: int) -> int:
    """Of one answer: below 2**31, which every server takes. Near places give unrelated numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed} {noise} {place}".encode()).digest()[:4], "big") >> 1
