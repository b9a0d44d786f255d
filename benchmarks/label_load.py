"""Labelers at a steady human pace: each takes an item, thinks, submits. Prints what they waited, as JSON.

python -m benchmarks.label_load URL --people 100 --pace 10 --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from benchmarks.label_process import PROJECT

ROOT = Path(__file__).parents[1]


@dataclass
class Waited:
    """Seconds that a submit took until it was acknowledged, and that the next item took to come."""

    submits: list[float] = field(default_factory=list)
    nexts: list[float] = field(default_factory=list)
    failed: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--pace", type=float, default=10.0, help="seconds a judgment")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    waited = asyncio.run(_crowd(options.url, options.people, options.pace, options.seconds))
    print(json.dumps(asdict(waited)))


class Load:
    """The labelers, in a process of their own, while the block runs."""

    def __init__(self, url: str, people: int, pace: float, seconds: float) -> None:
        given = ["--people", str(people), "--pace", str(pace), "--seconds", str(seconds)]
        command = [sys.executable, "-m", "benchmarks.label_load", url, *given]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def wait(self) -> Waited:
        """What they waited, once their time is over."""
        told, _ = self._process.communicate()
        if self._process.returncode:
            raise SystemExit("The labelers of the load failed; what they said stands above.")
        return Waited(**json.loads(told))


async def _crowd(url: str, people: int, pace: float, seconds: float) -> Waited:
    waited, until = Waited(), time.monotonic() + seconds
    await asyncio.gather(*(_labeler(url, f"labeler {n}", pace, until, waited) for n in range(people)))
    return waited


async def _labeler(url: str, name: str, pace: float, until: float, waited: Waited) -> None:
    chance, tab = random.Random(name), str(uuid4())
    client = httpx.AsyncClient(base_url=url, cookies={"person": name}, timeout=60, verify=False)  # or each reads all
    async with client:  # the machine's certificates, and the others wait for that
        await asyncio.sleep(chance.uniform(0, pace))
        while time.monotonic() < until:
            items = await _timed(_next(client, tab), waited.nexts, waited)
            if items:
                await _timed(_submit(client, items[0]), waited.submits, waited)
            await asyncio.sleep(min(chance.expovariate(1 / pace), until - time.monotonic()))  # nobody outstays the load


async def _timed(work: Any, times: list[float], waited: Waited) -> Any:
    began = time.perf_counter()
    try:
        found = await work
    except httpx.HTTPError:
        waited.failed += 1
        return None
    times.append(time.perf_counter() - began)
    return found


async def _next(client: httpx.AsyncClient, tab: str) -> list[dict[str, Any]]:
    answer = await client.get("/api/label/next", params={"project": PROJECT, "tab": tab, "count": 4})
    items: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
    return items


async def _submit(client: httpx.AsyncClient, item: dict[str, Any]) -> None:
    (await client.post("/api/label/judge", json=ranked(item))).raise_for_status()


def ranked(item: dict[str, Any]) -> dict[str, Any]:
    """A judgment that ranks the answers as they were shown."""
    ids = [one["id"] for one in item["responses"]]
    return {
        "key": str(uuid4()),
        "assignment": item["assignment"],
        "displayed": ids,
        "focused_seconds": 9.0,
        "verdict": {"ranks": {one: rank for rank, one in enumerate(ids, 1)}},
    }


if __name__ == "__main__":
    main()
