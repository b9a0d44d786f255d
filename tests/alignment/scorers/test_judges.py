"""A judge is a model behind an endpoint: a real HTTP server here, which answers as it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alignment.methods.ppo import PPO
from alignment.run_preparation import scoring_for
from alignment.scorers.chosen import asked_about, told, understood
from alignment.scorers.judges import JudgeReward, as_reward, hash_of, points_in
from storage import prompts as stored_prompts
from storage.database import Database
from storage.endpoints import Judge, key_of
from storage.errors import EngineRefused, RunFailed
from tests.alignment.conftest import question
from tests.endpoint_server import EndpointServer, Reply, endpoint_server, said
from tests.makers import prompt, version

KEY = "sk-very-secret"
NO_PAUSES = (0.0, 0.0, 0.0)


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    with endpoint_server() as made:
        yield made


def judge(endpoint: EndpointServer, **given: Any) -> Judge:
    return Judge("house", endpoint.url, "small", **given)


def asked(endpoint: EndpointServer, *texts: str, **given: Any) -> list[float]:
    return JudgeReward(judge(endpoint, **given), NO_PAUSES)([question(1)] * len(texts), texts)


# ---- points


@pytest.mark.parametrize(
    ("reply", "points"),
    [
        ("7", 7),
        (" 10\n", 10),
        ("Score: 8.5", 8.5),
        ("**6**", 6),
        ("9/10", 9),
        ("3 out of 10.", 3),
        ("<think>It is 2 or 4.</think>\n\n4", 4),
        ("On a scale from 1 to 10, this is a 7", None),
        ("0", None),
        ("11", None),
        ("I cannot judge this.", None),
        ("", None),
    ],
)
def test_points_are_read_where_nothing_else_is_said(reply: str, points: float | None) -> None:
    assert points_in(reply) == points


def test_points_become_a_reward_around_nought() -> None:
    assert [as_reward(points) for points in (1, 5.5, 10)] == [-2, 0, 2]


# ---- asking


def test_each_answer_is_judged_with_its_prompt_in_order(endpoint: EndpointServer) -> None:
    # given an endpoint that is slower with what it is asked first
    def by_length(words: str) -> Reply:
        time.sleep(0.2 if "long answer" in words else 0)
        return said("10" if "long answer" in words else "1")

    endpoint.replies = by_length
    # when two answers are judged
    rewards = asked(endpoint, "a long answer", "five", criteria="how long it is")
    # then each got its own points, and the endpoint all it needs to know
    assert rewards == [2.0, -2.0]
    sent = endpoint.bodies[0]
    assert sent["model"] == "small" and sent["temperature"] == 0 and len(sent["messages"]) == 1
    words = " ".join(sent["messages"][0]["content"] for sent in endpoint.bodies)
    assert "how long it is" in words and "user: what is the dose 1" in words and "a long answer" in words


def test_an_endpoint_that_is_busy_is_asked_again(endpoint: EndpointServer) -> None:
    replies = iter([(429, "slow down"), (503, "starting"), said("thinking …"), said("9")])
    endpoint.replies = lambda words: next(replies)
    assert asked(endpoint, "five") == [as_reward(9)]
    assert len(endpoint.bodies) == 4


def test_an_endpoint_that_never_says_a_number_ends_the_run(endpoint: EndpointServer) -> None:
    endpoint.replies = lambda words: said("What a lovely answer!")
    with pytest.raises(
        RunFailed, match=r"gave no points .* in 4 tries: it said 'What a lovely answer!', which is no num"
    ):
        asked(endpoint, "five")


def test_an_endpoint_that_stays_away_ends_the_run_and_is_named(endpoint: EndpointServer) -> None:
    endpoint.stop()
    with pytest.raises(
        RunFailed, match=f"The judge house .small at {endpoint.url}. gave no points.*not answer.*Resume"
    ):
        asked(endpoint, "five")


def test_what_asking_again_cannot_mend_is_not_asked_again(endpoint: EndpointServer) -> None:
    endpoint.replies = lambda words: (404, "no such model")
    with pytest.raises(RunFailed, match=r"refused \(404\): no such model"):
        asked(endpoint, "five")
    assert len(endpoint.bodies) == 1


def test_an_endpoint_of_another_kind_is_told(endpoint: EndpointServer) -> None:
    endpoint.replies = lambda words: (200, "<html>Welcome</html>")
    with pytest.raises(RunFailed, match="does not speak as OpenAI's chat endpoint: <html>"):
        asked(endpoint, "five")


def test_where_one_answer_is_given_up_the_others_are_not_waited_for(endpoint: EndpointServer) -> None:
    endpoint.replies = lambda words: (400, "no") if "bad" in words else (503, "busy")
    started = time.monotonic()
    with pytest.raises(RunFailed, match="refused"):
        JudgeReward(judge(endpoint), (30.0,))([question(1)] * 40, ["five"] * 7 + ["bad"] + ["five"] * 32)
    assert time.monotonic() - started < 25 and len(endpoint.bodies) < 40


# ---- the key


def test_the_key_is_sent_and_not_told(endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    assert asked(endpoint, "five", key_env="JUDGE_KEY") == [as_reward(5)]
    assert endpoint.keys == [f"Bearer {KEY}"]
    # an endpoint that repeats it in its refusal
    endpoint.replies = lambda words: (401, f"Incorrect API key provided: {KEY}.")
    with pytest.raises(RunFailed) as refused:
        asked(endpoint, "five", key_env="JUDGE_KEY")
    assert "Incorrect API key provided: (key)" in str(refused.value) and KEY not in str(refused.value)


def test_a_key_file_that_others_can_read_is_refused(endpoint: EndpointServer, tmp_path: Path) -> None:
    file = tmp_path / "judge.key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    assert key_of(judge(endpoint, key_file=str(file))) == KEY
    file.chmod(0o640)
    with pytest.raises(EngineRefused, match=r"can be read by others \(mode 640\). Close it with: chmod 600"):
        key_of(judge(endpoint, key_file=str(file)))


def test_a_key_that_is_not_there_is_told_before_anything_is_asked(endpoint: EndpointServer, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="in the variable NO_SUCH_KEY, and there is none"):
        asked(endpoint, "five", key_env="NO_SUCH_KEY")
    with pytest.raises(RunFailed, match="cannot be read"):
        asked(endpoint, "five", key_file=str(tmp_path / "absent"))
    assert endpoint.bodies == []


# ---- what is confidential


def test_a_judge_outside_is_not_asked_about_a_confidential_prompt(endpoint: EndpointServer) -> None:
    # given a judge that counts as outside, and a prompt that is confidential
    outside = JudgeReward(judge(endpoint, inside=False), NO_PAUSES, confidential={hash_of(question(1))})
    # then the run ends before anything is sent, and other prompts are judged
    with pytest.raises(RunFailed, match="This prompt is confidential, so it is not sent to the judge house"):
        outside([question(1)], ["five"])
    assert endpoint.bodies == []
    assert outside([question(2)], ["five"]) == [as_reward(5)]


def test_a_judge_inside_is_asked_about_every_prompt(endpoint: EndpointServer) -> None:
    inside = JudgeReward(judge(endpoint), NO_PAUSES, confidential={hash_of(question(1))})
    assert inside([question(1)], ["five"]) == [as_reward(5)]


def test_rows_that_a_judge_outside_may_not_see_are_left_out(endpoint: EndpointServer) -> None:
    rows = [{"prompt": question(number)} for number in (1, 2, 3)]
    outside, inside = (told(judge(endpoint, inside=inside), [hash_of(question(2))]) for inside in (False, True))
    assert asked_about(rows, outside) == [rows[0], rows[2]]
    assert asked_about(rows, inside) == rows and asked_about(rows, None) == rows
    assert understood(outside) == judge(endpoint, inside=False)


def test_only_this_machine_s_own_addresses_are_inside_unless_the_settings_say_otherwise() -> None:
    assert not Judge("a", "http://localhost:8000", "m").is_outside
    assert Judge("a", "http://localhost:8000", "m", inside=False).is_outside
    assert Judge("a", "https://judge.example.org", "m").is_outside
    assert not Judge("a", "https://judge.example.org", "m", inside=True).is_outside


def test_a_run_takes_along_which_prompts_its_judge_may_not_see(database: Database, tmp_path: Path) -> None:
    # given a judge outside and one inside, and a prompt that is confidential
    (tmp_path / "settings.toml").write_text(
        '[judges.far]\nurl = "https://a.org"\nmodel = "big"\n'
        '[judges.near]\nurl = "http://127.0.0.1:1"\nmodel = "small"\n'
    )
    stored_prompts.add(database, [prompt("A secret?", confidential=True), prompt("Open?")])
    # when runs with either are put in line
    found = [
        scoring_for(database, PPO(reward_model=f"judge:{name}"), version(), tmp_path).as_json()["scored_by"]
        for name in ("far", "near")
    ]
    # then only the one outside has something to leave out
    assert [one["confidential"] for one in found] == [[hash_of([{"role": "user", "content": "A secret?"}])], []]
