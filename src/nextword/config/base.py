"""What all sections of ``params.yaml`` share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _distinct_seeds(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    if len(value) == 0:
        raise ValueError("give at least one seed")
    if len(set(map(str, value))) != len(value):
        raise ValueError(f"seeds {list(value)} repeat; each seed may be given once")
    return tuple(value)


Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_distinct_seeds)]
AsTuple = BeforeValidator(_tuple)
"""For a field that is a tuple: YAML has lists."""


class Section(BaseModel):
    """One part of the tree: frozen, and nothing but the keys it names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
