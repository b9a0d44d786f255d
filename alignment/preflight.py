"""What would go wrong or be wasted if this run started now: python -m alignment.preflight <folder>.

A job: a process with a folder of its own, which reads asked.json (all that the database knows, by the app) and writes
answer.json again and again as it learns more: rows and checks first, then memory, then time. It needs a tokenizer and
no torch, which would cost more seconds than all the rest; the two steps that are timed are a process of their own.

What would waste the run is refused ("bad") with a way out; what may be meant is a warning. A run itself refuses or
leaves out the same rows again, so nothing here has to be believed for a run to be safe.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from threading import Thread
from typing import Any

from alignment import devices, memory, row_checks, run_directory, setting_checks, timing
from alignment.launchers.launch import Launch
from alignment.memory import Plan
from alignment.methods import method_named
from alignment.methods.base import Method, Parent, TunedMethod
from alignment.methods.kto import KTO
from alignment.methods.online import HELD_OUT_ANSWERS, OnlineMethod, why_apart
from alignment.methods.pretrain import Pretrain
from alignment.row_checks import Check, Seen
from alignment.rows_as_tokens import Answer, RowTokens, row_tokens
from alignment.scorers import checks as scorer_checks
from alignment.scorers.chosen import asked_about, understood
from alignment.scorers.functions import Function
from alignment.timing import Earlier, StepSize
from alignment.train import ENVIRONMENT, sentence_for
from labeling.engines.model_folder import base_fingerprint, check_model_folder, context_length, tokenizer_fingerprint
from storage import snapshots
from storage.endpoints import Judge
from storage.errors import BadInput

ASKED, ANSWER = "asked.json", "answer.json"
MOST_ROWS = 5_000  # that are looked at as tokens, which takes some 2 ms each: of more, as many by chance
SHOWN_ROWS = 24
SHOWN_TOKENS = 2_000  # of one answer
POLITENESS = 5


@dataclass(frozen=True)
class Asked:
    """All that is to be looked at. `fault`: why nothing scores the answers, where the method asks for something.

    handed_over: GPUs of the run that others have now, and let go of before it starts.
    """

    method: str
    settings: Mapping[str, Any]
    launch: Mapping[str, Any]
    snapshot: Mapping[str, Any]
    parent: Mapping[str, Any]
    template: str
    reward: Mapping[str, Any] | None
    fault: str
    held_out: Sequence[str]
    unknown_licences: int
    earlier: Sequence[Mapping[str, Any]]
    ray_address: str
    scored_by: Mapping[str, Any] | None = None
    gold: Mapping[str, str] | None = None
    sampled_by: str = ""
    handed_over: Sequence[str] = ()

    @property
    def scoring(self) -> dict[str, Any]:
        """As run.json would say it."""
        scored = {"reward": self.reward, "scored_by": self.scored_by, "gold": self.gold}
        return {**scored, "sampled_by": self.sampled_by}


def main(arguments: Sequence[str]) -> int:
    folder = Path(arguments[0])
    os.environ.update(ENVIRONMENT)
    os.nice(POLITENESS)
    sys.modules["torch"] = None  # type: ignore[assignment]  # transformers would import it, and no tokenizer needs it
    Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    with run_directory.lock(folder):
        try:
            Job(folder, Asked(**json.loads((folder / ASKED).read_text()))).run()
        except Exception as error:  # the person at the screen gets a sentence, the log gets the traceback
            traceback.print_exc()
            run_directory.write_json(folder / ANSWER, {"state": "failed", "error": _sentence(error)})
            return 1
    return 0


def end_with(app: int) -> None:
    """End this job, the process that times a step with it, once the app that asked is gone: nobody will read it.

    By looking, not by a signal of the kernel's: that would come when the app's *thread* ends, which soon happens.
    """
    while os.getppid() == app:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def _sentence(error: Exception) -> str:
    said = sentence_for(error)
    return said.replace("The run ended", "The check ended").replace("log.txt of this run", "its log.txt")


class Job:
    """One preflight, from what was asked to the last answer."""

    def __init__(self, folder: Path, asked: Asked) -> None:
        self.folder = folder
        self.asked = asked
        self.method = method_named(asked.method).model_validate(asked.settings)
        self.launch = Launch.of(asked.launch)
        self.parent = Parent(**asked.parent)
        self.reward = Parent(**asked.reward) if asked.reward else None
        self.base = check_model_folder(self.parent.base_path)
        self.model = memory.shape_of(self.base)
        self.context = context_length(self.base)
        self.checks: list[Check] = []
        self.answer: dict[str, Any] = {"state": "working", "progress": "Starting", "rows": [], "checks": []}

    def run(self) -> None:
        whole, seen, tokenizer = self._look()
        self._check_rows(whole, seen, tokenizer)
        self._check_scoring(seen)
        self._check_settings()
        self.tell(progress="Adding up memory", rows=shown(seen, tokenizer, self._limit()))
        plan = self._plan(seen)
        room = self._check_memory(plan)
        self.tell(progress="Timing a step")
        self.tell(time=self._time(seen) if room else None)
        shutil.rmtree(self.folder / timing.SCRATCH, ignore_errors=True)
        self.tell(state="ready", progress="")

    def tell(self, **found: Any) -> None:
        """What is known by now."""
        checks = [check.as_json() for check in self.checks]
        self.answer |= {"checks": checks, "verdict": verdict(self.checks), **found}
        run_directory.write_json(self.folder / ANSWER, self.answer)

    # ---- rows ----

    def _look(self) -> tuple[Seen, Seen, Any]:
        """All rows as text, all or some of them as tokens too, and the tokenizer."""
        from transformers import AutoTokenizer

        method = self.method
        self.tell(progress=f"Reading {self.asked.snapshot['rows']:,} {method.rows_are}")
        every = snapshots.read_rows(Path(self.asked.snapshot["path"]))
        rows = some_of(every)
        tokenizer = AutoTokenizer.from_pretrained(self.base)
        tokenizer.chat_template = self.parent.template
        self.tell(progress=f"Reading {len(rows):,} {method.rows_are} as tokens")
        room = self._room()
        tokens = [row_tokens(row, method.reads, tokenizer, self._limit(), room) for row in rows]
        whole, seen = (Seen(some, tokens, method.reads, method.rows_are) for some in (every, rows))
        return whole, seen, tokenizer

    def _limit(self) -> int:
        """Tokens that a row may have."""
        asked = self.method.max_length if isinstance(self.method, TunedMethod) else self.context
        return min(asked, self.context)

    def _room(self) -> int:
        """Tokens that a prompt must leave."""
        return self.method.answer_room if isinstance(self.method, TunedMethod) else 1

    def _check_rows(self, whole: Seen, seen: Seen, tokenizer: Any) -> None:
        if len(seen.rows) < len(whole.rows):
            figure = f"{len(seen.rows):,} of {len(whole.rows):,}"
            self.checks.append(Check("ok", "Looked at as tokens: rows drawn by chance", figure))
        self.checks += checks_of_rows(whole, seen, self.method, self.asked, tokenizer)
        self.checks += row_checks.long_prompts(seen, self._limit(), self.context, self._room())
        self.checks += row_checks.other_faults(seen, self._limit(), self._room())
        if self.method.reads not in ("prompt_only", "language_modeling"):
            self.checks.append(row_checks.truncation(seen, self._limit(), self.context, self._longer(seen)))

    def _longer(self, seen: Seen) -> dict[int, int]:
        """A longer limit, where that helps, and the MB it costs."""
        length = row_checks.longer_limit(seen.longest, self._limit(), self.context)
        if length is None:
            return {}
        more = [memory.estimate(self._plan(seen, limit)) for limit in (self._limit(), length)]
        return {length: memory.total_mb(more[1]) - memory.total_mb(more[0])}

    # ---- settings, memory, time ----

    def _check_settings(self) -> None:
        method = self.method
        found = [
            setting_checks.learning_rate(method, self.model.parameters),
            setting_checks.same_base(self.parent, base_fingerprint(self.base)),
            setting_checks.as_served(tokenizer_fingerprint(self.base), self.parent.template, self.asked.template),
            *setting_checks.installed(method),
            *setting_checks.place(method, self.launch, devices.devices(), self.asked.ray_address),
            setting_checks.sampler(method, self.asked.sampled_by),
        ]
        if self.launch.where == "local":
            free = shutil.disk_usage(self.folder).free // memory.MB
            found.append(setting_checks.disk(method, self.model, free, child=self.parent.adapter_path is not None))
        self.checks += [check for check in found if check]

    def _check_scoring(self, seen: Seen) -> None:
        """What scores the answers of the run; that nothing is chosen the form says itself."""
        if not self.method.asks_reward_model or not self.method.model_dump()["reward_model"]:
            return
        scored_by, gold = understood(self.asked.scored_by), understood(self.asked.gold)
        prompts = [row["prompt"] for row in seen.usable]
        if self.reward:
            device = self.launch.device or "cpu"
            self.checks.append(scorer_checks.of_reward_model(self.method, self.parent, self.reward, device))
        elif scored_by is None:
            self.checks.append(scorer_checks.refused(self.asked.fault))
        for field, chosen in (("reward_model", scored_by), ("gold", gold)):
            if isinstance(chosen, Function):
                self.tell(progress=f"Trying the function {chosen.name}")
                environment = {**os.environ, **self._environment()}
                self.checks.append(scorer_checks.of_function(chosen, prompts, field, environment))
            elif isinstance(chosen, Judge):
                kept_here = len(seen.usable) - len(asked_about(seen.usable, self.asked.scored_by))
                here, rows = self.launch.where == "local", len(seen.usable)
                self.checks.append(scorer_checks.of_judge(chosen, self._answers(seen), here, kept_here, rows))

    def _answers(self, seen: Seen) -> int:
        """That the run will have scored, about: those it learns from, and those it is measured by."""
        method = self.method
        if not isinstance(method, OnlineMethod):
            return 0
        rollouts = method.steps(self._learned(seen)) // getattr(method, "iterations", 1)
        measured = len(method.split(seen.usable).held_out) * HELD_OUT_ANSWERS * (method.evaluations + 1)
        return rollouts * timing.batch_of(method) + measured

    def _plan(self, seen: Seen, limit: int | None = None) -> Plan:
        method = self.method if limit is None else self.method.model_copy(update={"max_length": limit})
        device = self.launch.device or "cpu"
        return Plan(
            method=method,
            model=self.model,
            load=memory.load_of(method, seen.longest, self.launch.processes, self.context, device),
            device=device,
            reward=memory.shape_of(check_model_folder(self.reward.base_path)) if self.reward else None,
            reward_apart=bool(self.reward and self._is_apart(self.reward)),
            child=self.parent.adapter_path is not None,
            processes=self.launch.processes,
            sharding=self.launch.sharding,
        )

    def _is_apart(self, reward: Parent) -> bool:
        """Whether the reward model is loaded in a process of its own."""
        by_text = isinstance(self.method, OnlineMethod) and self.method.scores_text
        return by_text and bool(why_apart(self.parent, reward))

    def _check_memory(self, plan: Plan) -> bool:
        """Whether there is room to try."""
        parts = memory.estimate(plan)
        then = plan.device in self.asked.handed_over
        free, whole = memory.available(plan.device, then) if self.launch.where == "local" else (0, 0)
        fits = setting_checks.fits(plan, parts, free, "free when it starts" if then else "free")
        self.checks.append(fits)
        told = {"device": plan.device, "available_mb": free, "total_mb": whole, "parts": [asdict(one) for one in parts]}
        self.tell(memory=told)
        return fits.kind != "bad"

    def _time(self, seen: Seen) -> dict[str, Any] | None:
        """None where there is nothing to time: a run that could not start, or one on another machine.

        Nothing is tried on a GPU that others have now: it would take memory from whoever answers or trains there.
        """
        usable = seen.usable
        step = timing.of_earlier([Earlier(**run) for run in self.asked.earlier], self.method)
        startable = all(check.kind != "bad" for check in self.checks) and self.launch.where == "local"
        asks_elsewhere = isinstance(understood(self.asked.scored_by), Judge)  # nothing is sent before the run
        if step is None and startable and not asks_elsewhere and not self.asked.handed_over:
            environment = self._environment()
            step = timing.measure(self.method, usable, self.parent, self.asked.scoring, self.folder, environment)
        if step is None:
            return None
        rows, size = self._learned(seen), StepSize(timing.batch_of(self.method), self._tokens_a_step(seen))
        found = timing.estimate(self.method.steps(rows), step, size)
        return {**asdict(found), "presets": timing.presets(self.method, self.model.parameters, rows, step, size)}

    def _learned(self, seen: Seen) -> int:
        """Rows that are learned from, or windows of documents; of the whole snapshot."""
        learned = len(self.method.split(seen.usable).learned)
        of_all = int(self.asked.snapshot["rows"]) / len(seen.rows)
        if isinstance(self.method, Pretrain):
            tokens = fmean(one.longest for one in seen.tokens) * learned * of_all
            return max(1, round(tokens / self._limit()))
        return round(learned * of_all)

    def _tokens_a_step(self, seen: Seen) -> float:
        if isinstance(self.method, Pretrain):
            return float(self._limit() * timing.batch_of(self.method))
        lengths = [
            sum(min(len(answer.tokens), self._limit()) for answer in one.answers)
            for one in seen.tokens
            if not one.fault
        ]
        return fmean(lengths or [1.0]) * timing.batch_of(self.method)

    def _environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "OMP_NUM_THREADS": "1", **devices.visible(self.launch.devices or (devices.CPU,))}


# ---- rows -----------------------------------------------------------------------------------------------------------


def some_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All of them, in order; of very many as many by chance."""
    if len(rows) <= MOST_ROWS:
        return rows
    places = sorted(Random(0).sample(range(len(rows)), MOST_ROWS))
    return [rows[place] for place in places]


