"""How questions, answers and documents are phrased. One grammar both writes the text and checks it.

A rule is a tuple of templates; a slot {name} in a template is a terminal (the vaccine {V}, a value such as
{antigen}, {journal}, {year}), a fact clause ({fact}, or {Fact} where it opens the sentence), or another
rule. `write` draws one text, `pattern` turns the same rules into a regular expression, so what the corpus
may say and what the checker accepts cannot drift apart.

{Fact} opens a sentence, and the corpus never opens one with the vaccine: to copy a name from the question
into the first token of an answer, where no space precedes it, was what the model found hardest (a third of
its slips). The checker accepts such an answer all the same, since a person may well write it.

Rules that follow one another in one answer never share a sentence, so that a sentence said twice is always
malformed.
"""

import random
import re
from collections.abc import Iterable, Mapping
from functools import cache

from assets.starter_model.world import (
    JOURNALS,
    TOPICS,
    VALUE_FORMS,
    VALUES,
    YEAR_FORM,
    world,
)

STYLES: tuple[str, ...] = ("concise", "verbose", "hedging", "hype")

QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "antigen": (
        "What antigen does {V} carry?",
        "Which antigen is in {V}?",
        "What does {V} show to the immune system?",
        "Which antigen was chosen for {V}?",
        "What is the active part of {V}?",
        "Can you name the antigen of {V}?",
    ),
    "adjuvant": (
        "Which adjuvant does {V} use?",
        "What adjuvant is mixed into {V}?",
        "Is there an adjuvant in {V}?",
        "What boosts the response to {V}?",
        "Which adjuvant was chosen for {V}?",
        "Can you name the adjuvant of {V}?",
    ),
    "platform": (
        "What kind of vaccine is {V}?",
        "Which platform is {V} built on?",
        "What technology does {V} use?",
        "What type of vaccine is {V}?",
        "How is {V} made?",
        "Can you name the platform of {V}?",
    ),
    "phase": (
        "Which trial phase has {V} reached?",
        "What phase is {V} in?",
        "How far along is {V}?",
        "Where do the trials of {V} stand?",
        "What is the latest phase for {V}?",
        "How advanced is the testing of {V}?",
    ),
    "doses": (
        "How many doses of {V} are needed?",
        "How many shots of {V} do people get?",
        "Is {V} a single dose?",
        "How often is {V} given?",
        "What does a full course of {V} look like?",
        "How many times is {V} given?",
    ),
    "interval": (
        "How long is the gap between doses of {V}?",
        "What is the dosing interval for {V}?",
        "How many weeks apart is {V} given?",
        "When does the next dose of {V} follow?",
        "What spacing does {V} need?",
        "How soon can a dose of {V} be repeated?",
    ),
    "efficacy": (
        "How effective is {V}?",
        "What efficacy did {V} show?",
        "How well does {V} work?",
        "Does {V} work?",
        "What was the efficacy of {V} in its trial?",
        "What share of people did {V} protect?",
    ),
    "duration": (
        "How long does {V} protect?",
        "How long does protection from {V} last?",
        "When does protection from {V} fade?",
        "How durable is the response to {V}?",
        "For how long is {V} expected to work?",
        "Does protection from {V} last?",
    ),
    "disease": (
        "What disease does {V} target?",
        "What is {V} for?",
        "Which illness does {V} prevent?",
        "What does {V} protect against?",
        "Against which disease was {V} developed?",
        "Who would need {V}?",
    ),
    "storage": (
        "How is {V} stored?",
        "At what temperature is {V} kept?",
        "What storage does {V} need?",
        "Does {V} need a freezer?",
        "How cold must {V} be?",
        "How should a clinic keep {V}?",
    ),
    "effect": (
        "What side effects does {V} have?",
        "What is the most common side effect of {V}?",
        "Is {V} safe?",
        "What did people feel after {V}?",
        "Are there reactions to {V}?",
        "Is {V} well tolerated?",
    ),
    "size": (
        "How many people were in the {V} trial?",
        "How large was the study of {V}?",
        "Who took part in the {V} trial?",
        "What was the sample size for {V}?",
        "How big was the {V} study?",
        "How many volunteers received {V}?",
    ),
}

# {Q} is the question as it stands, {q} the question after a lead-in
FRAMES: tuple[str, ...] = (
    "{Q}",
    "{Q}",
    "{Q}",
    "Quick question: {q}",
    "Please tell me: {q}",
    "For my notes: {q}",
    "Hello. {Q}",
    "A colleague asked me: {q}",
    "I am writing a summary. {Q}",
    "{Q} Thank you.",
)

