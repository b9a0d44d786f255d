"""What to know before a run about what scores its answers: its cost, whether it works, what leaves this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignment import memory
from alignment.methods.base import Messages, Method, Parent
from alignment.methods.online import OnlineMethod, refuse_reward_model, why_apart
from alignment.row_checks import Check, WayOut
from alignment.scorers.functions import Function, tried
from alignment.scorers.judges import key_of, stays_here
from labeling.engines.model_folder import check_model_folder
from storage.errors import AppError
from storage.settings import Judge

TRIED = 3  # prompts


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


def of_judge(judge: Judge, answers: int, trains_here: bool = True) -> Check:
    """What is sent where, and whether its key is there, where that can be seen. Nothing was sent yet."""
    try:
        if trains_here:
            key_of(judge)
    except AppError as error:
        return Check("bad", "The key of the judge cannot be had", judge.name, str(error))
    about = f"The judge is asked about {answers:,} answers" if answers else "The judge is asked about every answer"
    sent = f"{about}, each with its whole prompt: {judge.model} at {judge.url}."
    if stays_here(judge):
        return Check("ok", "Answers are judged on this machine", judge.name, sent)
    open_line = " The connection is not encrypted (http)." if judge.url.startswith("http:") else ""
    kept = " What becomes of them there is up to whoever runs it, and so is the price."
    return Check("warn", "Prompts and answers leave this machine", judge.name, f"{sent}{kept}{open_line}")
