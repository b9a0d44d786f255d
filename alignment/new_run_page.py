"""The form that starts a run, at /runs/new. It is drawn by assets/new_run.js from the fields of each method's class.

Not of Gradio's controls, because a fault has to stand at its field as it is left, a field that does nothing has to go,
and what a person typed has to be told from what was proposed; seven methods would be a hundred and thirty controls, and
each choice a trip to the server and back.
"""

from __future__ import annotations

from alignment.drawn_page import drawn


def lay_out() -> None:
    """Puts the form on the page."""
    drawn("newRun")
