"""float16 and int8 of any traced network: what is rounded, and that full and step graphs agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from multires_edge.base.errors import ConfigError, DataError
from multires_edge.calibration.table import CalibrationTable
from multires_edge.export.options import Int8Options
from multires_edge.export.trace.filters import with_banks
from multires_edge.export.trace.float16 import plan_float16
from multires_edge.export.trace.module import module_config
from multires_edge.export.trace.noise import Noise, typical_inputs
from multires_edge.export.trace.planning import Plan
from multires_edge.export.trace.precision import Precision
from multires_edge.export.trace.products import in_int8, products_of, quantizable
from multires_edge.export.trace.program import Program, Recurrence
from multires_edge.export.trace.quantization import plan_int8
from multires_edge.export.trace.step_graph import stored_types
from multires_edge.export.types import FLOAT16, FLOAT32
from multires_edge.format.comparison import Check, Limit
from multires_edge.format.targets import FORMS
from tests.export.trace.harness import Outputs, at_prefixes, graph_steps, plan_of, whole_graph
from tests.export.trace.networks import Classifier, Multires, Recurrent, brisk
from tests.export.trace.test_random_networks import D, Part, Random, part

FORM = FORMS["opset17"]
pytestmark = pytest.mark.filterwarnings("ignore:.*are advised")


def planned(net: nn.Module, *example: Tensor) -> tuple[nn.Module, Plan, Noise]:
    reference, plan = plan_of(net, example)
    config = module_config(net, plan, "because")
    return reference, plan, Noise(config, dict(zip(plan.program.inputs, example, strict=True)))


def float16(net: nn.Module, *example: Tensor) -> tuple[nn.Module, Plan, Precision]:
    reference, plan, noise = planned(net, *example)
    return reference, plan, plan_float16(plan.program, plan.step, FORM, typical_inputs(noise, None))


def int8(
    net: nn.Module, folder: Path, *example: Tensor, parts: tuple[str, ...] = ("encoder", "mixing", "head")
) -> tuple[nn.Module, Program, Precision]:
    reference, plan, noise = planned(net, *example)
    np.savez(folder / "data.npz", **noise(8, 40, np.random.default_rng(1)))  # type: ignore[arg-type]
    options = Int8Options(data=folder / "data.npz", parts=parts)
    found = plan_int8(options, net, plan.program, noise.network, FORM, lambda _: None)
    assert found is not None
    rounded, precision = in_int8(plan.program, products_of(plan.program), found.table, found.names)
    return reference, rounded, precision


def error(given: list[Outputs], expected: list[Outputs], limit: Limit) -> float:
    check = Check("", "step", "", "fp32")
    check.limit = limit
    for mine, theirs in zip(given, expected, strict=True):
        for name, reference in theirs.items():
            check.compare(mine[name], reference)
    return check.error


class Norms(nn.Module):
    """A norm by a formula between a product and a softmax; the second output is a statistic alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 4, 1), nn.Conv1d(4, 4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.first(x))
        apart = y - y.mean(1, keepdim=True)
        root = torch.rsqrt((apart * apart).mean(1, keepdim=True) + 1e-6)
        z = self.second(F.pad(apart * root * 2, (1, 0)))
        return torch.softmax(z, 1), root[:, 0]


