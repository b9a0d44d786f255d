"""The models page: every version, what is behind it, and whether a server answers as it. Drawn by assets/models.js."""

from __future__ import annotations

import gradio as gr

from alignment.drawn_page import drawn

SCRIPTS, STYLES = ("models.js",), ("models.css",)


def models_page() -> gr.Blocks:
    with gr.Blocks(title="Models · Plumbline", fill_width=True) as page:
        drawn("models")
    return page
