"""Compare one step with ONNX Runtime by polygraphy, if both are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .kit import Graph
from .report import Check
from .runners import StepRunner

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Skipped(Exception):
    """The comparison cannot run; the message gives the reason."""


def agreement(
    name: str, graph: Graph, runner: StepRunner, inputs: NDArray[Any], sums: dict[str, int]
) -> list[Check]:
    """Run one more step from the current states, by ``runner`` and by ONNX Runtime on the CPU.

    ``inputs`` are recorded streams (rows, ..., time). ``sums`` has the states that add up steps, with the
    number of steps. Returns a check of each output. Raises Skipped.
    """
    try:
        import onnxruntime
        from polygraphy import comparator
        from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
        from polygraphy.logger import G_LOGGER
    except ImportError as error:
        raise Skipped(str(error)) from error
    before = runner.read()
    rows = len(next(iter(before.values())))
    sample = np.ascontiguousarray(inputs[np.arange(rows) % graph.rows][..., 0])
    mine = {graph.output.name: runner.step(sample)}
    after = runner.read()
    mine.update({state.output: after[state.input] for state in graph.states})
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        try:
            session = SessionFromOnnx(str(graph.path), providers=["CPUExecutionProvider"])
            with OnnxrtRunner(session) as reference:
                values = reference.infer({graph.input.name: sample, **before})
                theirs = {key: np.array(value) for key, value in values.items()}
        except Exception as error:  # the only common base; the graph may be too new
            what = " ".join(str(error).split())[:200]
            raise Skipped(f"onnxruntime {onnxruntime.__version__} cannot run the graph ({what})") from error
        value, mean = graph.limit.value, graph.limit.measure == "mean"
        # The errors of a sum and of its compensation term both scale with the sum.
        scale = {state.output: float(sums.get(state.input, 1)) for state in graph.states}
        # polygraphy before 0.50 lacks the class; 0.60 is to remove the function.
        simple = getattr(comparator, "SimpleCompareFunc", None) or comparator.CompareFunc.simple
        compare = simple(
            atol={key: value * scale.get(key, 1.0) for key in theirs},
            rtol=value,
            check_error_stat="mean" if mean else "elemwise",
        )
        with np.errstate(all="ignore"):  # polygraphy divides zero by zero
            found = compare(
                comparator.IterationResult(mine, runner_name="device"),
                comparator.IterationResult(theirs, runner_name="onnxruntime"),
            )
    checks = []
    for tensor, their in theirs.items():
        worst = float(found[tensor].mean_absdiff if mean else found[tensor].max_absdiff)
        checks.append(
            Check(
                name=name,
                tensor=tensor,
                passed=bool(found[tensor]) and bool(np.isfinite(mine[tensor]).all()),
                error=worst if np.isfinite(worst) else None,
                measure=graph.limit.measure,
                limit=value,
                values=int(their.size),
            )
        )
    return checks
