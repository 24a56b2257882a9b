"""What all settings have in common: frozen, strict, no unknown key, no secret in an error."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Settings(BaseModel):
    # hide_input_in_errors: a ValidationError that nobody translated must not print a password either.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        defer_build=True,  # at the first use: `vad-monitor --help` need not wait for it
    )

    @field_validator("*", mode="before")
    @classmethod
    def _take_from_environment(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, FromEnvironment):
            return value
        annotation = str(cls.model_fields[info.field_name or ""].annotation)
        wants_text = any(word in annotation for word in ("str", "Str", "Path", "Literal"))
        return str(value) if wants_text else value.plain


class FromEnvironment(str):
    """Text in which ``${VAR}`` was replaced. ``plain`` is what YAML reads in it: ${PORT} may be a number."""

    __slots__ = ("plain",)
    plain: Any

    @classmethod
    def of(cls, text: str, plain: Any) -> FromEnvironment:
        made = cls(text)
        made.plain = plain
        return made


def mistake(sentence: str, *at: str | int) -> PydanticCustomError:
    """A mistake found by a validator of a whole mapping or list; ``at`` leads from there to the wrong key."""
    return PydanticCustomError("mistake", "{sentence}", {"sentence": sentence, "at": at})
