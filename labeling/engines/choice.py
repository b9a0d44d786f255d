"""Who answers here: what settings.toml says, or else what fits this machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from labeling.engines import vllm_server
from labeling.engines.adopted_server import home_id
from labeling.engines.model_server import Command, embedded_command
from labeling.engines.supervisor import Adopted, Engines
from labeling.engines.turns import Turns
from labeling.engines.vllm_server import VLLM
from storage import leases
from storage.database import Database
from storage.engine_settings import EngineSettings
from storage.keys import ENGINE_KEY, key_in, names_of_keys
from storage.leases import CPU
from storage.settings import Settings

log = logging.getLogger(__name__)


def engines_of(chosen: Settings, database: Database, gpus: Sequence[str]) -> Engines:
    """The model servers, started. `gpus`: those of this machine, as cuda:0, the first one first."""
    answering = chosen.answering
    command = command_of(answering, gpus, vllm_server.installed())
    shared = shared_devices(answering, command)
    if not shared:
        leases.share(database, ())  # what an app that was set up otherwise has left
    turns = Turns(database, shared) if shared else None
    adopted = None
    if answering.urls:
        key = key_in(ENGINE_KEY)
        adopted = Adopted(answering.urls, home_id(chosen.home), key, answering.pinned)
    return Engines(chosen.logs, command, adopted, turns, names_of_keys(chosen))


def command_of(answering: EngineSettings, gpus: Sequence[str], vllm_is_there: bool) -> Command:
    """vLLM where it is asked for, or where there is a GPU and nothing else is; our own small server elsewhere."""
    if answering.engine == "vllm" or (not answering.engine and gpus and vllm_is_there):
        return VLLM(tuple(gpus), answering.arguments, sleeps=bool(gpus) and answering.in_turns is not False)
    if gpus and not answering.engine and not answering.urls:
        log.warning(
            "There is a GPU, and vLLM is not installed (`make vllm`): the small server answers, on the processor."
        )
    return embedded_command


def shared_devices(answering: EngineSettings, command: Command) -> tuple[str, ...]:
    """Those that the servers and the runs may take in turns: by default all GPUs, as each base has a vLLM.

    Never a stranger's.
    """
    devices = command.gpus if isinstance(command, VLLM) and command.gpus else (CPU,)
    by_default = devices != (CPU,)
    in_turns = by_default if answering.in_turns is None else answering.in_turns
    return devices if in_turns and not answering.urls else ()
