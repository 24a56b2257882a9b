"""What a benchmark's rows say, and that the README shows the run that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import cpu, crowd, decode, decode_accuracy, demos, gpu, growth, paced, viewers
from tests.bench.rows import Row, kept, machine, table, write
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("row", "ratio", "met"),
    [
        (Row(name="a", value=2.0, unit="s"), None, None),
        (Row(name="a", value=2.0, unit="s", target=1.0), None, False),
        (Row(name="a", value=2.0, unit="s", target=2.0), None, True),
        (Row(name="a", value=2.0, unit="s", target=2.5, better="higher"), None, False),
        (Row(name="a", value=2.0, unit="s", peer="b", peer_value=4.0, target=0.5), 0.5, True),
        (Row(name="a", value=2.0, unit="s", peer="b", peer_value=4.0, target=0.6, better="higher"), 0.5, False),
    ],
)
def test_a_target_is_one_of_the_ratio_where_there_is_a_peer(row: Row, ratio: float | None, met: bool | None) -> None:
    assert (row.ratio, row.met) == (ratio, met)


def test_what_is_written_is_read_again_with_machine_and_commit(tmp_path: Path) -> None:
    rows = [Row(name="a", value=2.0, unit="s", peer="b", peer_value=4.0, target=0.4), Row(name="c", value=1.0, unit="")]
    write(rows, tmp_path / "rows.json", machine())
    shown = kept(tmp_path / "rows.json")
    assert shown.endswith(table(rows))
    assert "| a | 2 s | b: 4 s | 0.50 | – | ≤ 0.4 | **no** |" in shown
    assert "cores" in shown.splitlines()[0]


@pytest.mark.parametrize(
    ("mark", "file"),
    [
        ("speed", cpu.KEPT),
        ("speed-paced", paced.KEPT),
        ("speed-growth", growth.KEPT),
        ("speed-gpu", gpu.KEPT),
        ("speed-crowd", crowd.KEPT),
        ("speed-viewers", viewers.KEPT),
        ("speed-decode", decode.KEPT),
        ("accuracy-decode", decode_accuracy.KEPT),
        ("accuracy-demos", demos.KEPT),
    ],
)
def test_the_readme_shows_the_run_that_is_kept(mark: str, file: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition(f"<!-- {mark} -->\n")[2].partition(f"<!-- /{mark} -->")[0]
    assert shown == kept(file) + "\n"
