"""What would go wrong with the settings of a run, or with the place it is to run at: pure functions, a check each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from alignment import memory
from alignment.devices import Device
from alignment.launchers.launch import Launch, refuse_launch
from alignment.memory import Part, Plan, Shape
from alignment.methods.base import Method, Parent, TunedMethod
from alignment.methods.rloo import refuse_reward_model
from alignment.row_checks import Check, WayOut
from labeling.engines.model_folder import BASE_MARK
from storage.errors import AppError

FAR = 10.0  # times the proposed learning rate, up or down: a warning
ABSURD = 100.0  # … a refusal: nothing is learned, or nothing is left
FREE_SHARE = 0.9  # of the free memory: an estimate is not exact
KEPT_CHECKPOINTS = 3  # at once: the best, the newest, and one that is being written
REST_OF_DISK_MB = 200  # logs, metrics and what the app itself writes meanwhile


def learning_rate(method: Method, parameters: int) -> Check | None:
    """Against what is proposed for this method, size and tuning. None where the method has no learning rate."""
    if not isinstance(method, TunedMethod):
        return None
    proposed = float(method.proposed("balanced", method.tuning, parameters)["learning_rate"])
    rate, title = method.learning_rate, "The learning rate fits the model"
    off = max(rate / proposed, proposed / rate)
    figure = f"{rate:g}; proposed {proposed:g}"
    if off < FAR:
        return Check("ok", title, figure)
    of = f"{memory.in_words(parameters)} parameters trained with {_tuned(method)}"
    worse = "answers will most likely fall apart" if rate > proposed else "the model will most likely learn nothing"
    detail = f"It is {off:,.0f} times {'above' if rate > proposed else 'below'} what works for {of}: {worse}."
    way_out = WayOut(f"Use {proposed:g}", {"learning_rate": proposed})
    return Check("bad" if off >= ABSURD else "warn", "The learning rate is implausible", figure, detail, (way_out,))


def _tuned(method: TunedMethod) -> str:
    return {"lora": "LoRA", "qlora": "QLoRA", "full": "all weights"}[method.tuning]


def reward_model(parent: Parent, reward: Parent | None, fault: str) -> Check:
    """Whether what was chosen can score the answers. `fault`: why there is nothing to choose, as the queue says."""
    ways_out = (
        WayOut("Train a reward model first", method="reward_model"),
        WayOut("Use DPO instead", method="dpo"),
    )
    if reward is None:
        return Check("bad", "No reward model to score the answers", "0 of 1", fault, ways_out)
    try:
        refuse_reward_model(parent, reward)
    except AppError as error:
        return Check("bad", "The reward model does not fit the parent", reward.id, str(error), ways_out)
    return Check("ok", "The reward model reads what the parent writes", reward.id)


def same_base(parent: Parent, base_fingerprint: str) -> Check | None:
    """Whether the parent's adapter lies on the base that it was trained on. None where it has no adapter."""
    if parent.adapter_path is None:
        return None
    title = f"The adapter of {parent.id} belongs to its base"
    try:
        mark = json.loads((Path(parent.adapter_path) / BASE_MARK).read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError):
        detail = "Nobody noted which base it was trained on, so this is taken on trust."
        return Check("warn", title, "not noted", detail)
    if mark == base_fingerprint:
        return Check("ok", title, _short(mark))
    detail = f"The weights in {parent.base_path} are not those it was trained on. Put the right ones back."
    return Check("bad", "The parent's adapter is on another base", _short(base_fingerprint), detail)


def as_served(tokenizer: str, template: str, served_template: str) -> Check:
    """What is trained must be what is served: the tokenizer's fingerprint and the template, named for the record."""
    figure = f"tokenizer {_short(tokenizer)}, template {hashlib.sha256(template.encode()).hexdigest()[:8]}"
    if template == served_template:
        return Check("ok", "Tokenizer and template are those of the parent", figure)
    detail = "The new version will be served with the template that it is trained with, which is not its parent's."
    return Check("ok", "A template of its own", figure, detail)


def _short(fingerprint: str) -> str:
    return fingerprint.removeprefix("sha256:")[:8]


