"""Messages → the prompt a model was trained on.

The web process renders every prompt, and must not import transformers. So this is transformers'
`apply_chat_template(tokenize=False)` again: the same sandbox, the same extensions, the same filters. A test holds the
two together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from storage.errors import BadInput

# What a system message says comes as context after the instruction, as in the guide; nothing of it is lost where no
# instruction follows. No newline after the end-of-text token, so that it is the last token trained on.
INSTRUCTION_TEMPLATE = """\
{%- set pending = namespace(context='') %}
{%- for message in messages %}
{%- if message['role'] == 'system' %}
{%- set pending.context = pending.context + '### Context:\\n' + message['content'] + '\\n\\n' %}
{%- elif message['role'] == 'user' %}
{{- '### Instruction:\\n' + message['content'] + '\\n\\n' + pending.context }}
{%- set pending.context = '' %}
{%- else %}
{{- pending.context + '### Response:\\n' }}
{%- set pending.context = '' %}
{%- generation %}
{{- message['content'] + eos_token }}
{%- endgeneration %}
{%- if not loop.last %}
{{- '\\n\\n' }}
{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- pending.context + '### Response:\\n' }}
{%- endif %}"""
"""For models that bring no chat template: an instruction, its context, then the response that answers it."""


def render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool = True,
    bos_token: str = "",
    eos_token: str = "",
) -> str:
    """The prompt text for `messages`, each with `role` and `content`.

    Raises BadInput when the template cannot be read or refuses these messages.
    """
    try:
        return _compiled(template).render(
            messages=[dict(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            bos_token=bos_token,
            eos_token=eos_token,
        )
    except (jinja2.TemplateError, TypeError, KeyError) as error:
        raise BadInput(
            f"The chat template cannot turn these messages into a prompt: {error}. "
            "Change the messages, or the template of the model version."
        ) from error


def read_template(folder: str | Path) -> tuple[str, str, str]:
    """(template, bos token, eos token) of the model in `folder`; the instruction template where it brings none."""
    config = _read_json(Path(folder) / "tokenizer_config.json")
    special = {**_read_json(Path(folder) / "special_tokens_map.json"), **config}
    template = _template_file(Path(folder)) or _template_in(config.get("chat_template")) or INSTRUCTION_TEMPLATE
    return template, _token_text(special.get("bos_token")), _token_text(special.get("eos_token"))


def _template_file(folder: Path) -> str:
    """transformers gives the file precedence over the entry in tokenizer_config.json."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return _template_in(_read_json(folder / "chat_template.json").get("chat_template"))


def _template_in(entry: Any) -> str:
    """One template, or a list of named ones of which `default` is meant."""
    if isinstance(entry, list):
        entry = {item.get("name"): item.get("template") for item in entry}.get("default")
    return entry if isinstance(entry, str) else ""


def _token_text(token: Any) -> str:
    """A token is stored as its text, or as an object that holds its text."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    read = json.loads(file.read_text(encoding="utf-8"))
    return read if isinstance(read, dict) else {}


@lru_cache(maxsize=64)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


class _GenerationTag(Extension):
    """`{% generation %}` marks what training learns from; a prompt shows its content as it is."""

    tags = {"generation"}  # noqa: RUF012 — as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Callable[[], str]) -> str:
        return caller()


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML; a prompt wants none of that."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
