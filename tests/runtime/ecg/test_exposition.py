"""The text formats, read by Prometheus' own parsers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.runtime.ecg.exposition import Family, Sample, accepts_openmetrics, exposition


def parsed(families: list[Family], openmetrics: bool) -> list[Any]:
    module = "prometheus_client.openmetrics.parser" if openmetrics else "prometheus_client.parser"
    parser = pytest.importorskip(module, reason="needs prometheus-client")
    return list(parser.text_string_to_metric_families(exposition(families, openmetrics=openmetrics).decode()))


def samples(families: list[Any]) -> list[tuple[str, dict[str, str], float]]:
    return [(s.name, s.labels, s.value) for family in families for s in family.samples]


@pytest.mark.parametrize("openmetrics", [False, True])
@given(
    label=st.text(st.characters(codec="utf-8")),
    value=st.floats(allow_nan=False),
    count=st.integers(0, 1 << 50),
)
@settings(max_examples=40, deadline=None)
def test_any_label_and_value(openmetrics: bool, label: str, value: float, count: int) -> None:
    families = [
        Family("multires_a", "gauge", 'Says "a\\b"\nand more.', [Sample(value, {"source": label})]),
        Family("multires_b", "counter", "B.", [Sample(count, {"source": label}), Sample(2, {"source": "x"})]),
    ]
    if label == "x":  # a name twice is no exposition
        return
    assert samples(parsed(families, openmetrics)) == [
        ("multires_a", {"source": label}, value),
        ("multires_b_total", {"source": label}, count),
        ("multires_b_total", {"source": "x"}, 2),
    ]


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_histogram_counts_up(openmetrics: bool) -> None:
    family = Family("multires_c_seconds", "histogram", "C.", [])
    family.add_histogram((0.1, 1.0), [3, 0, 2], 7.5, {"source": "a"})
    (found,) = parsed([family], openmetrics)
    assert found.type == "histogram"
    assert samples([found]) == [
        ("multires_c_seconds_bucket", {"source": "a", "le": "0.1"}, 3),
        ("multires_c_seconds_bucket", {"source": "a", "le": "1.0"}, 3),
        ("multires_c_seconds_bucket", {"source": "a", "le": "+Inf"}, 5),
        ("multires_c_seconds_count", {"source": "a"}, 5),
        ("multires_c_seconds_sum", {"source": "a"}, 7.5),
    ]


def test_information_and_what_is_empty() -> None:
    families = [
        Family("multires_build", "info", "B.", [Sample(1, {"version": "1"})]),
        Family("d", "gauge", "D.", []),
    ]
    for openmetrics in (False, True):
        (found,) = parsed(families, openmetrics)
        assert samples([found]) == [("multires_build_info", {"version": "1"}, 1)]


def test_which_format_a_client_asks_for() -> None:
    assert accepts_openmetrics("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5")
    assert not accepts_openmetrics("text/plain") and not accepts_openmetrics("")
