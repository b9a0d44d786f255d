"""Elements of a page that a script of assets/ fills: the templates are fixed, so no text can become HTML."""

from __future__ import annotations

import gradio as gr
from fastapi import Request


def drawn(script: str, *, part: str = "", classes: str = "pl") -> gr.HTML:
    """An element that `Plumbline.<script>` fills; `part` tells several of one page apart."""
    return _filled(part or script, classes, script, f"{script}(root)")


def drawn_said() -> gr.HTML:
    """Shows its value {kind, text, link?} as a sentence, and again whenever it changes."""
    return _filled("said", "pl", "said", "said(root, props.value)", "watch('value', go);")


def drawn_preview() -> gr.HTML:
    """Shows its value {project, item} as the label page would, and again whenever it changes."""
    return _filled("preview", "pl ls preview", "preview", "preview(root, props.value)", "watch('value', go);")


def drawn_samplings() -> gr.HTML:
    """Shows its value {rows, notice} as a table to type in; what is typed becomes its value."""
    return _filled("samplings", "pl", "samplings", "samplings(root, props)", "watch('value', go);")


def plain(request: gr.Request) -> Request:
    """The browser's own request, whose cookie says who is asking."""
    plain_request: Request | None = request.request
    assert plain_request is not None  # only queued events come without it, and none here is queued
    return plain_request


def _filled(part: str, classes: str, script: str, call: str, then: str = "") -> gr.HTML:
    """Its script may come later than the page, so mounting waits for it."""
    mount = f"""
        const root = element.querySelector('.pl');
        const go = () => window.Plumbline?.{script} ? window.Plumbline.{call} : setTimeout(go, 20);
        {then} go();
    """
    return gr.HTML(
        value=None,
        html_template=f'<div class="{classes}" data-part="{part}"></div>',
        js_on_load=mount,
        apply_default_css=False,
        padding=False,
        container=False,
        elem_id=f"part-{part}",
    )
