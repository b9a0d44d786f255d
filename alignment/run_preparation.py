"""What comes before a run: is it worth starting, what exactly will it do, and the directory that says so.

Everything is looked up and refused here, before anything is stored. What is left is a directory that trains the same
model wherever it is run: settings, parent, reward model, rows, seed, and the code and machine it was made on.
"""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from alignment import devices, run_directory, setting_faults
from alignment.launchers.launch import Launch, accelerate_config
from alignment.methods import method_named
from alignment.methods.base import Method, Parent, TunedMethod, adapter_settings
from alignment.methods.online import OnlineMethod, refuse_reward_model
from alignment.methods.ppo import PPO
from alignment.model_size import parameters
from alignment.scorers.chosen import named, named_function, told, understood
from alignment.scorers.functions import Function
from alignment.setting_faults import title_of
from storage import model_versions, prompts
from storage.database import Database
from storage.endpoints import Judge
from storage.errors import BadInput, DiskFull, NotFound
from storage.records import ModelVersion, Snapshot, new_id, now
from storage.settings import read_home

SAMPLE_PROMPTS = 3
THREADS = 1  # a run leaves the other cores to the label page and the model server
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
REPOSITORY = Path(__file__).parents[1]


def validated(method_name: str, settings: Mapping[str, Any]) -> Method:
    """The method with these settings. Raises NotFound or BadInput, which names the field and what is wrong with it."""
    chosen = method_named(method_name)
    if found := setting_faults.faults(chosen, settings):
        raise BadInput(setting_faults.sentence(chosen, found))
    return chosen.model_validate(dict(settings))


def validated_launch(launch: Mapping[str, Any]) -> Launch:
    """Raises BadInput, which names the field and what is wrong with it."""
    try:
        return Launch.of(launch)
    except ValidationError as error:
        raise BadInput(setting_faults.sentence(Launch, setting_faults.faults(Launch, launch))) from error


def refuse(method: Method, snapshot: Snapshot, parent: ModelVersion) -> None:
    """Raises where this run would be wasted."""
    if snapshot.dataset_type != method.reads:
        raise BadInput(
            f"{method.title} learns from {method.reads} rows, and the snapshot {snapshot.name!r} holds "
            f"{snapshot.dataset_type} rows. Choose another snapshot, or a method that reads this one."
        )
    if parent.kind != "policy":
        raise BadInput(f"{parent.id} is a {parent.kind}, which gives scores and not answers. Choose another parent.")
    method.refuse_too_little(snapshot.rows, snapshot.counts)


