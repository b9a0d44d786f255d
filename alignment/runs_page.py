"""The runs page, drawn by assets/runs.js, and at /runs/new the form that starts a run."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from alignment import new_run_page
from alignment.drawn_page import drawn
from alignment.routes import PersonOf
from storage.database import Database

SCRIPTS, STYLES = ("runs.js", "new_run.js"), ("runs.css", "new_run.css")


def runs_page(database: Database, home: Path, person_of: PersonOf) -> gr.Blocks:
    """The page for /runs; its second page is /runs/new. `home` is the folder that holds runs/ and snapshots/."""
    with gr.Blocks(title="Runs · Plumbline", fill_width=True) as page:
        gr.Navbar(visible=False)  # the top bar is ours
        drawn("runs")
    with page.route("New run · Plumbline", "/new"):
        gr.Navbar(visible=False)
        new_run_page.lay_out()
    return page
