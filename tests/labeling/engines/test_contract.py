"""What a model server must do, asked over HTTP. Ours is held to it, and so is any other (see conftest)."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from labeling.engines.client import Completion, Counted, Delta, EngineClient
from labeling.engines.endpoint_client import EndpointClient
from labeling.engines.template import read_template, render
from storage.endpoints import Endpoint
from storage.errors import EngineRefused, EngineUnavailable

from .conftest import ADAPTERS, ServerUnderTest
from .tiny_models import write_adapter, write_model

SENTENCES = [f"Tell me about the {word} fox." for word in ("red", "old", "tiny", "brave", "silent", "golden")]
VERSIONS = ("base", *ADAPTERS)
MANY = 256  # answers at once take ten seconds: who leaves them is gone before they end, also on a busy machine


@pytest.fixture(scope="module")
def prompts(server: ServerUnderTest) -> list[str]:
    template, bos, eos = read_template(server.folder)
    return [render(template, [{"role": "user", "content": text}], bos_token=bos, eos_token=eos) for text in SENTENCES]


@pytest.fixture
def http(server: ServerUnderTest) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as http:
        yield http


@pytest.fixture
def load(client: EngineClient) -> Iterator[Callable[[str, Path], None]]:
    """Loads adapters and unloads them after the test."""
    loaded: list[str] = []

    def load(name: str, folder: Path) -> None:
        client.load_adapter(name, str(folder))
        loaded.append(name)

    yield load
    for name in loaded:
        with suppress(EngineRefused):
            client.unload_adapter(name)


# ---- what is served


def test_a_server_that_is_up_is_healthy_and_lists_base_and_adapters(client: EngineClient):
    assert _within(60, client.health)  # it has two seconds each time, which a busy machine may need
    assert set(client.models()) >= set(VERSIONS)
    assert client.context_length() > 0


def test_an_adapter_names_the_base_as_its_parent(http: httpx.Client, server: ServerUnderTest):
    cards = {card["id"]: card for card in http.get("/v1/models").json()["data"]}
    assert cards["fox"]["parent"] == "base" and cards["fox"]["root"] == str(server.adapters["fox"])
    assert cards["base"]["parent"] is None


def test_an_unknown_model_is_refused_and_the_known_ones_named(http: httpx.Client):
    reply = http.post("/v1/completions", json={"model": "nope", "prompt": "Hello"})
    error = reply.json()["error"]
    assert reply.status_code == 404 and error["code"] == 404 and error["type"] == "NotFoundError"
    assert error["message"].startswith("The model `nope` does not exist.")


# ---- samples


def test_choice_i_is_what_seed_plus_i_alone_would_say(client: EngineClient, prompts: list[str]):
    together = client.complete("fox", prompts[0], n=4, seed=7, max_tokens=24)
    alone = [client.complete("fox", prompts[0], seed=7 + index, max_tokens=24)[0] for index in range(4)]
    assert _texts(together) == _texts(alone)
    assert [completion.index for completion in together] == [0, 1, 2, 3]
    assert [completion.seed for completion in together] == [7, 8, 9, 10]
    assert len(set(_texts(together))) > 1


def test_the_same_seed_says_the_same_alone_and_among_forty_others(
    client: EngineClient, server: ServerUnderTest, prompts: list[str]
):
    versions = (server.base, "fox", "owl")
    asked = [(versions[number % 3], prompts[number % 6], 500 + number, 8 + number % 30) for number in range(40)]

    def ask(version: str, prompt: str, seed: int, length: int) -> list[str]:
        return _texts(client.complete(version, prompt, n=2, seed=seed, max_tokens=length, top_p=0.9))

    with ThreadPoolExecutor(len(asked)) as pool:  # 80 rows: more than run at once, so rows join while others run
        crowded = list(pool.map(lambda request: ask(*request), asked))
    assert crowded == [ask(*request) for request in asked]


def test_without_a_seed_answers_differ_from_time_to_time(client: EngineClient, prompts: list[str]):
    answers = [client.complete("base", prompts[0], max_tokens=24)[0].text for _ in range(3)]
    assert len(set(answers)) > 1


def test_a_small_top_p_leaves_only_the_likeliest_token(client: EngineClient, prompts: list[str]):
    sampled = client.complete("base", prompts[1], n=3, seed=3, top_p=1e-6, max_tokens=12)
    assert set(_texts(sampled)) == set(_texts(client.complete("base", prompts[1], temperature=0, max_tokens=12)))


def test_greedy_answers_of_base_and_four_adapters_in_a_mixed_batch_are_those_of_peft(
    client: EngineClient, http: httpx.Client, server: ServerUnderTest, prompts: list[str]
):
    asked = [(version, client.tokenize("base", prompt)) for prompt in prompts for version in (server.base, *ADAPTERS)]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda pair: _greedy_ids(http, *pair, max_tokens=32), asked))
    assert answers == list(_peft_answers(server, asked, max_tokens=32))


def test_the_base_is_not_answered_by_an_adapter_in_a_mixed_batch(
    client: EngineClient, prompts: list[str], server: ServerUnderTest, load: Callable[[str, Path], None]
):
    alone = client.complete("base", prompts[0], temperature=0, max_tokens=32)[0].text
    for name in ("fox-2", "owl-2", "fox-3", "owl-3", "fox-4", "owl-4"):  # fill every slot a server may have
        load(name, server.adapters[name.split("-")[0]])
    asked = ["fox", "fox-2", "owl-2", server.base, "fox-3", "owl-3", "fox-4", "owl-4", server.base]
    with ThreadPoolExecutor(len(asked)) as pool:
        mixed = list(pool.map(lambda name: client.complete(name, prompts[0], temperature=0, max_tokens=32)[0], asked))
    by_name = {name: completion.text for name, completion in zip(asked, mixed, strict=True)}
    assert mixed[3].text == mixed[8].text == alone
    assert by_name["fox"] == by_name["fox-4"] != alone
    assert by_name["owl-2"] == by_name["owl-4"] != alone


def test_a_long_prompt_that_many_share_is_read_anew_by_each_version(
    client: EngineClient, http: httpx.Client, server: ServerUnderTest, prompts: list[str]
):
    """vLLM keeps what it has read of a prompt, in blocks of 128 tokens on a processor."""
    long = client.tokenize("base", "Foxes, owls, elks and hens. " * 6 + prompts[0])
    assert len(long) > 140
    asked = [(version, long) for version in (server.base, *ADAPTERS, server.base)]
    answers = [_greedy_ids(http, *pair, max_tokens=16) for pair in asked]
    assert answers == list(_peft_answers(server, asked, max_tokens=16)) and len(set(map(tuple, answers))) > 2


def test_several_greedy_samples_are_refused_and_the_client_asks_for_one(client: EngineClient, http: httpx.Client):
    reply = http.post("/v1/completions", json={"model": "base", "prompt": "Hello", "temperature": 0, "n": 2})
    assert reply.status_code == 400 and "n must be 1 when using greedy sampling, got 2." in _message(reply)
    assert len(client.complete("base", "Hello", temperature=0, n=2, max_tokens=4)) == 1


def test_tokens_come_with_their_log_probabilities_before_the_temperature(
    client: EngineClient, http: httpx.Client, server: ServerUnderTest, prompts: list[str]
):
    ids = client.tokenize("fox", prompts[0])
    body = {"model": "fox", "prompt": ids, "seed": 6, "max_tokens": 20, "logprobs": 0, "return_token_ids": True}
    for temperature in (1.0, 0.5):
        choice = http.post("/v1/completions", json=body | {"temperature": temperature}).json()["choices"][0]
        said, told = choice["token_ids"], choice["logprobs"]
        assert told["token_logprobs"] == pytest.approx(_peft_logprobs(server, "fox", ids, said), abs=1e-3)
        assert len(told["tokens"]) == len(told["text_offset"]) == len(said)
        assert [list(one.values()) for one in told["top_logprobs"]] == [[one] for one in told["token_logprobs"]]


def test_without_being_asked_for_there_are_no_log_probabilities(http: httpx.Client):
    reply = http.post("/v1/completions", json={"model": "base", "prompt": "Hello", "max_tokens": 4}).json()
    assert reply["choices"][0]["logprobs"] is None


def test_a_sample_for_training_is_the_seeds_own_and_weighed(
    client: EngineClient, server: ServerUnderTest, prompts: list[str]
):
    ids = client.tokenize("owl", prompts[1])
    sampled, again = (client.sample_tokens("owl", ids, max_tokens=16, seed=5) for _ in range(2))
    wanted = _peft_logprobs(server, "owl", ids, sampled.token_ids)
    assert sampled.token_ids == again.token_ids and sampled.logprobs == pytest.approx(again.logprobs, abs=1e-4)
    assert list(sampled.logprobs) == pytest.approx(wanted, abs=1e-3)


def test_pieces_of_a_stream_carry_the_log_probabilities_of_the_whole(http: httpx.Client, prompts: list[str]):
    body = {"model": "owl", "prompt": prompts[2], "seed": 8, "max_tokens": 12, "logprobs": 0, "return_token_ids": True}
    whole = http.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]
    with http.stream("POST", "/v1/completions", json=body | {"stream": True}) as reply:
        lines = [line for line in reply.iter_lines() if line.startswith("data: {")]
    pieces = [json.loads(line.removeprefix("data: "))["choices"][0]["logprobs"] for line in lines]
    assert [one for piece in pieces for one in piece["token_logprobs"]] == pytest.approx(whole["token_logprobs"])
    assert [one for piece in pieces for one in piece["tokens"]] == whole["tokens"]


# ---- prompts, endings and counts


def test_tokenize_gives_what_apply_chat_template_gives(
    client: EngineClient, server: ServerUnderTest, prompts: list[str]
):
    tokenizer = AutoTokenizer.from_pretrained(server.folder)
    for text, prompt in zip(SENTENCES, prompts, strict=True):
        messages = [{"role": "user", "content": text}]
        wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert client.tokenize("base", messages=messages) == wanted
        assert client.tokenize("base", prompt) == wanted


def test_detokenize_turns_tokens_back(http: httpx.Client, client: EngineClient):
    tokens = client.tokenize("base", "naïve 狐")
    assert http.post("/detokenize", json={"model": "base", "tokens": tokens}).json() == {"prompt": "naïve 狐"}


def test_a_prompt_of_token_ids_is_the_same_prompt(client: EngineClient, prompts: list[str]):
    ids = client.tokenize("base", prompts[2])
    by_ids = client.complete("owl", ids, n=2, seed=5, max_tokens=16)
    assert _texts(by_ids) == _texts(client.complete("owl", prompts[2], n=2, seed=5, max_tokens=16))
    assert by_ids[0].prompt_tokens == len(ids)


def test_as_an_endpoint_it_says_the_same_as_to_the_rendered_prompt(
    client: EngineClient, server: ServerUnderTest, prompts: list[str]
):
    (rendered,) = client.complete("fox", prompts[0], seed=11, max_tokens=16)
    chat, settings = EndpointClient(Endpoint("house", server.url, "fox"), lambda messages: False), _chatted(0)
    answer = chat.chat(**settings)
    assert (answer.text, answer.finish_reason, answer.seed) == (rendered.text, rendered.finish_reason, 11)
    assert (answer.prompt_tokens, answer.completion_tokens) == (rendered.prompt_tokens, rendered.completion_tokens)
    assert answer.engine == f"openai-compatible {server.url} fox"


def test_as_an_endpoint_it_streams_the_same(server: ServerUnderTest):
    chat, counted = EndpointClient(Endpoint("house", server.url, "fox"), lambda messages: False), Counted()

    async def pieces() -> list[Delta]:
        return [delta async for delta in chat.stream(**_chatted(1), counted=counted)]

    whole = chat.chat(**_chatted(1))
    found = asyncio.run(pieces())
    assert "".join(one.text for one in found) == whole.text and found[-1].finish_reason == whole.finish_reason
    assert (counted.prompt_tokens, counted.completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)


def test_usage_sums_over_samples_and_token_ids_hold_the_end(
    http: httpx.Client, server: ServerUnderTest, prompts: list[str]
):
    body = {"model": "fox", "prompt": prompts[0], "n": 24, "seed": 1, "max_tokens": 99, "return_token_ids": True}
    reply = http.post("/v1/completions", json=body | {"add_special_tokens": False}).json()
    tokenizer = AutoTokenizer.from_pretrained(server.folder)
    counts = [len(choice["token_ids"]) for choice in reply["choices"]]
    assert reply["usage"]["completion_tokens"] == sum(counts)
    assert reply["usage"]["total_tokens"] == sum(counts) + reply["usage"]["prompt_tokens"]
    for choice, count in zip(reply["choices"], counts, strict=True):
        assert choice["prompt_token_ids"] == tokenizer.encode(prompts[0], add_special_tokens=False)
        ended = choice["token_ids"][-1] == tokenizer.eos_token_id
        assert choice["finish_reason"] == ("stop" if ended else "length")
        assert ended or count == 99
    assert "stop" in {choice["finish_reason"] for choice in reply["choices"]}


def test_an_answer_that_is_cut_off_says_so(client: EngineClient, prompts: list[str]):
    cut = client.complete("base", prompts[0], temperature=0, max_tokens=3)[0]
    assert cut.finish_reason == "length" and cut.completion_tokens == 3


def test_a_stop_string_ends_the_answer_before_it(client: EngineClient, prompts: list[str]):
    whole = client.complete("base", prompts[0], seed=2, max_tokens=40)[0].text
    stop = whole[12:15]
    cut = client.complete("base", prompts[0], seed=2, max_tokens=40, stop=[stop])[0]
    assert cut.text == whole[: whole.index(stop)] and cut.finish_reason == "stop"
    assert "".join(delta.text for delta in _stream(client, "base", prompts[0], seed=2, stop=[stop])) == cut.text


def test_an_answer_gets_the_room_that_the_prompt_leaves(client: EngineClient, http: httpx.Client):
    limit = client.context_length()
    ids = client.tokenize("base", "fox")[:1] * limit
    body = {"model": "base", "prompt": ids[: limit - 5], "max_tokens": 8, "ignore_eos": True}
    reply = http.post("/v1/completions", json=body).json()
    assert reply["usage"]["completion_tokens"] == 5 and reply["choices"][0]["finish_reason"] == "length"


def test_a_prompt_that_is_longer_than_the_context_is_refused_with_the_numbers(client: EngineClient):
    limit = client.context_length()
    ids = client.tokenize("base", "fox")[:1] * (limit + 1)
    with pytest.raises(EngineRefused, match=f"maximum context length is {limit} tokens.* {limit + 1} input tokens"):
        client.complete("base", ids, max_tokens=8)
    with pytest.raises(EngineRefused):
        client.complete("base", ids[:limit], max_tokens=8)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0."),
        ({"temperature": -1}, "temperature must be non-negative, got -1.0."),
        ({"top_p": 0}, "top_p must be in (0, 1], got 0.0."),
        ({"prompt": []}, ""),
        ({"prompt": [10_000_000]}, "out of vocabulary"),
        ({"stream_options": {"include_usage": True}}, "Stream options can only be defined when `stream=True`."),
    ],
)
def test_a_setting_out_of_range_is_refused(http: httpx.Client, wrong: dict[str, Any], sentence: str):
    reply = http.post("/v1/completions", json={"model": "base", "prompt": "Hello", "max_tokens": 4} | wrong)
    assert reply.status_code == 400 and sentence in _message(reply)
    assert reply.json()["error"]["code"] == 400


# ---- streams


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_adds_up_to_the_whole_answers(client: EngineClient, prompts: list[str], version: str):
    whole = client.complete(version, prompts[3], n=3, seed=21, max_tokens=40)
    deltas = list(_stream(client, version, prompts[3], n=3, seed=21))
    for completion in whole:
        mine = [delta for delta in deltas if delta.index == completion.index]
        assert "".join(delta.text for delta in mine) == completion.text
        assert [delta.finish_reason for delta in mine][-1] == completion.finish_reason
        assert all(delta.finish_reason is None for delta in mine[:-1])


def test_pieces_come_while_the_answer_is_made_and_usage_at_the_end(http: httpx.Client, prompts: list[str]):
    # long enough that there are many, also where a busy server gives several tokens at once
    body = {"model": "base", "prompt": prompts[0], "n": 2, "max_tokens": 200, "ignore_eos": True, "stream": True}
    with http.stream("POST", "/v1/completions", json=body | {"stream_options": {"include_usage": True}}) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 400
    assert len(chunks) > 20 and all(chunk["object"] == "text_completion" for chunk in chunks)


def test_a_stream_of_an_unknown_model_is_refused(client: EngineClient):
    with pytest.raises(EngineUnavailable, match="does not exist"):
        list(_stream(client, "nope", "Hello"))


# ---- clients that go away


@pytest.mark.parametrize("stream", [True, False])
def test_when_the_client_goes_away_its_rows_stop(http: httpx.Client, server: ServerUnderTest, stream: bool):
    body = {"model": "fox", "prompt": "Hello", "n": MANY, "max_tokens": 240, "ignore_eos": True, "stream": stream}

    async def ask_and_leave() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as leaving:
            asking = asyncio.create_task(leaving.post("/v1/completions", json=body))
            assert await asyncio.to_thread(_within, 60, lambda: _metric(http, "vllm:num_requests_running") > 0)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    before = _metric(http, "vllm:generation_tokens_total")
    asyncio.run(ask_and_leave())
    assert _within(60, lambda: _rows(http) == 0)
    generated = _metric(http, "vllm:generation_tokens_total") - before
    assert generated < MANY * 240  # counted, because seconds depend on what else the machine does


def test_leaving_a_stream_of_the_client_stops_the_server(client: EngineClient, http: httpx.Client):
    before = _metric(http, "vllm:generation_tokens_total")
    _leave_after_first_piece(client)
    assert _within(60, lambda: _rows(http) == 0)
    assert _metric(http, "vllm:generation_tokens_total") - before < MANY * 200


def test_those_who_stay_are_not_disturbed_by_those_who_leave(client: EngineClient, prompts: list[str]):
    alone = _texts(client.complete("owl", prompts[1], n=4, seed=9, max_tokens=120))
    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(client.complete, "owl", prompts[1], n=4, seed=9, max_tokens=120)
        for _ in range(3):
            _leave_after_first_piece(client)
        assert _texts(staying.result()) == alone


# ---- adapters


def test_an_adapter_is_loaded_and_unloaded_live(client: EngineClient, http: httpx.Client, server: ServerUnderTest):
    reply = http.post("/v1/load_lora_adapter", json={"lora_name": "new", "lora_path": str(server.adapters["fox"])})
    assert reply.status_code == 200 and "Success: LoRA adapter 'new' added successfully." in reply.text
    assert "new" in client.models()
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "new"}).status_code == 200
    assert "new" not in client.models()
    with pytest.raises(EngineUnavailable, match="does not exist"):
        client.complete("new", "Hello")


def test_a_server_says_its_name(client: EngineClient, server: ServerUnderTest):
    name, number = client.server_name().split()
    assert name == ("embedded" if server.is_ours else "vllm") and number


def test_the_same_name_twice_is_refused(http: httpx.Client, server: ServerUnderTest):
    reply = http.post("/v1/load_lora_adapter", json={"lora_name": "fox", "lora_path": str(server.adapters["owl"])})
    assert reply.status_code == 400 and "The lora adapter 'fox' has already been loaded." in _message(reply)


def test_the_name_of_the_base_is_refused(http: httpx.Client, server: ServerUnderTest):
    reply = http.post("/v1/load_lora_adapter", json={"lora_name": "base", "lora_path": str(server.adapters["owl"])})
    assert reply.status_code == 400 and "conflicts with a served base model" in _message(reply)


def test_unloading_what_is_not_there_is_refused(http: httpx.Client):
    reply = http.post("/v1/unload_lora_adapter", json={"lora_name": "ghost"})
    assert reply.status_code == 404 and "The lora adapter 'ghost' cannot be found." in _message(reply)


def test_a_folder_that_is_not_there_is_refused(http: httpx.Client):
    reply = http.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": "/no/such/folder"})
    assert reply.status_code == 404
    assert _message(reply) == "Loading lora x failed: No adapter found for /no/such/folder"


def test_an_adapter_that_is_too_large_is_refused(http: httpx.Client, base_folder: Path, tmp_path: Path):
    folder = write_adapter(tmp_path / "wide", base_folder, seed=1, rank=32)
    assert "LoRA rank 32 is greater than max_lora_rank 16." in _refused_adapter(http, folder, 500)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"use_dora": True}, "vLLM does not yet support DoRA."),
        ({"bias": "lora_only"}, "Adapter bias is not supported."),
        ({"modules_to_save": ["lm_head"]}, "vLLM only supports modules_to_save being either None"),
        ({"target_modules": ["embed_tokens"]}, ""),
    ],
)
def test_an_adapter_of_a_kind_that_cannot_be_served_is_refused(
    http: httpx.Client, base_folder: Path, tmp_path: Path, settings: dict[str, Any], sentence: str
):
    assert sentence in _refused_adapter(http, write_adapter(tmp_path / "odd", base_folder, seed=1, **settings), 500)


def test_a_file_cut_short_is_refused_and_leaves_nothing(
    client: EngineClient, http: httpx.Client, base_folder: Path, tmp_path: Path, prompts: list[str]
):
    before = _texts(client.complete("fox", prompts[0], n=2, seed=1, max_tokens=16))
    weights = write_adapter(tmp_path / "cut", base_folder, seed=1) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "incomplete metadata, file not fully covered" in _refused_adapter(http, weights.parent, 500)
    assert _texts(client.complete("fox", prompts[0], n=2, seed=1, max_tokens=16)) == before


@pytest.mark.parametrize("shape", [{"width": 96}, {"layers": 2}, {"layers": 4}])
def test_an_adapter_of_another_base_is_refused(
    http: httpx.Client, server: ServerUnderTest, tmp_path: Path, shape: dict[str, int]
):
    if not server.is_ours:
        pytest.skip("vLLM takes it; whoever loads adapters into vLLM checks them before (test_supervisor.py)")
    other = write_model(tmp_path / "other", **shape)
    folder = write_adapter(tmp_path / "adapter", other, seed=1)
    assert "belongs to another base model" in _refused_adapter(http, folder, 400)


def test_a_name_can_be_given_anew_while_its_old_weights_still_answer(
    client: EngineClient, server: ServerUnderTest, prompts: list[str], load: Callable[[str, Path], None]
):
    fox, owl = (_texts(client.complete(name, prompts[0], n=4, seed=3, max_tokens=200)) for name in ("fox", "owl"))
    load("changing", server.adapters["fox"])
    with _asking(client, "changing", prompts[0]) as answers:
        client.unload_adapter("changing")
        load("changing", server.adapters["owl"])
        assert _texts(client.complete("changing", prompts[0], n=4, seed=3, max_tokens=200)) == owl
    assert answers == fox


# ---- helpers


def _texts(completions: list[Completion]) -> list[str]:
    return [completion.text for completion in completions]


def _message(reply: httpx.Response) -> str:
    message: str = reply.json()["error"]["message"]
    return message


def _refused_adapter(http: httpx.Client, folder: Path, status: int) -> str:
    reply = http.post("/v1/load_lora_adapter", json={"lora_name": "refused", "lora_path": str(folder)})
    assert reply.status_code == status, reply.text
    assert "refused" not in [card["id"] for card in http.get("/v1/models").json()["data"]]
    return _message(reply)


def _metric(http: httpx.Client, name: str) -> float:
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(name)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def _rows(http: httpx.Client) -> float:
    """Those that run, and those that wait until there is room for them."""
    return _metric(http, "vllm:num_requests_running") + _metric(http, "vllm:num_requests_waiting")


def _within(seconds: float, holds: Callable[[], object]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _stream(client: EngineClient, model: str, prompt: str, **settings: Any) -> list[Delta]:
    async def collect() -> list[Delta]:
        return [delta async for delta in client.stream(model, prompt, **({"max_tokens": 40} | settings))]

    return asyncio.run(collect())


def _chatted(which: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": SENTENCES[which]}]
    return {"messages": messages, "about": messages, "temperature": 1.0, "top_p": 1.0, "max_tokens": 16, "seed": 11}


def _leave_after_first_piece(client: EngineClient) -> None:
    """While another stream of the same loop is under way."""

    async def first_piece() -> None:
        async with aclosing(client.stream("fox", "Hello", max_tokens=60)) as staying:
            await anext(staying)
            async with aclosing(client.stream("owl", "Hello", n=MANY, max_tokens=200, ignore_eos=True)) as leaving:
                await anext(leaving)
            async for _ in staying:
                pass

    asyncio.run(first_piece())


@contextmanager
def _asking(client: EngineClient, model: str, prompt: str) -> Iterator[list[str]]:
    """Four long answers are under way in the block, and in the list after it."""
    answers: list[str] = []
    thread = threading.Thread(
        target=lambda: answers.extend(_texts(client.complete(model, prompt, n=4, seed=3, max_tokens=200)))
    )
    thread.start()
    with httpx.Client(base_url=client.url, timeout=60) as http:
        assert _within(60, lambda: answers or _metric(http, "vllm:num_requests_running") > 0)
    yield answers
    thread.join()


def _peft_logprobs(server: ServerUnderTest, version: str, prompt: list[int], said: Sequence[int]) -> list[float]:
    base = AutoModelForCausalLM.from_pretrained(server.folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, server.adapters[version]).eval()
    with torch.inference_mode():
        logprobs = model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return [float(logprobs[place, token]) for place, token in enumerate(said)]


def _greedy_ids(http: httpx.Client, model: str, prompt: Sequence[int], max_tokens: int) -> list[int]:
    body = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": max_tokens, "return_token_ids": True}
    ids: list[int] = http.post("/v1/completions", json=body).json()["choices"][0]["token_ids"]
    return ids


def _peft_answers(server: ServerUnderTest, asked: list[tuple[str, list[int]]], max_tokens: int) -> Iterator[list[int]]:
    """Token ids, one prompt at a time, by transformers and PEFT themselves."""
    models = {server.base: AutoModelForCausalLM.from_pretrained(server.folder, dtype=torch.float32).eval()}
    for name, folder in server.adapters.items():
        base = AutoModelForCausalLM.from_pretrained(server.folder, dtype=torch.float32)
        models[name] = PeftModel.from_pretrained(base, folder).eval()
    for version, prompt in asked:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            answer = models[version].generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_tokens
            )
        yield answer[0, len(prompt) :].tolist()
