"""``python -m tests.faults [--keep]``: does every fault, then prints the table of what came of each.

The rows are in ``.bench/faults.json``; ``--keep`` also writes the table into this folder's README.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from tests.bench.rows import machine
from tests.conftest import ROOT
from tests.faults.results import FILE, table

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- faults -->\n", "<!-- /faults -->"


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    ask.add_argument("--keep", action="store_true", help=f"also into {README.relative_to(ROOT)}")
    said = ask.parse_args()
    FILE.unlink(missing_ok=True)  # a row of an earlier run would pass for one of this
    on = machine()
    code = pytest.main([str(ROOT / "tests" / "faults"), "-q"])
    print(table())
    print(f"\n{FILE} has the rows")
    if said.keep:
        before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        README.write_text(f"{before}{BEGIN}{on}:\n\n{table()}\n{END}{after}", encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
