"""How long reading takes, and what is too fast to have been it."""

from __future__ import annotations

WORDS_PER_SECOND = 4.0  # 238 words a minute, the mean of 190 studies (Brysbaert 2019, J. Mem. Lang. 109)
FASTEST_WORDS_PER_SECOND = 17.0  # about 1,000 a minute, twice what a fast reader skims
TOO_FAST = "too_fast"  # the flag of a judgment


def reading_share(focused_seconds: float, words: int) -> float:
    """The time taken over the time that reading all of it takes most people."""
    return focused_seconds * WORDS_PER_SECOND / max(words, 1)


def is_too_fast(focused_seconds: float, words: int) -> bool:
    """Faster than anyone can read. It is told to the lead, and refused to nobody."""
    return words > FASTEST_WORDS_PER_SECOND * focused_seconds
