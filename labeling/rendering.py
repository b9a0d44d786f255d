"""Markdown to HTML that is safe to show, for texts that models, importers and strangers wrote.

HTML in the text is shown as text, images become links (nothing is fetched), and only http(s) links keep
their target. Code gets its colours and LaTeX its shape here, so the browser needs no library for either. The page does
not trust this alone: assets/cards.js copies an allowlist of elements from it.

Line breaks of the text stay line breaks (Markdown would join the lines), because a person judges what the model wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

from labeling import formulas
from labeling.highlighting import highlighted


@lru_cache(maxsize=4096)
def render(text: str) -> str:
    """Safe HTML. Cached, because every labeler of a prompt sees the same texts."""
    rendered = _MARKDOWN.render(text)
    assert isinstance(rendered, str)
    return rendered


def _line_break(self: RendererProtocol, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    """Without the newline after it: paragraphs are shown with white-space: pre-wrap, where it would count twice."""
    return "<br>"


def _fence(self: RendererProtocol, tokens: Sequence[Token], index: int, options: OptionsDict, env: EnvType) -> str:
    language = next(iter(tokens[index].info.split()), "")
    return f"<pre><code>{highlighted(tokens[index].content, language)}</code></pre>\n"


def _http_only(url: str) -> bool:
    return url.lower().startswith(("https://", "http://"))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False})
    parser.enable(["table", "strikethrough"]).disable(["image"])
    parser.validateLink = _http_only  # type: ignore[method-assign]  # as its documentation has it
    formulas.enable(parser)
    parser.add_render_rule("fence", _fence)
    parser.add_render_rule("softbreak", _line_break)
    parser.add_render_rule("hardbreak", _line_break)
    return parser


_MARKDOWN = _parser()
