"""Open a bundle: read its manifest, check its files against their digests, make its graphs and streams."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from multires_edge.base.errors import BundleError, InputError
from multires_edge.format.card import Preprocessing
from multires_edge.format.fields import digest_of, plain
from multires_edge.format.golden import GOLDEN_FILE, Golden
from multires_edge.format.manifest import CALIBRATION_FILE, FILE_NAME, Manifest
from multires_edge.format.minisign import PublicKey, Signature, read_public_key
from multires_edge.format.module import ModuleConfig, ModuleGolden
from multires_edge.format.parity import PARITY_FILE, Parity, parse_parity
from multires_edge.format.pooling import Pooling, parse_pooling
from multires_edge.format.reading import read_manifest, step_states
from multires_edge.format.signed_files import check_signed
from multires_edge.format.specs import GraphSpec
from multires_edge.runtime.backends.protocol import Backend, RunOptions, Stepper
from multires_edge.runtime.backends.registry import make_runner, make_stepper
from multires_edge.runtime.bundle_files import check_file, read_file, tensors_sha256
from multires_edge.runtime.full import FullGraph
from multires_edge.runtime.named import full_graph, stream_of
from multires_edge.runtime.stream import Stream


class Bundle:
    """A model ready to run; made by :func:`open_bundle`.

    ``signature`` is the one that was checked, None if the bundle was opened without a key.
    """

    def __init__(self, path: Path, manifest: Manifest, signature: Signature | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self.signature = signature
        self._networks: dict[str, str] = {}

    def __repr__(self) -> str:
        model, precisions = self.manifest.network, ", ".join(self.manifest.graphs["step"])
        if isinstance(model, ModuleConfig):
            return f"<Bundle {self.path}: your module {model.module}, {precisions}>"
        layers = f"{model.n_layers} layers of {model.d_model}"
        return f"<Bundle {self.path}: {model.task} with {model.d_output} outputs, {layers}, {precisions}>"

    @property
    def labels(self) -> list[str] | None:
        """Class names in the order of the logits; None if the card has no labels."""
        return None if self.manifest.labels is None else list(self.manifest.labels)

    @property
    def class_names(self) -> list[str]:
        """One name for each output: the labels, or numbers if the bundle has no labels."""
        return self.labels or [str(i) for i in range(self.manifest.model.d_output)]

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Sampling rate, channels, unit, mean and std of the inputs; None if the card does not tell."""
        return self.manifest.preprocessing

    def in_form(self, form: str) -> Bundle:
        """The same bundle with the graphs of one form, such as "opset17", as its own. Raises BundleError."""
        return Bundle(self.path, self.manifest.in_form(form), self.signature)

    def full(
        self,
        *,
        backend: str | Backend = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        provider: str | None = None,
        provider_options: Mapping[str, str] | None = None,
    ) -> FullGraph:
        """Load the full-sequence graph.

        ``threads`` share the operators in ONNX Runtime, one per core by default, and the rows of the batch in
        the native engine, which has one by default.

        ``provider`` is ONNX Runtime's execution provider: "cpu", "cuda" or the full name of another, with its
        ``provider_options``. None selects CUDA if it works, else the CPU. Raises BackendError or BundleError.
        """
        spec = self.manifest.graph("full", precision)
        options = RunOptions(precision, _threads(threads), provider, provider_options)
        runner = make_runner(backend, self.path, self.manifest, options)
        return full_graph(runner, spec, self.manifest.network)

    def stream(
        self,
        batch: int = 1,
        *,
        backend: str | Backend = "auto",
        precision: str = "fp32",
        threads: int = 1,
        provider: str | None = None,
        provider_options: Mapping[str, str] | None = None,
        pool: str | None = None,
    ) -> Stream:
        """Start ``batch`` streams with zero states.

        ``backend`` "auto" selects the native engine if the bundle has its weights. "tensorrt" runs an engine
        that `multires-edge build` made for this device. With several ``threads``, the native engine gives
        each some of the streams in :meth:`Stream.run`; a step runs on one. ONNX Runtime shares operators
        among them, which slows a single stream down. Only ONNX Runtime supports a ``provider`` with
        ``provider_options`` (see :meth:`full`). Only the native backend supports ``pool``:
        "cumulative" or "window:N" in steps replaces the pooling of the export.
        Raises BackendError, BundleError, ConfigError or InputError.
        """
        batch = _positive("batch", batch)
        spec, pooling = self._pooled(precision, pool)
        options = RunOptions(precision, _threads(threads), provider, provider_options, pooling)
        try:
            stepper = make_stepper(backend, self.path, self.manifest, batch, options)
        except MemoryError as error:
            raise InputError(
                f"batch is {batch:,}: its states of {spec.state_bytes:,} bytes each do not fit in memory"
            ) from error
        return self.stream_of(stepper, batch, precision, pool)

    def stream_of(self, stepper: Stepper, batch: int, precision: str, pool: str | None = None) -> Stream:
        """A stream on a stepper made for this bundle. ``pool`` None is the pooling of the export."""
        spec, pooling = self._pooled(precision, pool)
        model = f"{self._network(precision)}/{pooling or self.manifest.pool}/{precision}"
        return stream_of(stepper, spec, batch, model, self.manifest.network)

    def _network(self, precision: str) -> str:
        """Identifies the checkpoint, and the weights that give a state of a precision its meaning."""
        if precision not in self._networks:
            self._networks[precision] = self._identify(precision)
        return self._networks[precision]

    def _identify(self, precision: str) -> str:
        manifest = self.manifest
        if precision in manifest.native:
            weights: Any = tensors_sha256(self.read(manifest.native[precision].file))
        else:
            weights = sorted(graphs["step"][precision].sha256 for graphs in manifest.by_form.values())
        meaning = {"weights": weights}
        quantization = manifest.quantization.get(precision)
        if quantization is not None:
            meaning |= {"types": plain(quantization), "ranges": manifest.files.get(CALIBRATION_FILE)}
        return f"{manifest.source.sha256[:16]}/{digest_of(meaning)[:16]}"

    def _pooled(self, precision: str, pool: str | None) -> tuple[GraphSpec, Pooling | None]:
        """The step graph with another pooling, and that pooling; None if it is the bundle's own."""
        spec, own = self.manifest.graph("step", precision), self.manifest.pooling
        if pool is None:
            return spec, None
        if own is None:
            raise InputError(f"pool is {pool!r}, but this network has an output at every step")
        other = self.manifest.model.pooled_by(parse_pooling(pool))
        if other == own:
            return spec, None
        dtype = next(state.dtype for state in spec.states if state.scale is not None)
        return replace(spec, states=tuple(step_states(self.manifest.model, other, dtype))), other

    def parity(self) -> Parity:
        """The export's parity checks, the content of parity.json. Raises BundleError."""
        return parse_parity(self.read(PARITY_FILE), self.path / PARITY_FILE)

    def check_proof(self, undone: str) -> None:
        """Raise BundleError if the proof failed: so the bundle is not ``undone``, such as "signed"."""
        if not self.parity().passed:
            raise BundleError(f"{self.path}: its parity proof failed, so it is not {undone}; see report.html")

    def golden(self) -> Golden:
        """The export's recorded inputs and outputs, the content of golden.npz. Raises BundleError.

        Of a module of the user's own, raises ConfigError unless it has one input, and one output (batch,
        classes) or (batch, classes, time).
        """
        if isinstance(self.manifest.network, ModuleConfig):
            return self.module_golden().of_plain(self.manifest.network)
        return Golden.parse(self.read(GOLDEN_FILE), self.path / GOLDEN_FILE, self.manifest.network)

    def module_golden(self) -> ModuleGolden:
        """The recorded inputs and outputs of a module of the user's own. Raises BundleError."""
        assert isinstance(self.manifest.network, ModuleConfig)
        return ModuleGolden.parse(self.read(GOLDEN_FILE), self.path / GOLDEN_FILE, self.manifest.network)

    def read(self, name: str) -> bytes:
        """The content of a file that the manifest lists. Raises BundleError if it is not what was listed."""
        return read_file(self.path, name, self.manifest.digests()[name])