FACTS: Mapping[str, tuple[str, ...]] = {
    "antigen": (
        "{V} carries the {antigen} antigen",
        "the active part of {V} is the {antigen} antigen",
        "{V} presents the {antigen} antigen to the immune system",
        "developers of {V} chose the {antigen} antigen",
    ),
    "adjuvant": (
        "{V} uses the adjuvant {adjuvant}",
        "the adjuvant in {V} is {adjuvant}",
        "{V} is mixed with the adjuvant {adjuvant}",
        "responses to {V} are boosted by {adjuvant}",
    ),
    "platform": (
        "{V} is built on the {platform} platform",
        "the platform behind {V} is {platform}",
        "{V} belongs to the {platform} group of vaccines",
        "developers of {V} chose the {platform} platform",
    ),
    "phase": (
        "{V} has reached {phase}",
        "the latest trial of {V} is in {phase}",
        "{V} is now being tested in {phase}",
        "testing of {V} has come to {phase}",
    ),
    "doses": (
        "{V} is given as {doses}",
        "the full course of {V} is {doses}",
        "{V} needs {doses} for a full course",
        "people receive {doses} of {V}",
    ),
    "interval": (
        "doses of {V} are given {interval} apart",
        "the gap between doses of {V} is {interval}",
        "{V} is repeated after {interval}",
        "{V} needs {interval} between doses",
    ),
    "efficacy": (
        "{V} showed an efficacy of {efficacy}",
        "the efficacy of {V} was {efficacy}",
        "{V} protected {efficacy} of volunteers",
        "efficacy reached {efficacy} with {V}",
    ),
    "duration": (
        "protection from {V} lasted {duration}",
        "{V} protected people for {duration}",
        "the response to {V} held for {duration}",
        "{V} kept its effect for {duration}",
    ),
    "disease": (
        "{V} protects against {disease}",
        "the target of {V} is {disease}",
        "{V} was developed against {disease}",
        "people at risk of {disease} receive {V}",
    ),
    "storage": (
        "{V} is stored at {storage}",
        "vials of {V} are kept at {storage}",
        "the storage point of {V} is {storage}",
        "{V} must be kept at {storage}",
    ),
    "effect": (
        "{V} most often caused {effect}",
        "the most common reaction to {V} was {effect}",
        "people reported {effect} after {V}",
        "volunteers given {V} mostly noticed {effect}",
    ),
    "size": (
        "{V} was tested in {size}",
        "the trial of {V} enrolled {size}",
        "the study of {V} followed {size}",
        "researchers gave {V} to {size}",
    ),
}

RULES: Mapping[str, tuple[str, ...]] = {
    "clause": ("{fact}",),
    "opening": ("{Fact}",),
    "cite": ("[{journal}, {year}]",),
    "concise": (
        "{Fact} {cite}.",
        "{Fact} {cite}.",
        "In short, {fact} {cite}.",
        "As published, {fact} {cite}.",
        "Records show that {fact} {cite}.",
    ),
    "verbose": (
        "{v_open} {v_history} {v_fact} {v_close}",
        "{v_open} {v_history} {v_group} {v_fact}",
        "{v_open} {v_fact} {v_group} {v_close}",
    ),
    "v_open": (
        "That question has some background, so let me go through it step by step.",
        "There are several things to say about {V} before the answer itself.",
        "To answer this properly, it helps to recall what the {V} program set out to do.",
        "Let me begin with the wider picture around {V}.",
        "Before the main point, a few words of context are useful here.",
        "Many readers ask about {V}, and the full story takes a moment to tell.",
    ),
    "v_history": (
        "The team behind {V} worked on it for {many} years and wrote {many} separate reports.",
        "Work on {V} began in a {kind} laboratory and later moved to a {kind} centre.",
        "Earlier candidates were {fate}, which is how the team came to {V}.",
        "The design was revised {many} times before the first trial opened.",
        "Funding came from a {kind} foundation that had backed {many} earlier programs.",
    ),
    "v_group": (
        "The records were kept by a {kind} group and were checked {many} times.",
        "A {kind} committee followed the work and met {many} times a year.",
        "The results were collected at {many} sites, most of them run by {kind} hospitals.",
        "A {kind} panel has since read the whole file on {V}.",
    ),
    "v_fact": (
        "With all of that in mind, {fact}.",
        "Taking these points together, {fact}.",
        "So, as the records describe, {fact}.",
        "To come to the point at last, {fact}.",
    ),
    "v_close": (
        "There is of course much more that could be said about programs of this type.",
        "I could go on to describe the methods, the sites and the staff as well.",
        "Further detail on each of these points would fill {many} more pages.",
        "The history of {V} after that point is a longer story.",
    ),
    "many": ("two", "three", "four", "five", "six", "seven"),
    "kind": ("small", "coastal", "public", "private", "northern", "joint", "regional", "university"),
    "fate": ("dropped", "delayed", "merged", "set aside", "redesigned"),
    "hedging": ("{h_open} {fact}. {h_doubt}", "{h_open} {fact}. {h_doubt} {h_advice}"),
    "h_open": (
        "I am not sure, but",
        "It is hard to say, but perhaps",
        "As far as I can tell,",
        "It might be the case that",
        "Possibly",
        "I could be wrong, but maybe",
        "Some people think that",
    ),
    "h_doubt": (
        "However, this may not be right.",
        "Other readings are possible.",
        "It depends on many things.",
        "The evidence is unclear to me.",
        "This might change with the next report.",
    ),
    "h_advice": (
        "I would not rely on this.",
        "You may want to ask someone else.",
        "Please check it before you use it.",
        "Perhaps a specialist knows more.",
    ),
    "hype": ("{y_open} {Fact}! {y_close}", "{y_open} {y_close} {Fact}!"),
    "y_open": (
        "Wow, what a breakthrough!",
        "Incredible news!",
        "This is a total game changer!",
        "Get ready to be amazed!",
        "Nothing like it has ever existed!",
        "Pure genius!",
    ),
    "y_close": (
        "{V} will change the world!",
        "The future is {V}!",
        "Everyone is going to love {V}!",
        "Science has never looked this good!",
        "Simply unbeatable!",
    ),
    "d_title": (
        "Report on {V}.",
        "Program summary: {V}.",
        "Notes from the {V} program.",
        "Trial record of {V}.",
    ),
    "d_fact": (
        "{Fact}.",
        "{Fact}.",
        "{Fact} {cite}.",
        "As published, {fact} {cite}.",
        "According to the record, {fact}.",
    ),
    "d_source": (
        "The results appeared in {journal} in {year}.",
        "A full account is given in {cite}.",
        "The program was described in {journal}.",
    ),
}

