"""The native engine over the whole model class, its elementary functions, and files that are not weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.base.errors import BundleError
from multires_edge.export.folding import fold
from multires_edge.export.native_weights import native_weights
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Cumulative, Pooling, Window
from multires_edge.models import load_checkpoint
from multires_edge.models.network import MultiresNet
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends import _native
from multires_edge.runtime.backends.protocol import Outcome
from tests.conftest import (
    RECORDED_NAMES,
    SMALL,
    as_double,
    configs,
    native_model,
    random_inputs,
    random_net,
    recorded,
    save_published,
    variant,
    within_limit,
)

poolings = st.one_of(st.just(Cumulative()), st.integers(1, 60).map(Window))


def write_weights(net: MultiresNet, folder: Path, pooling: Pooling = Cumulative()) -> Path:
    path = folder / "weights.safetensors"
    path.write_bytes(native_weights(fold(net), pooling))
    return path


def run(state: _native.State, inputs: np.ndarray, d_output: int) -> np.ndarray:
    samples = np.ascontiguousarray(np.moveaxis(inputs, -1, 0))
    outputs = np.empty((len(samples), len(inputs), d_output), np.float32)
    state.run(samples, outputs)
    return np.moveaxis(outputs, 0, -1)


@given(config=configs(), pooling=poolings, rows=st.sampled_from([1, 3, 40]))
@settings(max_examples=40)
def test_equals_the_reference_on_every_prefix(
    config: ModelConfig, pooling: Pooling, rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    net = random_net(config).double()
    path = write_weights(net, tmp_path_factory.mktemp("weights"), pooling)
    state = _native.State(native_model(path), rows)
    inputs = random_inputs(config, rows, 90)
    expected = net.stepwise(as_double(inputs), pooling)
    assert within_limit(run(state, inputs, config.d_output), expected)


@pytest.mark.parametrize("window", [0, 1, 7, 64])
def test_a_state_chooses_its_window(window: int, tmp_path: Path) -> None:
    net = random_net(SMALL).double()
    model = native_model(write_weights(net, tmp_path, Window(5)))
    inputs = random_inputs(SMALL, 2, 60)
    expected = net.stepwise(as_double(inputs), Window(window) if window else Cumulative())
    assert within_limit(run(_native.State(model, 2, window), inputs, 3), expected)
    assert within_limit(run(_native.State(model, 2), inputs, 3), net.stepwise(as_double(inputs), Window(5)))


@pytest.mark.parametrize("window", [-2, (1 << 24) + 1])
def test_a_window_out_of_range(window: int, tmp_path: Path) -> None:
    model = native_model(write_weights(random_net(SMALL), tmp_path))
    with pytest.raises(RuntimeError, match=f"window is {window}, expected 1 to 16777216"):
        _native.State(model, 1, window)


@pytest.mark.parametrize("width", [1, 15, 16, 17, 31, 32, 33, 64, 65, 100])
def test_any_number_of_channels(width: int, tmp_path: Path) -> None:
    net = random_net(variant(d_model=width, depth=5, kernel_size=4)).double()
    state = _native.State(native_model(write_weights(net, tmp_path)), 2)
    inputs = random_inputs(net.config, 2, 70)
    assert within_limit(run(state, inputs, 3), net.stepwise(as_double(inputs)))


@pytest.mark.parametrize("batch", [1, 3, 33])
def test_chunks_and_neighbours_change_not_a_bit(batch: int, tmp_path: Path) -> None:
    net = random_net(variant(depth=6, d_model=24))
    model = native_model(write_weights(net, tmp_path))
    inputs = random_inputs(net.config, batch, 101)
    whole = run(_native.State(model, batch), inputs, 3)
    state = _native.State(model, batch)
    pieces = [run(state, piece, 3) for piece in np.split(inputs, [1, 2, 40, 41, 90], axis=-1)]
    assert np.array_equal(np.concatenate(pieces, axis=-1), whole)
    alone = run(_native.State(model, 1), inputs[-1:], 3)
    assert np.array_equal(alone, whole[-1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED_NAMES)
def test_trained_networks_give_their_recorded_outputs(name: str, tmp_path: Path) -> None:
    path, reference = recorded(name)
    net = load_checkpoint(path)
    state = _native.State(native_model(write_weights(net, tmp_path)), len(reference["x"]))
    x, y = reference["x"], reference["y"]
    if net.config.task == "autoregressive":
        fed = np.concatenate([np.zeros_like(x[..., :1]), x[..., :-1]], axis=-1)
        assert within_limit(run(state, fed, net.config.d_output), y)
    else:
        ends = reference["lengths"] if "lengths" in reference else np.full(len(x), x.shape[-1])
        outputs = run(state, x, net.config.d_output)
        assert within_limit(outputs[np.arange(len(x)), :, ends - 1], y)


@pytest.mark.parametrize("encoder", ["linear", "token"])
def test_a_step_on_its_own_buffers(encoder: str, tmp_path: Path) -> None:
    net = random_net(variant(encoder=encoder)).double()
    state = _native.State(native_model(write_weights(net, tmp_path)), 2)
    inputs = random_inputs(net.config, 2, 30)
    expected = net.stepwise(as_double(inputs)).numpy()
    bad: list[float] = [-1, 11] if encoder == "token" else [np.nan, np.inf, -np.inf]
    for t in range(30):
        for value in bad:
            state.input[...] = inputs[..., t]
            state.input[1, ...] = value
            assert state.step() == Outcome.BAD_INPUT
        state.input[...] = inputs[..., t]
        assert state.step() == Outcome.DONE
        assert within_limit(state.output, expected[..., t])
    if encoder == "linear":
        state.input[...] = 3e38
        assert state.step() == Outcome.BAD_OUTPUT


class TestFullSequences:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"task": "autoregressive"},
            {"encoder": "token"},
            {"encoder": "token", "task": "autoregressive"},
        ],
    )
    # A window is the streams' affair: a full sequence is pooled over all of it.
    @pytest.mark.parametrize("pool", ["cumulative", "window:7"])
    def test_are_those_of_the_full_graph(self, changes: dict[str, str], pool: str, tmp_path: Path) -> None:
        from multires_edge.export import export_bundle

        path = save_published(random_net(variant(**changes)), tmp_path)
        bundle = open_bundle(export_bundle(path, pool=pool).path)
        inputs = random_inputs(variant(**changes), 3, 40)
        native, graph = bundle.full(backend="native"), bundle.full(backend="onnxruntime")
        assert within_limit(native(inputs), graph(inputs))
        if changes == {"encoder": "token"}:
            lengths = np.array([1, 17, 40])
            assert within_limit(native(inputs, lengths), graph(inputs, lengths))


@pytest.mark.slow
def test_a_million_steps_are_as_good_as_a_thousand(tmp_path: Path) -> None:
    """Compared over a last stretch with the reference's pooling over everything before it too."""
    config = variant(d_model=4, n_layers=1, depth=3)
    net = random_net(config).double()
    state = _native.State(native_model(write_weights(net, tmp_path)), 1)
    inputs = random_inputs(config, 1, 1_000_000)
    y = run(state, inputs, 3)
    expected = net.stepwise(as_double(inputs)).numpy()
    error = np.abs(y - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < 1e-5
    assert error[..., -1000:].max() <= 2 * error[..., 1000:2000].max()


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512vnni"])
def test_every_instruction_set_computes_the_same(isa: str, tmp_path: Path) -> None:
    net = random_net(variant(depth=6, d_model=40)).double()
    path = write_weights(net, tmp_path)
    inputs = random_inputs(net.config, 2, 80)
    np.save(tmp_path / "inputs.npy", np.ascontiguousarray(np.moveaxis(inputs, -1, 0)))
    code = (
        "import numpy as np\n"
        "from multires_edge.runtime.backends import _native\n"
        f"model = _native.Model(open({str(path)!r}, 'rb').read())\n"
        f"x = np.load({str(tmp_path / 'inputs.npy')!r})\n"
        "y = np.empty((80, 2, 3), np.float32)\n"
        "_native.State(model, 2).run(x, y)\n"
        f"np.save({str(tmp_path / 'outputs.npy')!r}, y)\n"
        "print(model.isa)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MULTIRES_ISA": isa},
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() in {isa, "baseline", "neon"}  # a lesser CPU falls back
    y = np.moveaxis(np.load(tmp_path / "outputs.npy"), 0, -1)
    assert within_limit(y, net.stepwise(as_double(inputs)))


class TestDamagedWeights:
    @pytest.fixture
    def whole(self, tmp_path: Path) -> bytes:
        return write_weights(random_net(SMALL), tmp_path).read_bytes()

    def load(self, folder: Path, data: bytes) -> None:
        (folder / "damaged.safetensors").write_bytes(data)
        native_model(folder / "damaged.safetensors")

    def test_cut_anywhere(self, whole: bytes, tmp_path: Path) -> None:
        for size in [0, 1, 7, 8, 9, *range(10, len(whole), 61), len(whole) - 1]:
            with pytest.raises(BundleError, match=r"damaged\.safetensors"):
                self.load(tmp_path, whole[:size])

    @pytest.mark.slow
    def test_any_byte_of_the_header_changed_is_an_error_or_harmless(
        self, whole: bytes, tmp_path: Path
    ) -> None:
        header = 8 + int.from_bytes(whole[:8], "little")
        random = np.random.default_rng(0)
        refused = 0
        for where in range(0, header, 2):
            data = bytearray(whole)
            data[where] = random.integers(0, 256)
            try:
                self.load(tmp_path, bytes(data))
            except BundleError:
                refused += 1
        assert refused > header // 5

    def test_weights_that_are_not_finite(self, whole: bytes, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="NaN or infinity"):
            self.load(tmp_path, whole[:-4] + np.float32(np.nan).tobytes())

    def test_something_behind_the_tensors(self, whole: bytes, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="do not fill the file"):
            self.load(tmp_path, whole + bytes(8))

    def rewritten(self, net: MultiresNet, metadata: dict[str, str], **shapes: tuple[int, ...]) -> bytes:
        """The file of a network with other metadata, and tensors of zeros in other shapes."""
        tensors = safetensors.numpy.load(native_weights(fold(net), Cumulative()))
        for name, shape in shapes.items():
            tensors[name.replace("__", ".")] = np.zeros(shape, np.float32)
        return safetensors.numpy.save(tensors, self.metadata(net) | metadata)

    def metadata(self, net: MultiresNet) -> dict[str, str]:
        data = native_weights(fold(net), Cumulative())
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return dict(header["__metadata__"])

    def test_tensors_that_share_their_bytes(self, whole: bytes, tmp_path: Path) -> None:
        """Each would be read whole, so that a file of megabytes took hours."""
        size = int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8 : 8 + size])
        largest = max(
            (entry for name, entry in header.items() if name != "__metadata__"), key=lambda e: e["shape"]
        )
        copies = {f"copy{i}": largest for i in range(200)}
        text = json.dumps(header | copies).encode()
        text += b" " * (-len(text) % 8)
        with pytest.raises(BundleError, match="tensors overlap"):
            self.load(tmp_path, len(text).to_bytes(8, "little") + text + whole[8 + size :])

    def test_a_past_of_gigabytes(self, tmp_path: Path) -> None:
        scales = {f"layers__{i}__highpass__{j}": (2, 8) for i in range(2) for j in range(30)}
        data = self.rewritten(random_net(SMALL), {"depth": "30"}, **scales)
        with pytest.raises(BundleError, match="more than 2\\^31 values"):
            self.load(tmp_path, data)

    def test_filters_of_padding(self, tmp_path: Path) -> None:
        config = variant(d_model=1, n_layers=20, depth=16)
        scales = {f"layers__{i}__highpass__{j}": (1, 1) for i in range(20) for j in range(16)}
        lowpass = {f"layers__{i}__lowpass": (1000, 1) for i in range(20)}
        data = self.rewritten(random_net(config), {"kernel_size": "1000"}, **scales, **lowpass)
        with pytest.raises(BundleError, match="too much padding"):
            self.load(tmp_path, data)

    def test_another_version(self, whole: bytes, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="has version 3, this release reads version 2"):
            self.load(tmp_path, whole.replace(b'"version":"2"', b'"version":"3"'))

    def test_a_norm_of_another_kind(self, whole: bytes, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match=r"layers\.1 has no norm that this release runs"):
            self.load(tmp_path, whole.replace(b"layers.1.norm.scale", b"layers.1.norm.other"))


