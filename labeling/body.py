"""What every body that a browser sends has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, model_validator

from storage.storable import storable


class Body(BaseModel):
    """Its texts can be stored: a browser may cut an emoji in half, and a judgment is not refused for that."""

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, told: Any) -> Any:
        return storable(told)
