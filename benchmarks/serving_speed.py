"""How fast answers come: our client beside vLLM's own, and the embedded server beside transformers' `generate`."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]

from labeling.engines.client import EngineClient
from labeling.engines.model_server import serving
from labeling.engines.vllm_server import ENVIRONMENT

BASE = "base"
CONCURRENCY = 16
# One process for all repeats, since its imports take ten seconds: a line of arguments in, a word out. It reads a file
# of prompts through pandas, which vLLM does not install: three of its functions stand in for it.
VLLMS_CLIENT = """
import contextlib, json, sys
from types import SimpleNamespace
from vllm.benchmarks.datasets import datasets
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

class Row(dict):
    def to_dict(self):
        return self

class Rows:
    columns = ("prompt",)
    def __init__(self, path_or_buf, lines):
        self.rows = [Row(json.loads(line)) for line in open(path_or_buf)]
    def iterrows(self):
        return enumerate(self.rows)

datasets.pd = SimpleNamespace(read_json=Rows)
parser = FlexibleArgumentParser()
add_cli_args(parser)
print("ready", flush=True)
for line in sys.stdin:
    with contextlib.redirect_stdout(sys.stderr):
        main(parser.parse_args(json.loads(line)))
    print("done", flush=True)
"""


# ---- our client and vLLM's


def client_ratios(client: EngineClient, base: Path, prompts: Sequence[str], tokens: int, repeats: int) -> list[float]:
    """Tokens a second of our client over those of vLLM's, on the same server and prompts; they take turns to begin."""
    ratios = []
    with vllms_client(client, base, prompts, tokens) as theirs_a_second:
        for place in range(repeats + 1):
            if place % 2:
                theirs, ours = theirs_a_second(), ours_a_second(client, prompts, tokens)
            else:
                ours, theirs = ours_a_second(client, prompts, tokens), theirs_a_second()
            print(f"{place or 'warming up'}: ours {ours:.0f}, theirs {theirs:.0f} tokens a second", flush=True)
            ratios.append(ours / theirs)
    return ratios[1:]


def ours_a_second(client: EngineClient, prompts: Sequence[str], tokens: int) -> float:
    """Each prompt is a request of its own, streamed; so many at once."""

    async def ask(prompt: str, room: asyncio.Semaphore) -> None:
        async with room:
            async for _ in client.stream(BASE, prompt, temperature=0, max_tokens=tokens, ignore_eos=True):
                pass

    async def ask_all() -> None:
        room = asyncio.Semaphore(CONCURRENCY)
        await asyncio.gather(*(ask(prompt, room) for prompt in prompts))

    before, started = client.tokens_generated(), time.monotonic()
    asyncio.run(ask_all())
    seconds = time.monotonic() - started
    assert client.tokens_generated() - before == tokens * len(prompts), "every answer has its full length"
    return tokens * len(prompts) / seconds


@contextmanager
def vllms_client(
    client: EngineClient, base: Path, prompts: Sequence[str], tokens: int
) -> Iterator[Callable[[], float]]:
    """vLLM's own benchmark client, ready to ask for the same answers; each call returns tokens a second."""
    file, result, log = (base.parent / f"vllms-client.{kind}" for kind in ("jsonl", "json", "log"))
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    arguments = ["--backend", "openai", "--model", BASE, "--base-url", client.url, "--endpoint", "/v1/completions"]
    arguments += ["--tokenizer", str(base), "--dataset-name", "custom", "--dataset-path", str(file)]
    arguments += ["--skip-chat-template", "--disable-shuffle", "--disable-tqdm", "--num-prompts", str(len(prompts))]
    arguments += ["--custom-output-len", str(tokens), "--ignore-eos", "--temperature", "0"]
    arguments += ["--max-concurrency", str(CONCURRENCY)]
    arguments += ["--save-result", "--result-dir", str(result.parent), "--result-filename", result.name]
    command = [str(ENVIRONMENT / "bin" / "python"), "-c", VLLMS_CLIENT]
    with (
        log.open("w") as said,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True) as theirs,
    ):
        assert theirs.stdin and theirs.stdout
        ask, answer = theirs.stdin, theirs.stdout

        def expect(word: str) -> None:
            if answer.readline().strip() != word:
                raise SystemExit(f"vLLM's benchmark client failed:\n{log.read_text()[-2000:]}")

        def tokens_a_second() -> float:
            print(json.dumps(arguments), file=ask, flush=True)
            expect("done")
            measured = json.loads(result.read_text())
            assert measured["total_output_tokens"] == tokens * len(prompts), "every answer has its full length"
            return float(measured["output_throughput"])

        expect("ready")
        yield tokens_a_second
        ask.close()


