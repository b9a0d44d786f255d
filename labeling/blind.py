"""What was said before the names were seen: the only judgments of a comparison that count."""

from __future__ import annotations

from collections.abc import Sequence

from storage.records import Judgment

NAMES_SEEN = "names_seen"  # the flag of a change that was made after the submit had shown who wrote what


def blind(every: Sequence[Judgment]) -> list[Judgment]:
    """What stands, but for changes made after the names were seen: there what was said before stands."""
    kept = [one for one in every if NAMES_SEEN not in one.flags]
    superseded = {one.supersedes for one in kept}
    return [one for one in kept if one.id not in superseded]
