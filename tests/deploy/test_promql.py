"""What an expression names, so that nothing in a rule or panel goes unchecked."""

from __future__ import annotations

import pytest

from tests.deploy.promql import Named, named


@pytest.mark.parametrize(
    ("expr", "series", "grouped"),
    [
        ("up", {"up": set()}, set()),
        ('up{job="a b{}",site=~"x"} == 0', {"up": {"job", "site"}}, set()),
        ("sum by (site, le) (rate(a_bucket[5m]))", {"a_bucket": set()}, {"site", "le"}),
        ("max without (status) (a{x!~\"y\"}) == 1 # b", {"a": {"x"}}, {"status"}),
        ("a:b:c5m / on (site) group_left (v) (d > 0)", {"a:b:c5m": set(), "d": set()}, {"site", "v"}),
        ("histogram_quantile(0.95, a) or 0 * b offset 5m", {"a": set(), "b": set()}, set()),
        ("a\n  and increase(b{c=\"d\"}[10m]) == 0", {"a": set(), "b": {"c"}}, set()),
    ],
)  # fmt: skip
def test_an_expression_names_its_series_and_labels(expr: str, series: dict[str, set[str]], grouped: set[str]) -> None:
    assert named(expr) == Named(series=series, grouped=grouped)
