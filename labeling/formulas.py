"""LaTeX within Markdown to MathML, which browsers draw by themselves: no script and no font is sent for it.

The converter passes on whatever a text asks for (links, styles, even tags as text), so only elements and attributes
that are known to be harmless are written out again, and all text is escaped.
"""

from __future__ import annotations

import re
from html import escape, unescape
from typing import Literal
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

Display = Literal["inline", "block"]
LONGEST = 2_000  # characters; more is shown as it was written
DELIMITERS: tuple[tuple[str, str, Display], ...] = (
    ("$$", "$$", "block"),
    ("\\[", "\\]", "block"),
    ("\\(", "\\)", "inline"),
    ("$", "$", "inline"),
)
ELEMENTS = frozenset(
    [
        "math",
        "mrow",
        "mi",
        "mn",
        "mo",
        "mtext",
        "mspace",
        "mfrac",
        "msqrt",
        "mroot",
        "msub",
        "msup",
        "msubsup",
        "munder",
        "mover",
        "munderover",
        "mtable",
        "mtr",
        "mtd",
        "mstyle",
        "mpadded",
        "mphantom",
        "menclose",
        "mmultiscripts",
        "mprescripts",
        "none",
    ]
)
WORDS = frozenset(
    [
        "display",
        "displaystyle",
        "mathvariant",
        "stretchy",
        "fence",
        "separator",
        "accent",
        "accentunder",
        "movablelimits",
        "largeop",
        "symmetric",
        "form",
        "columnalign",
        "rowalign",
        "notation",
        "scriptlevel",
    ]
)
LENGTHS = frozenset(
    [
        "width",
        "height",
        "depth",
        "lspace",
        "rspace",
        "minsize",
        "maxsize",
        "linethickness",
        "columnspacing",
        "rowspacing",
    ]
)
_WORD = re.compile(r"[a-z0-9 -]{1,60}", re.I)
_LENGTH = re.compile(r"\d{0,2}(\.\d{1,4})?(em|ex|px|pt|mu|%)?")  # never negative: nothing may cover other text


def mathml(latex: str, display: Display) -> str:
    """Safe MathML, or the source as code where it is no LaTeX that we can read."""
    if len(latex) <= LONGEST:
        try:
            return _written(convert_to_element(latex, display=display))
        except Exception:  # models write anything, and the converter fails in as many ways
            pass
    return _source(latex)


def enable(parser: MarkdownIt) -> None:
    """Teaches a Markdown parser $…$, $$…$$, \\(…\\) and \\[…\\]."""
    parser.inline.ruler.before("escape", "formula", _inline)
    parser.block.ruler.before(
        "fence", "formula_block", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    parser.add_render_rule("formula", lambda self, tokens, index, options, env: mathml(tokens[index].content, "inline"))
    parser.add_render_rule("formula_block", lambda self, tokens, index, options, env: _line(tokens[index].content))


def _line(latex: str) -> str:
    return mathml(latex, "block")


def _source(latex: str) -> str:
    return f"<code>{escape(latex.strip())}</code>"


def _written(element: Element) -> str:
    """The element with what is allowed of it; of an unknown one, what it holds."""
    tag = element.tag.rpartition("}")[2]
    inside = _text(element.text) + "".join(_written(one) + _text(one.tail) for one in element)
    if tag not in ELEMENTS:
        return inside
    attributes = "".join(f' {name}="{value}"' for name, value in element.attrib.items() if _allowed(name, value))
    return f"<{tag}{attributes}>{inside}</{tag}>"


def _text(text: str | None) -> str:
    """The converter writes characters as references (&#x2211;)."""
    return escape(unescape(text or ""))


def _allowed(name: str, value: str) -> bool:
    known = _WORD if name in WORDS else _LENGTH if name in LENGTHS else None
    return known is not None and known.fullmatch(value) is not None


# ---- where a formula is ---------------------------------------------------------------------------------------------


def _inline(state: StateInline, silent: bool) -> bool:
    for opening, closing, display in DELIMITERS:
        if not state.src.startswith(opening, state.pos):
            continue
        start = state.pos + len(opening)
        end = state.src.find(closing, start, min(state.posMax, start + LONGEST + len(closing)))
        if end < 0 or not _is_formula(state.src, start, end, opening):
            return False
        if not silent:
            token = state.push("formula" if display == "inline" else "formula_block", "math", 0)
            token.content = state.src[start:end]
        state.pos = end + len(closing)
        return True
    return False


def _is_formula(text: str, start: int, end: int, opening: str) -> bool:
    """Dollars are money more often than not: a formula touches both of its, and no digit follows the second."""
    if not text[start:end].strip():
        return False
    if opening != "$":
        return True
    return not (text[start].isspace() or text[end - 1].isspace() or text[end + 1 : end + 2].isdigit())


def _block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """A formula on lines of its own, which Markdown might take for a list ("+ b") or a heading ("= c")."""
    text = _text_of(state, start_line)
    opening, closing = next(((one, other) for one, other, _ in DELIMITERS[:2] if text.startswith(one)), ("", ""))
    if not opening:
        return False
    lines = [text[len(opening) :]]
    while not lines[-1].rstrip().endswith(closing):
        if start_line + len(lines) >= end_line or sum(map(len, lines)) > LONGEST or closing in lines[-1]:
            return False
        lines.append(_text_of(state, start_line + len(lines)))
    lines[-1] = lines[-1].rstrip().removesuffix(closing)
    latex = "\n".join(lines)
    if not latex.strip() or closing in latex:
        return False
    if not silent:
        token = state.push("formula_block", "math", 0)
        token.content, token.block = latex, True
        token.map = [start_line, start_line + len(lines)]
        state.line = start_line + len(lines)
    return True


def _text_of(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
