"""Token ids → text, as they come.

A token is bytes, a character may be several tokens, and some tokenizers write a space only between two tokens. So text
is found as the difference of two decodings that begin at the same token, and is held back while it ends in half a
character or may be the beginning of a stop string. However the ids are pushed, one by one or all at once, the pieces
add up to the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_CONTEXT = 8  # prompt tokens decoded along, so that the first piece keeps its leading space
_HALF = "\ufffd"  # what half a character decodes to


class TextStream:
    """The text of one answer. `stopped` is set when a stop string was met; the text ends before it."""

    def __init__(self, decode: Callable[[list[int]], str], prompt: Sequence[int], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._ids = list(prompt[-_CONTEXT:])
        self._start = 0  # decodings begin here …
        self._read = len(self._ids)  # … and what lies before here has been given out
        self._stop = stop
        self._hold = max((len(text) for text in stop), default=1) - 1
        self._held = ""
        self.stopped = False

    def push(self, ids: Sequence[int]) -> str:
        """The text that can be given out now that `ids` have come."""
        self._ids.extend(ids)
        new = self._new_text()
        if not new or new.endswith(_HALF):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return self._before_stop(new, hold=self._hold)

    def finish(self) -> str:
        """The rest. Half a character at the very end belongs to nobody and is left out."""
        return self._before_stop(self._new_text().rstrip(_HALF), hold=0)

    def _new_text(self) -> str:
        if self._read == len(self._ids):
            return ""
        return self._decode(self._ids[self._start :])[len(self._decode(self._ids[self._start : self._read])) :]

    def _before_stop(self, new: str, hold: int) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        found = [at for at in map(text.find, self._stop) if at >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        end = max(0, len(text) - hold)
        self._held = text[end:]
        return text[:end]
