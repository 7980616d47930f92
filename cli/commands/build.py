"""``multires-edge build``: TensorRT engines of a bundle, and kernels of the cuda backend."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from multires_edge.base.errors import BackendError, ConfigError, MultiresError
from multires_edge.cli.command import Command
from multires_edge.cli.options import (
    GRAPH_LIST,
    PRECISION_LIST,
    Name,
    Names,
    bundle_argument,
    flag,
    json_option,
    option,
)
from multires_edge.cli.terminal import Progress, human_bytes, one_line, print_json, print_table, say
from multires_edge.format.targets import TARGETS

if TYPE_CHECKING:
    from multires_edge.runtime.engine_builder.build import Built


_CUDA = "cuda"  # the kernels of the cuda backend, which run without TensorRT


@click.command(cls=Command)
@bundle_argument
@option(
    "--target",
    Name("target", lambda: (*TARGETS, _CUDA)),
    "Target to build for; see `multires-edge targets`. cuda compiles the kernels of the cuda backend.",
    required=True,
)
@option(
    "--graph kinds",
    GRAPH_LIST,
    "Graphs, separated by commas: full, step, taps  [default: all that the target takes]",
)
@option("--precision", PRECISION_LIST, "Precisions, separated by commas  [default: the bundle's]")
@option("--streams", "N or MIN:OPT:MAX", "Streams in one call of the step and taps graphs  [default: 1:1:64]")
@option("--batch", "N or MIN:OPT:MAX", "Whole sequences in one call of the full graph  [default: 1:1:16]")
@option(
    "--time", "MIN:OPT:MAX", "Steps of whole sequences  [default: 1 to four times a layer's receptive field]"
)
@option(
    "--compute-capability capabilities",
    Names("compute capability"),
    "Compute capabilities of the GPUs of an rtx engine, such as 8.6,8.9  [default: 8.0 and later]",
)
@flag("--force", "Replace existing engines.")
@json_option
def build(
    bundle: Path,
    target: str,
    kinds: tuple[str, ...] | None,
    precision: tuple[str, ...] | None,
    streams: str | None,
    batch: str | None,
    time: str | None,
    capabilities: tuple[str, ...] | None,
    force: bool,
    as_json: bool,
) -> None:
    """Build BUNDLE's TensorRT engines for a target.

    They are written to the bundle's engines/ folder, each with its sidecar (.json) and its layers
    (.layers.txt). `--target rtx` builds here, without a GPU, for several GPUs at once. Every other target
    builds on the device itself, which can take minutes. An engine for exactly N streams, by `--streams N`, is
    the fastest and the smallest. `--target cuda` compiles the kernels of the cuda backend here, without a
    GPU, for devices without NVRTC.
    """
    if target == _CUDA:
        if any((kinds, streams, batch, time, capabilities)):
            raise ConfigError("--target cuda takes no other options than --precision, --force and --json")
        _build_kernels(bundle, precision or (), as_json)
        return
    from multires_edge.runtime.backends.tensorrt.engine_file import options_of
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.engine_builder.build import Builder
    from multires_edge.runtime.engine_builder.shapes import Range

    given = {"streams": streams, "batch": batch, "time": time}
    ranges = {name: Range.parse(text, f"--{name}") for name, text in given.items() if text is not None}
    builder = Builder.here(target, None if capabilities is None else list(capabilities))
    built: list[Built] = []
    with Progress() as progress:
        progress("checking digests")
        opened = open_bundle(bundle)
        graphs = [
            (kind, name)
            for kind in kinds or builder.kinds(opened.manifest)
            for name in precision or opened.manifest.graphs["full"]
        ]
        plans = [builder.plan(opened, kind, name, ranges, force=force) for kind, name in graphs]
        for name in ranges:
            if not any(name in options_of(plan.spec).values() for plan in plans):
                kind = "taps or step" if name == "streams" else "full"
                raise ConfigError(f"--{name} applies to no graph that is built; give --graph {kind}")
        failures: list[MultiresError] = []
        for plan in plans:
            show = partial(_show, progress, f"{plan.kind} {plan.precision}")
            try:
                built.append(builder.build(plan, show))
            except MultiresError as error:
                failures.append(error)
                if not isinstance(error, BackendError):
                    break  # a full disk; other graphs may need less of the device, but not of the disk
    if built or not failures:
        _print(bundle, built, as_json)
    if failures:
        raise failures[0] if len(failures) == 1 else BackendError("; ".join(map(str, failures)))


def _build_kernels(bundle: Path, precisions: tuple[str, ...], as_json: bool) -> None:
    from multires_edge.runtime.bundle import open_bundle
    from multires_edge.runtime.engine_builder.kernels import build_kernels

    with Progress() as progress:
        paths = build_kernels(open_bundle(bundle), precisions, lambda path: progress(path.name))
    if as_json:
        print_json({"bundle": str(bundle), "kernels": [path.name for path in paths]})
        return
    print_table([(str(path), human_bytes(path.stat().st_size)) for path in paths], frozenset([1]))


def _show(progress: Progress, graph: str, what: str) -> None:
    progress(f"{graph}: {what}")


def _print(bundle: Path, built: list[Built], as_json: bool) -> None:
    if as_json:
        from multires_edge.format.fields import plain

        print_json({"bundle": str(bundle), "engines": [plain(engine.sidecar) for engine in built]})
        return
    print_table([_row(engine) for engine in built], frozenset([2, 3]))
    for line in dict.fromkeys(warning.line() for engine in built for warning in engine.sidecar.warnings):
        say(f"warning: {one_line(line)}")


def _row(engine: Built) -> tuple[str, ...]:
    sidecar = engine.sidecar
    where = sidecar.device.name if sidecar.device else "sm " + ", ".join(sidecar.compute_capabilities)
    ranges = " ".join(f"{name} {':'.join(map(str, sizes))}" for name, sizes in sidecar.profile.items())
    queues = f"{len(sidecar.in_place)} in place" if sidecar.in_place else ""
    size, seconds = human_bytes(sidecar.engine.bytes), f"{sidecar.seconds:.1f} s"
    return (str(engine.path), where, size, seconds, ranges, queues)
