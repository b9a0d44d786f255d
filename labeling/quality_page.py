"""The quality page: one drawn part. It is assets/quality.js and its siblings, fed by labeling/quality_routes.py."""

from __future__ import annotations

import gradio as gr

from labeling.drawn_page import drawn
from labeling.label_page import LANGUAGES

# In this order: each uses what the ones before it made.
SCRIPTS = (*LANGUAGES, "words.js", "cards.js", "settling.js", "quality.js")
STYLES = ("quality.css",)


def build() -> gr.Blocks:
    with gr.Blocks(title="Quality · Plumbline", fill_width=True) as page:
        drawn("quality", classes="pl ql")
    return page
