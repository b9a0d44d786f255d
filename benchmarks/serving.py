"""Served by vLLM, live: is it fast, faithful, at once, and does it survive?

    python -m benchmarks.serving [--quick]

Of the starter model, float32, with the embedded server and the vLLM of `.venv-vllm` (`make vllm`):

* our client beside vLLM's own benchmark client, on one server: requests of fixed length, streamed, the same prompts and
  concurrency, in turn, medians of the ratios;
* the embedded server beside `generate(adapter_names=…)`, four versions mixed, a seed a row, tokens per CPU second;
* from a run's end to the first token of its version, less what the server itself takes to load it; the app looks twice
  a second, and the longest wait for that is counted in;
* what is left of vLLM five seconds after the app was killed, idle and with requests in flight;
* vLLM's engine killed while the pool of answers fills;
* greedy tokens of transformers with PEFT, the embedded server and vLLM, base and four adapters in one batch.

--quick takes fewer and shorter requests, and leaves out what takes many repeats (our client beside vLLM's) or another
start of vLLM (the kills).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from transformers.utils import logging

from benchmarks.bars import Bar, report
from benchmarks.serving_parity import Asked, Difference, Trainer, differences, greedy_of_server
from benchmarks.serving_speed import client_ratios, embedded_ratios, median
from benchmarks.starter_rows import STARTER, messages, questions
from labeling.assignment import Queue
from labeling.engines.client import EngineClient
from labeling.engines.model_server import serving
from labeling.engines.supervisor import Engines, ServedVersion
from labeling.engines.template import read_template, render
from labeling.engines.vllm_server import VLLM, installed
from labeling.first_project import add_first_project
from labeling.sampling import Sampler
from storage import projects, responses
from storage.database import Database
from storage.records import ModelVersion
from tests.app_process import AppProcess, wait_until

ADAPTERS = ("v1", "v2", "v3", "v4")
LOOKS_EVERY = 0.5  # seconds: how often the app sees whether a run has ended
GONE_WITHIN = 5.0
PATIENCE = 600.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="shorter, without vLLM's client and the kills: at most a minute"
    )
    quick = parser.parse_args().quick
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # as train.py does; its import takes seconds
    logging.disable_progress_bar()
    if not installed():
        raise SystemExit("This needs vLLM: `make vllm` installs it.")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        adapters = {name: strong_adapter(home / name, seed) for seed, name in enumerate(ADAPTERS, start=1)}
        bars = [*speed_and_faith(home, adapters, quick), embedded_bar(home, adapters, quick)]
        if not quick:
            bars += [left_after_kill("idle"), left_after_kill("in flight"), engine_killed(home)]
    return report(bars, f"{STARTER.name}, {os.cpu_count()} cores.")


# ---- speed, readiness and parity, on one vLLM


def speed_and_faith(home: Path, adapters: dict[str, Path], quick: bool) -> list[Bar]:
    with Engines(home / "logs", VLLM()) as engines:
        versions = [_version(name, adapters) for name in ("base", *ADAPTERS)]
        engines.serve(versions[:-1])
        engines.wait_ready(*(one.id for one in versions[:-1]), timeout=PATIENCE)
        late = seconds_to_first_token(engines, versions)
        client, _ = engines.client("base")
        measured = [] if quick else [client_bar(client_ratios(client, _copy_for(home), prompts(256), 64, 9))]
        parity = parity_bars(home, engines, adapters, 6 if quick else 50, 32 if quick else 64)
    ready = "a run's end to its version's first token, beyond the server's load"
    return [*measured, Bar(ready, f"{late:.2f} s", "≤ 2 s", late <= 2), *parity]


def client_bar(ratios: Sequence[float]) -> Bar:
    ratio = median(ratios)
    return Bar(
        "256 streamed requests, our client over vLLM's own, tokens/s",
        f"{ratio:.3f} ({min(ratios):.2f} to {max(ratios):.2f})",
        "at least 0.97",
        ratio >= 0.97,
    )


def seconds_to_first_token(engines: Engines, versions: Sequence[ServedVersion]) -> float:
    """Of the last version, from being wanted; the same adapter loaded under another name is what loading takes."""
    client, _ = engines.client("base")
    newest = versions[-1]
    began = time.monotonic()
    client.load_adapter("the-load-alone", str(newest.adapter_path))
    client.complete("the-load-alone", "x", max_tokens=1)
    load = time.monotonic() - began
    client.unload_adapter("the-load-alone")
    began = time.monotonic()
    engines.serve(versions)
    engines.wait_ready(newest.id, timeout=PATIENCE)
    client, name = engines.client(newest.id)
    client.complete(name, "x", max_tokens=1)
    return LOOKS_EVERY + time.monotonic() - began - load


def parity_bars(home: Path, engines: Engines, adapters: dict[str, Path], number: int, tokens: int) -> list[Bar]:
    trainer = Trainer(STARTER, adapters)
    ids = [tuple(trainer.tokenizer.encode(prompt, add_special_tokens=False)) for prompt in prompts(number)]
    asked: list[Asked] = [(version, prompt) for prompt in ids for version in ("base", *adapters)]
    trained = [trainer.greedy(one, tokens) for one in asked]
    client, _ = engines.client("base")
    names = {version: engines.client(version)[1] for version in ("base", *adapters)}
    vllm = greedy_of_server(client, names, asked, tokens)
    with serving(str(STARTER), home / "embedded.log") as embedded:
        for name, folder in adapters.items():
            embedded.load_adapter(name, str(folder))
        ours = greedy_of_server(embedded, {name: name for name in names}, asked, tokens)
    return [
        parity_bar(engine, len(asked), differences(trainer, engine, asked, trained, served))
        for engine, served in (("vLLM", vllm), ("the embedded server", ours))
    ]


def parity_bar(engine: str, asked: int, found: Sequence[Difference]) -> Bar:
    for one in found:
        print(one, "a tie within rounding" if one.is_tie else "NOT a tie", flush=True)
    ties = sum(one.is_tie for one in found)
    measured = f"{asked - len(found)} of {asked} identical" + (f", {ties} ties" if ties else "")
    return Bar(f"greedy tokens of {engine} and the trainer", measured, "all but ties", len(found) == ties)


def embedded_bar(home: Path, adapters: dict[str, Path], quick: bool) -> Bar:
    three = dict(list(adapters.items())[:3])
    ratio = median(embedded_ratios(_copy_for(home), three, prompts(64), 32 if quick else 128, 1 if quick else 5))
    what = "embedded server over generate(adapter_names), tokens per CPU second"
    return Bar(what, f"{ratio:.2f}", "at least 1.2", ratio >= 1.2)


# ---- kills


def left_after_kill(when: str) -> Bar:
    """The app is killed with -9 while it manages vLLM."""
    with tempfile.TemporaryDirectory() as home:
        app = AppProcess(Path(home), environment={"PLUMBLINE_ENGINE": "vllm"}).wait_ready()
        client = _client_of(Path(home))
        busy = when == "in flight"
        wait_until(f"vLLM is {when}", PATIENCE, lambda: (client.load().running > 0) == busy and _settled(client, busy))
        children = psutil.Process(app.pid).children(recursive=True)
        began = time.monotonic()
        app.kill()
        wait_until("they are gone", 60, lambda: not any(map(_alive, children)), pause=0.05)
        seconds = time.monotonic() - began
    return Bar(f"app killed, {when}: the last process gone after", f"{seconds:.1f} s", "≤ 5 s", seconds <= GONE_WITHIN)


def engine_killed(home: Path) -> Bar:
    database = Database.open(home / "kill" / "plumbline.duckdb")
    version = _stored(database)
    project = add_project(database, version)
    with Engines(home / "kill", VLLM()) as engines:
        engines.serve([ServedVersion(version.id, version.base_path, None)])
        engines.wait_ready(version.id, timeout=PATIENCE)
        sampler = Sampler(database, Queue(database, minimum_responses=lambda name: 2), engines, ahead=8)
        filling = threading.Thread(target=sampler.fill)
        filling.start()
        wait_until("it samples", PATIENCE, lambda: engines.client(version.id)[0].load().running > 0, pause=0.01)
        _kill_engine(engines.state()[0].pid)
        filling.join()
        shown = bool(sampler.problem(projects.get(database, project)))
        stored = len(responses.by_prompt(database, project))
        began = time.monotonic()
        wait_until("the queue goes on", PATIENCE, lambda: sampler.fill() > 0)
        seconds = time.monotonic() - began
        each = {len(one) for one in responses.by_prompt(database, project).values()}
    database.close()
    holds = shown and stored == 0 and len(each) == 1
    measured = f"{'shown' if shown else 'not shown'}, {stored} half stored, back after {seconds:.0f} s"
    return Bar("engine killed while the pool fills", measured, "shown, none, resumed", holds)


# ---- small things


def prompts(number: int) -> list[str]:
    template, bos, eos = read_template(STARTER)
    return [render(template, messages("user", one), bos_token=bos, eos_token=eos) for one in questions(number)]


def strong_adapter(folder: Path, seed: int) -> Path:
    """A random LoRA, strong enough to change every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(STARTER), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    model.save_pretrained(str(folder))
    return folder


