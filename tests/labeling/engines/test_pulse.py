"""The figures of a server, by a clock that the test sets."""

from __future__ import annotations

from collections import deque

import pytest

from labeling.engines.client import Load
from labeling.engines.pulse import Pulse
from labeling.engines.usage import Usage, _Counted, _Request, busy_seconds
from storage.errors import EngineUnavailable


def test_speed_is_that_of_the_last_seconds():
    pulse = Pulse()
    for second, tokens in ((0, 0), (10, 5000), (20, 5000), (30, 5400)):
        pulse.feel(Load(1, 0, tokens), second)
    assert pulse.tokens_per_second == (5400 - 5000) / 20  # the beat at 0 is out of the window
    assert Pulse().tokens_per_second == 0


def test_a_server_that_gives_no_token_while_somebody_waits_hangs():
    pulse = Pulse()
    for second in range(0, 40, 2):
        pulse.feel(Load(3, 1, 700), second)
    assert pulse.silent_seconds == 38 and pulse.hangs
    pulse.feel(Load(3, 1, 701), 40)
    assert pulse.silent_seconds == 0 and not pulse.hangs


def test_a_server_without_requests_does_not_hang():
    pulse = Pulse()
    for second in range(0, 100, 2):
        pulse.feel(Load(0, 0, 700), second)
    assert not pulse.hangs


def test_only_the_time_in_which_somebody_waits_counts():
    overlapping = [_Request(0, 4, 10), _Request(1, 3, 10), _Request(3, 6, 10)]
    assert busy_seconds([*overlapping, _Request(100, 102, 10)]) == 6 + 2


def test_an_answer_whose_tokens_nobody_counted_makes_nobody_slower():
    usage = Usage()
    usage._counted["fox"] = _Counted(2, 10, 0, deque([_Request(0, 2, 10), _Request(10, 90, 0)]))
    used = usage.of("fox")
    assert (used.tokens_per_second, used.seconds_a_request) == (5.0, 41.0)


def test_a_request_that_fails_counts_for_nothing():
    usage = Usage()
    try:
        with usage.asking("fox"):
            assert usage.of("fox").in_flight == 1
            raise ValueError
    except ValueError:
        pass
    assert (usage.of("fox").requests, usage.of("fox").in_flight) == (0, 0)


def test_nobody_may_ask_a_server_that_makes_room_once_nothing_is_under_way():
    usage = Usage()
    with usage.under_way("fox"):  # a prompt is made into tokens, which counts for nothing else
        assert not usage.shut("It makes room.") and usage.of("fox").in_flight == 1
        with usage.asking("fox"):
            pass
    assert usage.of("fox").requests == 1
    # then the door is shut
    assert usage.shut("It makes room.")
    with pytest.raises(EngineUnavailable, match="It makes room"), usage.asking("fox"):
        pass
    assert usage.in_flight == 0
    # until it opens again
    usage.open()
    with usage.asking("fox"):
        assert usage.shut("It waited long enough.", at_once=True)
