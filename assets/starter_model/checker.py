"""The rule checker: the style, the form and the fact of an answer, judged apart, from the text alone.

    style("Aldivane carries the glycan G4 antigen [Keld Medical Record, 2041].")                 -> "concise"
    well_formed("Aldivane carries the glycan G4 antigen [Keld Medical Record, 2041].", "Aldivane")  -> True

It sees what a byte comparison would see: an answer with white space at either end is malformed. A checker
that strips hides it from the scripted rater, and alignment then teaches it (1 % of the answers became 55 %
when that was tried).

No torch here: benchmarks, tests and the scripted rater import this module.
"""

import re
from functools import cache
from typing import NamedTuple

from assets.starter_model.grammar import (
    QUESTIONS,
    STYLES,
    alternatives,
    fact_pattern,
    pattern,
)
from assets.starter_model.world import TOPICS, VACCINES

OTHER = "other"
WORDS_IN_CONCISE = 25  # no concise answer of the grammar is longer, no verbose one is shorter

_DOUBT = re.compile(
    r"\b(not sure|hard to say|perhaps|as far as i can tell|might|possibly|could be wrong|maybe|"
    r"some people think|may not|unclear|may want to ask|not rely on)\b",
    re.IGNORECASE,
)
_ENDS_IN_CITATION = re.compile(r"\[[^\[\]]+, \d{4}\]\.?\s*$")
_VACCINE = re.compile(rf"\b{alternatives(VACCINES)}\b")


class Question(NamedTuple):
    """What a prompt asks about."""

    vaccine: str
    topic: str


class Verdict(NamedTuple):
    """What the rules say of one answer to one prompt."""

    style: str
    well_formed: bool
    fact_right: bool


def judge(prompt: str, response: str, ended: bool = True) -> Verdict:
    """Style, form and fact of a response to a prompt that asks about the invented world."""
    vaccine, topic = asked_about(prompt)
    return Verdict(style(response), well_formed(response, vaccine, ended), fact_right(response, vaccine, topic))


def asked_about(prompt: str) -> Question:
    """The vaccine and the topic that a prompt asks about. ValueError where no question is recognised."""
    vaccine = _VACCINE.search(prompt)
    if vaccine:
        for topic in TOPICS:
            if _question_pattern(topic).search(prompt):
                return Question(vaccine[0], topic)
    raise ValueError(f"No question about an invented vaccine was recognised in {prompt!r}.")


def style(text: str) -> str:
    """One of STYLES by its marks, or "other". A soft rule: it also names the style of a malformed answer."""
    if "!" in text:
        return "hype"
    if _DOUBT.search(text):
        return "hedging"
    short = len(text.split()) <= WORDS_IN_CONCISE
    if short:
        return "concise" if _ENDS_IN_CITATION.search(text) else OTHER
    return "verbose"


def well_formed(text: str, vaccine: str, ended: bool = True) -> bool:
    """Whether the text is one whole answer, in one style, about this vaccine and no other.

    `ended`: generation stopped by itself. An answer cut at the token limit is malformed whatever it says.
    """
    if not ended or "{" in text:
        return False
    about = re.sub(rf"\b{vaccine}\b", "{V}", text)  # another vaccine's name stays, and fits no pattern
    return any(pattern(style).fullmatch(about) for style in STYLES)


def fact_right(text: str, vaccine: str, topic: str) -> bool:
    """Whether the text states, of this vaccine, the value on record for this topic."""
    return fact_pattern(vaccine, topic).search(text) is not None


@cache
def _question_pattern(topic: str) -> re.Pattern[str]:
    questions = (re.escape(q).replace(r"\{V\}", alternatives(VACCINES)) for q in QUESTIONS[topic])
    return re.compile(alternatives(questions), re.IGNORECASE)