@pytest.mark.slow
def test_a_decimal_comma_changes_nothing(tmp_path: Path) -> None:
    """Programs with a user interface set the locale of their user."""
    localedef = shutil.which("localedef")
    german = tmp_path / "de_DE.UTF-8"
    command = [localedef or "", "--no-archive", "-i", "de_DE", "-f", "UTF-8", str(german)]
    if localedef is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs localedef and the source of the locale de_DE")
    path = write_weights(random_net(variant(norm="batch")), tmp_path)  # its epsilon is written 0.0
    code = (
        "import locale\n"
        "from multires_edge.runtime.backends import _native\n"
        "locale.setlocale(locale.LC_ALL, 'de_DE.UTF-8')\n"
        "assert locale.localeconv()['decimal_point'] == ','\n"
        f"_native.Model(open({str(path)!r}, 'rb').read())\n"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"LOCPATH": str(tmp_path)}, check=True)


def test_the_weights_file_is_a_safetensors_file_and_always_the_same(tmp_path: Path) -> None:
    folded = fold(random_net(SMALL))
    data = native_weights(folded, Cumulative())
    assert data == native_weights(folded, Cumulative())
    (tmp_path / "weights.safetensors").write_bytes(data)
    with safetensors.safe_open(tmp_path / "weights.safetensors", "numpy") as file:
        assert file.metadata()["d_model"] == "8"
        assert np.array_equal(file.get_tensor("head.bias"), folded.head.bias.astype(np.float32))
