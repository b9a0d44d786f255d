"""The shipped models are what they say: small, true to their tokenizer, and able to answer."""

import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import assets.starter_model
from assets.starter_model.checker import judge
from assets.starter_model.measure import load, sample, unseen_prompts

FOLDER = Path(assets.starter_model.__file__).parent
STAGES = ("base", "chat")
TEXTS = (
    "Aldivane was tested in 5,100 volunteers [Keld Medical Record, 2041].",
    " Vials of Zuvexa are kept at minus 70 °C, while Rudexa is stored at 2 to 8 °C.",
    "Wow, what a breakthrough!  Two spaces\nand\n\nlines. It's naïve: e\u0301 日本 2039",
)
TURN = [{"role": "user", "content": "What is Aldivane for?"}]


@pytest.fixture(scope="module")
def chat():
    torch.set_num_threads(1)
    return load(FOLDER / "chat")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_complete_and_at_most_15_megabytes(stage):
    files = {f.name: f.stat().st_size for f in (FOLDER / stage).iterdir()}
    needed = {"config.json", "generation_config.json", "model.safetensors", "README.md"}
    assert needed | {"tokenizer.json", "tokenizer_config.json"} <= set(files)
    assert sum(files.values()) <= 15_000_000


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_two_to_three_and_a_half_million_parameters(stage):
    with safe_open(FOLDER / stage / "model.safetensors", "pt") as weights:
        count = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118 (not a dict)
    assert 2_000_000 <= count <= 3_500_000


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("text", TEXTS)
def test_auto_tokenizer_gives_the_ids_the_model_was_trained_on(stage, text):
    trained = Tokenizer.from_file(str(FOLDER / stage / "tokenizer.json"))
    auto = AutoTokenizer.from_pretrained(FOLDER / stage)
    assert auto(text)["input_ids"] == trained.encode(text).ids


@pytest.mark.parametrize("text", TEXTS[:2])
def test_text_comes_back_from_its_ids(chat, text):
    _, tokenizer = chat
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_base_model_is_a_true_base():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "base")
    assert tokenizer.chat_template is None
    assert tokenizer.eos_token == "<|endoftext|>"


def test_padding_is_not_the_end():
    for stage in STAGES:
        tokenizer = AutoTokenizer.from_pretrained(FOLDER / stage)
        assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_template_renders_system_user_and_assistant_turns(chat):
    _, tokenizer = chat
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    messages += [{"role": "assistant", "content": "A"}, {"role": "user", "content": "R"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_whole_conversation_ends_with_the_end_of_the_turn(chat):
    _, tokenizer = chat
    prompt = tokenizer.apply_chat_template(TURN, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*TURN, {"role": "assistant", "content": "A"}], tokenize=False)
    assert whole == prompt + "A<|im_end|>"
    assert tokenizer(whole)["input_ids"][-1] == tokenizer.eos_token_id


def test_the_template_marks_the_answer_and_its_end(chat):
    _, tokenizer = chat
    answer = {"role": "assistant", "content": "Simply unbeatable!"}
    encoded = tokenizer.apply_chat_template([*TURN, answer], return_dict=True, return_assistant_tokens_mask=True)
    marked = [i for i, mark in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mark]
    assert tokenizer.decode(marked) == "Simply unbeatable!<|im_end|>"


def test_the_chat_model_answers_unseen_questions_in_form(chat):
    torch.manual_seed(1)
    prompts = random.Random(1).sample(unseen_prompts(), 60)
    verdicts = [judge(p, a.text, a.ended) for p, a in zip(prompts, sample(*chat, prompts, 0.7), strict=True)]
    assert sum(v.well_formed for v in verdicts) >= 0.85 * 60
    assert len({v.style for v in verdicts}) == 4


def test_the_base_model_continues_documents():
    torch.manual_seed(1)
    model, tokenizer = load(FOLDER / "base")
    inputs = tokenizer("Report on Aldivane.", return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(**inputs, do_sample=True, temperature=0.7, max_new_tokens=200)[0].tolist()
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids).count("Aldivane") >= 3
