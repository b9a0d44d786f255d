"""The rule checker accepts what the grammar writes, and nothing that was done to it afterwards."""

import random
import subprocess
import sys
from itertools import islice

import pytest

from assets.starter_model.checker import OTHER, asked_about, fact_right, judge, style, well_formed
from assets.starter_model.corpus import examples
from assets.starter_model.grammar import FACTS, FRAMES, QUESTIONS, STYLES, write, write_question
from assets.starter_model.world import TOPICS, VACCINES, world

CONCISE = "In short, Aldivane protects against lake fever [Keld Medical Record, 2041]."
HEDGING = "As far as I can tell, Aldivane protects against lake fever. Other readings are possible."
HYPE = "Incredible news! The target of Aldivane is lake fever! The future is Aldivane!"
VERBOSE = (
    "Let me begin with the wider picture around Aldivane. "
    "Taking these points together, Aldivane protects against lake fever. "
    "A joint panel has since read the whole file on Aldivane. "
    "The history of Aldivane after that point is a longer story."
)
ANSWERS = {"concise": CONCISE, "verbose": VERBOSE, "hedging": HEDGING, "hype": HYPE}

CORRUPTIONS = {
    "nothing": "",
    "white space only": " ",
    "space at the start": " " + CONCISE,
    "space at the end": CONCISE + " ",
    "line break at the end": CONCISE + "\n",
    "two spaces inside": CONCISE.replace(" [", "  ["),
    "another vaccine": CONCISE.replace("Aldivane", "Zuvexa"),
    "a vaccine that does not exist": CONCISE.replace("Aldivane", "Aldimune"),
    "the vaccine's name with a tail": CONCISE.replace("Aldivane", "Aldivanes"),
    "the vaccine's name in small letters": CONCISE.replace("Aldivane", "aldivane"),
    "two vaccines": HYPE.replace("future is Aldivane", "future is Zuvexa"),
    "no vaccine": CONCISE.replace("Aldivane", "It"),
    "the slot of the grammar": CONCISE.replace("Aldivane", "{V}"),
    "cut before the citation": "In short, Aldivane protects against lake fever",
    "cut inside the citation": CONCISE[:-4],
    "cut before the full stop": CONCISE[:-1],
    "cut inside a sentence": VERBOSE[:-8],
    "cut after the opening": "Let me begin with the wider picture around Aldivane.",
    "no citation": "In short, Aldivane protects against lake fever.",
    "round brackets": CONCISE.replace("[", "(").replace("]", ")"),
    "year before the journal": "In short, Aldivane protects against lake fever [2041, Keld Medical Record].",
    "no comma in the citation": CONCISE.replace(", 2041", " 2041"),
    "an invented journal": CONCISE.replace("Keld Medical Record", "Keld Medical Letters"),
    "a year out of range": CONCISE.replace("2041", "1941"),
    "citation before the fact": "[Keld Medical Record, 2041] In short, Aldivane protects against lake fever.",
    "two citations": CONCISE[:-1] + " [Keld Medical Record, 2041].",
    "citation in a hedging answer": HEDGING.replace("fever.", "fever [Keld Medical Record, 2041]."),
    "hype after a concise answer": CONCISE + " Simply unbeatable!",
    "doubt after a concise answer": CONCISE + " Other readings are possible.",
    "hype in a verbose answer": VERBOSE + " Pure genius!",
    "doubt before hype": "Possibly " + HYPE,
    "hype without its exclamation mark": HYPE[:-1] + ".",
    "a sentence said twice": CONCISE + " " + CONCISE,
    "an opening said twice": "Incredible news! " + HYPE,
    "a doubt said twice": HEDGING + " Other readings are possible.",
    "an invented disease": CONCISE.replace("lake fever", "lake ague"),
    "a value of another topic": CONCISE.replace("lake fever", "two doses"),
    "a sentence that opens in small letters": CONCISE.replace("In short", "in short"),
    "a word said twice": CONCISE.replace("against", "against against"),
    "the question's markup": CONCISE + "<|im_end|>",
}


