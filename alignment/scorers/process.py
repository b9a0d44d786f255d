"""A reward model in a process of its own, for a run whose weights it does not stand on: python -m …scorers.process.

It reads text through its own tokenizer and template, so it may be of any family. The process is a child of the run:
one line of JSON in, one out, first the version and then prompts with answers. It ends when the run closes its pipe, and
the kernel ends it where the run is killed (labeling/engines/tether.py). Scores are in spreads of its own scores
(reward.json), as those of a reward model on the run's own weights are.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from alignment.methods.base import Messages, Parent
from alignment.methods.online import refuse_changed
from alignment.scoring import ended_text
from labeling.engines.adapter_check import AdapterRefused, check_reward_adapter
from labeling.engines.model_folder import base_fingerprint, check_model_folder, context_length
from labeling.engines.template import read_template
from labeling.engines.tether import tethered
from storage.errors import AppError, RunFailed
from storage.keys import without_any_key

REPOSITORY = Path(__file__).parents[2]
LAST_WORDS = 10.0  # seconds to end by itself once its pipe is closed


class RewardProcess:
    """The side of the run. Raises RunFailed where the reward model cannot be loaded, or not score any more."""

    def __init__(self, version: Parent) -> None:
        self._version = version
        self._child = subprocess.Popen(
            tethered([sys.executable, "-m", "alignment.scorers.process"], signal.SIGKILL),
            cwd=REPOSITORY,
            env=without_any_key(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask(asdict(version))

    @property
    def pid(self) -> int:
        return self._child.pid

    def __call__(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[float]:
        scores: list[float] = self._ask({"prompts": [list(prompt) for prompt in prompts], "texts": list(texts)})
        return scores

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._pipe_in.close()
        try:
            self._child.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._pipe_out.close()

    def _ask(self, question: Mapping[str, Any]) -> Any:
        line = ""
        with suppress(BrokenPipeError):
            self._pipe_in.write(json.dumps(question) + "\n")
            self._pipe_in.flush()
            line = self._pipe_out.readline()
        if not line:
            raise RunFailed(
                f"The process that scores with the reward model {self._version.id} ended (code {self._child.wait()}), "
                "most likely because memory ran out: it holds the whole reward model beside this run. Its last words "
                "are in log.txt of this run. Make room, or train a reward model from the parent, which needs none."
            )
        answer = json.loads(line)
        if "error" in answer:
            self.close()
            raise RunFailed(answer["error"])
        return answer["scores"]

    @property
    def _pipe_in(self) -> IO[str]:
        assert self._child.stdin is not None
        return self._child.stdin

    @property
    def _pipe_out(self) -> IO[str]:
        assert self._child.stdout is not None
        return self._child.stdout


# ---- the process ----------------------------------------------------------------------------------------------------


class TextScorer:
    """A reward model that is given texts. Raises AppError where it is none, or not the one it was."""

    def __init__(self, version: Parent) -> None:
        self._version = version
        base = check_model_folder(version.base_path)
        _check_adapter(version, base)  # before anything slow is imported

        from transformers import AutoTokenizer

        from labeling.engines import reward_scorer

        try:
            self._scorer = reward_scorer.load(base, version.adapter_path)
        except ValueError as error:
            raise RunFailed(f"The reward model {version.id} cannot be loaded: {error}") from error
        self._tokenizer = AutoTokenizer.from_pretrained(base)
        self._longest = context_length(base)
        _, self._bos, self._eos = read_template(base)
        self._check(reward_scorer.read_examples(version.adapter_path or base))

    def score(self, prompts: Sequence[Messages], texts: Sequence[str]) -> list[float]:
        sequences = [self.tokens(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        return [self._scorer.scale.normalised(score) for score in self._scorer.score(sequences)]

    def tokens(self, prompt: Messages, text: str) -> list[int]:
        """As it was trained to read them: through its own template, up to the answer's end."""
        messages = [*prompt, {"role": "assistant", "content": text}]
        whole = ended_text(self._version.template, messages, self._bos, self._eos)
        tokens: list[int] = self._tokenizer.encode(whole, add_special_tokens=False)
        if len(tokens) > self._longest:
            raise RunFailed(
                f"A prompt and its answer are {len(tokens):,} tokens to the reward model {self._version.id}, which "
                f"reads {self._longest:,} at most. Lower the longest answer, or leave out the longest prompts."
            )
        return tokens

    def _check(self, examples: Sequence[Any]) -> None:
        if examples:
            scores = self._scorer.score([list(example.tokens) for example in examples])
            apart = max(abs(score - example.score) for score, example in zip(scores, examples, strict=True))
            rounding = 2e-3 if self._scorer.head_weight().element_size() == 4 else 0.5  # half precision is coarse
            refuse_changed(apart, rounding * max(1.0, self._scorer.scale.std))


def _check_adapter(version: Parent, base: Path) -> None:
    if version.adapter_path:
        try:
            check_reward_adapter(Path(version.adapter_path), base_fingerprint(base))
        except AdapterRefused as error:
            raise RunFailed(f"The reward model {version.id} cannot be loaded: {error}") from error


def main() -> int:
    """Whoever asks the run to stop may send a signal to all of its group; the run says when this is over."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # as if it were not there: its import takes seconds
    speak = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes to the log, not between the answers
    scorer: TextScorer | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if scorer is None:
                scorer, scores = TextScorer(Parent(**asked)), []
            else:
                scores = scorer.score(asked["prompts"], asked["texts"])
            answer: dict[str, Any] = {"scores": scores}
        except Exception as error:  # the person at the screen gets a sentence, the log gets the traceback
            answer = {"error": _sentence(error)}
        print(json.dumps(answer), file=speak, flush=True)
    return 0


def _sentence(error: Exception) -> str:
    if isinstance(error, AppError):
        return str(error)
    traceback.print_exc()
    return f"The reward model could not score: {type(error).__name__}: {error}. The whole story is in log.txt."


if __name__ == "__main__":
    sys.exit(main())
