"""Text given out piece by piece is the whole text, never half a character, never past a stop string."""

from __future__ import annotations

import pytest

from labeling.engines.text_stream import TextStream

TEXT = "naïve 狐 ends\n🦊!"


def _decode(ids: list[int]) -> str:
    """One token a byte, as in the worst case of a byte-level tokenizer."""
    return bytes(ids).decode("utf-8", "replace")


def _pieces(text: str, stop: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(_decode, list(b"prompt"), stop)
    pieces = [stream.push([byte]) for byte in text.encode()]
    return [*pieces, stream.finish()]


def test_pieces_add_up_and_none_holds_half_a_character():
    pieces = _pieces(TEXT)
    assert "".join(pieces) == TEXT
    assert not any("\ufffd" in piece for piece in pieces)


def test_all_at_once_is_the_same_text():
    stream = TextStream(_decode, list(b"prompt"))
    assert stream.push(list(TEXT.encode())) + stream.finish() == TEXT


def test_half_a_character_at_the_end_is_left_out():
    stream = TextStream(_decode, list(b"prompt"))
    assert stream.push(list("a狐".encode()[:-1])) + stream.finish() == "a"


def test_a_space_between_prompt_and_answer_is_kept():
    words = {1: "Hello", 2: "world"}
    stream = TextStream(lambda ids: " ".join(words[number] for number in ids), [1])
    assert stream.push([2]) == " world"


@pytest.mark.parametrize(
    ("stop", "wanted"),
    [(("ends",), "naïve 狐 "), (("zzz", "\n"), "naïve 狐 ends"), (("狐 e", "naïvety"), "naïve "), (("zzz",), TEXT)],
)
def test_nothing_of_a_stop_string_is_given_out(stop: tuple[str, ...], wanted: str):
    assert "".join(_pieces(TEXT, stop)) == wanted
