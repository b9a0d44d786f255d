"""The compare page: one drawn part. It is assets/compare.js and its siblings, fed by labeling/compare_routes.py."""

from __future__ import annotations

import gradio as gr

from labeling.page_scripts import mount

# In this order: each uses what the ones before it made.
SCRIPTS = (
    "cards.js",
    "keys.js",
    "outbox.js",
    "feed.js",
    "pairwise.js",
    "results.js",
    "compare.js",
)
STYLES = ("label.css", "compare.css")


def build() -> gr.Blocks:
    with gr.Blocks(title="Compare · Plumbline", fill_width=True) as page:
        gr.HTML(
            value=None,
            html_template='<div class="pl ls cp"></div>',
            js_on_load=mount("compare"),
            apply_default_css=False,
            padding=False,
            container=False,
        )
    return page
