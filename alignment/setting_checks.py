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
from alignment.methods.ppo import PPO
from alignment.row_checks import Check, WayOut
from labeling.engines.model_folder import BASE_MARK
from storage.errors import AppError, BadInput

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
    far, worse = (
        ("high", "answers will most likely fall apart")
        if rate > proposed
        else ("low", "the model will most likely learn nothing")
    )
    detail = f"It is {off:,.0f} times {far}er than what works for {of}: {worse}."
    way_out = WayOut(f"Use {proposed:g}", {"learning_rate": proposed})
    return Check("bad" if off >= ABSURD else "warn", f"The learning rate is very {far}", figure, detail, (way_out,))


def _tuned(method: TunedMethod) -> str:
    return {"lora": "LoRA", "qlora": "QLoRA", "full": "all weights"}[method.tuning]


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
    tries: list[tuple[str, Callable[[], None]]] = [
        ("It cannot start there", lambda: refuse_launch(launch, here, ray_address))
    ]
    if isinstance(method, TunedMethod):
        tries.append(("The batch cannot be shared", lambda: method.refuse_processes(launch.processes)))
    for title, attempt in tries:
        try:
            attempt()
        except AppError as error:
            figure = f"{launch.device}, {launch.processes} {'process' if launch.processes == 1 else 'processes'}"
            found.append(Check("bad", title, figure, str(error)))
    return found


def sampler(method: Method, server: str) -> Check | None:
    """Whether answers can come from a model server. None where the run gives them itself."""
    if not isinstance(method, PPO) or method.sampler == "this process":
        return None
    try:
        method.refuse_sampler(server)
    except BadInput as error:
        way_out = WayOut("Let the run answer itself", {"sampler": "this process"})
        return Check("bad", "No model server can give the answers", server or "none named", str(error), (way_out,))
    return Check("ok", "A model server gives the answers", server)


# ---- room -----------------------------------------------------------------------------------------------------------


def disk(method: Method, model: Shape, free_mb: int, child: bool = False) -> Check:
    """For the checkpoints, each with two optimiser states, for the result, and for a parent that is merged first.

    `child`: the parent is an adapter, which full fine-tuning writes as one with its base before it trains.
    """
    whole = isinstance(method, TunedMethod) and method.tuning == "full"
    trained = 4 * memory.trained_parameters(method, model) / memory.MB
    merged = 4 * model.parameters / memory.MB if whole and child else 0
    needed = round((3 * KEPT_CHECKPOINTS + 1) * trained + merged) + REST_OF_DISK_MB
    figure = f"{_gb(needed)} of {_gb(free_mb)} GB free"
    if needed <= free_mb:
        return Check("ok", "Checkpoints fit on the disk", figure)
    ways_out = (WayOut("Use LoRA", {"tuning": "lora"}),) if whole else ()
    detail = "The run would end when the disk is full. Free some space, or train less of the model."
    return Check("bad", "Not enough disk for the checkpoints", figure, detail, ways_out)


def fits(plan: Plan, parts: Sequence[Part], free_mb: int, free: str = "free") -> Check:
    """Whether the estimate stays within what is free when it starts. `free`: how that is said."""
    needed = memory.total_mb(parts)
    figure = f"{_gb(needed)} of {_gb(free_mb)} GB {free}"
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
