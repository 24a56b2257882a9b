"""plant.yaml → frozen settings; every mistake at once, each with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Point = tuple[float, float]
"""x, y as fractions of width and height, 0..1."""
Polygon = tuple[Point, ...]


class Thresholds(Settings):
    """When an alarm is raised and cleared (hysteresis), for one camera."""

    raise_at: Annotated[float, Field(ge=0, le=1)]
    clear_at: Annotated[float, Field(ge=0, le=1)]
    min_duration_s: Annotated[float, Field(ge=0)] = 0.0
    """How long the score must stay at or above raise_at before an alarm is raised."""
    clear_after_s: Annotated[float, Field(ge=0)] = 3.0
    """How long the score must stay below clear_at before the alarm ends."""
    cooldown_s: Annotated[float, Field(ge=0)] = 10.0
    """After an alarm ended, none is raised for so long."""
    update_every_s: Annotated[float, Field(gt=0)] = 10.0
