"""What to know before a run about what scores its answers: its cost, whether it works, what leaves this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignment import memory
from alignment.methods.base import Messages, Method, Parent
from alignment.methods.online import OnlineMethod, refuse_reward_model, why_apart
from alignment.row_checks import Check, WayOut
from alignment.scorers.functions import Function, tried
from labeling.engines.model_folder import check_model_folder
from storage.endpoints import Judge, key_of
from storage.errors import AppError

TRIED = 3  # prompts
_OTHERS = "Choose a judge inside, a reward model or a function."


def refused(fault: str) -> Check:
    """Nothing was found to score the answers, as the queue says."""
    ways_out = (WayOut("Train a reward model first", method="reward_model"), WayOut("Use DPO instead", method="dpo"))
    return Check("bad", "Nothing to score the answers", "0 of 1", fault, ways_out)


def of_reward_model(method: Method, parent: Parent, reward: Parent, device: str) -> Check:
    """Whether it can read what the parent writes, and what that costs."""
    ways_out = (WayOut("Train a reward model first", method="reward_model"), WayOut("Use DPO instead", method="dpo"))
    try:
        if not isinstance(method, OnlineMethod) or not method.scores_text:
            refuse_reward_model(parent, reward)
            return Check("ok", "The reward model reads what the parent writes", reward.id)
        why = why_apart(parent, reward)
    except AppError as error:
        return Check("bad", "The reward model does not fit the parent", reward.id, str(error), ways_out)
    if not why:
        return Check("ok", "The reward model stands on the parent's own weights", reward.id)
    size = memory.apart_mb(memory.shape_of(check_model_folder(reward.base_path)), device)
    detail = (
        f"{reward.id} cannot stand on the run's own weights: {why}. So the whole of it is loaded beside the run, and "
        f"each iteration waits until it has read the answers. One trained from {parent.id} would cost next to nothing."
    )
    return Check("ok", "The reward model runs in a process of its own", f"{reward.id}, {size / 1024:.1f} GB", detail)


def of_function(function: Function, prompts: Sequence[Messages], field: str, environment: Mapping[str, str]) -> Check:
    """Tried on a few of the prompts, with a made-up answer."""
    few = list(prompts[:: max(1, len(prompts) // TRIED)])[:TRIED]
    try:
        scores = tried(function, few, environment)
    except AppError as error:
        ways_out = () if field == "reward_model" else (WayOut("Go without", {field: ""}),)
        return Check("bad", "The function does not score these prompts", function.name, str(error), ways_out)
    figure = f"{function.name}, {min(scores):g} to {max(scores):g}" if len(set(scores)) > 1 else function.name
    return Check("ok", "The function scores these prompts", figure, f"It is {function.at}, in the run's own process.")


def of_judge(judge: Judge, answers: int, trains_here: bool = True, kept_here: int = 0, rows: int = 1) -> Check:
    """What is sent where, and whether its key is there, where that can be seen. Nothing was sent yet.

    `kept_here` of the rows are left out, because their prompts are confidential.
    """
    try:
        if trains_here:
            key_of(judge)
    except AppError as error:
        return Check("bad", "The key of the judge cannot be had", judge.name, str(error))
    if kept_here and kept_here >= rows:
        return Check("bad", "Every prompt is confidential", judge.name, f"{left_out_sentence(kept_here)} {_OTHERS}")
    about = f"The judge is asked about {answers:,} answers" if answers else "The judge is asked about every answer"
    sent = f"{about}, each with its whole prompt: {judge.model} at {judge.url}."
    if not judge.is_outside:
        where = "on this machine" if judge.is_here else "inside"
        return Check("ok", f"Answers are judged {where}", judge.name, sent)
    open_line = " The connection is not encrypted (http)." if judge.url.startswith("http:") else ""
    kept = " What becomes of them there is up to whoever runs it, and so is the price."
    left_out = f" {left_out_sentence(kept_here)}" if kept_here else ""
    return Check("warn", "Prompts and answers leave this machine", judge.name, f"{sent}{kept}{open_line}{left_out}")


def left_out_sentence(count: int) -> str:
    are = "1 confidential prompt is" if count == 1 else f"{count:,} confidential prompts are"
    return f"{are} left out: what is confidential never leaves for a judge outside."