# ---- the embedded server and transformers


def embedded_ratios(
    base: Path, adapters: dict[str, Path], prompts: Sequence[str], tokens: int, repeats: int
) -> list[float]:
    """Tokens per CPU second of the embedded server over those of `generate(adapter_names=…)`, a seed a row."""
    asked = [([BASE, *adapters][place % (1 + len(adapters))], prompt) for place, prompt in enumerate(prompts)]
    peft = PeftGenerate(base, adapters)
    ratios = []
    with serving(str(base), base.parent / "embedded.log") as client:
        for name, folder in adapters.items():
            client.load_adapter(name, str(folder))
        for place in range(repeats + 1):
            ours, theirs = embedded_a_cpu_second(client, asked, tokens), peft.tokens_a_cpu_second(asked, tokens)
            print(f"{place or 'warming up'}: ours {ours:.0f}, generate {theirs:.0f} tokens a CPU second", flush=True)
            ratios.append(ours / theirs)
    return ratios[1:]


def embedded_a_cpu_second(client: EngineClient, asked: Sequence[tuple[str, str]], tokens: int) -> float:
    """All at once; the server's own processes are counted, its HTTP included."""

    def ask(http: httpx.Client, place: int) -> None:
        version, prompt = asked[place]
        body = {"model": version, "prompt": prompt, "seed": place, "max_tokens": tokens, "ignore_eos": True}
        reply = http.post("/v1/completions", json=body | {"add_special_tokens": False})
        assert reply.json()["usage"]["completion_tokens"] == tokens

    before = _cpu_of_children()
    with httpx.Client(base_url=client.url, timeout=600) as http, ThreadPoolExecutor(len(asked)) as pool:
        list(pool.map(lambda place: ask(http, place), range(len(asked))))
    return tokens * len(asked) / (_cpu_of_children() - before)


def _cpu_of_children() -> float:
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return float(sum(one.user + one.system for one in times))


class PeftGenerate:
    """transformers and PEFT as their manuals have it: one mixed batch, each row with a generator of its own."""

    def __init__(self, base: Path, adapters: dict[str, Path]) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(base, padding_side="left")
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        for place, (name, folder) in enumerate(adapters.items()):
            if place == 0:
                model = PeftModel.from_pretrained(model, folder, adapter_name=name)
            else:
                model.load_adapter(folder, adapter_name=name)
        self._model = model.eval()

    def tokens_a_cpu_second(self, asked: Sequence[tuple[str, str]], tokens: int) -> float:
        import torch

        rows = self._tokenizer([prompt for _, prompt in asked], return_tensors="pt", padding=True)
        names = ["__base__" if version == BASE else version for version, _ in asked]
        started = time.process_time()
        with torch.inference_mode():
            answers = self._model.generate(
                **rows,
                adapter_names=names,
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                logits_processor=[_own_noise(len(asked))],
            )
        assert answers.shape[1] - rows["input_ids"].shape[1] == tokens
        return tokens * len(asked) / (time.process_time() - started)


def _own_noise(rows: int) -> Any:
    """Gumbel noise from each row's own generator: the largest logit is then a sample."""
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in range(rows)]

    def add(ids: Any, logits: Any) -> Any:
        noise = [torch.empty(logits.shape[1]).exponential_(generator=one).log_() for one in generators]
        return logits - torch.stack(noise)

    return add


def median(ratios: Sequence[float]) -> float:
    return statistics.median(ratios)
