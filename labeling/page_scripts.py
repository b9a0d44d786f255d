"""The lines of JavaScript that hand a drawn part of a page to its script in assets/. Constant text, never input."""

from __future__ import annotations


def mount(function: str) -> str:
    """Runs `Plumbline.<function>(root)` once the part is on the page, whichever of the two comes first."""
    found = f"window.Plumbline?.{function}"
    return f"const go = () => {found} ? {found}(element.querySelector('.pl')) : setTimeout(go, 20); go();"


SHOW_SAID = (
    "const show = () => window.Plumbline?.said ? window.Plumbline.said(element.querySelector('.pl'), props.value) "
    ": setTimeout(show, 20); watch('value', show); show();"
)
"""Shows the component's value {kind, text, link?} as a sentence, and again whenever it changes."""
