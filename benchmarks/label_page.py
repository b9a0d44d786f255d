"""What a labeler waits for, what a crowd or a hostile text can break, and what reaches the browser too early.

    python -m benchmarks.label_page [--quick] [--without-label-studio]

The label page with its routes, queue and database, in a process of its own and without models; a real Chromium; the
labelers of the load in a third process. Label Studio, from PyPI, answers the same two requests (submit, next task) on
the same machine in the same run; the first call sets it up in .venv-label-studio (1 GB). `--quick` takes less of
everything, leaves Label Studio out, and ends within a minute.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
from playwright.sync_api import Browser, Page, Response, sync_playwright

from benchmarks.bars import Bar, report
from benchmarks.label_hammer import Hammered, hammer
from benchmarks.label_load import Load, Waited, ranked
from benchmarks.label_process import FILE, PROJECT, LabelProcess, fill
from benchmarks.label_studio import LabelStudio
from storage import assignments, responses
from storage.database import Database
from tests import chromium
from tests.free_ports import free_ports
from tests.labeling import attacked_page

ANSWERS = 4
VERSIONS = ("zephyr-secret-1", "zephyr-secret-2")
OTHER = "a-person-nobody-may-see"
SHOWN = ".ls.ready[data-item]:not([data-item=''])"
WATCH = """() => {
  window.waited = []; window.pressed = 0;
  addEventListener("keydown", (event) => { if (event.key === "Enter") window.pressed = event.timeStamp; }, true);
  const page = document.querySelector(".ls");
  new MutationObserver(() => {
    if (!window.pressed || !page.dataset.item) return;
    window.waited.push(performance.now() - window.pressed);
    window.pressed = 0;
  }).observe(page, { attributeFilter: ["data-item"] });
}"""


@dataclass(frozen=True)
class Size:
    """How much of everything is measured."""

    stock: int  # prompts that wait for whoever judges on the page, or in the load
    items: int
    load_seconds: float
    pace: float  # seconds a judgment
    peer: int
    people: int
    prompts: int
    kills: int
    lease: float  # seconds


WHOLE = Size(stock=3_000, items=150, load_seconds=90, pace=10, peer=60, people=200, prompts=400, kills=6, lease=20)
QUICK = Size(stock=1_200, items=20, load_seconds=10, pace=10, peer=0, people=12, prompts=15, kills=1, lease=2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, and without Label Studio")
    parser.add_argument("--without-label-studio", action="store_true")
    options = parser.parse_args()
    size, began = (QUICK if options.quick else WHOLE), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        with _browser() as browser:
            bars = [*page_bars(browser, Path(folder) / "page", size), attacks_bar(browser, Path(folder) / "attacks")]
        if size.peer and not options.without_label_studio:
            bars.append(peer_bar(Path(folder), size))
        bars.append(hammer_bar(Path(folder) / "hammer", size))
    return report(bars, f"{time.monotonic() - began:.0f} s.")


# ---- the page, alone and beside a hundred others --------------------------------------------------------------------


def page_bars(browser: Browser, folder: Path, size: Size) -> Iterator[Bar]:
    folder.mkdir()
    fill(folder, size.stock, answers=ANSWERS, versions=VERSIONS)
    with LabelProcess(folder, free_ports(1)[0], "--pages") as process:
        _judge_one(process.url, OTHER)
        with _page(browser, process.url) as page:
            early = _sent_before_the_first_judgment(page)
            alone = _judge(page, size.items)
        with _page(browser, process.url) as page:
            _open(page)
            load = Load(process.url, 100, size.pace, size.load_seconds)
            beside = _judge(page, 10_000, seconds=size.load_seconds)
            crowd = load.wait()
    yield from _painted_bars(alone, beside, len(crowd.submits))
    yield _durable_bar(crowd)
    yield _blindness_bar(early, folder)


@contextmanager
def _browser() -> Iterator[Browser]:
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS) as browser,
    ):
        yield browser


@contextmanager
def _page(browser: Browser, url: str) -> Iterator[Page]:
    """A page of somebody who was never here: no cookie, nothing in the cache."""
    with browser.new_context(base_url=url, viewport={"width": 1440, "height": 900}) as context:
        context.add_cookies([{"name": "person", "value": f"labeler-{uuid4()}", "url": url}])
        page = context.new_page()
        page.set_default_timeout(120_000)
        yield page


def _open(page: Page) -> None:
    page.goto(f"/label/?project={PROJECT}")
    page.wait_for_selector(SHOWN)
    page.evaluate(WATCH)


def _judge(page: Page, items: int, seconds: float = 600) -> list[float]:
    """Ranks items by keyboard, one after the other; milliseconds from Enter to the next item on the screen."""
    until = time.monotonic() + seconds
    for _ in range(items):
        if time.monotonic() > until:
            break
        page.wait_for_selector(SHOWN)
        before = page.locator(".ls").get_attribute("data-item")
        for key in "1234"[:ANSWERS]:
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.wait_for_function("before => document.querySelector('.ls').dataset.item !== before", arg=before)
        page.wait_for_selector(".save[data-s=saved]", state="attached")
    waited: list[float] = page.evaluate("window.waited")
    return waited


def _painted_bars(alone: Sequence[float], beside: Sequence[float], votes: int) -> list[Bar]:
    p50, p95, p95_beside = quantile(alone, 0.5), quantile(alone, 0.95), quantile(beside, 0.95)
    return [
        Bar("submit to next item, p50", f"{p50:.0f} ms of {len(alone)}", "at most 20 ms", p50 <= 20),
        Bar("submit to next item, p95", f"{p95:.0f} ms of {len(alone)}", "at most 35 ms", p95 <= 35),
        Bar(
            "the same beside 100 others, p95",
            f"{p95_beside:.0f} ms of {len(beside)} ({votes} votes of others)",
            "at most 50 ms",
            p95_beside <= 50,
        ),
    ]


def _durable_bar(crowd: Waited) -> Bar:
    p50, p95 = (1000 * quantile(crowd.submits, share) for share in (0.5, 0.95))
    measured = f"{p95:.0f} ms of {len(crowd.submits)} (p50 {p50:.0f}), {crowd.failed} failed"
    holds = p95 <= 150 and crowd.failed == 0
    return Bar("submit acknowledged as durable beside them, p95", measured, "at most 150 ms", holds)


# ---- blindness ------------------------------------------------------------------------------------------------------


def _judge_one(url: str, name: str) -> None:
    """Somebody else has judged, with a note; nothing of that may reach anybody."""
    with httpx.Client(base_url=url, cookies={"person": name}, timeout=60) as client:
        item = _next(client, "tab")
        client.post("/api/label/judge", json={**ranked(item), "note": f"Note by {name}."}).raise_for_status()


@dataclass(frozen=True)
class Sent:
    """Every byte that came before the first judgment, and those of our own routes among them."""

    all: bytes
    ours: bytes


def _sent_before_the_first_judgment(page: Page) -> Sent:
    """Heads and bodies, until items were on the screen and fetched ahead."""
    came: list[Response] = []
    page.on("response", lambda one: came.append(one))
    _open(page)
    page.wait_for_timeout(1_000)  # whatever else the page would fetch by itself
    heads = [str(one.all_headers()).encode() for one in came]
    bodies = [(one.url, one.body()) for one in came if one.ok]
    ours = b"\n".join(body for url, body in bodies if "/api/label/" in url)
    return Sent(b"\n".join([*heads, *(body for _, body in bodies)]), ours)


FIELDS = ('"score', '"version', '"author', '"model', '"gold', '"repeat', '"seed', '"sampling')


def _blindness_bar(early: Sent, folder: Path) -> Bar:
    """No version, other person, stored id of an answer or score in what came, and no order that tells the writer."""
    database = Database.open(folder / FILE)
    shown = {one.id: one for of in responses.by_prompt(database, PROJECT).values() for one in of}
    orders = [one.displayed_order for one in assignments.list_all(database, PROJECT)]
    database.close()
    secrets = [*VERSIONS, OTHER, *shown]
    leaked = [one for one in secrets if one.encode() in early.all]
    leaked += [one for one in FIELDS if one.encode() in early.ours]
    firsts = Counter(shown[order[0]].version_id for order in orders)
    share, n = firsts[VERSIONS[0]] / len(orders), len(orders)
    tells = abs(share - 0.5) > 3.3 * (0.25 / n) ** 0.5  # one time in a thousand by chance
    found, size = ", ".join(leaked[:5]) or "nothing", len(early.all) // 1024
    measured = f"{found} of {len(secrets)} secrets in {size} KiB; one version first {share:.0%} of {n}"
    return Bar("blind before the judgment", measured, "no secret, no telling order", not leaked and not tells)


# ---- attacks --------------------------------------------------------------------------------------------------------


def attacks_bar(browser: Browser, folder: Path) -> Bar:
    """The look that tests/labeling/test_attacks.py takes, at pages that a process of their own serves."""
    folder.mkdir()
    database = Database.open(folder / FILE)
    attacked_page.fill(database)
    database.close()
    with LabelProcess(folder, free_ports(1)[0], "--pages") as process:
        draws = (attacked_page.DRAW_ITEMS, attacked_page.DRAW_NAMES)
        seen = [attacked_page.attack(browser, process.url, draw) for draw in draws]
    drawn, ran = min(one.drawn for one in seen), sum(len(one.ran) for one in seen)
    elsewhere, strange = sum(len(one.elsewhere) for one in seen), sum(len(one.strange) for one in seen)
    measured = f"{ran} of {drawn} ran, {elsewhere} requests elsewhere, {strange} strange elements"
    holds = drawn >= 150 and all(one == attacked_page.HARMLESS for one in seen)
    return Bar("attacks in prompts, answers, notes, guidelines, names", measured, "0 of 150 or more, 0, 0", holds)


# ---- beside Label Studio, and under the hammer ----------------------------------------------------------------------


def peer_bar(folder: Path, size: Size) -> Bar:
    """One client, one request after the other: submit, then the next task."""
    with LabelStudio(folder / "label-studio", free_ports(1)[0], tasks=size.peer + 20) as peer:
        theirs = statistics.median([peer.submit_and_next() for _ in range(size.peer)][5:])
    ours = statistics.median(_our_submits_and_nexts(folder / "alone", size.peer)[5:])
    measured = f"{theirs / ours:.0f} x ({1000 * theirs:.0f} ms against {1000 * ours:.1f} ms)"
    return Bar("Label Studio's submit and next over ours", measured, "at least 10 x", theirs >= 10 * ours)


def _our_submits_and_nexts(folder: Path, count: int) -> list[float]:
    folder.mkdir()
    fill(folder, count + 20)
    took = []
    with (
        LabelProcess(folder, free_ports(1)[0]) as process,
        httpx.Client(base_url=process.url, cookies={"person": "rater"}, timeout=60) as client,
    ):
        for _ in range(count):
            item = _next(client, "tab")
            began = time.perf_counter()
            client.post("/api/label/judge", json=ranked(item)).raise_for_status()
            _next(client, "tab")
            took.append(time.perf_counter() - began)
    return took


def _next(client: httpx.Client, tab: str) -> dict[str, object]:
    answer = client.get("/api/label/next", params={"project": PROJECT, "tab": tab, "count": 1}).raise_for_status()
    item: dict[str, object] = answer.json()["items"][0]
    return item


def hammer_bar(folder: Path, size: Size) -> Bar:
    folder.mkdir()
    found: Hammered = hammer(
        folder,
        free_ports(1)[0],
        people=size.people,
        prompts=size.prompts,
        overlap=3,
        kills=size.kills,
        lease=size.lease,
        seconds=400,
    )
    broken = found.lost + found.doubled + found.over_assigned
    return Bar(f"hammer, {size.people} threads", found.sentence, "0 lost, 0 doubled, 0 over-assigned", broken == 0)


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


if __name__ == "__main__":
    sys.exit(main())
