"""What the queue says to a labeler: a code with values, and the sentence in English.

The label page says it in the language of its reader (`server` in assets/languages); every other page, and whoever asks
the routes by hand, reads the English sentence. English therefore stands here and in assets/languages/en.js, and a test
holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ENGLISH: Mapping[str, str | tuple[str, str]] = {  # a pair is for one and for several
    # why nothing is ready
    "no_prompts": "There are no prompts yet. Import some on the data page.",
    "no_held_out": "There are no held-out prompts yet. Import some on the data page.",
    "all_judged": "Every prompt here is judged. Thank you.",
    "all_by_you": "You have judged all that you can here. Thank you.",
    "for_others": (
        "You have judged all that you can here. 1 prompt is for other people to judge.",
        "You have judged all that you can here. {n} prompts are for other people to judge.",
    ),
    "writing_unmeasured": "The model is writing more answers; how long that takes is not measured yet.",
    "writing": "The model is writing more answers; at the pace of the last ones, the next come in about {time}.",
    "writing_late": "The model is writing more answers; it is taking longer than for the last ones, which took {time}.",
    "model_problem": "{reason}",
    "model_problem_hidden": "No answers are being written just now. Whoever runs the models sees why on this page.",
    "open_elsewhere": (
        "1 prompt is open with somebody else or in another tab; if it is not judged there, it comes free in {time}.",
        "{n} prompts are open with others or in another tab; what is not judged there comes free, the first in {time}.",
    ),
    "you_skipped": ("1 prompt is left that you skipped.", "{n} prompts are left that you skipped."),
    "set_aside": (
        "1 prompt is set aside for the lead: skipped by several people.",
        "{n} prompts are set aside for the lead: skipped by several people.",
    ),
    # why a judgment or a skip was not taken
    "key_used": "This judgment has the key of another one, so it was not saved. Reload the page and judge again.",
    "judged_already": "This item was judged already, perhaps in another tab. Reload the page to see it.",
    "changed_already": "This judgment was changed already, perhaps in another tab. Reload the page to see it.",
    "change_unknown": "The judgment to change is not known here. Reload the page.",
    "time_ran_out": "This item went back to the others, because its time ran out. Reload the page to go on.",
    "rewrite_too_long": "The rewritten answer is too long: {n} characters at most. Shorten it and judge again.",
    "not_shown": "This judgment is about answers that were not shown in this item. Reload the page.",
    "other_order": "The answers were not shown in the order that is stored for this item. Reload the page.",
    "somebody_elses": "This item is held by somebody else. Reload the page to get your own.",
}


@dataclass(frozen=True)
class Said:
    """One sentence. `values` hold a count `n`, `seconds` (the sentence's {time}) or a `reason` in English."""

    code: str
    values: Mapping[str, int | str]

    def __str__(self) -> str:
        forms = ENGLISH[self.code]
        form = forms if isinstance(forms, str) else forms[self.values["n"] != 1]
        return form.format(**{name: f"{one:,}" if isinstance(one, int) else one for name, one in self._filled()})

    def _filled(self) -> list[tuple[str, int | str]]:
        seconds = self.values.get("seconds")
        return [*self.values.items(), *([("time", duration(int(seconds)))] if seconds is not None else [])]

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "values": dict(self.values), "sentence": str(self)}


def said(code: str, **values: int | str) -> Said:
    return Said(code, values)


def duration(seconds: int) -> str:
    """As the page writes it in English: 40 sec, 12 min, 2 hr 5 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, seconds)} sec"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} hr {minutes % 60} min"
