"""The gate through which requests leave, against a real HTTP server that stands as the endpoint."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labeling.engines.client import Counted
from labeling.engines.endpoint_client import EndpointClient
from labeling.engines.endpoints import Endpoints
from storage.endpoints import Endpoint, key_of
from storage.errors import EngineRefused, EngineUnavailable, NotAllowed, NotFound
from tests.endpoint_server import EndpointServer, endpoint_server, said, streamed

KEY = "sk-very-secret"
ASKED = [{"role": "user", "content": "Why is the sky blue?"}]
SETTINGS: dict[str, Any] = {"messages": ASKED, "about": ASKED, "temperature": 0.5, "top_p": 0.9, "max_tokens": 16}


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with endpoint_server() as made:
        yield made


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "house.key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    return file


def client(server: EndpointServer, confidential: bool = False, **given: Any) -> EndpointClient:
    endpoint = Endpoint("house", server.url, "big", **{"inside": False, **given})
    return EndpointClient(endpoint, lambda messages: confidential, pauses=(0.0, 0.0, 0.0))


def stream(client: EndpointClient, counted: Counted | None = None) -> str:
    async def collect() -> str:
        return "".join([delta.text async for delta in client.stream(**SETTINGS, counted=counted)])

    return asyncio.run(collect())


def test_an_answer_comes_with_all_that_is_recorded(server: EndpointServer, key_file: Path) -> None:
    server.replies = lambda words: said("It scatters.", usage={"prompt_tokens": 9, "completion_tokens": 3})

    answer = client(server, key_file=str(key_file)).chat(**SETTINGS, seed=7)

    assert (answer.text, answer.seed, answer.finish_reason) == ("It scatters.", 7, "stop")
    assert (answer.prompt_tokens, answer.completion_tokens) == (9, 3)
    assert answer.engine == f"openai-compatible {server.url} big-2031-01"  # the model that it says it is
    (body,) = server.bodies
    assert body.pop("messages") == ASKED
    assert body == {"model": "big", "temperature": 0.5, "top_p": 0.9, "max_tokens": 16, "n": 1, "seed": 7}
    assert server.keys == [f"Bearer {KEY}"]


def test_an_answer_is_streamed_and_its_tokens_are_counted(server: EndpointServer) -> None:
    server.replies = lambda words: streamed("It ", "scatters.")
    counted = Counted()

    assert stream(client(server), counted) == "It scatters."
    assert counted == Counted(9, 2)
    assert server.bodies[0]["stream"] is True


# ---- what may not leave


def test_what_is_confidential_passes_by_no_way(server: EndpointServer) -> None:
    outside = client(server, confidential=True)

    for ask in (
        lambda: outside.chat(**SETTINGS),
        lambda: stream(outside),
        lambda: outside.ask_once({"model": "big", "messages": [{"role": "user", "content": "Judge this."}]}, ASKED),
    ):
        with pytest.raises(NotAllowed, match="confidential, so it is not sent to the endpoint house"):
            ask()
    assert server.bodies == []


def test_an_endpoint_inside_is_asked_what_is_confidential(server: EndpointServer) -> None:
    assert client(server, confidential=True, inside=True).chat(**SETTINGS).text == "5"
    assert client(server, confidential=True, inside=None).chat(**SETTINGS).text == "5"  # it is on this machine


# ---- faults


def test_a_passing_fault_is_waited_out(server: EndpointServer) -> None:
    replies = iter([(429, "slow down"), (503, "starting"), (529, "overloaded"), said("It scatters.")])
    server.replies = lambda words: next(replies)

    assert client(server).chat(**SETTINGS).text == "It scatters."
    assert len(server.bodies) == 4


def test_a_fault_that_stays_is_said(server: EndpointServer) -> None:
    server.replies = lambda words: (503, "starting")

    with pytest.raises(EngineUnavailable, match=r"The endpoint house \(big at .*\) gave no answer in 4 tries: it answ"):
        client(server).chat(**SETTINGS)


@pytest.mark.parametrize("reply", [(200, "<html>Welcome</html>"), (200, "[]"), (404, "no such model")])
def test_what_asking_again_cannot_mend_is_asked_once(server: EndpointServer, reply: tuple[int, str]) -> None:
    server.replies = lambda words: reply

    with pytest.raises(EngineRefused):
        client(server).chat(**SETTINGS)
    assert len(server.bodies) == 1


def test_an_answer_whose_tokens_are_not_counted_is_an_answer(server: EndpointServer) -> None:
    server.replies = lambda words: (
        200,
        streamed("It ", "scatters.")[1].replace('"completion_tokens": 2', '"completion_tokens": null'),
    )
    asked = client(server)

    assert stream(asked) == "It scatters."
    server.replies = lambda words: said("It scatters.", usage={"prompt_tokens": None, "completion_tokens": None})
    assert asked.chat(**SETTINGS).completion_tokens == 0
    assert (asked.used.requests, asked.used.tokens) == (2, 0)


def test_a_stream_that_breaks_off_is_said(server: EndpointServer) -> None:
    server.replies = lambda words: (200, 'data: {"error": {"message": "out of memory"}}\n\n')

    with pytest.raises(EngineRefused, match=r"The endpoint house .* broke off: .*out of memory"):
        stream(client(server))


# ---- the key


def test_a_key_that_is_repeated_is_not_told(
    server: EndpointServer, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.replies = lambda words: (401, f"Incorrect API key provided: {KEY}.")
    keyed = client(server, key_file=str(key_file))

    for ask in (lambda: keyed.chat(**SETTINGS), lambda: stream(keyed)):
        with pytest.raises(EngineRefused, match=r"Incorrect API key provided: \(key\)") as refused:
            ask()
        assert KEY not in str(refused.value)
    assert KEY not in caplog.text


@pytest.mark.parametrize("text", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key_file: Path, text: str) -> None:
    key_file.write_text(text)

    with pytest.raises(EngineRefused, match="Put the key alone there") as refused:
        key_of(Endpoint("house", "https://a.org", "big", key_file=str(key_file)))
    assert text not in str(refused.value)


def test_an_endpoint_that_the_settings_name_no_more_is_said() -> None:
    with pytest.raises(NotFound, match=r"outside: house \(big\) is not in settings.toml any more"):
        Endpoints().client("outside: house (big)")


# ---- the form of a stream, and its end


def test_a_stream_is_read_with_and_without_the_space_after_the_colon(server: EndpointServer) -> None:
    status, text = streamed("It ", "scatters.")
    server.replies = lambda words: (status, text.replace("data: ", "data:"))
    counted = Counted()

    assert stream(client(server), counted) == "It scatters."
    assert counted == Counted(9, 2)


def test_whoever_waits_for_another_try_is_let_go_when_the_app_ends(server: EndpointServer) -> None:
    waiting = client(server)

    def slow_down(words: str) -> tuple[int, str]:
        threading.Timer(0.3, waiting.close).start()  # when the reply has come
        return 429, "slow down"

    server.replies, server.headers = slow_down, {"Retry-After": "60"}
    began = time.monotonic()

    with pytest.raises(EngineUnavailable):
        waiting.chat(**SETTINGS)
    assert time.monotonic() - began < 50 and len(server.bodies) == 1


def test_a_stream_that_does_not_begin_is_asked_for_again(server: EndpointServer) -> None:
    replies = iter([(503, "busy"), (429, "slower"), streamed("It ", "scatters.")])
    server.replies = lambda words: next(replies)

    assert stream(client(server)) == "It scatters."
    assert len(server.bodies) == 3

    server.replies = lambda words: (503, "busy")
    with pytest.raises(EngineUnavailable, match=r"gave no answer in 4 tries: it answers 503 \(busy\)"):
        stream(client(server))


# ---- how it does


def test_an_endpoint_does_as_its_last_request_went(server: EndpointServer) -> None:
    server.replies = lambda words: said("It scatters.", usage={"prompt_tokens": 9, "completion_tokens": 3})
    endpoints = Endpoints({"outside: house (big)": Endpoint("house", server.url, "big")})
    (before,) = endpoints.state()
    assert (before.url, before.problem, before.used.requests) == (server.url, "", 0)

    asked = endpoints.client("outside: house (big)")
    asked.chat(**SETTINGS)
    server.replies = lambda words: streamed("It ", "scatters.")
    stream(asked)
    (used,) = (state.used for state in endpoints.state())
    assert (used.requests, used.tokens, used.in_flight) == (2, 5, 0)
    assert used.seconds_a_request is not None

    server.replies = lambda words: (401, "no such key")
    with pytest.raises(EngineRefused):
        asked.chat(**SETTINGS)
    (after,) = endpoints.state()
    assert "refused (401): no such key" in after.problem
    assert after.used == used  # what failed counts for nothing

    server.replies = lambda words: said("It scatters.")
    asked.chat(**SETTINGS)
    assert endpoints.state()[0].problem == ""

    server.replies = lambda words: (200, "<html>A proxy</html>")
    with pytest.raises(EngineUnavailable, match="broke off before the end of its answer"):
        stream(asked)
    assert "broke off" in endpoints.state()[0].problem
    endpoints.close()


def test_an_endpoint_whose_key_cannot_be_had_says_so(tmp_path: Path) -> None:
    endpoint = Endpoint("house", "http://127.0.0.1:9", "big", key_file=str(tmp_path / "none"))
    (state,) = Endpoints({"outside: house (big)": endpoint}).state()
    assert state.problem.startswith("The key of the endpoint house cannot be read")


# ---- what others say in other ways


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": [{"message": {"content": "It scatters."}}]},
        {"choices": [{"index": i, "message": {"content": "It scatters."}, "finish_reason": "stop"} for i in (0, 1)]},
        {"choices": [{"message": {"content": "It scatters."}, "finish_reason": None}], "usage": "none"},
        {"choices": [{"message": {"content": "It scatters."}}], "usage": {"prompt_tokens": None}},
    ],
    ids=["no index", "two choices", "usage is a text", "usage without counts"],
)
def test_an_answer_is_read_whatever_is_missing_beside_it(server: EndpointServer, odd: dict[str, Any]) -> None:
    server.replies = lambda words: (200, json.dumps(odd))

    answer = client(server).chat(**SETTINGS, seed=7)

    assert (answer.text, answer.seed, answer.finish_reason) == ("It scatters.", 7, "stop")


def test_half_a_surrogate_pair_can_be_stored(server: EndpointServer) -> None:
    server.replies = lambda words: said("blue \ud83d sky")

    assert client(server).chat(**SETTINGS).text == "blue ? sky"


def test_parts_of_content_are_no_answer(server: EndpointServer) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": [{"type": "text", "text": "It scatters."}]}}
    server.replies = lambda words: (200, json.dumps({"choices": [choice]}))

    with pytest.raises(EngineRefused, match="does not speak as OpenAI's chat endpoint"):
        client(server).chat(**SETTINGS)


@pytest.mark.parametrize("content", [None, ""])
def test_an_answer_that_was_withheld_is_none(server: EndpointServer, content: str | None) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "content_filter"}
    server.replies = lambda words: (200, json.dumps({"choices": [choice]}))
    with pytest.raises(EngineRefused, match=r"gave no answer.*content_filter"):
        client(server).chat(**SETTINGS)

    choice = {"index": 0, "delta": {"content": content}, "finish_reason": "content_filter"}
    server.replies = lambda words: (200, f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n")
    with pytest.raises(EngineRefused, match=r"gave no answer.*content_filter"):
        stream(client(server))


def test_separators_within_a_text_end_no_line_of_a_stream(server: EndpointServer) -> None:
    text = "one\u2028two\u2029three\x85four"
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]}
    server.replies = lambda words: (200, f"data: {json.dumps(chunk, ensure_ascii=False)}\n\ndata: [DONE]\n\n")

    assert stream(client(server)) == text


def test_an_address_in_capitals_has_its_certificate_looked_at() -> None:
    for url in ("https://a.org", "HTTPS://a.org"):
        made = EndpointClient(Endpoint("house", url, "big"), lambda messages: False)
        assert made._settings["verify"]