# ---- what scores the answers ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scoring:
    """What scores the answers of a run that learns from its own, and what is shown beside it; mostly nothing.

    sampled_by: the address of the model server that gives these answers; empty where the run itself does.
    confidential: the text hashes of the prompts that a judge outside is not asked about.
    """

    reward: ModelVersion | None = None
    scored_by: Function | Judge | None = None
    gold: Function | None = None
    sampled_by: str = ""
    confidential: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As run.json says it. scorers/chosen.py understands it again."""
        reward = asdict(as_parent(self.reward)) if self.reward else None
        scored_by, gold = told(self.scored_by, self.confidential), told(self.gold)
        return {"reward": reward, "scored_by": scored_by, "gold": gold, "sampled_by": self.sampled_by}


def scoring_for(database: Database, method: Method, parent: ModelVersion, home: Path) -> Scoring:
    """What the settings name, where the method asks for something. Raises BadInput with what there is."""
    if not isinstance(method, OnlineMethod):
        return Scoring()
    known = read_home(home)
    gold = named_function(known, str(getattr(method, "gold", "")), title_of(type(method), "gold"))
    title = title_of(type(method), "reward_model")
    scored_by = named(known, method.reward_model, title)
    reward = None if scored_by else _reward_for(database, method, parent, title)
    sampled_by = known.sampling_server if isinstance(method, PPO) and method.sampler == "model server" else ""
    return Scoring(reward, scored_by, gold, sampled_by, tuple(prompts.confidential_hashes(database)))


def refuse_sampler(method: Method, scoring: Scoring) -> None:
    """Raises BadInput where the answers are to come from a model server, and it cannot give them."""
    if isinstance(method, PPO):
        method.refuse_sampler(scoring.sampled_by)


def _reward_for(database: Database, method: OnlineMethod, parent: ModelVersion, title: str) -> ModelVersion:
    """The reward model that the settings name. Raises BadInput with those there are."""
    fitting = _reward_models(database, None if method.scores_text else parent)
    way_out = (
        f"Choose {' or '.join(one.id for one in fitting)}, a function or a judge."
        if fitting
        else f"Train one first: a run of the method Reward model from {parent.id}. Or choose a function or a judge."
    )
    chosen = _named_version(database, method.reward_model, title)
    if chosen is None:
        raise BadInput(f"{title}: {method.title} learns from scores, and nothing that scores is chosen. {way_out}")
    if chosen.kind != "reward_model":
        raise BadInput(f"{title}: {chosen.id} is a {chosen.kind}, which gives answers and not scores. {way_out}")
    if chosen.id not in {one.id for one in fitting}:
        raise BadInput(
            f"{title}: {chosen.id} was not made from the same base model as {parent.id}, so it reads text as other "
            f"tokens. {way_out.rstrip('.')}, or the method PPO, which shows it texts."
        )
    if not method.scores_text:
        trained = replace(parent, template=method.template_for(parent.template))
        refuse_reward_model(as_parent(trained), as_parent(chosen))
    return chosen


def _named_version(database: Database, version_id: str, title: str) -> ModelVersion | None:
    """None for no name. Raises BadInput for a name that is none."""
    try:
        return model_versions.get(database, version_id) if version_id else None
    except NotFound as error:
        raise BadInput(f"{title}: {error}") from error


def _reward_models(database: Database, parent: ModelVersion | None) -> list[ModelVersion]:
    """All; with a parent those that read text as the same tokens: their line of versions begins with the same base."""
    there = {one.id: one for one in model_versions.list_all(database)}
    rewards = [one for one in there.values() if one.kind == "reward_model"]
    if parent is None:
        return rewards
    base = _first_of_line(parent, there).base_path
    return [one for one in rewards if _first_of_line(one, there).base_path == base]


def _first_of_line(version: ModelVersion, there: Mapping[str, ModelVersion]) -> ModelVersion:
    while parent := there.get(version.parent_id or ""):
        version = parent
    return version


def note_confidential(database: Database, directory: Path) -> None:
    """Into run.json, just before a run begins: what was marked while it waited, or before it was resumed, holds too."""
    described = run_directory.read_run(directory)
    scored_by = told(understood(described.get("scored_by")), prompts.confidential_hashes(database))
    if scored_by != described.get("scored_by"):
        run_directory.write_json(directory / run_directory.RUN, {**described, "scored_by": scored_by})


# ---- the adapter of the parent --------------------------------------------------------------------------------------


def with_adapter_of(parent: ModelVersion, method: Method) -> Method:
    """The settings that a run from this parent really has: it goes on training the adapter that its parent has.

    With full weights it does not: the adapter is merged into them, so there is nothing to inherit. Raises BadInput
    where another adapter was asked for.
    """
    if parent.adapter_path is None or not isinstance(method, TunedMethod) or method.tuning == "full":
        return method
    adapter = _adapter_settings(parent.id, Path(parent.adapter_path))
    for name, value in adapter.items():
        field, asked = type(method).model_fields[name], getattr(method, name)
        if asked not in (value, field.default):
            raise BadInput(
                f"{field.title}: {asked} was asked for, and a run from {parent.id} goes on training its adapter, "
                f"which has {value}. Leave it at {field.default}, or start from a base model."
            )
    return method.model_copy(update=adapter)


def _adapter_settings(version_id: str, folder: Path) -> dict[str, Any]:
    try:
        return adapter_settings(json.loads((folder / "adapter_config.json").read_text()))
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"The adapter of {version_id} cannot be read ({error}). Choose another parent.") from error


# ---- the directory --------------------------------------------------------------------------------------------------


def described(
    database: Database,
    run_id: str,
    method: Method,
    snapshot: Snapshot,
    parent: ModelVersion,
    scoring: Scoring,
    launch: Mapping[str, Any],
) -> dict[str, Any]:
    """What run.json says."""
    size = parameters(parent.base_path)
    return {
        "id": run_id,
        "method": method.name,
        "settings": method.model_dump(),
        "parent": asdict(as_parent(replace(parent, template=method.template_for(parent.template)))),
        **scoring.as_json(),
        "snapshot": {
            "id": snapshot.id,
            "fingerprint": snapshot.fingerprint,
            "rows": snapshot.rows,
            "dataset_type": snapshot.dataset_type,
        },
        "sample_prompts": [
            [message.as_dict() for message in prompt.messages] for prompt in prompts.held_out(database, SAMPLE_PROMPTS)
        ],
        "launch": dict(launch),
        "parameters": size,
        "proposed": method.proposed("balanced", getattr(method, "tuning", "lora"), size),
        "repeats": None,
        "created_at": now().isoformat(),
        "code": code_version(),
        "packages": package_versions(),
        "hardware": devices.hardware() if launch["where"] == "local" else None,  # of a cluster nobody knows it yet
        "threads": THREADS,
    }


def as_parent(version: ModelVersion) -> Parent:
    """As a run sees it, from another directory too."""
    adapter = _absolute(version.adapter_path) if version.adapter_path else None
    return Parent(version.id, _absolute(version.base_path), adapter, version.template)


def _absolute(path: str) -> str:
    """As it is for a name on the hub, absolute for a folder: a run works from another directory."""
    return str(Path(path).resolve()) if Path(path).exists() else path


def prepare(directory: Path, described: Mapping[str, Any], snapshot: Snapshot) -> None:
    """The whole directory or none of it: it is filled under another name first."""
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        shutil.copyfile(snapshot.path, part / run_directory.SNAPSHOT)
        _write_accelerate_config(part, Launch.of(described["launch"]))
        run_directory.write_json(part / run_directory.RUN, described)
        _set_aside(directory)
        part.rename(directory)
    except FileNotFoundError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise BadInput(
            f"The file of the snapshot {snapshot.name!r} is gone ({snapshot.path}). Freeze a new one."
        ) from error
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if error.errno == errno.ENOSPC:
            raise DiskFull("The disk is full, so the run was not started. Free some space and try again.") from error
        raise


def _write_accelerate_config(directory: Path, launch: Launch) -> None:
    """Here and not at the start, so that the same directory can be launched by hand with `accelerate launch`."""
    if launch.processes > 1:
        (directory / run_directory.ACCELERATE).write_text(yaml.safe_dump(accelerate_config(launch), sort_keys=False))


def _set_aside(directory: Path) -> None:
    """A directory that the database knows nothing of: its app died before it stored the run, or the database is new."""
    if directory.exists():
        directory.rename(directory.with_name(f".{directory.name}.{new_id()}"))


# ---- what it was made with ------------------------------------------------------------------------------------------


def code_version() -> dict[str, str | None]:
    """The version of Plumbline, and the commit where it runs from a checkout; `-dirty` where that was changed."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return {"version": project["version"], "commit": _commit()}


def _commit() -> str | None:
    if not (REPOSITORY / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


@cache
def package_versions() -> dict[str, str]:
    return {name: _installed(name) for name in PACKAGES}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
