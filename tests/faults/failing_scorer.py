"""``vad-monitor`` with an accelerator that fails after a while, as CUDA does."""

from __future__ import annotations

import sys
from typing import Any

from monitor import app, cli

FAILS_AFTER = 12
"""Batches that are encoded before."""
ERROR = "CUDA error: an illegal memory access was encountered"
_open_rings = app.open_rings


def open_rings(*arguments: Any, **options: Any) -> Any:
    rings = _open_rings(*arguments, **options)
    encode, encoded = rings.encode, 0

    def failing(segments: Any) -> Any:
        nonlocal encoded
        encoded += 1
        if encoded > FAILS_AFTER:
            raise RuntimeError(ERROR)
        return encode(segments)

    rings.encode = failing
    return rings


if __name__ == "__main__":
    app.open_rings = open_rings
    sys.exit(cli.main())
