"""The label page: one drawn part. All of it is assets/label.js and its siblings, fed by labeling/routes.py."""

from __future__ import annotations

import gradio as gr

from labeling.drawn_page import drawn

LANGUAGES = ("languages/en.js", "languages/ar.js")
# In this order: each uses what the ones before it made.
SCRIPTS = (
    *LANGUAGES,
    "words.js",
    "cards.js",
    "keys.js",
    "outbox.js",
    "feed.js",
    "entries.js",
    "thumbs.js",
    "ranking.js",
    "pairwise.js",
    "edit.js",
    "beside.js",
    "answer_card.js",
    "differences.js",
    "side_by_side.js",
    "label_view.js",
    "label.js",
)
STYLES = ("label.css",)


def build() -> gr.Blocks:
    with gr.Blocks(title="Label · Plumbline", fill_width=True) as page:
        drawn("label", classes="pl ls")
    return page
