"""Networks, checkpoints and bundles that the tests share."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from multires_edge.format.config import ACTIVATIONS, MIXINGS, NORMS, ModelConfig
from multires_edge.models.network import MultiresNet

if TYPE_CHECKING:
    from multires_edge.runtime.backends import _native

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "models" / "demo"
RECORDED = ROOT / "tests" / "data" / "checkpoints"

# Building and loading a graph takes long beside one example of most property tests.
settings.register_profile("graphs", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
settings.load_profile("graphs")
# Tests run side by side; threads of theirs would only stand in each other's way.
torch.set_num_threads(1)

# The tests that import ONNX Runtime themselves send nothing either.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Commands that the tests start obey signals, also where the tests run by nohup or in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

NATIVE_FOLDERS = (ROOT / "tests" / "runtime" / "cpp", ROOT / "tests" / "examples")
NATIVE_FIXTURES = {"compiled"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a browser or a compiler, by their folder and fixtures."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "browser" in fixtures:
            item.add_marker("browser")
        if NATIVE_FIXTURES & fixtures or any(folder in item.path.parents for folder in NATIVE_FOLDERS):
            item.add_marker("native")


SMALL = ModelConfig(
    task="classification",
    encoder="linear",
    d_input=2,
    n_tokens=None,
    d_output=3,
    d_model=8,
    n_layers=2,
    kernel_size=2,
    depth=3,
)


def variant(**changes: Any) -> ModelConfig:
    """A small configuration with some fields changed."""
    if changes.get("encoder") == "token":
        changes = {"d_input": None, "n_tokens": 11} | changes
    return replace(SMALL, **changes)


@st.composite
def configs(draw: st.DrawFn, /, max_depth: int = 10, published: bool = False, **fixed: Any) -> ModelConfig:
    """Random configurations over the whole model class, or with the ``published`` residual block alone."""
    kernel_size = draw(st.integers(2, 8))
    # Deep trees of long filters remember tens of thousands of steps; stay within a few thousand.
    depth = draw(st.integers(1, min(max_depth, 10 if kernel_size <= 3 else 7)))
    fields: dict[str, Any] = {
        "task": draw(st.sampled_from(["classification", "autoregressive"])),
        "encoder": draw(st.sampled_from(["linear", "token"])),
        # Norms over two or three nearly equal values magnify the rounding of float32.
        "d_model": draw(st.sampled_from([1, 4, 5, 6, 7, 8, 9])),
        "n_layers": draw(st.integers(1, 3)),
        "d_output": draw(st.integers(1, 5)),
        "kernel_size": kernel_size,
        "depth": depth,
    }
    if draw(st.booleans()):
        fields |= {"tree_select": "uniform", "memory_size": draw(st.integers(2, 40))}
    d_model = fixed.get("d_model", fields["d_model"])
    block = {"norm": draw(st.sampled_from(["layer", "batch"]))}
    if not published and draw(st.booleans()):
        block = draw(blocks(d_model))
    return variant(**(fields | block | fixed))


@st.composite
def blocks(draw: st.DrawFn, d_model: int) -> dict[str, Any]:
    """Random descriptions of a residual block."""
    norm = draw(st.sampled_from(list(NORMS)))
    divisors = [
        groups for groups in (1, 2, d_model) if d_model % groups == 0 and d_model // groups not in (2, 3)
    ]
    return {
        "norm": norm,
        "norm_groups": draw(st.sampled_from(divisors)) if norm == "group" else None,
        "norm_place": draw(st.sampled_from(["after", "before"])),
        "norm_eps": draw(st.sampled_from([1e-5, 1e-4, 1e-3])),
        "activation": draw(st.sampled_from(list(ACTIVATIONS))),
        "mixing": draw(st.sampled_from(list(MIXINGS))),
        "mixing_output": draw(st.sampled_from([None, False, True])),
        "filters": draw(st.sampled_from(["tied", "untied"])),
    }


def random_net(config: ModelConfig, seed: int = 0) -> MultiresNet:
    """A network with random weights of a trained one's size, and BatchNorm statistics of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = MultiresNet(config)
        for norm in net.norms:
            for name, tensor in norm.state_dict().items():
                if name in ("weight", "running_var"):
                    tensor.uniform_(0.5, 2.0)
                elif tensor.is_floating_point():
                    tensor.normal_(0, 0.3)
    return net.eval().requires_grad_(False)


