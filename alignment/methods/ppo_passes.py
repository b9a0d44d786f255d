"""How much PPO takes at once, wherever it runs: what its memory is foreseen by, and what its backbone keeps to."""

from __future__ import annotations

from collections.abc import Mapping

ROWS_AT_ONCE = 64  # answers that are sampled together
TOKENS_AT_ONCE: Mapping[str, int] = {"cpu": 512, "cuda": 8192}  # in a pass, padding included: full speed from here on
LOGITS_AT_ONCE = 256  # tokens whose logits are held
