"""What TensorRT says, explained."""

from __future__ import annotations

from multires_edge.runtime.backends.tensorrt.api import Message
from multires_edge.runtime.backends.tensorrt.messages import explain, why_it_failed


def warning(text: str) -> Message:
    return Message("warning", text)


def test_alike_warnings_are_one() -> None:
    warned = explain(
        [
            warning("ModelImporter.cpp:1071: Make sure input position has Int64 binding."),
            warning("ModelImporter.cpp:1303: Make sure output next_position has Int64 binding."),
        ]
    )
    assert [(w.text, w.count) for w in warned] == [("Make sure input position has Int64 binding.", 2)]
    assert "int64 as the manifest says" in warned[0].line()


def test_an_unknown_warning_stays_as_it_is() -> None:
    (warned,) = explain([warning("The sky is falling"), Message("error", "no warning")])
    assert warned.explanation is None
    assert warned.line().startswith("The sky is falling: an unknown warning")


def test_the_first_error_with_advice() -> None:
    said = why_it_failed(
        [
            warning("queue_09: tensor volume exceeds 1099511627776"),
            Message("error", "IBuilder failed"),
            Message("error", "something later"),
        ]
    )
    assert said.startswith("IBuilder failed; --streams, --batch or --time makes a tensor too large")


def test_no_error_at_all() -> None:
    assert why_it_failed([warning("w")]) == "it gave no reason"