def random_inputs(config: ModelConfig, rows: int, steps: int, seed: int = 0) -> np.ndarray:
    """Noise of unit variance, or random tokens: (rows, d_input, steps) or (rows, steps)."""
    random = np.random.default_rng(seed)
    if config.encoder == "token":
        return random.integers(0, config.n_tokens or 0, (rows, steps))
    return random.standard_normal((rows, config.d_input or 0, steps), dtype=np.float32)


def as_double(inputs: np.ndarray) -> torch.Tensor:
    """Inputs as the float64 reference takes them."""
    tensor = torch.from_numpy(np.ascontiguousarray(inputs))
    return tensor if tensor.dtype == torch.int64 else tensor.double()


def published_args(config: ModelConfig) -> str:
    """The ``args.txt`` that the training script would have written."""
    lines = ["--layer=multires", f"--d_model={config.d_model}", f"--n_layers={config.n_layers}"]
    lines += [f"--kernel_size={config.kernel_size}", "--tree_select", config.tree_select]
    if config.tree_select == "uniform":
        lines += [f"--d_mem={config.memory_size}", f"--depth={config.depth}"]
    if config.norm == "batch":
        lines.append("--batchnorm")
    return "\n".join(lines)


def save_published(net: MultiresNet, folder: Path, args: str | None = "") -> Path:
    """Write a checkpoint as the training script does; ``args`` None leaves args.txt out."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ckpt.pth"
    model = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"model": model, "optimizer": {}, "epoch": 3, "val_acc": np.float64(0.5)}, path)
    if args is not None:
        (folder / "args.txt").write_text(args or published_args(net.config))
    return path


def recorded(name: str) -> tuple[Path, Any]:
    """A trained network's checkpoint, and its recorded inputs and outputs."""
    home = RECORDED / name
    return home / "ckpt.pth", np.load(RECORDED / name / "reference.npz")


RECORDED_NAMES = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())


def within_limit(y: np.ndarray, reference: Any, limit: float = 1e-5) -> bool:
    """The contract's measure: |y - reference| <= limit * max(1, |reference|) everywhere."""
    reference = np.asarray(reference)
    assert y.shape == reference.shape
    return bool((np.abs(y - reference) <= limit * np.maximum(1, np.abs(reference))).all())


def native_model(path: Path) -> _native.Model:
    """The native engine's model of a weights file."""
    from multires_edge.runtime.backends.native import load_model

    return load_model(path.read_bytes(), path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small fading classifier's checkpoint."""
    return save_published(random_net(SMALL), tmp_path / "run")


@pytest.fixture(scope="session")
def opset24() -> None:
    """Skips a test of graphs that the ONNX Runtime of Python 3.10 does not run."""
    from multires_edge.format.targets import TARGETS
    from multires_edge.runtime.backends.providers import release

    if release() < TARGETS["cpu"].onnxruntime:
        pytest.skip("this ONNX Runtime cannot run the graphs of the target cpu")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small proven bundle; copy it (``bundle``) before changing it."""
    from multires_edge.export import export_bundle

    folder = tmp_path_factory.mktemp("exported")
    path = save_published(random_net(SMALL), folder / "run")
    return export_bundle(path, folder / "small.bundle").path


@pytest.fixture(scope="session")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that draws coloured images, untrained."""
    return _exported(tmp_path_factory, task="autoregressive", d_input=3, d_output=100)


@pytest.fixture(scope="session")
def drawing_grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that draws images of one channel, untrained."""
    return _exported(tmp_path_factory, task="autoregressive", d_input=1, d_output=30)


@pytest.fixture(scope="session")
def token_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that classifies tokens, with lengths."""
    return _exported(tmp_path_factory, encoder="token")


@pytest.fixture(scope="session")
def token_predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small autoregressive bundle of tokens."""
    return _exported(tmp_path_factory, task="autoregressive", encoder="token", d_output=11)


def _exported(tmp_path_factory: pytest.TempPathFactory, **changes: Any) -> Path:
    from multires_edge.export import export_bundle

    folder = tmp_path_factory.mktemp("exported")
    return export_bundle(save_published(random_net(variant(**changes)), folder), folder / "a.bundle").path


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """A copy of the small bundle that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "small.bundle"))
