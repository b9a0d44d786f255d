"""Code in colours, as spans with Pygments' short class names; assets/label.css says which colour a class has."""

from __future__ import annotations

from html import escape

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

LONGEST = 20_000  # characters; more is shown without colours, because a labeler waits for it
LANGUAGES = frozenset(
    [
        "bash",
        "c",
        "c++",
        "c#",
        "cpp",
        "csharp",
        "css",
        "diff",
        "go",
        "golang",
        "html",
        "java",
        "javascript",
        "js",
        "json",
        "kotlin",
        "latex",
        "lua",
        "matlab",
        "php",
        "powershell",
        "py",
        "python",
        "python3",
        "r",
        "rb",
        "ruby",
        "rs",
        "rust",
        "scala",
        "sh",
        "shell",
        "sql",
        "swift",
        "tex",
        "toml",
        "ts",
        "typescript",
        "xml",
        "yaml",
        "yml",
        "zsh",
    ]
)


def highlighted(code: str, language: str) -> str:
    """Safe HTML. A language that is not among ours is shown without colours."""
    if language.lower() not in LANGUAGES or len(code) > LONGEST:
        return escape(code)
    lexer = get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True, classprefix="hl-")))
