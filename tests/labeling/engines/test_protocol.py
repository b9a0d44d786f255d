"""What model servers, and whoever stands before them, may say instead of an answer."""

from __future__ import annotations

import httpx
import pytest

from labeling.engines.protocol import Counted, Delta, completions, deltas, refusal
from storage.errors import EngineRefused, EngineUnavailable, WrongKey


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(404, json={"error": {"message": "The model `v3` does not exist."}}),
        httpx.Response(408, text="slow"),
        httpx.Response(429, text="busy"),
        httpx.Response(500, text="Internal Server Error"),
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        httpx.Response(503, text=""),
        httpx.Response(504, text=""),
    ],
    ids=lambda reply: str(reply.status_code),
)
def test_a_fault_that_passes_is_no_word_about_what_was_asked(reply: httpx.Response) -> None:
    assert type(refusal(reply)) is EngineUnavailable


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_known_as_one(status: int) -> None:
    assert isinstance(refusal(httpx.Response(status, json={"error": "Unauthorized"})), WrongKey)


@pytest.mark.parametrize(
    ("status", "said", "sentence"),
    [
        (400, {"error": {"message": "The prompt is too long."}}, "The prompt is too long."),
        (400, {"message": "The prompt is too long."}, "The prompt is too long."),
        (400, {"error": "The prompt is too long."}, "The prompt is too long."),
        (400, {"error": {"message": None, "code": 7}}, "{'message': None, 'code': 7}"),
        (400, {"error": None}, '{"error":null}'),
        (400, ["no"], '["no"]'),
        (404, {"detail": "Not Found"}, '{"detail":"Not Found"}'),
        (500, {"error": {"message": "list index out of range"}}, "list index out of range"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_server(status: int, said: object, sentence: str) -> None:
    found = refusal(httpx.Response(status, json=said))

    assert isinstance(found, EngineRefused)
    assert str(found) == f"The model server refused ({status}): {sentence}"


def test_a_key_that_is_repeated_is_shown_to_nobody_and_a_long_page_is_cut() -> None:
    found = refusal(httpx.Response(401, json={"error": {"message": "Wrong key sk-1234. " + "x" * 5000}}), "sk-1234")

    assert "sk-1234" not in str(found) and "(key)" in str(found)
    assert len(str(found)) < 400


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('data: {"choices": [{"index": 1, "text": "a", "finish_reason": null}]}', [Delta(1, "a", None)]),
        ('data:{"choices": [{"text": "a", "finish_reason": "stop"}]}', [Delta(0, "a", "stop")]),
        ('data: {"choices": [{"delta": {"content": null}}], "error": null}', [Delta(0, "", None)]),
        ('data: {"choices": null, "usage": null}', []),
        (": keep-alive", []),
        ("data: [DONE]", []),
    ],
)
def test_a_line_of_a_stream_is_read_whatever_is_null_in_it(line: str, found: list[Delta]) -> None:
    assert deltas(line, Counted()) == found


@pytest.mark.parametrize(
    "said", ['{"error": "out of memory"}', '{"error": {"message": null, "type": "out of memory"}}']
)
def test_a_stream_that_breaks_off_says_why(said: str) -> None:
    with pytest.raises(EngineRefused, match=r"broke off: .*out of memory"):
        deltas(f"data: {said}", Counted())


@pytest.mark.parametrize("said", ['{"choices": [{"te', "[]", '{"choices": ["a"]}', '{"choices": [{"text": 7}]}'])
def test_a_line_that_is_none_of_the_api_is_refused(said: str) -> None:
    with pytest.raises(ValueError):
        deltas(f"data: {said}", Counted())


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": None}, {"choices": [{}]}, {"choices": [7]}])
def test_a_reply_without_answers_is_none(reply: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        completions(reply, 0, 0.1)


def test_an_empty_answer_that_ended_by_itself_is_an_answer() -> None:
    reply = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}

    assert completions(reply, 0, 0.1)[0].text == ""