def add_project(database: Database, version: ModelVersion) -> str:
    add_first_project(database, version.id, STARTER.parent / "prompts.jsonl")
    return projects.list_all(database, "labeling")[0].id


def _stored(database: Database) -> ModelVersion:
    from alignment.base_models import add_base

    return add_base(database, str(STARTER), version_id="base")


def _version(name: str, adapters: dict[str, Path]) -> ServedVersion:
    return ServedVersion(name, str(STARTER), str(adapters[name]) if name in adapters else None)


def _copy_for(home: Path) -> Path:
    """The starter model in a folder that may be written beside."""
    link = home / "chat"
    if not link.exists():
        link.symlink_to(STARTER)
    return link


def _client_of(home: Path) -> EngineClient:
    """Of the server that the app has started."""
    wait_until("its port is known", PATIENCE, lambda: list((home / "logs").glob("*.port")))
    port = next((home / "logs").glob("*.port")).read_text()
    client = EngineClient(f"http://127.0.0.1:{port}")
    wait_until("it answers", PATIENCE, client.health)
    return client


def _settled(client: EngineClient, busy: bool) -> bool:
    """Idle is to have filled the pool, not to be about to begin."""
    if busy:
        return True
    before = client.tokens_generated()
    time.sleep(5)  # longer than the pause between two requests of the sampler
    return 0 < before == client.tokens_generated()


def _kill_engine(leader: int | None) -> None:
    children = psutil.Process(leader).children(recursive=True)
    os.kill(next(one.pid for one in children if "EngineCore" in " ".join(one.cmdline())), signal.SIGKILL)


def _alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


if __name__ == "__main__":
    sys.exit(main())
