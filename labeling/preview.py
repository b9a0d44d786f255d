"""A project as labelers will see it, with a prompt and answers that were invented to show what a text may hold."""

from __future__ import annotations

from typing import Any

from labeling.assignment import Item
from labeling.feedback import feedback_type
from labeling.routes import item_json, project_json
from storage.records import Assignment, Message, Project, Prompt, Response, now

PROMPT = Prompt(
    id="preview",
    messages=(
        Message("system", "You are a careful assistant. Answer in plain language."),
        Message("user", "How do I take the mean of a list in Python, and what is it?"),
    ),
    held_out=False,
    source="preview",
    licence="",
)
TEXTS = (
    """Add the values and divide by how many there are: $\\bar{x} = \\frac{1}{n}\\sum_i x_i$.

```python
from statistics import mean

mean([1, 2, 6])  # 3
```
""",
    "Use `sum(values) / len(values)`. An **empty list** has no mean: this raises `ZeroDivisionError`.",
    """| values | mean |
|---|---|
| 1, 2, 6 | 3 |
| none | *undefined* |

The mean is the balance point of the values.""",
    "The mean is the most common value, so you count how often each one occurs.",
    "Import NumPy and call `numpy.mean`. It also takes an `axis` for tables.",
    "المتوسط هو مجموع القيم مقسومًا على عددها.",
)


def preview(project: Project) -> dict[str, Any]:
    """What assets/preview.js draws: the project, and one item of it."""
    return {"project": project_json(project), "item": item_json(_item(project))}


def _item(project: Project) -> Item:
    asked = feedback_type(project.feedback_type)
    count = min(max(project.responses_per_prompt, asked.minimum_responses), asked.maximum_responses)
    shown = tuple(Response(str(number), PROMPT.id, text, None, "") for number, text in enumerate(TEXTS[:count]))
    order = tuple(response.id for response in shown)
    return Item(Assignment("preview", project.id, PROMPT.id, "", order, now()), PROMPT, shown)
