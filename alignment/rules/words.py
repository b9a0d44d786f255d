"""Figures as the sentences of the rules have them."""


def plain(value: float) -> str:
    """Two digits, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"
