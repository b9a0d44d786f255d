"""An element of a page that a script of assets/ fills: the template is fixed, so no text can become HTML."""

from __future__ import annotations

from typing import Any

import gradio as gr


def drawn(part: str, events: str = "", **given: Any) -> gr.HTML:
    """An element that assets/*.js fills. Its script may come later than the page, so mounting waits for it."""
    mount = f"""
        // {events}
        const go = () => window.Plumbline?.{part}
            ? window.Plumbline.{part}(element.querySelector('.pl'), {{ props, trigger, watch }})
            : setTimeout(go, 20);
        go();
    """
    template = f'<div class="pl" data-part="{part}"></div>'
    plain: dict[str, Any] = {"apply_default_css": False, "padding": False, "container": False}
    return gr.HTML(html_template=template, js_on_load=mount, **plain, **{"value": None, **given})
