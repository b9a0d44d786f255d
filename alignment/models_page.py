"""The models page: every version, what is behind it, and whether a server answers as it. Drawn by assets/models.js."""

from __future__ import annotations

import gradio as gr

from alignment.drawn_page import drawn

SCRIPTS = ("servers.js", "lineage.js", "family.js", "scoring.js", "add_model.js", "models.js")
STYLES = ("models.css",)


def models_page() -> gr.Blocks:
    with gr.Blocks(title="Models · Plumbline", fill_width=True) as page:
        drawn("models")
    return page
