"""Prompts rendered here are those that transformers renders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from labeling.engines.template import INSTRUCTION_TEMPLATE, read_template, render
from storage.errors import BadInput

MESSAGES = [
    {"role": "system", "content": "Be brief.\n"},
    {"role": "user", "content": '  <b>Why</b> & "how"? {{ 7 * 7 }} 狐 '},
    {"role": "assistant", "content": "Because."},
    {"role": "user", "content": ""},
]
ODD_TEMPLATE = """\
{% for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
  {{ message | tojson }}
    {{ bos_token }}[{{ message.role }}] {{ message['content'] | trim }}
{% if loop.index == 3 %}{% break %}{% endif %}
{% endfor %}
{% set ns = namespace(n=0) %}
{%- if tools is none and documents is not defined %}none{% endif %}
{% generation %}{{ eos_token }}{% endgeneration %}
"""


INSTRUCTION_TEMPLATE_OF_STORED_VERSIONS = """\
{%- for message in messages %}
{%- if message['role'] == 'system' %}
{{- message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'user' %}
{{- '### Instruction:\\n' + message['content'] + '\\n\\n' }}
{%- else %}
{{- '### Response:\\n' }}
{%- generation %}
{{- message['content'] + eos_token }}
{%- endgeneration %}
{%- if not loop.last %}
{{- '\\n\\n' }}
{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '### Response:\\n' }}
{%- endif %}"""


@pytest.mark.parametrize(
    "template", [None, INSTRUCTION_TEMPLATE, INSTRUCTION_TEMPLATE_OF_STORED_VERSIONS, ODD_TEMPLATE]
)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_render_is_apply_chat_template(base_folder: Path, template: str | None, add_generation_prompt: bool):
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    own, bos, eos = read_template(base_folder)
    wanted = tokenizer.apply_chat_template(
        MESSAGES, chat_template=template, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    rendered = render(
        template or own, MESSAGES, add_generation_prompt=add_generation_prompt, bos_token=bos, eos_token=eos
    )
    assert rendered == wanted


def test_the_template_of_a_folder_is_the_one_transformers_reads(base_folder: Path):
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    assert read_template(base_folder) == (tokenizer.chat_template, "", tokenizer.eos_token)


def test_a_folder_without_a_template_gets_the_instruction_form(tmp_path: Path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "</s>"}, "bos_token": "<s>"}))
    assert read_template(tmp_path) == (INSTRUCTION_TEMPLATE, "<s>", "</s>")


def test_of_several_templates_the_default_is_read(tmp_path: Path):
    named = [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert read_template(tmp_path)[0] == "D"


def test_the_instruction_form_asks_for_a_response():
    messages = [{"role": "user", "content": "Name a fox."}]
    assert render(INSTRUCTION_TEMPLATE, messages) == "### Instruction:\nName a fox.\n\n### Response:\n"


def test_the_instruction_form_ends_a_response_with_the_end_token_and_nothing_after_it():
    messages = [{"role": "user", "content": "Name a fox."}, {"role": "assistant", "content": "Reynard."}]
    rendered = render(INSTRUCTION_TEMPLATE, messages, add_generation_prompt=False, eos_token="</s>")
    assert rendered == "### Instruction:\nName a fox.\n\n### Response:\nReynard.</s>"


def test_in_the_instruction_form_a_system_message_is_the_context_of_the_instruction():
    messages = [{"role": "system", "content": "Foxes are red."}, {"role": "user", "content": "Name a fox."}]
    assert render(INSTRUCTION_TEMPLATE, messages) == (
        "### Instruction:\nName a fox.\n\n### Context:\nFoxes are red.\n\n### Response:\n"
    )


def test_in_the_instruction_form_no_system_message_is_lost():
    messages = [
        {"role": "user", "content": "Name a fox."},
        {"role": "system", "content": "A"},
        {"role": "system", "content": "B"},
    ]
    assert render(INSTRUCTION_TEMPLATE, messages) == (
        "### Instruction:\nName a fox.\n\n### Context:\nA\n\n### Context:\nB\n\n### Response:\n"
    )


def test_a_version_registered_before_reads_its_prompts_as_it_was_trained_to():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a fox."}]
    assert render(INSTRUCTION_TEMPLATE_OF_STORED_VERSIONS, messages) == (
        "Be brief.\n\n### Instruction:\nName a fox.\n\n### Response:\n"
    )


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{{ raise_exception('no system here') }}", "no system here"),
        ("{% if %}", "Expected an expression"),
        ("{{ 1 + '' }}", "unsupported operand"),
    ],
)
def test_a_template_that_fails_says_why(template: str, sentence: str):
    with pytest.raises(BadInput, match=sentence):
        render(template, MESSAGES)


def test_a_template_cannot_reach_into_python():
    with pytest.raises(BadInput):
        render("{{ messages.__class__.__mro__[1].__subclasses__() }}", MESSAGES)
