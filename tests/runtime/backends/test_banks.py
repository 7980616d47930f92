"""Filters of a module in the native engine: sums and rows are what they say, and its streams the module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multires_edge.base.errors import BundleError, InputError
from multires_edge.export import export_module
from multires_edge.export.trace.module import ModuleResult
from multires_edge.format.arrays import npz_bytes, read_npz
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends import banks as banks_module
from multires_edge.runtime.backends.banks import BankedStepper
from multires_edge.runtime.backends.native import load_engine
from tests.export.trace.networks import brisk
from tests.export.trace.test_filters import D, Net, blocks, stem

pytestmark = pytest.mark.native

SOURCE, ROW, TAP = range(3)


class Reference:
    """One bank of one stream, in float64."""

    def __init__(self, parts: dict[str, Any], rings: list[tuple[int, int, int]]) -> None:
        self.parts, self.rings = parts, rings
        self.past: list[list[Any]] = [[] for _ in rings]

    def taps(self) -> list[Any]:
        zeros = np.zeros(self.parts["bias"].shape[1])
        return [
            past[-k * dilation] if k * dilation <= len(past) else zeros
            for past, (_, dilation, taps) in zip(self.past, self.rings, strict=True)
            for k in range(1, taps + 1)
        ]

    def sums(self) -> Any:
        return self.parts["bias"] + np.einsum("otw,tw->ow", self.parts["weights"], np.array(self.taps()))

    def push(self, sources: Any) -> None:
        taps, rows = self.taps(), [row.astype(np.float64) for row in self.parts["row_bias"]]
        for (row, kind, index), factors in zip(self.parts["terms"], self.parts["factors"], strict=True):
            rows[row] += factors * (sources, rows, taps)[kind][index]
        for past, row in zip(self.past, rows, strict=True):
            past.append(row)


def a_bank(random: Any, rings: list[tuple[int, int, int]], width: int, outputs: int, sources: int) -> Any:
    taps = sum(ring[2] for ring in rings)
    terms = []
    for row in range(len(rings)):
        for kind, count in ((SOURCE, sources), (ROW, row), (TAP, taps)):
            chosen = random.choice(count, random.integers(0, min(count, 12) + 1), replace=False)
            terms += [(row, kind, index) for index in chosen]
    shapes: dict[str, tuple[int, ...]] = {
        "weights": (outputs, taps, width), "bias": (outputs, width),
        "factors": (len(terms), width), "row_bias": (len(rings), width),
    }  # fmt: skip
    parts = {name: (random.standard_normal(shape) / 4).astype(np.float32) for name, shape in shapes.items()}
    return {**parts, "terms": np.array(terms, np.int64).reshape(-1, 3)}


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rings=st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4
    ),
    width=st.integers(1, 70),
    counts=st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3)),
    seed=st.integers(0, 1000),
)
def test_sums_and_rows(
    monkeypatch: pytest.MonkeyPatch,
    isa: str,
    rings: list[tuple[int, int, int]],
    width: int,
    counts: tuple[int, int, int],
    seed: int,
) -> None:
    monkeypatch.setenv("MULTIRES_ISA", isa)
    random, (outputs, sources, batch) = np.random.default_rng(seed), counts
    sized = [(dilation * taps + more, dilation, taps) for dilation, taps, more in rings]
    parts = a_bank(random, sized, width, outputs, sources)
    banks = load_engine().Banks(batch)
    sums = np.zeros((batch, outputs * width), np.float32)
    given = np.zeros((batch, sources * width), np.float32)
    order = ("weights", "bias", "terms", "factors", "row_bias")
    banks.add(np.array(sized, np.int64), *(parts[name] for name in order), sums, given)
    references = [Reference(parts, sized) for _ in range(batch)]
    for step in range(12):
        if step == 7:  # one row starts again
            banks.reset(batch - 1)
            references[-1] = Reference(parts, sized)
        banks.sum()
        for row, reference in enumerate(references):
            expected = reference.sums().reshape(-1)
            scale = 1 + max((np.abs(tap).max() for tap in reference.taps()), default=0)
            assert np.abs(sums[row] - expected).max() <= 1e-5 * scale
        given[...] = random.standard_normal(given.shape)
        banks.push()
        for row, reference in enumerate(references):
            reference.push(given[row].reshape(sources, width))
    assert banks.position.tolist() == [12] * (batch - 1) + [5]


@pytest.mark.parametrize(
    "change",
    [
        {"weights": (1, 3, 4)}, {"weights": (1, 2, 5)}, {"weights": (2, 4)}, {"bias": (2, 4)},
        {"factors": (1, 4)}, {"row_bias": (2, 4)}, {"terms": [(1, SOURCE, 0), (0, TAP, 0)]},
        {"terms": [(0, SOURCE, 1), (0, TAP, 0)]}, {"terms": [(0, ROW, 0), (0, TAP, 0)]},
        {"terms": [(0, SOURCE, 0), (0, TAP, -1)]}, {"terms": [(0, SOURCE, 0), (0, 3, 0)]},
        {"rings": [(4, 2, 2)]}, {"rings": [(0, 1, 2)]}, {"rings": [(4, 0, 2)]}, {"rings": [(1 << 40, 1, 2)]},
        {"sums": (2, 8)}, {"sources": (2, 3)},
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(change: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {
        "rings": np.array([(5, 2, 2)]), "weights": np.zeros((1, 2, 4), np.float32),
        "bias": np.zeros((1, 4), np.float32), "terms": np.array([(0, SOURCE, 0), (0, TAP, 0)]),
        "factors": np.zeros((2, 4), np.float32), "row_bias": np.zeros((1, 4), np.float32),
        "sums": np.zeros((2, 4), np.float32), "sources": np.zeros((2, 4), np.float32),
    }  # fmt: skip
    load_engine().Banks(2).add(**arrays)
    ((name, value),) = change.items()
    arrays[name] = np.array(value) if isinstance(value, list) else np.zeros(value, np.float32)
    with pytest.raises(ValueError):
        load_engine().Banks(2).add(**arrays)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> ModuleResult:
    torch.manual_seed(1)
    net = brisk(Net(*stem(), *blocks(depth=3)))
    result = export_module(net, torch.randn(2, D, 30), tmp_path_factory.mktemp("banks") / "b", target="cpu")
    assert isinstance(result, ModuleResult)
    return result


@pytest.mark.slow
class TestStreams:
    def test_the_proof_has_them(self, module: ModuleResult) -> None:
        made = {check.name for check in module.proof.checks}
        ends = ("every prefix", "rows restarted", "saved and loaded")
        assert {f"native engine, {end}" for end in ends} <= made

    def test_auto_takes_them(self, module: ModuleResult) -> None:
        stream = open_bundle(module.path).stream(2)
        assert isinstance(stream._stepper, BankedStepper)

    @pytest.mark.parametrize("seed", range(3))
    def test_look_ahead_changes_nothing(self, module: ModuleResult, seed: int) -> None:
        random, bundle = np.random.default_rng(seed), open_bundle(module.path)
        plain, ahead = bundle.stream(2, backend="onnxruntime"), bundle.stream(2)
        for _ in range(60):
            x = random.standard_normal((2, D)).astype(np.float32)
            np.testing.assert_allclose(ahead.step(x), plain.step(x), rtol=0, atol=1e-5)
            what = random.integers(8)
            for _ in range(what % 3):
                ahead.prepare()
            if what == 4:
                ahead.commit()
            if what == 5:
                for stream in (plain, ahead):
                    stream.reset(rows=[1])
            if what == 6:
                ahead.load_state(plain.save_state())
            if what == 7:
                plain.load_state(ahead.save_state(rows=[0]), rows=[0])

    def test_a_bad_input_changes_nothing(self, module: ModuleResult) -> None:
        stream = open_bundle(module.path).stream()
        stream.step(np.ones((1, D), np.float32))
        before = stream.save_state().to_bytes()
        with pytest.raises(InputError, match="NaN"):
            stream.step(np.full((1, D), np.nan, np.float32))
        assert stream.save_state().to_bytes() == before

    @pytest.mark.parametrize("change", ["shape", "nan", "missing", "bytes"])
    def test_a_file_of_another_network(
        self, module: ModuleResult, change: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bundle = open_bundle(module.path)
        factors = bundle.manifest.graph("sums", "fp32").factors
        assert factors is not None
        arrays = read_npz(Path(module.path / factors.file))
        name = next(name for name in arrays if name.endswith("/weights"))
        if change == "shape":
            arrays[name] = arrays[name][:, 1:]
        elif change == "nan":
            arrays[name][0, 0, 0] = np.nan
        elif change == "missing":
            del arrays[name]
        content = b"no archive" if change == "bytes" else npz_bytes(**arrays)
        monkeypatch.setattr(banks_module, "read_file", lambda *_: content)
        with pytest.raises(BundleError, match="export the module again"):
            bundle.stream(backend="native")
