"""What TensorRT's warnings and errors mean for the graphs of a bundle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from multires_edge.runtime.backends.tensorrt.api import Message

_WARNINGS = (
    (
        r"Make sure (?:input|output) \S+ has Int64 binding",
        "positions, tokens and lengths are int64 as the manifest says; the runtime binds them so",
    ),
    (
        r"CUDA lazy loading is not enabled",
        "loading is slower and takes more memory; set CUDA_MODULE_LOADING=LAZY to change that",
    ),
    (
        r"Unable to determine GPU memory usage|Skipping the engine compute capability check",
        "there is no GPU here, which building ahead of time does not need",
    ),
    (
        r"Using an engine plan file across different models of devices",
        "the engine is for the device in its sidecar, and is refused elsewhere",
    ),
    (
        r"logger passed into \S+ differs from one already registered",
        "another part of this program was first with a logger; what TensorRT says goes there",
    ),
    (
        r"timing cache|TimingCache",
        "measurements of another device or release are not used; the cache is made anew",
    ),
)
_ERRORS = (
    (
        r"Cannot compile operation .* for Turing",
        "compute capability 7.5 has no float32 matrix products in TensorRT-RTX, and the graph has some; "
        "build for 8.0 and later, or run step.onnx by ONNX Runtime's CUDA provider",
    ),
    (
        r"[Oo]ut of memory|OutOfMemory",
        "the device has too little memory free; stop what else runs there, or make --batch or --time less",
    ),
    (
        r"not self-consistent|tensor volume exceeds",
        "--batch or --time is larger than TensorRT's tensors can be; make it smaller",
    ),
)


@dataclass(frozen=True)
class Warned:
    """A warning, how often it came, and what it means; None where that is not known."""

    text: str
    explanation: str | None
    count: int = 1

    def line(self) -> str:
        """One line for a person."""
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.text}{times}: {self.explanation or 'not known for these graphs, please report it'}"

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "explanation": self.explanation, "count": self.count}


def explain(messages: Sequence[Message]) -> list[Warned]:
    """The warnings among some messages: one for each explanation, and one for each that has none."""
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


def why_it_failed(messages: Sequence[Message]) -> str:
    """The first error, and what to do about it where that is known."""
    errors = [message.text for message in messages if message.severity == "error"]
    if not errors:
        return "it gave no reason"
    texts = [message.text for message in messages]
    advice = next((advice for text in texts if (advice := _match(_ERRORS, text))), None)
    return f"{errors[0]}; {advice}" if advice else errors[0]


def _match(table: Sequence[tuple[str, str]], text: str) -> str | None:
    return next((meaning for pattern, meaning in table if re.search(pattern, text)), None)
