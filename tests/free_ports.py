"""Ports for processes that bind them only later, or again after a kill."""

from __future__ import annotations

import random
import socket
from itertools import islice

RANGE = range(20_000, 32_000)  # above those of Ray's workers, below those that Linux gives away by itself


def free_ports(number: int) -> list[int]:
    """All different; nobody else takes them by chance before they are bound."""
    return list(islice(filter(_is_free, random.sample(RANGE, len(RANGE))), number))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