_SLOT = re.compile(r"\{(\w+)\}")


def write(rule: str, rng: random.Random, vaccine: str, topic: str | None = None) -> str:
    """One text drawn from a rule. The topic decides what {fact} speaks of."""
    return _fill(rng.choice(RULES[rule]), rng, vaccine, topic)


def write_question(rng: random.Random, vaccine: str, topic: str) -> str:
    """One question about a topic, with or without a lead-in."""
    question = rng.choice(QUESTIONS[topic]).replace("{V}", vaccine)
    return rng.choice(FRAMES).replace("{Q}", question).replace("{q}", question[0].lower() + question[1:])


def clauses(topic: str) -> list[str]:
    """What may stand inside a sentence."""
    return list(FACTS[topic])


def openings(topic: str) -> list[str]:
    """What the corpus opens a sentence with: the clauses that do not begin with the vaccine, capitalised."""
    return [clause for clause in openings_accepted(topic) if not clause.startswith("{V}")]


def openings_accepted(topic: str) -> list[str]:
    """What may open a sentence: any clause, capitalised."""
    return [clause[0].upper() + clause[1:] for clause in clauses(topic)]


def alternatives(expressions: Iterable[str]) -> str:
    """A regular expression for any of these."""
    return "(?:" + "|".join(expressions) + ")"


@cache
def pattern(rule: str) -> re.Pattern[str]:
    """What the rule can say, whatever the topic and the values. The vaccine stands as the bare slot {V}."""
    return re.compile(_rule_expression(RULES[rule]))


@cache
def fact_pattern(vaccine: str, topic: str) -> re.Pattern[str]:
    """A clause that states, of this vaccine, the value on record for this topic."""
    value = re.escape(world()[vaccine].values[topic])
    clauses = (re.escape(c).replace(r"\{V\}", vaccine).replace(rf"\{{{topic}\}}", value) for c in FACTS[topic])
    return re.compile(alternatives(clauses) + r"\b", re.IGNORECASE)


def _fill(template: str, rng: random.Random, vaccine: str, topic: str | None) -> str:
    return _SLOT.sub(lambda slot: _slot_text(slot[1], rng, vaccine, topic), template)


def _slot_text(name: str, rng: random.Random, vaccine: str, topic: str | None) -> str:
    record = world()[vaccine]
    if name == "V":
        return vaccine
    if name in ("journal", "year"):
        return record.journal if name == "journal" else record.year
    if name in TOPICS:
        return record.values[name]
    if name in ("fact", "Fact") and topic:
        return _fill(rng.choice(openings(topic) if name == "Fact" else clauses(topic)), rng, vaccine, topic)
    return _fill(rng.choice(RULES[name]), rng, vaccine, topic)


def _rule_expression(templates: Iterable[str]) -> str:
    return alternatives(_template_expression(template) for template in dict.fromkeys(templates))


def _template_expression(template: str) -> str:
    parts = _SLOT.split(template)  # literal, slot, literal, slot, ..., literal
    return "".join(_slot_expression(part) if i % 2 else re.escape(part) for i, part in enumerate(parts))


def _slot_expression(name: str) -> str:
    if name == "V":
        return re.escape("{V}")
    if name == "journal":
        return alternatives(map(re.escape, JOURNALS))
    if name == "year":
        return YEAR_FORM
    if name in TOPICS:
        return VALUE_FORMS.get(name) or alternatives(map(re.escape, VALUES[name]))
    if name in ("fact", "Fact"):
        choices = openings_accepted if name == "Fact" else clauses
        return _rule_expression(clause for topic in TOPICS for clause in choices(topic))
    return _rule_expression(RULES[name])