def installed(method: Method) -> list[Check]:
    """A package that these settings need and that is not here."""
    if not isinstance(method, TunedMethod):
        return []
    found = []
    for name, instead in (("tracker", "none"), ("tuning", "lora")):
        alone = method.model_copy(update={other: value for other, value in USUAL.items() if other != name})
        try:
            alone.refuse_what_is_missing()
        except AppError as error:
            way_out = WayOut(f"Use {instead}", {name: instead})
            found.append(Check("bad", "A package is missing", str(getattr(method, name)), str(error), (way_out,)))
    return found


USUAL: Mapping[str, str] = {"tracker": "none", "tuning": "lora"}


def place(method: Method, launch: Launch, here: Sequence[Device], ray_address: str) -> list[Check]:
    """Whether the run can start there as this many processes."""
    found = []
    tries: list[Callable[[], None]] = [lambda: refuse_launch(launch, here, ray_address)]
    if isinstance(method, TunedMethod):
        tries.append(lambda: method.refuse_processes(launch.processes))
    for attempt in tries:
        try:
            attempt()
        except AppError as error:
            figure = f"{launch.device}, {launch.processes} {'process' if launch.processes == 1 else 'processes'}"
            found.append(Check("bad", "It cannot start like this", figure, str(error)))
    return found


# ---- room -----------------------------------------------------------------------------------------------------------


def disk(method: Method, model: Shape, free_mb: int) -> Check:
    """For the checkpoints, each with two optimiser states, and for the result."""
    trained = 4 * memory.trained_parameters(method, model) / memory.MB
    needed = round((3 * KEPT_CHECKPOINTS + 1) * trained) + REST_OF_DISK_MB
    figure = f"{_gb(needed)} of {_gb(free_mb)} GB free"
    if needed <= free_mb:
        return Check("ok", "Checkpoints fit on the disk", figure)
    whole = isinstance(method, TunedMethod) and method.tuning == "full"
    ways_out = (WayOut("Use LoRA", {"tuning": "lora"}),) if whole else ()
    detail = "The run would end when the disk is full. Free some space, or train less of the model."
    return Check("bad", "Not enough disk for the checkpoints", figure, detail, ways_out)


def fits(plan: Plan, parts: Sequence[Part], free_mb: int) -> Check:
    """Whether the estimate stays within what is free now."""
    needed = memory.total_mb(parts)
    figure = f"{_gb(needed)} of {_gb(free_mb)} GB free"
    if not free_mb:
        detail = "Nobody could say how much is free there."
        return Check("warn", "Memory is not known", f"{_gb(needed)} GB needed", detail)
    if needed <= FREE_SHARE * free_mb:
        return Check("ok", "It fits in memory", figure)
    ways_out = tuple(_smaller(plan, free_mb))
    if needed <= free_mb:
        return Check("warn", "Memory is tight", figure, "It should fit, but the estimate is not exact.", ways_out)
    detail = "The run would be ended from outside when memory runs out."
    return Check("bad", "It does not fit in memory", figure, detail, ways_out)


def _smaller(plan: Plan, free_mb: int) -> list[WayOut]:
    """Settings with which it would fit: smaller batches that add up to the same, or an adapter and not all weights."""
    method = plan.method
    if not isinstance(method, TunedMethod):
        return []
    tries = [WayOut("Use LoRA", {"tuning": "lora"})] if method.tuning == "full" else []
    batch, accumulate = method.batch_size, method.accumulate
    smallest = 2 * plan.processes if method.name == "kto" else plan.processes
    while batch % 2 == 0 and batch // 2 >= smallest and method.reads != "prompt_only":
        batch, accumulate = batch // 2, accumulate * 2
        label = f"{batch} a batch, {accumulate} batches a step"
        tries.append(WayOut(label, {"batch_size": batch, "accumulate": accumulate}))
    return [way for way in tries if _needs(plan, way) <= FREE_SHARE * free_mb][:2]


def _needs(plan: Plan, way: WayOut) -> int:
    """MB with these settings."""
    method = plan.method.model_copy(update=dict(way.settings))
    load = memory.Load(max(1, plan.load.sequences * _batch(method) // _batch(plan.method)), plan.load.length)
    return memory.total_mb(memory.estimate(replace(plan, method=method, load=load)))


def _batch(method: Method) -> int:
    return method.batch_size if isinstance(method, TunedMethod) else 1


def _gb(mb: int) -> str:
    return f"{mb / 1024:.1f}"
