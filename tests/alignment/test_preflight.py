"""What would waste a run is seen before it starts: each check provoked, the job and its routes asked over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from alignment import devices, memory, preflight, preflight_routes, row_checks, setting_checks, timing
from alignment.devices import Device
from alignment.launchers.launch import Launch
from alignment.memory import Load, Plan, Shape
from alignment.methods import method_named
from alignment.methods.base import Method, Parent
from alignment.methods.held_out import split_by_prompt
from alignment.methods.kto import KTO
from alignment.preflight_routes import preflight_router
from alignment.row_checks import Check, Seen
from alignment.rows_as_tokens import CHANGED, OTHER_PROMPT, Answer, RowTokens, prompt_fills
from storage import documents, prompts
from storage.errors import AppError
from storage.records import DatasetType, Message, Person
from tests import makers
from tests.alignment import tiny_model
from tests.alignment.conftest import BAD, GOOD, Lab, make_lab, question, said
from tests.app_process import wait_until

BOS, EOS = 1, 2
CPU = [Device("cpu", "Processor (2 cores)", 24_000)]
SHAPE = Shape(3_000_000, 192, 5, 6, 2, 32, 512, 1402, tied=True)


def method(name: str, **settings: Any) -> Method:
    return method_named(name).model_validate(settings)


def pair(number: int = 0, chosen: str = GOOD, rejected: str = BAD) -> dict[str, Any]:
    answers = {"chosen": said("assistant", chosen), "rejected": said("assistant", rejected)}
    return {"prompt": question(number), **answers, "judgment_id": f"j{number}"}


def thumb(number: int, label: bool, text: str = GOOD) -> dict[str, Any]:
    return {"prompt": question(number), "completion": said("assistant", text), "label": label, "judgment_id": "j"}


def answer(*learned: int, prompt: Sequence[int] = (BOS, 10), name: str = "chosen") -> Answer:
    tokens = (*prompt, *learned)
    return Answer(name, tokens, tuple(place >= len(prompt) for place in range(len(tokens))))


def seen(
    rows: Sequence[Mapping[str, Any]],
    tokens: Sequence[RowTokens] | None = None,
    reads: DatasetType = "preference",
) -> Seen:
    """Rows that are fine as tokens, unless others are given."""
    fine = [RowTokens((answer(20, 21, EOS),)) for _ in rows]
    return Seen(rows, tokens or fine, reads, "pairs")


def ten(*odd: RowTokens) -> Seen:
    """Ten rows, of which the first are these."""
    fine = [RowTokens((answer(20, 21, EOS),)) for _ in range(10 - len(odd))]
    return seen([pair(n) for n in range(10)], [*odd, *fine])


# ---- rows as tokens -------------------------------------------------------------------------------------------------


def test_one_bos_and_one_eos_are_fine() -> None:
    found = row_checks.ends(ten(), BOS, EOS)

    assert (found.kind, found.figure) == ("ok", "10 of 10")


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (answer(20, EOS, prompt=(BOS, BOS, 10)), "both write a beginning"),
        (answer(20, EOS, 21, EOS), "stands within the answer"),
        (answer(20, 21), "would not learn to stop"),
    ],
)
def test_two_beginnings_two_ends_or_none_are_named(odd: Answer, words: str) -> None:
    found = row_checks.ends(ten(RowTokens((odd,))), BOS, EOS)

    assert (found.kind, found.figure) == ("warn", "9 of 10")
    assert words in found.detail


def test_an_end_in_the_prompt_is_none_of_the_answer() -> None:
    """Each earlier turn ends with its own."""
    assert row_checks.ends(ten(RowTokens((answer(20, EOS, prompt=(BOS, 10, EOS, 11)),))), BOS, EOS).kind == "ok"


def test_a_model_without_bos_is_fine() -> None:
    assert row_checks.ends(ten(), None, EOS).kind == "ok"


def test_a_template_that_writes_two_beginnings_everywhere_is_refused() -> None:
    twice = [RowTokens((answer(20, EOS, prompt=(BOS, BOS, 10)),)) for _ in range(10)]

    assert row_checks.ends(ten(*twice), BOS, EOS).kind == "bad"


@pytest.mark.parametrize(
    ("check", "fault"), [(row_checks.template_keeps, CHANGED), (row_checks.prompt_is_prefix, OTHER_PROMPT)]
)
def test_rows_that_the_template_spoils_are_counted_and_most_of_them_refused(check: Any, fault: str) -> None:
    spoilt = RowTokens((answer(20, EOS),), fault)

    assert (check(ten()).kind, check(ten(spoilt)).kind, check(ten(*[spoilt] * 6)).kind) == ("ok", "warn", "bad")
    assert check(ten(spoilt)).figure == "9 of 10"


def test_any_other_reason_to_leave_rows_out_is_said_in_the_runs_words() -> None:
    [found] = row_checks.other_faults(ten(RowTokens((), "the document is empty")), 16)

    assert found.title == "Left out: the document is empty"
    assert (found.kind, found.figure) == ("warn", "1 of 10")


@pytest.mark.parametrize(
    ("number", "context", "kind", "offered"),
    [(1, 512, "warn", [128]), (6, 512, "bad", [128]), (6, 100, "bad", [100]), (6, 16, "warn", [])],
)
def test_long_prompts_are_refused_only_where_a_longer_limit_would_help(
    number: int, context: int, kind: str, offered: list[int]
) -> None:
    """A prompt of 40 tokens, and at least 64 more for its answer: 128 in steps of 64."""
    long = RowTokens((Answer("prompt", (10,) * 40, (False,) * 40),), prompt_fills(16))

    [found] = row_checks.long_prompts(ten(*[long] * number), 16, context)

    assert found.title == "Left out: the prompt fills all 16 tokens a row may have"
    assert (found.kind, found.figure) == (kind, f"{number} of 10")
    assert [way.settings["max_length"] for way in found.ways_out] == offered
    assert row_checks.other_faults(ten(long), 16) == []


def test_rows_that_would_lose_their_end_are_offered_more_room() -> None:
    long = RowTokens((answer(*[20] * 100, EOS),))  # 103 tokens

    found = row_checks.truncation(ten(long), 64, 512, {128: 900})

    assert (found.kind, found.title, found.figure) == ("warn", "Longer than 64 tokens", "1 row")
    assert [way.as_json() for way in found.ways_out] == [
        {"label": "Allow 128 (+0.9 GB)", "settings": {"max_length": 128}}
    ]


def test_nothing_is_cut_where_every_row_fits() -> None:
    assert row_checks.truncation(ten(), 64, 512, {}).figure == "longest 5"


def test_most_rows_cut_are_refused_unless_the_model_itself_reads_no_more() -> None:
    """Else nothing but another model could ever learn from them."""
    long = RowTokens((answer(*[20] * 100, EOS),))

    assert row_checks.truncation(ten(*[long] * 8), 64, 512, {128: 900}).kind == "bad"
    found = row_checks.truncation(ten(*[long] * 8), 512, 64, {})

    assert (found.kind, found.ways_out) == ("warn", ())
    assert "8 are longer than the 64 tokens that the model reads" in found.detail


@pytest.mark.parametrize(
    ("longest", "limit", "context", "offered"),
    [(1201, 1024, 4096, 1216), (1201, 1024, 1100, 1100), (1201, 1024, 1024, None), (900, 1024, 4096, None)],
)
def test_the_longer_limit_holds_the_longest_row_within_the_context(
    longest: int, limit: int, context: int, offered: int | None
) -> None:
    assert row_checks.longer_limit(longest, limit, context) == offered


@pytest.mark.parametrize(
    ("context", "ways_out"),
    [(128, [{"longest_answer": 28}]), (512, [{"max_length": 192}, {"longest_answer": 28}])],
)
def test_a_prompt_must_leave_room_for_its_answer(context: int, ways_out: list[Any]) -> None:
    """100 tokens and 64 more are beyond 128; with shorter answers they fit, or where the model reads more."""
    fault = prompt_fills(128, 64)
    asked = [RowTokens((Answer("prompt", (10,) * 100, (False,) * 100),), fault), RowTokens((answer(prompt=(10,)),))]
    looked = Seen([{"prompt": question(n)} for n in range(2)], asked, "prompt_only", "prompts")

    [found] = row_checks.long_prompts(looked, 128, context, room=64)

    assert (
        found.title == "Left out: the prompt leaves no room for 64 tokens of answer within the 128 that a row may have"
    )
    assert (found.kind, found.figure) == ("warn", "1 of 2")
    assert [way.settings for way in found.ways_out] == ways_out
    assert looked.usable == [{"prompt": question(1)}]


def test_prompts_that_all_leave_room_are_fine() -> None:
    looked = Seen([{"prompt": question(1)}], [RowTokens((answer(prompt=(10,)),))], "prompt_only", "prompts")

    [found] = row_checks.long_prompts(looked, 128, 512, room=64)

    assert (found.kind, found.figure) == ("ok", "longest 1 of 128")


# ---- rows as text ---------------------------------------------------------------------------------------------------


def test_a_row_that_comes_twice_is_a_warning() -> None:
    assert row_checks.duplicates(seen([pair(1), pair(2)])).kind == "ok"

    found = row_checks.duplicates(seen([pair(1), pair(2), pair(1)]))

    assert (found.kind, found.figure) == ("warn", "2 of 3")


def test_the_same_answer_to_another_prompt_is_no_duplicate() -> None:
    rows = [thumb(1, True), thumb(2, True), thumb(1, False)]

    assert row_checks.duplicates(seen(rows, reads="unpaired_preference")).kind == "ok"


def test_empty_answers_are_counted() -> None:
    found = row_checks.empty_answers(seen([pair(1), pair(2), pair(3, rejected="  \n")]))

    assert (found.kind, found.figure) == ("warn", "2 of 3")


def test_an_empty_document_is_an_empty_answer() -> None:
    rows = [{"text": " ", "document_id": "d"}, {"text": "a", "document_id": "e"}, {"text": "b", "document_id": "f"}]

    assert row_checks.empty_answers(seen(rows, reads="language_modeling")).figure == "2 of 3"


def test_pairs_of_the_same_answer_are_counted_and_only_such_pairs_refused() -> None:
    assert row_checks.identical_pairs(seen([pair(1), pair(2, rejected=GOOD), pair(3)])).kind == "warn"
    assert row_checks.identical_pairs(seen([pair(n, rejected=GOOD) for n in range(4)])).kind == "bad"


def test_a_pair_preferred_both_ways_round_contradicts_itself() -> None:
    found = row_checks.conflicts(seen([pair(1), pair(1, chosen=BAD, rejected=GOOD), pair(2)]))

    assert (found.kind, found.figure) == ("warn", "1 of 2")


def test_an_answer_liked_and_disliked_contradicts_itself() -> None:
    rows = [thumb(1, True), thumb(1, False), thumb(2, True)]

    assert row_checks.conflicts(seen(rows, reads="unpaired_preference")).kind == "warn"
    assert row_checks.conflicts(seen(rows[1:], reads="unpaired_preference")).kind == "ok"


def test_chosen_answers_that_are_mostly_longer_are_a_warning() -> None:
    """8 words against 4 in 7 of 10 pairs, the other way round in 3: 6.8 against 5.2 words."""
    long, short = "one two three four five six seven eight", "one two three four"
    rows = [pair(n, long, short) if n < 7 else pair(n, short, long) for n in range(10)]

    found = row_checks.length_bias(seen(rows))

    assert (found.kind, found.figure) == ("warn", "2 words longer")
    assert "70%" in found.detail


def test_chosen_answers_that_are_shorter_are_fine() -> None:
    found = row_checks.length_bias(seen([pair(n, "one two", "one two three four") for n in range(4)]))

    assert (found.kind, found.figure) == ("ok", "2 words shorter")


def test_liked_answers_that_are_longer_are_a_warning_too() -> None:
    rows = [thumb(n, n < 3, "one two three four" if n < 3 else "one two") for n in range(6)]

    assert row_checks.length_bias(seen(rows, reads="unpaired_preference")).kind == "warn"


def test_weights_of_thumbs_come_from_their_number_and_say_why() -> None:
    """10 up, 30 down: 20 × 30 / 10 = 60, so that 10 × 60 is twenty times 30 × 1."""
    rows = [thumb(n, n < 10) for n in range(40)]

    found = row_checks.label_balance(rows, KTO())

    assert (found.kind, found.figure) == ("ok", "10 up, 30 down")
    assert found.detail.startswith(
        "A thumb up weighs 60 and a thumb down 1, so that all thumbs up together weigh 20 times"
    )


def test_weights_by_hand_that_are_far_off_are_a_warning_with_a_way_back() -> None:
    rows = [thumb(n, n < 10) for n in range(40)]

    found = row_checks.label_balance(rows, KTO(desirable_weight=1.0))

    assert found.kind == "warn"
    assert found.ways_out[0].settings == {"desirable_weight": None, "undesirable_weight": None}


# ---- how many -------------------------------------------------------------------------------------------------------


def test_too_few_rows_that_can_be_used_are_refused() -> None:
    spoilt = [RowTokens((), CHANGED)] * 5 + [RowTokens((answer(20, EOS),))] * 15
    looked = seen([pair(n) for n in range(20)], spoilt)

    found = row_checks.enough(looked, method_named("dpo"), {"rows": 20})

    assert (found.kind, found.figure) == ("bad", "15; needs 16")
    assert "DPO needs at least 16 pairs" in found.detail


def test_thumbs_of_one_kind_only_are_refused() -> None:
    rows = [thumb(n, True) for n in range(40)]

    found = row_checks.enough(seen(rows, reads="unpaired_preference"), KTO, {"desirable": 40, "undesirable": 40})

    assert found.kind == "bad"
    assert "thumbs-down" in found.detail


def test_the_split_names_both_sides() -> None:
    rows = [pair(n) for n in range(100)]

    found = row_checks.split_by_prompt(split_by_prompt(rows, 0.1, 0), 0.1, seen(rows))

    assert (found.kind, found.figure) == ("ok", "10 of 100 pairs")
    assert found.detail.startswith("90 are learned from")


@pytest.mark.parametrize(
    ("number", "share", "offered"),
    [(100, 0.0, [0.1]), (34, 0.1, [0.11]), (13, 0.1, [0.27]), (10, 0.1, [])],  # 0.11 * 34 = 3.7, 0.27 * 13 = 3.5
)
def test_a_run_that_measures_nothing_is_a_warning(number: int, share: float, offered: list[float]) -> None:
    """What is offered is the smallest share that holds out 4 prompts; three tenths of 10 would be 3."""
    rows = [pair(n) for n in range(number)]

    found = row_checks.split_by_prompt(split_by_prompt(rows, share, 0), share, seen(rows))

    assert (found.kind, [way.settings["held_out_share"] for way in found.ways_out]) == ("warn", offered)
    for way in found.ways_out:
        assert len(split_by_prompt(rows, way.settings["held_out_share"], 0).held_out) >= 4


def test_a_held_out_prompt_among_the_rows_is_refused() -> None:
    kept = prompts.text_hash([Message("user", question(3)[0]["content"])])

    found = row_checks.no_held_out(seen([pair(n) for n in range(5)]), {kept, "another"})

    assert (found.kind, found.figure) == ("bad", "1 of 2")
    assert row_checks.no_held_out(seen([pair(0)]), {kept}).kind == "ok"


def test_a_held_out_document_among_the_rows_is_refused() -> None:
    rows = [{"text": "A document.", "document_id": "d"}]

    assert (
        row_checks.no_held_out(seen(rows, reads="language_modeling"), {documents.text_hash("A document.")}).kind
        == "bad"
    )


def test_documents_without_a_licence_are_a_warning() -> None:
    assert row_checks.licences(0, 9).kind == "ok"
    assert (row_checks.licences(2, 9).kind, row_checks.licences(2, 9).figure) == ("warn", "2 of 9 unknown")


# ---- settings and place ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "kind"), [(1, "ok"), (9, "ok"), (11, "warn"), (0.09, "warn"), (0.009, "bad")])
def test_a_learning_rate_far_from_what_is_proposed(factor: float, kind: str) -> None:
    usual = method("dpo").proposed("balanced", "lora", SHAPE.parameters)["learning_rate"]

    found = setting_checks.learning_rate(method("dpo", learning_rate=usual * factor), SHAPE.parameters)

    assert found is not None
    assert found.kind == kind
    assert [way.settings for way in found.ways_out] == ([] if kind == "ok" else [{"learning_rate": usual}])


def test_a_learning_rate_that_is_83_times_too_high_is_said_in_plain_words() -> None:
    found = setting_checks.learning_rate(method("dpo", learning_rate=0.0996), SHAPE.parameters)

    assert found is not None
    assert (found.kind, found.title, found.figure) == (
        "warn",
        "The learning rate is very high",
        "0.0996; proposed 0.0012",
    )
    assert found.detail == (
        "It is 83 times higher than what works for 3.0 M parameters trained with LoRA: answers will most likely fall "
        "apart."
    )


def test_the_learning_rate_of_a_paper_teaches_a_small_adapter_nothing() -> None:
    found = setting_checks.learning_rate(method("dpo", learning_rate=5e-7), SHAPE.parameters)

    assert found is not None
    assert found.kind == "bad"
    assert "the model will most likely learn nothing" in found.detail


def test_an_adapter_on_another_base_is_refused(tmp_path: Path) -> None:
    parent = Parent("v1", "/base", str(tmp_path), "")
    (tmp_path / "base.json").write_text(json.dumps({"fingerprint": "sha256:aaaa"}))

    kinds = [setting_checks.same_base(parent, print_) for print_ in ("sha256:aaaa", "sha256:bbbb")]

    assert [check.kind for check in kinds if check] == ["ok", "bad"]
    assert setting_checks.same_base(Parent("v0", "/base", None, ""), "sha256:aaaa") is None


def test_an_adapter_of_which_nobody_noted_the_base_is_a_warning(tmp_path: Path) -> None:
    found = setting_checks.same_base(Parent("v1", "/base", str(tmp_path), ""), "sha256:aaaa")

    assert found is not None
    assert found.kind == "warn"


def test_tokenizer_and_template_are_named() -> None:
    same = setting_checks.as_served("sha256:0123456789", "template", "template")

    assert same.figure.startswith("tokenizer 01234567, template ")
    assert setting_checks.as_served("sha256:0", "another", "template").title == "A template of its own"


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignment.methods.base.find_spec", lambda name: None)

    found = setting_checks.installed(method("dpo", tracker="wandb", tuning="qlora"))

    assert [(check.kind, check.ways_out[0].settings) for check in found] == [
        ("bad", {"tracker": "none"}),
        ("bad", {"tuning": "lora"}),
    ]
    assert setting_checks.installed(method("dpo")) == []


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        (Launch(device="cuda:3"), "no cuda:3"),
        (Launch(device="cpu", sharding="fsdp", processes=2), "fsdp splits weights over GPUs"),
        (Launch(device="cpu", where="ray"), "No Ray cluster is known"),
        (Launch(device="cpu", processes=3), "cannot be shared evenly by 3"),
    ],
)
def test_a_place_where_it_cannot_start_is_refused(launch: Launch, words: str) -> None:
    found = setting_checks.place(method("dpo", batch_size=4), launch, CPU, "")

    assert {check.kind for check in found} == {"bad"}
    assert words in " ".join(check.detail for check in found)


def test_this_machine_is_fine() -> None:
    assert setting_checks.place(method("dpo"), Launch(device="cpu"), CPU, "") == []


def test_a_full_disk_is_refused() -> None:
    whole = method("sft", tuning="full")

    assert setting_checks.disk(whole, SHAPE, 10_000).kind == "ok"
    full = setting_checks.disk(whole, SHAPE, 250)
    assert (full.kind, full.ways_out[0].settings) == ("bad", {"tuning": "lora"})


def test_a_parent_that_is_merged_first_needs_room_too() -> None:
    """3 million weights are 11.4 MB: ten times that and 200 MB for the rest, and once more where they are merged."""
    whole, adapter = method("sft", tuning="full"), method("sft")

    assert [setting_checks.disk(whole, SHAPE, 320, child).kind for child in (False, True)] == ["ok", "bad"]
    assert setting_checks.disk(adapter, SHAPE, 320, True) == setting_checks.disk(adapter, SHAPE, 320)


def test_a_run_that_does_not_fit_is_refused_with_settings_that_do() -> None:
    chosen = method("sft", batch_size=64)
    plan = Plan(chosen, SHAPE, Load(64, 512))
    needed = memory.total_mb(memory.estimate(plan))

    assert setting_checks.fits(plan, memory.estimate(plan), 2 * needed).kind == "ok"
    assert setting_checks.fits(plan, memory.estimate(plan), needed + 1).kind == "warn"
    refused = setting_checks.fits(plan, memory.estimate(plan), round(0.8 * needed))
    assert refused.kind == "bad"
    assert refused.ways_out[0].settings == {"batch_size": 32, "accumulate": 2}


def test_memory_that_nobody_knows_is_a_warning() -> None:
    plan = Plan(method("sft"), SHAPE, Load(4, 64))

    assert setting_checks.fits(plan, memory.estimate(plan), 0).kind == "warn"


# ---- the verdict, and rows as they are shown ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "kind", "sentence"),
    [
        (["ok"], "ok", "Can start"),
        (["ok", "warn"], "warn", "Can start, 1 warning"),
        (["warn", "warn"], "warn", "Can start, 2 warnings"),
        (["warn", "bad"], "bad", "Cannot start, 1 thing missing"),
    ],
)
def test_the_verdict_is_that_of_the_worst_check(kinds: list[Any], kind: str, sentence: str) -> None:
    assert preflight.verdict([Check(one, "", "") for one in kinds]) == {"kind": kind, "sentence": sentence}


class FakeTokenizer:
    bos_token_id, eos_token_id = BOS, EOS

    def convert_ids_to_tokens(self, token: int) -> str:
        return {BOS: "<s>", EOS: "</s>", 20: "▁No", 21: "\n"}.get(token, "?")

    def decode(self, tokens: list[int]) -> str:
        return self.convert_ids_to_tokens(tokens[0])


def test_a_row_is_shown_with_its_loss_its_ends_and_what_is_cut() -> None:
    row = RowTokens((answer(20, 21, EOS),))

    [shown] = preflight.shown(Seen([pair(0)], [row], "preference", "pairs"), FakeTokenizer(), limit=4)

    [one] = shown["answers"]
    assert [token["text"] for token in one["tokens"]] == ["<s>", "?", "·No", "↵", "</s>"]
    assert [token["special"] for token in one["tokens"]] == ["BOS", "", "", "", "EOS"]
    assert [token["in_loss"] for token in one["tokens"]] == [False, False, True, True, False]
    assert (one["in_loss"], one["read"], one["cut"]) == (2, 2, 1)
    assert (shown["number"], shown["of"]) == (1, 1)


def test_rows_that_would_be_cut_are_among_those_that_are_shown() -> None:
    rows = [pair(n) for n in range(1000)]
    tokens = [RowTokens((answer(*[20] * (50 if n == 777 else 3), EOS),)) for n in range(1000)]

    shown = preflight.shown(Seen(rows, tokens, "preference", "pairs"), FakeTokenizer(), limit=10)

    assert len(shown) <= preflight.SHOWN_ROWS
    assert 778 in {row["number"] for row in shown}


def test_of_very_many_rows_some_are_drawn_by_chance_and_stay_in_order() -> None:
    rows = [{"place": place} for place in range(preflight.MOST_ROWS + 10)]

    found = [row["place"] for row in preflight.some_of(rows)]

    assert len(found) == preflight.MOST_ROWS
    assert found == sorted(found)


# ---- the job and its routes -----------------------------------------------------------------------------------------


class Web:
    """The two routes over one lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.role, self.name = "engineer", "eve"
        app = FastAPI()
        app.add_exception_handler(AppError, _as_json)
        app.include_router(preflight_router(lab.database, self.person, lab.home))
        self.client = TestClient(app)

    def person(self, request: Request) -> Person:
        return Person(self.name, self.role)  # type: ignore[arg-type]

    def body(self, **changed: Any) -> dict[str, Any]:
        snapshot = changed.pop("snapshot", None) or self.lab.freeze("preference", 60)
        asked = {"method": "dpo", "settings": {}, "snapshot_id": snapshot.id, "parent_id": "v0", "launch": {}}
        return {**asked, **changed}

    def ask(self, body: Mapping[str, Any]) -> str:
        answer = self.client.post("/api/runs/preflight", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def answer(self, job: str) -> dict[str, Any]:
        return dict(self.client.get(f"/api/runs/preflight/{job}").json())

    def wait(self, job: str, patience: float = 240) -> dict[str, Any]:
        deadline = time.monotonic() + patience
        while (found := self.answer(job))["state"] == "working" and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


def _as_json(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, error.status if isinstance(error, AppError) else 500)


@pytest.fixture
def web(tmp_path: Path, tiny_base: Path) -> Iterator[Web]:
    lab = make_lab(tmp_path, tiny_base)
    yield Web(lab)
    lab.database.close()


def test_the_job_tells_rows_checks_memory_and_a_time_that_was_measured(web: Web) -> None:
    job = web.ask(web.body(settings={"batch_size": 4}))

    found = web.wait(job)

    assert found["state"] == "ready", (web.lab.home / "preflight" / job / "log.txt").read_text()
    assert found["verdict"]["kind"] == "ok", [check for check in found["checks"] if check["kind"] != "ok"]
    assert [one["name"] for one in found["rows"][0]["answers"]] == ["chosen", "rejected"]
    assert sum(part["mb"] for part in found["memory"]["parts"]) > 400
    assert found["memory"]["available_mb"] > 0
    assert found["time"]["measured_on"] == "two steps just now"
    # 60 prompts, of which 6 are held out: 54 pairs in batches of 4, twice
    assert found["time"]["steps"] == 28
    assert found["time"]["seconds"] == pytest.approx(28 * found["time"]["seconds_per_step"], abs=0.1)  # each is rounded
    assert not (web.lab.home / "preflight" / job / "scratch").exists()


def test_the_job_needs_no_torch(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that could not start is not timed, so nothing imports it; the log would tell of one that did."""
    job = web.ask(web.body(settings={"learning_rate": 1e-7}))

    found = web.wait(job)

    assert (found["state"], found["time"]) == ("ready", None)
    assert found["verdict"] == {"kind": "bad", "sentence": "Cannot start, 1 thing missing"}
    assert "PyTorch was not found" in (web.lab.home / "preflight" / job / "log.txt").read_text()


def test_a_template_that_strips_the_answer_is_refused_by_the_job(web: Web, tiny_base: Path) -> None:
    from storage import model_versions

    stripping = tiny_model.TEMPLATE.replace("m['content']", "m['content'] | trim")
    version = makers.version("trimmed", base_path=str(tiny_base), template=stripping)
    model_versions.add(web.lab.database, version)
    question = _question(web, "trimmed", rows=[pair(n, chosen=f" {GOOD}") for n in range(20)])

    checks = {check["title"]: check for check in _run(web, question)["checks"]}

    assert checks["The template keeps every answer as it was written"]["kind"] == "bad"
    assert checks["Not enough pairs"]["kind"] == "bad"


def _question(web: Web, parent_id: str, rows: list[dict[str, Any]]) -> preflight.Asked:
    """As the route would ask it, of these rows."""
    from storage import snapshots

    body = preflight_routes.PreflightBody(**web.body(parent_id=parent_id))
    path = web.lab.home / "rows.parquet"
    snapshots.write_parquet(path, "preference", rows)
    asked = preflight_routes.asked(web.lab.database, body, web.lab.home)
    told = {**asdict(asked), "snapshot": {**asked.snapshot, "path": str(path), "rows": len(rows)}}
    return preflight.Asked(**told)


def _run(web: Web, question: preflight.Asked) -> dict[str, Any]:
    """In this process, which has torch already, without timing."""
    folder = web.lab.home / "job"
    folder.mkdir()
    job = preflight.Job(folder, question)
    job.run()
    return dict(json.loads((folder / preflight.ANSWER).read_text()))


def test_the_time_of_a_run_that_is_alike_is_taken_from_it(web: Web) -> None:
    from alignment import run_directory
    from alignment.run_directory import Outcome

    run = web.lab.start("dpo", web.lab.freeze("preference", 60), batch_size=4)
    lines = [{"step": n, "steps": 9, "time": 100.0 + 2 * n, "loss": 0.5} for n in range(1, 6)]
    (Path(run.directory) / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_directory.write_outcome(Path(run.directory), Outcome("succeeded", "Done.", 9, 18.0))

    found = _run(web, _question(web, "v0", [pair(n) for n in range(60)]))

    assert found["time"]["measured_on"] == run.id
    assert found["time"]["seconds_per_step"] == 2.0


def test_a_gpu_that_the_servers_have_is_counted_as_it_will_be_and_nothing_is_tried_on_it(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the page would refuse nearly every run on the one GPU of a machine: vLLM has most of its memory."""
    from storage import leases

    # given a GPU of which the servers have all but 10 MB
    gpu = Device("cuda:0", "GPU 0", 81_920)
    monkeypatch.setattr(devices, "gpus", lambda: (gpu,))
    monkeypatch.setattr(memory, "_of_gpu", lambda device: (10, 81_920))
    monkeypatch.setattr(timing, "measure", _never_timed)
    leases.share(web.lab.database, ["cuda:0"])
    leases.take(web.lab.database, "cuda:0")
    # when a run is to train there
    found = _run(web, _question(web, "v0", [pair(n) for n in range(60)]))
    # then it may start, and says what it was compared with
    fits = next(check for check in found["checks"] if check["title"] == "It fits in memory")
    assert fits["figure"].endswith("of 77.0 GB free when it starts")
    assert found["verdict"]["kind"] != "bad" and found["time"] is None
    assert found["memory"]["available_mb"] == 81_920 - memory.ASLEEP_MB


def _never_timed(*given: object) -> None:
    raise AssertionError("two steps were tried")


def test_the_same_question_is_answered_from_what_is_there(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_routes.Jobs, "_start", _answered_at_once)
    body = web.body()

    first, again, other = web.ask(body), web.ask(body), web.ask({**body, "settings": {"epochs": 3}})

    assert first == again != other
    assert [first, other] == STARTED
    assert web.answer(first)["state"] == "ready"


STARTED: list[str] = []


def _answered_at_once(jobs: Any, job_id: str, question: preflight.Asked) -> None:
    STARTED.append(job_id)
    folder = jobs._root / job_id
    folder.mkdir(parents=True)
    (folder / preflight.ANSWER).write_text('{"state": "ready"}')


def test_an_old_answer_is_found_out_again(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_routes, "FRESH_SECONDS", 0.0)
    folder = web.lab.home / "job"
    folder.mkdir()
    (folder / preflight.ANSWER).write_text('{"state": "ready"}')

    assert not preflight_routes._is_fresh(folder)


def test_a_job_that_was_killed_is_a_failure_and_can_be_asked_again(web: Web) -> None:
    body = web.body()
    job = web.ask(body)
    web.name = "tom"  # whose question this is not
    folder = web.lab.home / "preflight" / job
    _kill(folder)

    found = web.wait(job)

    assert (found["state"], found["error"]) == ("failed", preflight_routes.ENDED)
    assert web.ask(body) == job
    assert web.answer(job)["state"] == "working"
    _kill(folder)


def _kill(folder: Path) -> None:
    """As the machine would, once it runs and has written who it is."""
    import os
    import signal

    from alignment import run_directory

    wait_until("it has written who it is", 120, lambda: run_directory.read_pid(folder), pause=0.05)
    pid = run_directory.read_pid(folder)
    assert pid
    os.kill(pid, signal.SIGKILL)


def test_a_new_question_ends_the_job_of_the_last_one(web: Web) -> None:
    body = web.body()
    first = web.ask(body)
    second = web.ask({**body, "settings": {"learning_rate": 1e-7}})

    assert (web.answer(first)["state"], web.answer(first)["error"]) == ("failed", preflight_routes.REPLACED)
    assert web.wait(second)["state"] == "ready"


def test_leaving_the_page_ends_the_job_and_asking_again_starts_another(web: Web) -> None:
    body = web.body()
    job = web.ask(body)

    web.client.post(f"/api/runs/preflight/{job}/leave")

    assert web.answer(job)["state"] == "failed"
    assert web.ask(body) == job
    assert web.wait(job)["state"] == "ready"


def test_a_job_that_two_people_wait_for_ends_when_both_have_left(web: Web) -> None:
    body = web.body()
    job = web.ask(body)
    web.name = "tom"
    assert web.ask(body) == job

    web.name = "eve"
    web.client.post(f"/api/runs/preflight/{job}/leave")
    assert web.answer(job)["state"] == "working"

    web.name = "tom"
    web.client.post(f"/api/runs/preflight/{job}/leave")
    assert web.answer(job)["state"] == "failed"


def test_a_base_that_is_gone_is_said_in_a_sentence(lab: Lab) -> None:
    web = Web(lab)  # whose base nobody made

    found = web.wait(web.ask(web.body()))

    assert found["state"] == "failed"
    assert found["error"].startswith("There is no folder")


def test_settings_that_are_none_are_refused_at_once(web: Web) -> None:
    answer = web.client.post("/api/runs/preflight", json=web.body(settings={"learning_rate": 5}))

    assert answer.status_code == 400
    assert "Learning rate" in answer.json()["error"]


def test_a_snapshot_of_another_kind_is_refused_at_once(web: Web) -> None:
    body = web.body(snapshot=web.lab.freeze("prompt_completion", 20))

    assert web.client.post("/api/runs/preflight", json=body).status_code == 400


@pytest.mark.parametrize("role", ["labeler", "lead"])
def test_preflight_is_for_engineers(web: Web, role: str) -> None:
    web.role = role

    assert web.client.post("/api/runs/preflight", json=web.body()).status_code == 403
    assert web.client.get("/api/runs/preflight/0").status_code == 403


@pytest.mark.parametrize("job", ["nope", "..", "0" * 24])
def test_an_unknown_answer_is_a_sentence(web: Web, job: str) -> None:
    assert web.client.get(f"/api/runs/preflight/{job}").status_code == 404


def test_a_job_ends_with_the_app_that_asked(tmp_path: Path) -> None:
    # given a job whose parent is gone before it looks
    job = "import sys; from alignment.preflight import end_with; end_with(int(sys.argv[1]))"
    started = subprocess.run(
        ["sh", "-c", f"setsid {sys.executable} -c '{job}' $$ > /dev/null 2>&1 & echo $!"],
        capture_output=True,
        text=True,
        check=True,
    )
    child = Path("/proc") / started.stdout.strip()
    # then it is soon gone too
    deadline = time.monotonic() + 60
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists()
