"""``python -m tests.faults``: does every fault, then prints the table of what came of each (``.bench/faults.json``)."""

from __future__ import annotations

import sys

import pytest

from tests.conftest import ROOT
from tests.faults.results import FILE, table


def main() -> None:
    FILE.unlink(missing_ok=True)  # a row of an earlier run would pass for one of this
    code = pytest.main([str(ROOT / "tests" / "faults"), "-q"])
    print(table())
    print(f"\n{FILE} has the rows")
    sys.exit(code)


if __name__ == "__main__":
    main()
