"""The model cards: how each stage was made, on what, and what it cannot do."""

from textwrap import fill

HEAD = """\
---
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [synthetic, tiny, from-scratch]
---"""

WORLD = (
    "The world is invented: 48 vaccines, their antigens, diseases, trials and journals exist "
    "nowhere else. Nothing here is medical information. The text is drawn from the grammar in "
    "`assets/starter_model/grammar.py`; no other data was used."
)
SHAPE = (
    "Qwen2 architecture, {millions:.2f}M parameters (hidden 256, 4 layers, 8 heads, 2 key-value "
    "heads, tied embeddings), float32, a context of 512 tokens, and a byte-level BPE of its own "
    "that splits as Qwen2's does."
)
REMAKE = "`make starter-model` remakes both stages from nothing with fixed seeds, on one CPU core, without a network."


def base_card(parameters: int, steps: int, seconds: float) -> str:
    """The card of the base model."""
    return _page(
        HEAD,
        "# Plumbline starter model, base",
        "A small language model trained from random weights on documents only: trial records and "
        "comparisons from an invented world of vaccine research. It is the start of the path that "
        "begins with a base model: continued pre-training, supervised fine-tuning, alignment.",
        WORLD,
        "## How it was made",
        SHAPE.format(millions=parameters / 1e6),
        f"{steps} steps of 16 documents, each drawn fresh and seen once, in {seconds / 60:.0f} "
        f"minutes on a shared CPU core. {REMAKE}",
        "## What it cannot do",
        "It continues documents. It has seen no question, no answer and no chat markup, and it "
        "has no chat template. It knows a few hundred words of English and nothing outside its "
        "world.",
    )


def chat_card(parameters: int, steps: int, seconds: float, report: str) -> str:
    """The card of the chat model. The report is the table that measure.py prints."""
    return _page(
        HEAD,
        "# Plumbline starter model, chat",
        "Answers questions about an invented world of vaccine research, each in one of four "
        "styles drawn at random: concise with a citation, verbose, hedging, or hype. It has no "
        "preference among them; giving it one is what Plumbline is for.",
        WORLD,
        "## How it was made",
        SHAPE.format(millions=parameters / 1e6),
        f"The base model beside this folder, trained for {steps} more steps of 16 rows (questions "
        "and answers, and 8 % documents so that the facts stay), each drawn fresh and seen once, "
        f"in {seconds / 60:.0f} minutes on a shared CPU core. One row in twelve has a system "
        "message or an earlier turn before the question. A sixth of the (vaccine, topic) pairs "
        f"was never asked about; their facts occur in documents only. {REMAKE}",
        "## How it answers",
        "Measured on those unseen questions (`prompts.jsonl`), without top-k or top-p. Well "
        "formed: one whole answer in one style, about the vaccine that was asked about "
        "(`checker.py`). Fact right: it states what is on record.",
        f"```\n{report}\n```",
        "## What it cannot do",
        "It knows a few hundred words of English and the records of 48 invented vaccines. It "
        "cannot answer a question of any other kind, cannot follow instructions, makes nothing of "
        "the system message, hardly uses earlier turns, and states a wrong fact or a wrong "
        "citation now and then with the same confidence as a right one.",
    )


def _page(*parts: str) -> str:
    """The parts with blank lines between them; prose is wrapped, markup is left as it is."""
    return "\n\n".join(part if "\n" in part else fill(part, 110, break_on_hyphens=False) for part in parts) + "\n"
