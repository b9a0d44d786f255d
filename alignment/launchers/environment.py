"""What a run, or the check before one, gets of the app's environment: all of it, but of the keys only its own.

The judges that it asks need theirs, and the server that samples for it needs its own. The keys of everybody else are
left out, since whatever runs in it (a reward function, a library) could read them. A run on a cluster gets none from
here: its environment is the cluster's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.keys import SAMPLING_KEY, without_keys_of
from storage.settings import read_home


def environment_for(described: Mapping[str, Any], home: Path) -> dict[str, str]:
    """described: what scores and samples, as run.json says it. Raises BadInput where settings.toml cannot be read."""
    return without_keys_of(read_home(home), but=keys_of(described))


def keys_of(described: Mapping[str, Any]) -> list[str]:
    """The variables whose keys it needs."""
    scoring = (described.get(name) or {} for name in ("scored_by", "gold"))
    named = [one["key_env"] for one in scoring if one.get("key_env")]
    return [*named, SAMPLING_KEY] if described.get("sampled_by") else named
