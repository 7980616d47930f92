"""What TensorRT's warnings and errors mean for the graphs of a bundle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from multires_edge.runtime.backends.tensorrt.api import Message
from multires_edge.runtime.backends.tensorrt.sidecar import Warned

_WARNINGS = (
    (
        r"Make sure (?:input|output) \S+ has Int64 binding",
        "positions, tokens and lengths are int64 as the manifest says; the runtime binds int64 memory",
    ),
    (
        r"CUDA lazy loading is not enabled",
        "loading is slower and needs more memory; set CUDA_MODULE_LOADING=LAZY to change that",
    ),
    (
        r"Unable to determine GPU memory usage|Skipping the engine compute capability check",
        "no GPU was found; building ahead of time does not need a GPU",
    ),
    (
        r"Using an engine plan file across different models of devices",
        "the engine runs only on the device that its sidecar names",
    ),
    (
        r"logger passed into \S+ differs from one already registered",
        "another part of this program registered its logger first; TensorRT's messages go there",
    ),
    (
        r"timing cache|TimingCache",
        "measurements of another device or release are not used; a new cache is started",
    ),
)
_ERRORS = (
    (
        r"Cannot compile operation .* for Turing",
        "TensorRT-RTX has no float32 matrix products for compute capability 7.5, and the graph needs them; "
        "build for 8.0 and later, or run step.onnx by ONNX Runtime's CUDA provider",
    ),
    (
        r"[Oo]ut of memory|OutOfMemory",
        "the device has too little free memory; stop other programs there, or reduce --streams, --batch or "
        "--time",
    ),
    (
        r"not self-consistent|tensor volume exceeds",
        "--streams, --batch or --time makes a tensor too large for TensorRT; reduce it",
    ),
)


def explain(messages: Sequence[Message]) -> list[Warned]:
    """The warnings among ``messages``. Warnings with the same explanation are merged."""
    found: dict[str, Warned] = {}
    for message in messages:
        if message.severity != "warning":
            continue
        text = re.sub(r"^\S+\.cpp:\d+:\s*", "", message.text)  # where in TensorRT's source
        explanation = _match(_WARNINGS, text)
        known = found.get(explanation or text)
        count = known.count + 1 if known else 1
        found[explanation or text] = Warned(known.text if known else text, explanation, count)
    return list(found.values())


def why_it_failed(messages: Iterable[Message]) -> str:
    """The first error, with advice if any of the messages is known."""
    messages = list(messages)
    errors = [message.text for message in messages if message.severity == "error"]
    if not errors:
        return "it gave no reason"
    texts = [message.text for message in messages]
    advice = next((advice for text in texts if (advice := _match(_ERRORS, text))), None)
    return f"{errors[0]}; {advice}" if advice else errors[0]


def _match(table: Sequence[tuple[str, str]], text: str) -> str | None:
    return next((meaning for pattern, meaning in table if re.search(pattern, text)), None)
