"""From a name in the form to a run that is scored by what stands behind it: form, queue, preflight, training."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from alignment import new_run_routes, preflight, preflight_routes, settings_file
from alignment.methods import method_named
from alignment.methods.base import Inputs, Parent
from alignment.progress import read_lines
from alignment.scorers.chosen import resolved
from storage import model_versions
from storage.errors import BadInput, RunFailed
from tests import makers
from tests.alignment import tiny_model
from tests.alignment.conftest import Lab, make_lab, rows_of
from tests.alignment.in_process import Heard
from tests.alignment.scorers.test_judges import KEY, endpoint  # noqa: F401 — a fixture
from tests.endpoint_server import EndpointServer, said

SHORT = "tests.alignment.scorers.test_functions:short"
SMALL: dict[str, Any] = {"batch_size": 8, "longest_answer": 8, "most_steps": 2, "evaluations": 1}


def name_scorers(lab: Lab, judge: str = "https://judge.example.org") -> None:
    text = f'[reward_functions]\nshort = "{SHORT}"\n[judges.house]\nurl = "{judge}"\nmodel = "big"\n'
    (lab.home / "settings.toml").write_text(text + 'key_env = "JUDGE_KEY"\n')


@pytest.fixture
def named(lab: Lab) -> Lab:
    name_scorers(lab)
    return lab


def run_json(lab: Lab, method: str = "ppo", **settings: Any) -> dict[str, Any]:
    run = lab.start(method, lab.freeze("prompt_only", 20), **settings)
    return dict(json.loads((Path(run.directory) / "run.json").read_text()))


# ---- the form and the queue


def test_the_form_says_what_each_choice_is(named: Lab) -> None:
    scorer = makers.version("scorer", kind="reward_model", parent_id="v0", base_path="/elsewhere")
    model_versions.add(named.database, scorer)

    form = new_run_routes.form(named.database, named.home)

    assert [one["id"] for one in form["reward_models"]] == ["scorer"]
    assert [one["id"] for one in form["functions"]] == [
        "function:short",
        "function:starter-preferred",
        "function:starter-well-formed",
    ]
    notes = {one["id"]: one["note"] for one in form["functions"] + form["judges"]}
    assert notes["function:short"] == f"A Python function of this server: {SHORT}."
    assert notes["function:starter-preferred"].startswith("Only for the starter model")
    assert "sent to https://judge.example.org: they leave this machine" in notes["judge:house"]
    by_text = {one["name"]: one["scores_text"] for one in form["methods"] if one["asks_reward_model"]}
    assert by_text == {"ppo": True, "rloo": False}


def test_the_form_knows_which_reward_models_a_parent_cannot_carry(tmp_path: Path, tiny_base: Path) -> None:
    lab = make_lab(tmp_path, tiny_base)
    usual = {"kind": "reward_model", "parent_id": "v0", "base_path": str(tiny_base), "template": tiny_model.TEMPLATE}
    model_versions.add(lab.database, makers.version("fits", adapter_path="adapter", **usual))
    model_versions.add(lab.database, makers.version("whole", adapter_path=None, **usual))

    [parent] = new_run_routes.form(lab.database, lab.home)["parents"]

    assert parent["apart"] == {"whole": "all of its weights were trained"}
    lab.database.close()


def test_run_json_says_names_and_where_they_lead(named: Lab) -> None:
    told = run_json(named, reward_model="function:short", gold="function:starter-well-formed")
    assert told["reward"] is None and told["settings"]["reward_model"] == "function:short"
    assert told["scored_by"] == {"kind": "function", "name": "short", "at": SHORT}
    assert told["gold"]["at"] == "assets.starter_model.rewards:well_formed"
    assert run_json(named, "rloo", reward_model="function:short")["scored_by"]["at"] == SHORT


def test_a_key_is_in_no_file(named: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    told = run_json(named, reward_model="judge:house")
    assert told["scored_by"]["key_env"] == "JUDGE_KEY" and told["scored_by"]["url"] == "https://judge.example.org"
    named.database.close()
    assert not [path for path in named.home.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "Scored by: PPO learns from scores, and nothing that scores is chosen. Train one first"),
        ({"reward_model": "v9"}, "Scored by: There is no model version v9"),
        ({"reward_model": "v0"}, "Scored by: v0 is a policy, which gives answers and not scores"),
        ({"reward_model": "function:os.system"}, "Scored by: the server's settings know no function 'os.system'"),
        ({"reward_model": "function:short", "gold": "judge:house"}, "Gold function: judge:house is no function"),
    ],
)
def test_what_nobody_named_is_refused(named: Lab, settings: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        run_json(named, **settings)


def test_a_reward_model_of_another_family_suits_ppo_and_not_rloo(named: Lab) -> None:
    scorer = makers.version("scorer", kind="reward_model", parent_id=None, base_path="/elsewhere", adapter_path="a")
    model_versions.add(named.database, scorer)
    assert run_json(named, reward_model="scorer")["reward"]["id"] == "scorer"
    with pytest.raises(
        BadInput, match=r"scorer was not made from the same base .* the method PPO, which shows it texts"
    ):
        run_json(named, "rloo", reward_model="scorer")


def test_names_go_through_yaml(named: Lab) -> None:
    given = {"reward_model": "judge:house", "gold": "function:short"}
    assert settings_file.from_yaml(settings_file.to_yaml("ppo", given)) == ("ppo", given, {})


# ---- preflight


def looked_at(lab: Lab, **settings: Any) -> dict[str, Any]:
    """The last answer of the job, in this process."""
    snapshot = lab.freeze("prompt_only", 20)
    body = preflight_routes.PreflightBody(
        method="ppo", settings={**SMALL, **settings}, snapshot_id=snapshot.id, parent_id="v0"
    )
    asked = preflight_routes.asked(lab.database, body, lab.home)
    folder = lab.home / "job"
    folder.mkdir()
    preflight.Job(folder, preflight.Asked(**json.loads(json.dumps(asdict(asked))))).run()
    return dict(json.loads((folder / preflight.ANSWER).read_text()))


@pytest.fixture
def real(tmp_path: Path, tiny_base: Path) -> Any:
    lab = make_lab(tmp_path, tiny_base)
    name_scorers(lab)
    yield lab
    lab.database.close()


def test_before_the_start_a_judge_is_sent_nothing(
    real: Lab,
    endpoint: EndpointServer,  # noqa: F811 — the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a judge that would answer, and a run that could start
    monkeypatch.setenv("JUDGE_KEY", KEY)
    name_scorers(real, endpoint.url)
    # when it is looked at
    found = looked_at(real, reward_model="judge:house", held_out_share=0.2)
    # then the page says what will be sent, takes no time for it, and has sent nothing
    assert found["state"] == "ready" and found["verdict"]["kind"] != "bad", found["checks"]
    checks = {check["title"]: check for check in found["checks"]}
    # two iterations of 4 × 8, and two measurements of four answers to each of four held-out prompts
    assert "about 96 answers" in checks["Answers are judged on this machine"]["detail"]
    assert found["time"] is None and endpoint.bodies == []


def test_a_function_that_fits_nothing_is_seen_before_the_start(real: Lab) -> None:
    found = looked_at(real, reward_model="function:starter-preferred")
    [check] = [check for check in found["checks"] if check["kind"] == "bad"]
    assert "No question about an invented vaccine was recognised in 'what is the dose" in check["detail"]
    assert next(part for part in found["memory"]["parts"] if part["kind"] == "reward")["mb"] == 0


# ---- training


def test_a_run_of_its_own_process_learns_from_a_function_and_shows_gold(real: Lab) -> None:
    settings = {**SMALL, "reward_model": "function:short", "gold": "function:short", "held_out_share": 0.2}
    run = real.follow_until(real.start("ppo", real.freeze("prompt_only", 20), **settings))
    assert run.state == "succeeded", run.message
    lines, _ = read_lines(Path(run.directory) / "metrics.jsonl")
    golds = [(line["gold"], line["reward"]) for line in lines if "gold" in line]
    assert len(golds) == 2 and all(gold >= reward for gold, reward in golds)  # gold knows no penalty
    assert all("eval_gold" in line for line in lines if "eval_reward" in line)


def inputs(base: Path, folder: Path, **scored_by: str) -> Inputs:
    """As the training process makes them of run.json."""
    parent = Parent("v0", str(base), None, tiny_model.TEMPLATE)
    return Inputs(rows_of("prompt_only", 20), parent, folder, **resolved({"scored_by": scored_by}))


def test_a_run_whose_function_fails_ends_with_its_name(tiny_base: Path, tmp_path: Path) -> None:
    broken = inputs(tiny_base, tmp_path, kind="function", name="broken", at=SHORT.replace(":short", ":broken"))
    for method in ("ppo", "rloo"):
        with pytest.raises(RunFailed, match=r"The reward function broken .* raised KeyError: 'dose'"):
            method_named(method).model_validate(SMALL).train(broken, Heard())


def test_a_judge_teaches_what_it_gives_points_for(
    tiny_base: Path,
    tmp_path: Path,
    endpoint: EndpointServer,  # noqa: F811 — the fixture
) -> None:
    # given a judge that likes the letter e
    endpoint.replies = lambda words: said(str(min(10, 1 + words.split("answer>")[1].count("e"))))
    judged = inputs(tiny_base, tmp_path, kind="judge", name="house", url=endpoint.url, model="small")
    # when PPO learns from it
    heard, settings = Heard(), {**SMALL, "most_steps": 6, "learning_rate": 1e-2, "beta": 0.01, "held_out_share": 0.0}
    few_steps = {"clip": 0.2, "layers": "all", "no_end_penalty": 0.0}
    method_named("ppo").model_validate({**settings, **few_steps}).train(judged, heard)
    # then it was asked about each answer once, and answers are worth more at the end
    assert len(endpoint.bodies) == 6 * 32
    rewards = heard.series("reward")
    assert sum(rewards[-2:]) > sum(rewards[:2]) and -2 <= min(rewards) <= max(rewards) <= 2
