from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from labeling.answering import rendered, seed_of
from labeling.assignment import Queue
from labeling.comparison import comparison_of
from labeling.engines.client import Completion
from labeling.engines.template import INSTRUCTION_TEMPLATE
from labeling.prompt_length import too_long
from labeling.sampling import Sampler, shares_of
from storage import model_versions, projects, prompts, responses
from storage.database import Database
from storage.errors import EngineRefused, EngineUnavailable
from storage.records import Message, Project
from tests.makers import project, prompt, some_prompts, version


class FakeEngine:
    """Answers with the sample's number, so that samples differ; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.refuses: set[str] = set()
        self.is_busy_at: set[str] = set()
        self.down = False
        self.alike = False
        self.broken: set[str] = set()

    def client(self, version_id: str, /) -> tuple[FakeEngine, str]:
        if self.down:
            raise EngineUnavailable("The model server is being started.")
        return self, version_id

    def complete(self, model: str, prompt: str, *, n: int, seed: int, **settings: object) -> list[Completion]:
        if model in self.broken:
            raise ZeroDivisionError
        if any(text in prompt for text in self.is_busy_at):
            raise EngineUnavailable("The model server cannot answer now (429): too many requests")
        if any(text in prompt for text in self.refuses):
            raise EngineRefused("This model's maximum context length is 512 tokens.")
        self.asked.append({"model": model, "prompt": prompt, "n": n, "seed": seed, **settings})
        texts = ["the same" if self.alike else f"answer {seed + i}" for i in range(n)]
        return [Completion(i, text, seed + i, "stop", 9, 3, 0.1) for i, text in enumerate(texts)]

    def server_name(self) -> str:
        return "fake 1.0"

    def tokenize(self, model: str, text: str) -> list[int]:
        return list(range(len(text.split())))


def sampler_of(
    database: Database, engine: FakeEngine, ahead: int = 3, clock: Callable[[], float] = time.monotonic
) -> tuple[Sampler, Queue]:
    queue = Queue(database, minimum_responses=lambda name: 2)
    return Sampler(database, queue, engine, ahead, clock=clock), queue  # type: ignore[arg-type]


def an_hour_later() -> Callable[[], float]:
    """A clock that goes on by an hour at each look."""
    return count(step=3600.0).__next__


def asking(database: Database, base: Path, *texts: str) -> Project:
    """A project that asks these prompts."""
    filled(database, base, count=0)
    prompts.add(database, [prompt(text, held_out=False) for text in texts])
    return projects.save(database, project())


def filled(database: Database, base: Path, versions: Sequence[str] = ("base",), count: int = 5) -> None:
    for one in versions:
        model_versions.add(database, version(one, base_path=str(base), template=INSTRUCTION_TEMPLATE))
    prompts.add(database, some_prompts(count))


def test_the_pool_is_filled_ahead_and_no_further(database: Database, tmp_path: Path) -> None:
    filled(database, tmp_path)
    asked = projects.save(database, project())
    sampler, queue = sampler_of(database, FakeEngine())

    assert sampler.fill() == 3
    assert sampler.fill() == 0
    assert queue.progress(asked, "ines").ready == 3


def test_what_was_sampled_records_how(database: Database, tmp_path: Path) -> None:
    filled(database, tmp_path, count=1)
    asked = projects.save(database, project())
    engine = FakeEngine()
    sampler_of(database, engine)[0].fill()

    (stored,) = responses.by_prompt(database, asked.id).values()

    assert [one.seed for one in stored] == [engine.asked[0]["seed"], engine.asked[0]["seed"] + 1]  # type: ignore[operator]
    assert {(one.version_id, one.finish_reason, one.completion_tokens) for one in stored} == {("base", "stop", 3)}
    assert {one.engine for one in stored} == {"fake 1.0"}
    assert "### Instruction:" in str(engine.asked[0]["prompt"])


def test_versions_share_the_answers_evenly_and_no_seed() -> None:
    four = project(version_ids=("a", "b", "c"), responses_per_prompt=4)
    versions = [version(one) for one in "abc"]

    assert [(one.id, count) for one, count in shares_of(four, versions)] == [("a", 2), ("b", 1), ("c", 1)]
    assert len({seed_of("p", "q", one, 0) for one in "abc"}) == 3
    assert seed_of("p", "q", "a", 0) == seed_of("p", "q", "a", 0) < 2**31


def test_a_prompt_whose_answers_are_all_alike_is_left_out_after_some_tries(database: Database, tmp_path: Path) -> None:
    filled(database, tmp_path, count=1)
    asked_of = projects.save(database, project())
    engine = FakeEngine()
    engine.alike = True
    sampler, _ = sampler_of(database, engine)

    assert [sampler.fill() for _ in range(5)] == [1, 1, 1, 0, 0]
    assert len({asked["seed"] for asked in engine.asked}) == 3
    assert sampler.problem(asked_of) == (
        "1 prompt is left out: the answers are all alike, or the model refuses to give any."
    )


def test_what_is_looked_at_again_is_drawn_with_other_seeds(database: Database, tmp_path: Path) -> None:
    filled(database, tmp_path, count=1)
    projects.save(database, project())
    engine = FakeEngine()
    engine.alike = True
    sampler, _ = sampler_of(database, engine)

    for _ in range(2):
        for _ in range(3):
            sampler.fill()
        sampler.wake()

    assert len({asked["seed"] for asked in engine.asked}) == len(engine.asked) == 6


def test_a_fault_that_passes_leaves_no_prompt_out(database: Database, tmp_path: Path) -> None:
    asked = asking(database, tmp_path, "Busy?", "Open?")
    engine = FakeEngine()
    engine.is_busy_at.add("Busy?")
    sampler, queue = sampler_of(database, engine, clock=an_hour_later())
    for _ in range(5):
        sampler.fill()
    assert queue.progress(asked, "ines").ready == 1
    assert "(429)" in sampler.problem(asked)

    engine.is_busy_at.clear()
    sampler.fill()

    assert queue.progress(asked, "ines").ready == 2
    assert sampler.problem(asked) == ""


def test_prompts_that_nobody_answers_keep_no_other_waiting(database: Database, tmp_path: Path) -> None:
    asked = asking(database, tmp_path, "Busy 1?", "Busy 2?", "Busy 3?", "Open?")
    engine = FakeEngine()
    engine.is_busy_at.add("Busy")
    sampler, queue = sampler_of(database, engine, ahead=3, clock=an_hour_later())
    for _ in range(2):
        sampler.fill()

    assert queue.progress(asked, "ines").ready == 1


def test_a_server_that_is_busy_is_left_alone_for_a_while(database: Database, tmp_path: Path) -> None:
    filled(database, tmp_path, count=1)
    projects.save(database, project())
    engine = FakeEngine()
    engine.is_busy_at.add("")
    sampler, _ = sampler_of(database, engine)
    sampler.fill()
    engine.is_busy_at.clear()

    assert sampler.fill() == 0  # its rest is not over

    sampler.wake()
    assert sampler.fill() == 1


def test_a_refused_prompt_stops_no_other_and_is_said(database: Database, tmp_path: Path) -> None:
    asked = asking(database, tmp_path, "Too long?", "Short?")
    engine = FakeEngine()
    engine.refuses.add("Too long?")
    sampler, queue = sampler_of(database, engine)
    sampler.fill()

    assert queue.progress(asked, "ines").ready == 1
    assert sampler.problem(asked) == ""  # the pool fills all the same
    sampler.fill()
    assert "left out" in sampler.problem(asked) and "maximum context length" in sampler.problem(asked)


def test_a_prompt_that_the_chat_template_refuses_stops_no_other(database: Database, tmp_path: Path) -> None:
    template = "{% if 'odd' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}{{ messages }}"
    model_versions.add(database, version(base_path=str(tmp_path), template=template))
    prompts.add(database, [prompt("An odd one?", held_out=False), prompt("Short?", held_out=False)])
    asked = projects.save(database, project())
    sampler, queue = sampler_of(database, FakeEngine())
    sampler.fill()

    assert queue.progress(asked, "ines").ready == 1
    sampler.fill()
    assert "left out. The chat template cannot" in sampler.problem(asked)


def test_a_bug_in_one_project_does_not_starve_the_next(database: Database, tmp_path: Path) -> None:
    filled(database, tmp_path, versions=("broken", "base"))
    broken = projects.save(database, project(id="p0", version_ids=("broken",)))
    sound = projects.save(database, project(id="p1"))
    engine = FakeEngine()
    engine.broken.add("broken")
    sampler, queue = sampler_of(database, engine)

    assert sampler.fill() == 3
    assert queue.progress(sound, "ines").ready == 3
    assert "the log says what" in sampler.problem(broken)


def test_a_prompt_that_leaves_little_of_the_context_gets_a_shorter_answer(database: Database, tmp_path: Path) -> None:
    filled(database, tmp_path, count=0)
    prompts.add(database, [prompt("word " * 400, held_out=False), prompt("Short?", held_out=False)])
    asked = projects.save(database, project())
    engine = FakeEngine()
    sampler_of(database, engine)[0].fill()

    stored = [one for of_prompt in responses.by_prompt(database, asked.id).values() for one in of_prompt]
    recorded = sorted(one.sampling.max_tokens for one in stored if one.sampling)

    assert recorded == [108, 108, 256, 256]  # 512, less 400 words and the 4 of the template
    assert sorted(int(str(asked["max_tokens"])) for asked in engine.asked) == [108, 256]


def test_another_home_draws_the_same_seeds(tmp_path: Path) -> None:
    seeds = []
    for home, project_id in (("one", "p1"), ("two", "p2")):
        database = Database.open(tmp_path / home / "plumbline.duckdb")
        filled(database, tmp_path, count=2)  # prompts whose ids are made at random
        projects.save(database, project(id=project_id))
        engine = FakeEngine()
        sampler_of(database, engine)[0].fill()
        database.close()
        seeds.append({asked["seed"] for asked in engine.asked})

    assert seeds[0] == seeds[1] and len(seeds[0]) == 2


def test_a_server_that_is_away_is_said_and_nothing_is_counted_as_a_try(database: Database, tmp_path: Path) -> None:
    filled(database, tmp_path)
    asked = projects.save(database, project())
    engine = FakeEngine()
    engine.down = True
    sampler, _ = sampler_of(database, engine)

    assert [sampler.fill() for _ in range(5)] == [0] * 5
    assert "being started" in sampler.problem(asked)
    engine.down = False
    assert sampler.fill() == 3
    assert sampler.problem(asked) == ""


def test_a_comparison_samples_one_answer_of_each_version_on_held_out_prompts(
    database: Database, tmp_path: Path
) -> None:
    filled(database, tmp_path, versions=("base", "v1"), count=0)
    prompts.add(database, some_prompts(2, held_out=True))
    compared = comparison_of(database, "v1", "base")
    engine = FakeEngine()
    sampler_of(database, engine)[0].fill()

    assert Counter(str(asked["model"]) for asked in engine.asked) == {"base": 2, "v1": 2}
    assert compared.version_ids == ("base", "v1")
    assert comparison_of(database, "base", "v1") == compared


def test_a_prompt_too_long_for_the_model_is_said_in_tokens(database: Database, tmp_path: Path) -> None:
    filled(database, tmp_path, count=0)
    engine = FakeEngine()

    assert too_long(database, engine, [Message("user", "short")]) == ""  # type: ignore[arg-type]
    assert "maximum" not in too_long(database, engine, [Message("user", "word " * 440)])  # type: ignore[arg-type]
    assert "base reads 512" in too_long(database, engine, [Message("user", "word " * 600)])  # type: ignore[arg-type]


def test_rendering_uses_the_versions_own_template(tmp_path: Path) -> None:
    own = version(base_path=str(tmp_path), template="<<{{ messages[0]['content'] }}>>")

    assert rendered(own, prompt("Why?")) == "<<Why?>>"
