"""Runs wait in line, one trains at a time, and each that succeeds leaves a model version.

`start_run` prepares a directory and puts the run in line; `follow`, called again and again by one thread of the app,
does the rest. Each of its steps looks at the directories first and only then at what the database believes, and can be
done twice: so a crash between any two steps, of the app or of a run, is put right by the next pass.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alignment import run_directory
from alignment.launchers.base import Launcher
from alignment.launchers.local import LocalLauncher
from alignment.methods import method_named
from alignment.methods.base import Method, TunedMethod
from alignment.progress import message_of
from alignment.run_directory import DirectoryState, Outcome
from storage import model_versions, prompts, runs, snapshots
from storage.database import Database
from storage.errors import AppError, BadInput, DiskFull
from storage.records import ModelVersion, Run, Snapshot, new_id, now

SAMPLE_PROMPTS = 3
THREADS = 1  # a run leaves the other cores to the label page and the model server
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
BOUNDS = {  # of pydantic: how we say it, and where it keeps the bound
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
STOPPED_IN_LINE = "Stopped by request before it started."

log = logging.getLogger(__name__)
_starting = threading.Lock()  # two people starting at once must not be given the same id


def start_run(
    database: Database,
    method_name: str,
    settings: Mapping[str, Any],
    snapshot_id: str,
    parent_id: str,
    started_by: str,
    home: Path,
) -> Run:
    """Put a run in line. Raises BadInput, NotFound, NotEnoughFeedback or DiskFull before anything is stored."""
    method = validated(method_name, settings)
    snapshot = snapshots.get(database, snapshot_id)
    parent = model_versions.get(database, parent_id)
    refuse(method, snapshot, parent)
    method = with_adapter_of(parent, method)
    with _starting:
        run_id = runs.next_id(database, method.name)
        directory = (home / "runs" / run_id).resolve()
        _prepare(directory, _described(database, run_id, method, snapshot, parent), snapshot)
        run = Run(
            id=run_id,
            method=method.name,
            settings=method.model_dump(),
            snapshot_id=snapshot.id,
            parent_id=parent.id,
            directory=str(directory),
            state="waiting",
            started_by=started_by,
        )
        runs.add(database, run)
    return run


def stop_run(database: Database, run_id: str, launcher: Launcher | None = None) -> None:
    """Ask a run to stop: at once where it waits, at its next step where it trains."""
    run = runs.get(database, run_id)
    if run.state == "waiting" and run_directory.state_of(Path(run.directory)) == "prepared":
        _end_in_line(database, run)
    elif run.state in ("waiting", "training"):
        (launcher or _LOCAL).stop(Path(run.directory))


def follow(database: Database, on_version: Callable[[ModelVersion], None], launcher: Launcher | None = None) -> None:
    """One pass over all runs that have not ended. `on_version` is told of each new version."""
    launcher = launcher or _LOCAL
    line = []
    busy = False
    for run in runs.unfinished(database):
        try:
            state = launcher.status(Path(run.directory))
            if state == "prepared":
                line.append(run)
            elif state in ("starting", "training"):
                busy = True
                _note_training(database, run)
            else:
                _finish(database, run, state, on_version)
        except Exception:  # one run that cannot be followed holds up no other
            log.exception("following the run %s failed", run.id)
    if line and not busy:
        _launch(database, line[0], launcher)


# ---- before a run ---------------------------------------------------------------------------------------------------


def validated(method_name: str, settings: Mapping[str, Any]) -> Method:
    """The method with these settings. Raises NotFound or BadInput, which names the field and what is wrong with it."""
    chosen = method_named(method_name)
    try:
        return chosen.model_validate(dict(settings))
    except ValidationError as error:
        raise BadInput(" ".join(_explained(chosen, problem) for problem in error.errors())) from error


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


def with_adapter_of(parent: ModelVersion, method: Method) -> Method:
    """The settings that a run from this parent really has: it goes on training the adapter that its parent has.

    Raises BadInput where another rank or strength was asked for.
    """
    if parent.adapter_path is None or not isinstance(method, TunedMethod):
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


def _adapter_settings(version_id: str, folder: Path) -> dict[str, int]:
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        return {"lora_rank": config["r"], "lora_alpha": config["lora_alpha"]}
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"The adapter of {version_id} cannot be read ({error}). Choose another parent.") from error


def _explained(method: type[Method], problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    field = method.model_fields.get(name)
    return f"{field.title or name if field else name}: {_in_words(problem)}."


def _in_words(problem: Mapping[str, Any]) -> str:
    """What pydantic found, for the person who filled the form; its own words where we have none."""
    kind, given = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return "there is no such setting"
    if given is None or given == "":
        return "is empty"
    if kind in BOUNDS:
        words, bound = BOUNDS[kind]
        return f"must be {words} {problem['ctx'][bound]:g}, and is {given}"
    if kind.startswith("int_"):
        return f"must be a whole number, and is {given}"
    if kind.startswith("float_") or kind == "finite_number":
        return f"must be a number, and is {given}"
    return f"{problem['msg']}, and is {given}"


def _described(
    database: Database, run_id: str, method: Method, snapshot: Snapshot, parent: ModelVersion
) -> dict[str, Any]:
    return {
        "id": run_id,
        "method": method.name,
        "settings": method.model_dump(),
        "parent": {
            "id": parent.id,
            "base_path": _absolute(parent.base_path),
            "adapter_path": _absolute(parent.adapter_path) if parent.adapter_path else None,
            "template": parent.template,
        },
        "snapshot": {
            "id": snapshot.id,
            "fingerprint": snapshot.fingerprint,
            "rows": snapshot.rows,
            "dataset_type": snapshot.dataset_type,
        },
        "sample_prompts": [
            [message.as_dict() for message in prompt.messages] for prompt in prompts.held_out(database, SAMPLE_PROMPTS)
        ],
        "created_at": now().isoformat(),
        "packages": _package_versions(),
        "threads": THREADS,
    }


def _prepare(directory: Path, described: Mapping[str, Any], snapshot: Snapshot) -> None:
    """The whole directory or none of it: it is filled under another name first."""
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        shutil.copyfile(snapshot.path, part / run_directory.SNAPSHOT)
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


def _set_aside(directory: Path) -> None:
    """A directory that the database knows nothing of: its app died before it stored the run, or the database is new."""
    if directory.exists():
        directory.rename(directory.with_name(f".{directory.name}.{new_id()}"))


# ---- while it trains, and after -------------------------------------------------------------------------------------


def _launch(database: Database, run: Run, launcher: Launcher) -> None:
    try:
        launcher.submit(Path(run.directory))
    except AppError as error:
        runs.set_state(database, run.id, "failed", message=str(error), ended_at=now())
    except Exception as error:
        log.exception("starting the run %s failed", run.id)
        sentence = f"The run could not be started: {error}. The whole story is in the log of the app."
        runs.set_state(database, run.id, "failed", message=sentence, ended_at=now())
    else:
        _note_training(database, run)


def _note_training(database: Database, run: Run) -> None:
    if run.state != "training":
        runs.set_state(database, run.id, "training", message="Training.")


def _end_in_line(database: Database, run: Run) -> None:
    """Through outcome.json, so that a pass that is about to launch it sees that it is over."""
    directory = Path(run.directory)
    run_directory.write_outcome(directory, Outcome("stopped", STOPPED_IN_LINE, steps=0, seconds=0.0))
    runs.set_state(database, run.id, "stopped", message=STOPPED_IN_LINE, ended_at=now())


def _finish(database: Database, run: Run, state: DirectoryState, on_version: Callable[[ModelVersion], None]) -> None:
    """Store how a run ended. The version is added first: one run makes one version, however often this is done."""
    outcome = run_directory.read_outcome(Path(run.directory))
    if outcome is None:
        runs.set_state(database, run.id, "killed", message=message_of(state, None), ended_at=now())
    elif outcome.state == "succeeded":
        made = model_versions.add(database, _version(database, run, outcome))
        message = f"{outcome.message} It is version {made.id}."
        runs.set_state(database, run.id, "succeeded", message=message, version_id=made.id, ended_at=now())
        on_version(made)
    else:
        runs.set_state(database, run.id, outcome.state, message=outcome.message, ended_at=now())


def _version(database: Database, run: Run, outcome: Outcome) -> ModelVersion:
    parent = model_versions.get(database, run.parent_id)
    return ModelVersion(
        id=model_versions.next_id(database),
        base_path=parent.base_path,
        adapter_path=str(Path(run.directory) / run_directory.MODEL),
        parent_id=parent.id,
        run_id=run.id,
        template=_trained_template(run),
        fingerprint=outcome.fingerprint,
        context_length=parent.context_length,
    )


def _trained_template(run: Run) -> str:
    """What the run trained with, which is what must be served."""
    template: str = json.loads((Path(run.directory) / run_directory.RUN).read_text())["parent"]["template"]
    return template


def _absolute(path: str) -> str:
    """As it is for a name on the hub, absolute for a folder: a run works from another directory."""
    return str(Path(path).resolve()) if Path(path).exists() else path


def _package_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


_LOCAL = LocalLauncher()
