"""Text that files and the database take."""

from __future__ import annotations

from typing import Any


def storable(told: Any) -> Any:
    """The same value, as read from JSON, with a question mark for each half of a surrogate pair in its texts."""
    match told:
        case str():
            return told.encode("utf-8", "replace").decode()
        case list():
            return [storable(one) for one in told]
        case dict():
            return {storable(name): storable(one) for name, one in told.items()}
    return told