class TestFloat16:
    def test_norms_statistics_and_softmax_stay(self) -> None:
        _, plan, precision = float16(brisk(Norms()), torch.randn(2, 3, 20))
        rounded = {name.rpartition("/")[2] for name, dtype in precision.types.items() if dtype == FLOAT16}
        exact = {name.rpartition("/")[2] for name, dtype in precision.types.items() if dtype == FLOAT32}
        assert {"conv1d", "relu", "conv1d_1"} <= rounded
        assert {"mean", "sub", "mul", "mean_1", "add", "rsqrt", "mul_1", "softmax", "select"} <= exact
        assert "mul_2" in rounded  # no norm any more
        assert set(stored_types(plan.step, precision).values()) == {"float16"}

    def test_recurrent_layers_and_pools_stay(self) -> None:
        _, plan, precision = float16(brisk(Recurrent("LSTM", batch_first=True)), torch.randn(2, 3, 20))
        lstm = next(each for each in plan.program.instructions if isinstance(each, Recurrence))
        assert precision.type_of(lstm.name) == FLOAT32
        _, plan, precision = float16(brisk(Classifier(pool="all")), torch.randn(2, 3, 20))
        pooled = [pool.name for pool in plan.program.pools]
        assert len(pooled) == 2 and all(precision.type_of(name) == FLOAT32 for name in pooled)

    def test_what_may_overflow_stays(self) -> None:
        """And a bank with such a filter, and its rings."""

        class Large(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.tree, self.mix = Multires(4), nn.Conv1d(4, 4, 1)

            def forward(self, x: Tensor) -> Any:
                return torch.tanh(self.mix(torch.tanh(self.tree(x * 300))))

        _, plan, precision = float16(brisk(Large()), torch.randn(2, 4, 20))
        (bank,) = plan.step.banks
        assert precision.type_of(bank.name) == FLOAT32
        assert set(stored_types(plan.step, precision).values()) == {"float32"}
        assert FLOAT16 in precision.types.values()

    @pytest.mark.slow
    @settings(max_examples=6, deadline=None)
    @given(
        parts=st.lists(st.tuples(part, st.booleans()), min_size=1, max_size=5),
        pool=st.sampled_from(["none", "mean", "max"]),
        seed=st.integers(0, 1000),
    )
    def test_any_network(self, parts: list[tuple[Part, bool]], pool: str, seed: int) -> None:
        torch.manual_seed(seed)
        x = torch.randn(2, D, 14)
        reference, plan, precision = float16(Random(parts, pool).eval(), x)
        expected = at_prefixes(reference, plan.program, (x,))
        steps = graph_steps(plan.step, FORM, (x,), precision)
        assert error(steps, expected, Limit(1, "mean")) <= 1e-2
        whole = [whole_graph(plan.program, FORM, (x[..., :t],), precision) for t in (1, 14)]
        last = [{n: y if y.ndim == 2 else y[..., -1] for n, y in each.items()} for each in whole]
        assert error([steps[0], steps[-1]], last, Limit(1, "mean")) <= 1e-2


class TestInt8:
    @pytest.mark.slow
    @settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        parts=st.lists(st.tuples(part, st.booleans()), min_size=1, max_size=4),
        pool=st.sampled_from(["none", "mean", "max"]),
        seed=st.integers(0, 1000),
    )
    def test_any_network(self, tmp_path: Path, parts: list[tuple[Part, bool]], pool: str, seed: int) -> None:
        torch.manual_seed(seed)
        x = torch.randn(2, D, 14)
        net = nn.Sequential(nn.Conv1d(D, D, 1), nn.Tanh(), Random(parts, pool)).eval()
        reference, program, precision = int8(net, tmp_path, x)
        expected = at_prefixes(reference, program, (x,))
        steps = graph_steps(with_banks(program), FORM, (x,), precision)
        assert error(steps, expected, Limit(1, "mean")) <= 0.1
        whole = [whole_graph(program, FORM, (x[..., :t],), precision) for t in (1, 14)]
        last = [{n: y if y.ndim == 2 else y[..., -1] for n, y in each.items()} for each in whole]
        # A value between two levels may be rounded either way.
        assert error([steps[0], steps[-1]], last, Limit(1, "mean")) <= 2e-2

    def test_parts(self, tmp_path: Path) -> None:
        """The first product reads the input, the last gives the output, and recurrent layers are none."""
        net = brisk(Recurrent("GRU", batch_first=True))
        _, plan, _ = planned(net, torch.randn(2, 3, 20))
        assert [each.part for each in products_of(plan.program)] == ["encoder", "head", "head"]
        with pytest.raises(ConfigError, match=r"no product in mixing to quantize.*encoder, head"):
            quantizable(products_of(plan.program), ("mixing",))
        with pytest.raises(ConfigError, match="--quantize queues is for MultiresNets"):
            quantizable(products_of(plan.program), ("mixing", "queues"))
        _, program, precision = int8(net, tmp_path, torch.randn(2, 3, 20), parts=("encoder",))
        (name,) = precision.products
        assert name.startswith("conv/")
        # Filters, and products that are not quantized, are stored as float16.
        kept = [each for each in products_of(program) if each.part == "head"]
        for each in kept:
            assert np.array_equal(each.linear.weight.astype(np.float16), each.linear.weight)

    def test_a_table_of_another_network(self, tmp_path: Path) -> None:
        net, other = (brisk(Recurrent("GRU", batch_first=True), seed) for seed in (0, 1))
        _, plan, noise = planned(net, torch.randn(2, 3, 20))
        np.savez(tmp_path / "data.npz", **noise(8, 40, np.random.default_rng(1)))  # type: ignore[arg-type]
        options = Int8Options(data=tmp_path / "data.npz", parts=("encoder",))
        found = plan_int8(options, net, plan.program, noise.network, FORM, lambda _: None)
        assert found is not None
        found.table.write(tmp_path / "table.json")
        options = Int8Options(table=tmp_path / "table.json", parts=("encoder",))
        again = plan_int8(options, net, plan.program, noise.network, FORM, lambda _: None)
        assert again is not None and again.table == CalibrationTable.read(tmp_path / "table.json")
        with pytest.raises(DataError, match="another network's"):
            plan_int8(options, other, plan.program, noise.network, FORM, lambda _: None)
