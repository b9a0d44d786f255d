"""How much there is to read, how long reading takes, and what is too fast to have been it."""

from __future__ import annotations

import math
import re

WORDS_PER_SECOND = 4.0  # 238 words a minute, the mean of 190 studies (Brysbaert 2019, J. Mem. Lang. 109)
FASTEST_WORDS_PER_SECOND = 17.0  # about 1,000 a minute, twice what a fast reader skims
TOO_FAST = "too_fast"  # the flag of a judgment

# Characters that take as long to read as an English word: in a minute people read 228 English words of 987 letters, 255
# characters of Chinese, 357 of Japanese (Trauzettel-Klosinski and Dietz 2012, IOVS 53:5452, table 2). Of the last two
# the larger number holds for both, so that nobody is thought to hurry who does not.
IDEOGRAPHS_A_WORD = 357 / 228
LETTERS_A_WORD = 987 / 228
_IDEOGRAPHS = re.compile(  # kana too; and the dashes, quotes and dots that follow one, which are no words
    "[\u3000-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff9f\U00020000-\U0003ffff]"
    "[\u2014\u2018-\u201d\u2026]*"
)
_UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u200b]")  # Thai, Lao, Tibetan, Burmese, Khmer; a break in them


def words(text: str) -> int:
    """Words between spaces; of scripts that put none between words, as many as take as long to read."""
    text, ideographs = _IDEOGRAPHS.subn(" ", text)
    text, letters = _UNSPACED.subn(" ", text)
    return len(text.split()) + math.ceil(ideographs / IDEOGRAPHS_A_WORD + letters / LETTERS_A_WORD)


def reading_share(focused_seconds: float, words: int) -> float:
    """The time taken over the time that reading all of it takes most people."""
    return focused_seconds * WORDS_PER_SECOND / max(words, 1)


def is_too_fast(focused_seconds: float, words: int) -> bool:
    """Faster than anyone can read. It is told to the lead, and refused to nobody."""
    return words > FASTEST_WORDS_PER_SECOND * focused_seconds