def open_bundle(path: str | Path, *, key: str | Path | PublicKey | None = None) -> Bundle:
    """Check every file of a bundle folder against its digest, and open the bundle.

    ``key`` is a public key of minisign or its file. With it, the signature of the bundle is checked before
    anything else is read, and a file that was not signed is refused. If the folder is a link, the bundle
    stays the one that the link leads to now.

    Raises BundleError for a missing, changed or damaged file, or a later bundle version, and SignatureError
    (a BundleError). Warns if the bundle's own parity proof failed.

    >>> import numpy as np
    >>> from multires_edge.runtime import open_bundle
    >>> bundle = open_bundle("out/demo.bundle")
    >>> bundle.labels
    ['CD', 'HYP', 'MI', 'NORM', 'STTC']
    >>> logits = bundle.full()(np.zeros((3, 12, 1000), np.float32))  # three records of 12 leads
    >>> logits.shape
    (3, 5)
    """
    path = Path(path)
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        path = path.resolve() if path.is_symlink() else path
    signed: dict[str, str] = {}
    signature = None
    if key is not None:
        key = key if isinstance(key, PublicKey) else read_public_key(key)
        signed, signature = check_signed(path, key)
    manifest = read_manifest(path, signed.get(FILE_NAME))
    for name, digest in manifest.digests().items():
        check_file(path, name, digest)
    bundle = Bundle(path, manifest, signature)
    if not bundle.parity().passed:
        warnings.warn(f"{path}: its parity proof failed; see report.html", stacklevel=2)
    return bundle


def _threads(threads: int | None) -> int | None:
    return None if threads is None else _positive("threads", threads)


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not 1 <= value < 1 << 31:
        raise InputError(f"{name} is {value!r}, expected a positive integer")
    return int(value)