def checks_of_rows(whole: Seen, seen: Seen, method: Method, asked: Asked, tokenizer: Any) -> list[Check]:
    """Everything that can be told from the rows, what matters most first. Only those of `seen` are there as tokens."""
    if not seen.rows:
        raise BadInput("The snapshot has no rows. Freeze a new one.")
    share = method.held_out_share if isinstance(method, TunedMethod) else 0.0
    split = method.split(seen.usable if len(seen.rows) == len(whole.rows) else whole.rows)
    found = [
        row_checks.enough(seen, type(method), asked.snapshot["counts"]),
        row_checks.ends(seen, tokenizer.bos_token_id, tokenizer.eos_token_id),
        *_of_template(seen),
        *_of_text(whole),
        row_checks.duplicates(whole),
        row_checks.no_held_out(whole, set(asked.held_out)),
        row_checks.split_by_prompt(split, share, whole),
    ]
    if isinstance(method, KTO):
        found.append(row_checks.label_balance(split.learned, method))
    if seen.reads == "language_modeling":
        found.append(row_checks.licences(asked.unknown_licences, int(asked.snapshot["rows"])))
    return found


def _of_template(seen: Seen) -> list[Check]:
    if seen.reads in ("prompt_only", "language_modeling"):
        return []
    return [row_checks.template_keeps(seen), row_checks.prompt_is_prefix(seen)]


