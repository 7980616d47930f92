"""All measurements of ``multires-edge bench``. docs/benchmarks.md describes the resulting JSON object."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from multires_edge.base.errors import BackendError, InputError, MultiresError
from multires_edge.format.fields import plain
from multires_edge.runtime.backends.native import open_weights
from multires_edge.runtime.backends.registry import backend_named, backend_names
from multires_edge.runtime.bench.candidate import Candidate
from multires_edge.runtime.bench.cold import MEMORY, measure_cold
from multires_edge.runtime.bench.paced import PACED
from multires_edge.runtime.bench.roofline import Roofline
from multires_edge.runtime.bench.timing import FULL_BUDGET, Budget, TimedCalls, Timing, time_in_turns
from multires_edge.runtime.bundle import Bundle

FORMAT = "multires-bench"
VERSION = 1
STREAMS = (1, 8, 64)
STEPS = 1000

_MOST_STATE_BYTES = 1 << 30  # of all streams in a call; larger states would only measure the memory


def benchmark(
    bundle: Bundle,
    *,
    backends: Sequence[str] = (),
    precisions: Sequence[str] = (),
    threads: int = 1,
    steps: int = STEPS,
    streams: Sequence[int] = STREAMS,
    budget: Budget = FULL_BUDGET,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Time backends and precisions of a bundle in turns, by default all that the bundle has files for.

    ``steps`` is the length of the whole sequence, ``streams`` has the batches to time. ``skipped`` in the
    result lists everything that cannot run, with the reason. Raises InputError for a number out of range,
    BackendError for an unknown name, or if nothing can run.
    """
    threads = _number("threads", threads, 1024)
    steps = _number("steps", steps, 1_000_000)
    streams = sorted({1, *(_number("streams", count, 65536) for count in streams)})
    manifest = bundle.manifest
    there = list(dict.fromkeys([*manifest.graphs.get("step", {}), *manifest.native]))
    row_bytes = max(sum(s.row_bytes for s in spec.states) for spec in manifest.graphs["step"].values())
    affordable = [count for count in streams if count == 1 or count * row_bytes <= _MOST_STATE_BYTES]

    skipped: list[dict[str, str]] = []
    candidates: list[Candidate] = []
    for precision in _chosen("precision", precisions, there):
        for backend in _chosen("backend", backends, backend_names()):
            if not backends and precision not in backend_named(backend).precisions(bundle.path, manifest):
                continue
            progress(f"opening {backend} {precision}")
            try:
                candidates.append(Candidate(bundle, backend, precision, threads, affordable, steps))
            except MultiresError as error:
                skipped.append({"what": f"{backend} {precision}", "reason": str(error)})
    skipped += [entry for candidate in candidates for entry in candidate.skipped]
    if not candidates:
        reasons = dict.fromkeys(entry["reason"] for entry in skipped)
        raise BackendError("nothing to measure: " + "; ".join(reasons))
    skipped += [
        {
            "what": f"{count} streams",
            "reason": f"their state would take {count * row_bytes:,} bytes, more than {_MOST_STATE_BYTES:,}",
        }
        for count in streams
        if count not in affordable
    ]
    rooflines = _rooflines(bundle, [c.precision for c in candidates], skipped)

    timed: dict[str, TimedCalls] = {}
    for name, source in [(c.name, c) for c in candidates] + list(rooflines.items()):
        timed |= {f"{name}: {what}": each for what, each in source.timed_calls().items()}
    timings = time_in_turns(timed, budget, progress)
    bounds = {name: line.to_json(_of(name, timings)) for name, line in rooflines.items()}
    results = []
    for candidate in candidates:
        progress(f"starting {candidate.name} in a new process")
        least = candidate.streams[0]
        cold: dict[str, Any] = {"load": None, "memory": dict.fromkeys(MEMORY)}
        try:
            cold = measure_cold(bundle.path, candidate.backend, candidate.precision, threads, least)
        except BackendError as error:  # this process may have all of a device
            skipped.append({"what": f"{candidate.name}, start in a new process", "reason": str(error)})
        entry = _result(candidate, _of(candidate.name, timings), steps, bounds)
        cold["memory"]["state_bytes"] = candidate.state_bytes
        results.append(entry | cold)
    return {
        "format": FORMAT,
        "version": VERSION,
        "bundle": str(bundle.path),
        "model": plain(manifest.network),
        "pool": manifest.pool,
        "threads": threads,
        "effort": asdict(budget),
        "results": results,
        "rooflines": bounds,
        "skipped": skipped,
    }


def _rooflines(
    bundle: Bundle, precisions: Sequence[str], skipped: list[dict[str, str]]
) -> dict[str, Roofline]:
    """The roofline of each precision that has native weights."""
    found = {}
    for precision in dict.fromkeys(precisions):
        try:
            if precision not in bundle.manifest.native:
                raise BackendError(f"the bundle has no native weights in {precision!r}, which it is based on")
            found[precision] = Roofline(open_weights(bundle.path, bundle.manifest, precision))
        except MultiresError as error:
            skipped.append({"what": f"roofline {precision}", "reason": str(error)})
    return found


def _of(name: str, timings: Mapping[str, Timing]) -> dict[str, Timing]:
    start = f"{name}: "
    return {key[len(start) :]: timing for key, timing in timings.items() if key.startswith(start)}


def _result(
    candidate: Candidate,
    timings: Mapping[str, Timing],
    steps: int,
    bounds: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    least = candidate.streams[0]
    python, engine, full = timings[f"step of {least}"], timings.get("step in C++"), timings.get("full")
    bound = bounds.get(candidate.precision) if least == 1 else None
    together = []
    for count in candidate.streams:
        call = timings[f"step of {count}"]
        rate, gain = count / call.p50, count / least * python.p50 / call.p50
        together.append({"streams": count, **asdict(call), "steps_per_second": rate, "gain": gain})
    return {
        "backend": candidate.backend,
        "precision": candidate.precision,
        "step": {
            "streams": least,
            "python": asdict(python),
            "cpp": asdict(engine) if engine else None,
            **{kind.replace(" ", "_"): asdict(timings[kind]) for kind in PACED},
            "to_roofline": (engine or python).p50 / bound["seconds"] if bound else None,
        },
        "streams": together,
        "full": asdict(full) | {"steps": steps, "steps_per_second": steps / full.p50} if full else None,
    }


def _chosen(name: str, wanted: Sequence[str], there: Sequence[str]) -> list[str]:
    for item in wanted:
        if item not in there:
            raise BackendError(f"{name} is {item!r}, expected one of {', '.join(there)}")
    return list(dict.fromkeys(wanted or there))


def _number(name: str, value: Any, most: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if not 1 <= number <= most:
        raise InputError(f"{name} is {value!r}, expected a whole number from 1 to {most:,}")
    return number
