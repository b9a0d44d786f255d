"""The trainings of benchmarks.ppo: each in a process of its own, and only once, though several sections look at it.

TRL 1.12 lives in an environment of its own, made when it is first needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alignment.methods import method_named
from benchmarks.ppo_jobs import Job, Told
from benchmarks.starter_rows import STARTER, messages
from storage.prompts import is_held_out
from storage.records import Message

ROOT = Path(__file__).parents[1]
PEER_HOME = ROOT / ".venv-trl112"
PEER_LOCK = ROOT / "benchmarks" / "requirements-trl112.lock"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}
LAST_OF_ALL = {"held_out_share": 0.0, "evaluations": 1, "keep": "last"}  # no measurement on the way, as in the peer
HELD_OUT = 200

Rows = Sequence[Mapping[str, Any]]


class Trials:
    """What every training told. `kept`: a file of those of earlier calls, to which the new ones are added."""

    def __init__(self, home: Path, seeds: int, quick: bool, kept: Path | None) -> None:
        self.home, self.quick = home, quick
        self.told: dict[str, Told] = {}
        self._seeds, self._kept = seeds, kept
        for line in kept.read_text().splitlines() if kept and kept.exists() else ():
            key, told = json.loads(line)
            self.told[key] = Told(**told)
        asked = [json.loads(line)["prompt"] for line in (STARTER.parent / "prompts.jsonl").read_text().splitlines()]
        held_out = {question for question in asked if is_held_out([Message("user", question)])}
        self.learned = asking([question for question in asked if question not in held_out])
        self.held_out = [question for question in asked if question in held_out][:HELD_OUT]

    def seeds(self, usual: int) -> range:
        return range(self._seeds or usual)

    def ours(self, seed: int, reward: str = "", **settings: Any) -> Told:
        """Of the starter model, which then answers held-out questions."""
        return self.ppo("ours", STARTER, self.learned, {**settings, "seed": seed}, reward, self.held_out)

    def peer(self, seed: int, **settings: Any) -> Told:
        return self.ppo("peer", STARTER, self.learned, {**settings, "seed": seed})

    def ppo(
        self,
        kind: str,
        base: Path,
        rows: Rows,
        settings: Mapping[str, Any],
        reward: str = "",
        held_out: Sequence[str] = (),
    ) -> Told:
        every = method_named("ppo").model_validate({**LAST_OF_ALL, **settings}).model_dump()
        key = json.dumps([kind, base.name, every, Path(reward).name])
        if key not in self.told:
            folder = self.home / f"run-{len(self.told)}"
            self.told[key] = train(kind, Job("ppo", str(base), str(folder), rows, every, reward, held_out))
            self._keep(key)
            print(sentence(kind, every, self.told[key]), flush=True)
        return self.told[key]

    def _keep(self, key: str) -> None:
        if self._kept:
            with self._kept.open("a") as file:
                file.write(json.dumps([key, asdict(self.told[key])]) + "\n")

    def reward_model(self, name: str, base: Path, rows: Rows, **settings: Any) -> str:
        """The folder of a reward model trained on these pairs."""
        folder = self.home / name
        train("ours", Job("reward_model", str(base), str(folder), rows, settings))
        return str((folder / "model").rename(self.home / f"{name}-model"))


def asking(questions: Sequence[str]) -> list[dict[str, Any]]:
    return [{"prompt": messages("user", words), "prompt_id": f"p{place}"} for place, words in enumerate(questions)]


def train(kind: str, job: Job) -> Told:
    """In a process of its own. Ends everything where it fails."""
    ours = [sys.executable, "-m", "benchmarks.ppo_process"]
    command = [*(ours if kind == "ours" else [peer_python(), "-m", "benchmarks.ppo_peer"]), str(job.write())]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return Told.heard(done.stdout)


def peer_python() -> str:
    """The interpreter beside TRL 1.12; its environment is made where there is none (1.5 GB, some minutes)."""
    python, made = PEER_HOME / "bin" / "python", PEER_HOME / "made"
    if not made.exists():
        print(f"Setting up {PEER_HOME.name} (once; some minutes, mostly downloads) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEER_HOME)], check=True)
        quiet = ("--disable-pip-version-check", "--progress-bar", "off", "--quiet")
        subprocess.run([str(python), "-m", "pip", "install", *quiet, "-r", str(PEER_LOCK)], check=True)
        made.touch()
    return str(python)


def sentence(kind: str, settings: Mapping[str, Any], told: Told) -> str:
    shown = f"layers {settings['layers']}, learning rate {settings['learning_rate']:g}, seed {settings['seed']}"
    answers = f"; held out: {told.preferred:.1%} as wanted, {told.well_formed:.1%} well formed"
    return (
        f"{kind} ({shown}): {told.seconds_each:.1f} CPU s an iteration, {told.own_mb:.0f} MB, reward "
        f"{told.first('reward'):.2f} -> {told.last('reward'):.2f} at KL {told.last('kl'):.2f}"
        + (answers if told.well_formed else "")
    )
