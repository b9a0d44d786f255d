"""The compare page: one drawn part. It is assets/compare.js and its siblings, fed by labeling/compare_routes.py."""

from __future__ import annotations

import gradio as gr

from labeling.drawn_page import drawn

# In this order: each uses what the ones before it made.
SCRIPTS = (
    "languages/en.js",
    "words.js",
    "cards.js",
    "keys.js",
    "outbox.js",
    "feed.js",
    "pairwise.js",
    "own_prompt.js",
    "results.js",
    "versions.js",
    "compare.js",
)
STYLES = ("label.css", "compare.css")


def build() -> gr.Blocks:
    with gr.Blocks(title="Compare · Plumbline", fill_width=True) as page:
        drawn("compare", classes="pl ls cp")
    return page