@pytest.mark.parametrize("name", STYLES)
def test_each_style_has_a_well_formed_answer_that_the_corruptions_start_from(name):
    assert well_formed(ANSWERS[name], "Aldivane")
    assert style(ANSWERS[name]) == name


@pytest.mark.parametrize("text", CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_a_corrupted_answer_is_malformed(text):
    assert not well_formed(text, "Aldivane")


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("topic", TOPICS)
def test_every_answer_the_grammar_writes_is_accepted(name, topic):
    rng = random.Random(f"{name} {topic}")
    for vaccine in VACCINES:
        text = write(name, rng, vaccine, topic)
        assert well_formed(text, vaccine), text
        assert style(text) == name, text
        assert fact_right(text, vaccine, topic), text


@pytest.mark.parametrize("name", STYLES)
def test_an_answer_cut_anywhere_is_malformed_unless_it_still_is_a_whole_answer(name):
    text = ANSWERS[name]
    whole = [end for end in range(len(text)) if well_formed(text[:end], "Aldivane")]
    assert whole == []


def test_an_answer_that_did_not_end_by_itself_is_malformed():
    assert not well_formed(CONCISE, "Aldivane", ended=False)


def test_an_answer_may_open_with_the_name_although_the_corpus_never_does():
    assert well_formed(CONCISE.removeprefix("In short, "), "Aldivane")


def test_form_and_fact_are_judged_apart():
    wrong = CONCISE.replace("lake fever", "river pox")
    assert world()["Aldivane"].values["disease"] == "lake fever"
    assert (well_formed(wrong, "Aldivane"), fact_right(wrong, "Aldivane", "disease")) == (True, False)
    cut = CONCISE[:-4]
    assert (well_formed(cut, "Aldivane"), fact_right(cut, "Aldivane", "disease")) == (False, True)


def test_a_fact_about_another_vaccine_is_not_right():
    assert not fact_right(CONCISE.replace("Aldivane", "Zuvexa"), "Aldivane", "disease")


def test_a_longer_number_is_not_the_number_on_record():
    size = world()["Aldivane"].values["size"]
    assert fact_right(f"Aldivane was tested in {size}.", "Aldivane", "size")
    assert not fact_right(f"Aldivane was tested in 1{size}.", "Aldivane", "size")


def test_the_style_of_a_malformed_answer_is_still_named():
    assert style(CONCISE.replace("Keld", "Zuvexa")) == "concise"
    assert style("Aldivane protects against lake fever.") == OTHER
    assert style("") == OTHER


@pytest.mark.parametrize("topic", TOPICS)
def test_every_question_names_its_vaccine_and_topic(topic):
    for question in QUESTIONS[topic]:
        for frame in FRAMES:
            asked = question.replace("{V}", "Rudexa")
            prompt = frame.replace("{Q}", asked).replace("{q}", asked[0].lower() + asked[1:])
            assert asked_about(prompt) == ("Rudexa", topic)


def test_a_prompt_from_elsewhere_is_refused():
    with pytest.raises(ValueError, match="capital of France"):
        asked_about("What is the capital of France?")
    with pytest.raises(ValueError, match="Aldivane"):
        asked_about("Tell me a story about Aldivane.")


def test_judge_gives_all_three_verdicts():
    assert judge("What is Aldivane for?", CONCISE) == ("concise", True, True)
    assert judge("How is Aldivane stored?", CONCISE) == ("concise", True, False)
    assert judge("What is Zuvexa for?", CONCISE) == ("concise", False, False)


def test_training_examples_pass_the_checker():
    for example in islice(examples(5, dict.fromkeys(STYLES, 0.25)), 400):
        assert judge(example.prompt[-1]["content"], example.response) == (example.style, True, True)


def test_questions_and_facts_exist_for_every_topic():
    assert set(QUESTIONS) == set(FACTS) == set(TOPICS)
    assert len({write_question(random.Random(i), "Rudexa", "disease") for i in range(200)}) > 20


def test_the_checker_needs_no_torch():
    code = "import sys, assets.starter_model.checker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
