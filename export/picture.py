"""A picture of a network for the report, as inline SVG. The report's style sheet has its colours."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from multires_edge.format.config import ModelConfig
from multires_edge.format.manifest import Manifest
from multires_edge.format.module import ModuleConfig

_WIDTH = 900
_BOX, _ROW = 62, 22  # heights of a box of the chain, and of a row of scales
_LEFT, _RIGHT = 150, 150  # room for the names of scales, and for how far they reach


def network_picture(manifest: Manifest) -> str:
    """The chain from input to output, and how far back each scale of a layer looks."""
    network = manifest.network
    if isinstance(network, ModuleConfig):
        shape = [f"{t.name} ({', '.join(map(str, t.shape))})" for t in (*network.inputs, *network.outputs)]
        inputs, outputs = shape[: len(network.inputs)], shape[len(network.inputs) :]
        name = network.module.rpartition(":")[2]
        boxes = [("input", *inputs), ("your module", name), ("output", *outputs)]
        return _svg(_chain(boxes), _BOX + 8, "the network")
    chain = _chain(_stages(manifest, network))
    scales, height = _scales(network, _rate(manifest))
    return _svg(chain + scales, _BOX + 8 + height, "the network, and how far back each scale looks")


def duration(steps: int, rate: float | None) -> str:
    """A number of steps, and their duration if the rate in Hz is known."""
    count = f"{steps:,} step{'s' * (steps != 1)}"
    return f"{count}, {_seconds(steps / rate)}" if rate else count


def _rate(manifest: Manifest) -> float | None:
    return manifest.preprocessing.sampling_rate if manifest.preprocessing else None


def _seconds(seconds: float) -> str:
    if seconds >= 600:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _stages(manifest: Manifest, config: ModelConfig) -> list[tuple[str, ...]]:
    """The boxes of the chain: a title, and lines below it."""
    rate = _rate(manifest)
    given = f"{config.n_tokens} tokens" if config.n_tokens else f"{config.channels} channels"
    encoder = "embedding" if config.n_tokens else "linear" if config.encoder_taps == 1 else "convolution"
    pooling = manifest.pooling
    stages = [
        ("input", given, f"{rate:g} Hz" if rate else "one a step"),
        ("encoder", encoder, f"to {config.d_model} channels"),
        (f"{config.n_layers} layers", "multiresolution,", f"mixing, {_norm(config.norm)}"),
    ]
    if pooling is not None:
        window = pooling.window
        stages.append(("pooling", pooling.kind, _window(window, rate)))
    outputs = f"{config.d_output} {'labels' if manifest.labels else 'outputs'}"
    return [*stages, ("head", f"{config.d_head} to {config.d_output}", ""), ("output", outputs, "")]


def _norm(name: str) -> str:
    return "no norm" if name == "none" else f"{name} norm"


def _window(window: int | None, rate: float | None) -> str:
    if window is None:
        return "of all steps"
    return f"of {_seconds(window / rate)}" if rate else f"of {window:,} steps"


def _chain(boxes: Sequence[tuple[str, ...]]) -> str:
    gap = 26
    width = (_WIDTH - gap * (len(boxes) - 1) - 12) / len(boxes)
    parts = []
    for i, (title, *lines) in enumerate(boxes):
        x = 2 + i * (width + gap)
        if "layers" in title:  # several, one behind the other
            parts += [_box(x + back, 8 - back, width) for back in (8, 4)]
        parts.append(_box(x, 8, width))
        for k, text in enumerate([title, *filter(None, lines)]):
            kind = "title" if k == 0 else "quiet"
            parts.append(_text(x + width / 2, 27 + 16 * k, text, f"{kind} middle"))
        if i:
            parts.append(f'<path class="line" d="M{x - gap + 2:.0f} 38h{gap - 8}m-5 -4l5 4l-5 4"/>')
    return "".join(parts)


def _scales(config: ModelConfig, rate: float | None) -> tuple[str, int]:
    """A bar per scale, up to the oldest step that it reads, on a logarithmic axis; and their height."""
    reaches, below = [], 0
    for j, (history, columns) in enumerate(zip(config.history(), config.memory_columns(), strict=True)):
        reaches.append(below + history if columns else 0)
        below += (config.kernel_size - 1) << j
    top = _BOX + 44
    octave = (_WIDTH - _LEFT - _RIGHT) / math.log2(max(*reaches, 1) + 1)
    parts = [_text(2, top - 14, "In each layer, a scale combines steps as far back as:", "title")]
    for j, reach in enumerate(reaches):
        y = top + j * _ROW
        parts.append(_text(2, y + 12, f"scale {j}, dilation {1 << j:,}", "quiet"))
        if reach:
            wide = octave * math.log2(reach + 1)
            parts.append(
                f'<rect class="bar" x="{_LEFT}" y="{y}" width="{wide:.1f}" height="{_ROW - 7}" rx="3"/>'
            )
            parts.append(_text(_LEFT + wide + 8, y + 12, duration(reach, rate), "quiet"))
        else:
            parts.append(_text(_LEFT, y + 12, "not read", "quiet"))
    return "".join(parts), 44 + len(reaches) * _ROW


def _box(x: float, y: float, width: float) -> str:
    return f'<rect class="box" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BOX - 4}" rx="8"/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>'


def _svg(content: str, height: int, label: str) -> str:
    box = f"0 0 {_WIDTH} {height}"
    return f'<svg class="picture" viewBox="{box}" role="img" aria-label="{label}">{content}</svg>'
