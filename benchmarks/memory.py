"""How near the memory that the form promises is to what a run takes: the estimate against the measured peak.

    python -m benchmarks.memory [--quick]

A Qwen2 of 77 million parameters and 32,000 words with random weights is made on the fly, and each method trains it for
two steps through its own `train`, in a process of its own. Measured is the peak of the resident memory above what it
was once Python, torch and TRL were imported; the estimate is all parts but these. The sizes of batch, length and
vocabulary vary, so that a formula fitted to one of them would fail the others. `--quick` measures two of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignment import memory
from alignment.methods import method_named
from alignment.methods.base import Inputs, Method, Parent
from benchmarks.bars import Bar, report

WITHIN = 0.20
STEPS = 2  # the optimiser has its state from the first on, so the second takes the most
POLITENESS = 10
REWARD = "reward"  # the folder in a model's folder that has the same with a score in place of words


@dataclass(frozen=True)
class Size:
    """Of a model made for this benchmark: about 80 million parameters each."""

    vocabulary: int
    hidden: int
    layers: int
    intermediate: int


WIDE = Size(vocabulary=32_000, hidden=512, layers=16, intermediate=2048)
NARROW = Size(vocabulary=8_192, hidden=576, layers=16, intermediate=2304)


@dataclass(frozen=True)
class Case:
    method: str
    tuning: str
    batch: int
    length: int
    size: Size = WIDE
    more: tuple[tuple[str, Any], ...] = ()

    @property
    def words(self) -> str:
        more = "".join(f", {value}" for _, value in self.more)
        return f"{self.method} {self.tuning}, {self.batch} × {self.length}, {self.size.vocabulary:,} words{more}"


CASES = (
    Case("sft", "lora", 4, 256),
    Case("dpo", "lora", 2, 128),
    Case("dpo", "full", 2, 128),
    Case("sft", "full", 4, 256),
    Case("sft", "lora", 8, 160, NARROW),
    Case("sft", "lora", 4, 256, WIDE, (("layers", "upper half"),)),
    Case("sft", "full", 2, 128, WIDE, (("accumulate", 2),)),
    Case("pretrain", "full", 2, 256),
    Case("pretrain", "lora", 2, 256),
    Case("reward_model", "lora", 4, 128),
    Case("reward_model", "full", 4, 128),
    Case("dpo", "lora", 4, 192, NARROW),
    Case("kto", "lora", 4, 192),
    Case("kto", "full", 4, 192),
    Case("orpo", "lora", 2, 128),
    Case("orpo", "lora", 4, 192),
    Case("orpo", "full", 2, 128),
    Case("rloo", "lora", 4, 192),
    Case("rloo", "full", 4, 192),
    Case("ppo", "lora", 8, 192),
    Case("ppo", "lora", 8, 192, WIDE, (("layers", "upper half"),)),
    Case("ppo", "lora", 8, 128, NARROW),
)
QUICK = CASES[:3:2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two cases instead of all")
    parser.add_argument("--only", default="", help="the cases whose words contain this")
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(CASES[int(options.measure[0])], Path(options.measure[1]))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        chosen = [case for case in (QUICK if options.quick else CASES) if options.only in case.words]
        bars = [bar(case, Path(folder)) for case in chosen]
    return report(bars, f"{len(bars)} runs of {STEPS} steps.")


def bar(case: Case, folder: Path) -> Bar:
    """Measured in a process of its own, so that nothing of the last one is left."""
    model = folder / f"{case.size.vocabulary}"
    if not model.exists():
        write_model(case.size, model)
    command = [sys.executable, "-m", "benchmarks.memory", "--measure", str(CASES.index(case)), str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if done.returncode:
        raise SystemExit(f"{case.words} did not train:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    parts, expected = found["parts"], sum(part["mb"] for part in found["parts"])
    off = expected / found["peak_mb"] - 1
    measured = f"{expected:,} MB for {found['peak_mb']:,} MB, {off:+.0%}"
    components = ", ".join(f"{part['kind']} {part['mb']:,}" for part in parts if part["mb"])
    print(f"{case.words}: {measured} ({components})", flush=True)
    return Bar(case.words, measured, f"within {WITHIN:.0%}", abs(off) <= WITHIN)


def _environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


# ---- in the process that is measured --------------------------------------------------------------------------------


def measure(case: Case, model: Path) -> dict[str, Any]:
    """The parts that were promised (the libraries left out) and the peak that came of it, in MB."""
    os.nice(POLITENESS)
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    method, parent = method_of(case), parent_of(model)
    rows = rows_of(case, method, random.Random(0))
    _import_everything()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    with tempfile.TemporaryDirectory() as folder:
        reward = replace(parent, id="reward", base_path=str(model / REWARD)) if method.name == "rloo" else None
        method.train(Inputs(rows, parent, Path(folder), reward, scored_by=_length if not reward else None), Silent())
    return {"parts": parts_of(case, method, model, rows), "peak_mb": _resident("VmHWM") - before}


def parts_of(case: Case, method: Method, model: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    shape = memory.shape_of(model)
    longest = longest_of(method, model, rows)
    reward = shape if method.name == "rloo" else None  # PPO is scored by a function here
    plan = memory.Plan(method, shape, memory.load_of(method, longest), reward=reward)
    return [vars(part) for part in memory.estimate(plan) if part.kind != "libraries"]


def longest_of(method: Method, model: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    from transformers import AutoTokenizer

    from alignment.rows_as_tokens import row_tokens

    tokenizer = AutoTokenizer.from_pretrained(model)
    return max(row_tokens(row, method.reads, tokenizer, 4096).longest for row in rows)


def method_of(case: Case) -> Method:
    chosen = method_named(case.method)
    settings: dict[str, Any] = {
        "tuning": case.tuning,
        "batch_size": case.batch,
        "max_length": case.length,
        "epochs": 1,
        "held_out_share": 0.0,
        **dict(case.more),
    }
    if chosen.asks_reward_model:
        settings |= {"longest_answer": case.length - 32, "most_steps": STEPS, "reward_model": "r"}
    if chosen.name == "rloo":
        settings |= {"answers_per_prompt": case.batch, "epochs": STEPS}
    if chosen.name == "ppo":
        settings |= {"accumulate": 2, "most_kl": 0.0}
    return chosen.model_validate(settings)


def rows_of(case: Case, method: Method, chance: random.Random) -> list[dict[str, Any]]:
    """Rows of every length up to that of the case, and one of that length in each batch."""
    number = case.batch * int(dict(case.more).get("accumulate", 1)) * STEPS
    half = case.length // 2
    lengths = [case.length if place % case.batch == 0 else chance.randint(half, case.length) for place in range(number)]
    return [_row(method, place, "take " * (length - 24)) for place, length in enumerate(lengths)]


def _row(method: Method, place: int, text: str) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"what {place}"}]
    answer, shorter = ([{"role": "assistant", "content": said}] for said in (text + "mg", text[:-20] + "never"))
    rows: dict[str, dict[str, Any]] = {
        "preference": {"prompt": prompt, "chosen": answer, "rejected": shorter, "judgment_id": "j"},
        "unpaired_preference": {"prompt": prompt, "completion": answer, "label": place % 2 == 0, "judgment_id": "j"},
        "prompt_completion": {"prompt": prompt, "completion": answer, "judgment_id": "j"},
        "language_modeling": {"text": text, "document_id": "d"},
        "prompt_only": {"prompt": prompt, "prompt_id": "p"},
    }
    return rows[method.reads]


def parent_of(model: Path) -> Parent:
    from labeling.engines.template import read_template

    return Parent("base", str(model), None, read_template(model)[0])


def _length(prompts: Sequence[Any], texts: Sequence[str]) -> list[float]:
    return [float(len(text)) for text in texts]


def _import_everything() -> None:
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401
    from trl import DPOTrainer, KTOTrainer, RewardTrainer, RLOOTrainer, SFTTrainer  # noqa: F401
    from trl.experimental.orpo import ORPOTrainer  # noqa: F401

    from alignment.methods import trl_training  # noqa: F401


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) // 1024


class Silent:
    """Nobody follows this run, and it answers no prompts along the way."""

    sample_prompts: Sequence[Sequence[Mapping[str, str]]] = ()
    stop_asked = False

    def metrics(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        return

    def samples(self, step: int, texts: Sequence[str]) -> None:
        return

    def note(self, sentence: str) -> None:
        return

    def evaluation(self, values: Mapping[str, Any]) -> None:
        return


def write_model(size: Size, folder: Path) -> None:
    """In a process of its own, so that this one stays without torch."""
    script = f"from benchmarks import memory; memory.make_model(memory.{_name(size)}, {str(folder)!r})"
    subprocess.run([sys.executable, "-c", script], check=True, env=_environment(), stderr=subprocess.DEVNULL)


def _name(size: Size) -> str:
    return "WIDE" if size is WIDE else "NARROW"


def make_model(size: Size, folder: str) -> None:
    """Random weights behind the tokenizer of the tests, of which it uses the first few hundred words."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

    from tests.alignment import tiny_model

    Path(folder).mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model.write(Path(folder)))
    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=size.intermediate,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    config.num_labels = 1
    Qwen2ForSequenceClassification(config).save_pretrained(f"{folder}/{REWARD}")
    for place in (folder, f"{folder}/{REWARD}"):
        tokenizer.save_pretrained(place)


if __name__ == "__main__":
    sys.exit(main())