def _of_text(whole: Seen) -> list[Check]:
    """What only makes sense for rows of this type."""
    found = []
    if whole.reads != "prompt_only":
        found.append(row_checks.empty_answers(whole))
    if whole.reads == "preference":
        found.append(row_checks.identical_pairs(whole))
    if whole.reads in ("preference", "unpaired_preference"):
        found += [row_checks.conflicts(whole), row_checks.length_bias(whole)]
    return found


def shown(seen: Seen, tokenizer: Any, limit: int) -> list[dict[str, Any]]:
    """Some rows as the model reads them: from all over the snapshot, and those that would be cut or left out."""
    everywhere = range(0, len(seen.rows), max(1, len(seen.rows) // SHOWN_ROWS))
    odd = [place for place, one in enumerate(seen.tokens) if one.fault or one.longest > limit][: SHOWN_ROWS // 3]
    places = sorted({*odd, *list(everywhere)[: SHOWN_ROWS - len(odd)]})
    texts = Texts(tokenizer)
    return [_row_json(place, len(seen.rows), seen.tokens[place], texts, limit) for place in places]


def _row_json(place: int, of: int, one: RowTokens, texts: Texts, limit: int) -> dict[str, Any]:
    answers = [_answer_json(answer, texts, limit) for answer in one.answers]
    return {"number": place + 1, "of": of, "fault": one.fault, "answers": answers}


def _answer_json(answer: Answer, texts: Texts, limit: int) -> dict[str, Any]:
    """`cut`: tokens beyond the limit, which the run will not see; those are marked too."""
    pairs = list(zip(answer.tokens, answer.in_loss, strict=True))
    tokens = [
        {"text": texts.of(token), "in_loss": learned and place < limit, "special": texts.special(token)}
        | ({"cut": True} if place >= limit else {})
        for place, (token, learned) in enumerate(pairs[:SHOWN_TOKENS])
    ]
    learned = sum(learned for _, learned in pairs[:limit])
    kept = min(len(pairs), limit)
    return {"name": answer.name, "tokens": tokens, "in_loss": learned, "read": kept - learned, "cut": len(pairs) - kept}


class Texts:
    """Tokens in characters that a person can tell apart: a space is ·, a line break ↵."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}

    def of(self, token: int) -> str:
        if token not in self._known:
            self._known[token] = self._read(token)
        return self._known[token]

    def _read(self, token: int) -> str:
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        text = piece.replace("▁", " ") if piece.startswith("▁") else str(self._tokenizer.decode([token]))
        return text.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥") or piece

    def special(self, token: int) -> str:
        if token == self._tokenizer.eos_token_id:
            return "EOS"
        return "BOS" if token == self._tokenizer.bos_token_id else ""


def verdict(checks: Sequence[Check]) -> dict[str, str]:
    bad, warn = (sum(check.kind == kind for check in checks) for kind in ("bad", "warn"))
    if bad:
        return {"kind": "bad", "sentence": f"Cannot start, {bad} {'thing' if bad == 1 else 'things'} missing"}
    if warn:
        return {"kind": "warn", "sentence": f"Can start, {warn} {'warning' if warn == 1 else 'warnings'}"}
    return {"kind": "ok", "sentence": "Can start"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
