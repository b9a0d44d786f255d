"""The label page: one drawn part. All of it is assets/label.js and its siblings, fed by labeling/routes.py."""

from __future__ import annotations

import gradio as gr

from labeling.drawn_page import drawn

# In this order: each uses what the ones before it made.
SCRIPTS = (
    "cards.js",
    "keys.js",
    "outbox.js",
    "feed.js",
    "entries.js",
    "thumbs.js",
    "ranking.js",
    "label_view.js",
    "label.js",
)
STYLES = ("label.css",)


def build() -> gr.Blocks:
    with gr.Blocks(title="Label · Plumbline", fill_width=True) as page:
        drawn("label", classes="pl ls")
    return page
