"""Reading a manifest: each value is checked, and whether files, targets, network and graphs agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BundleError, CardError
from multires_edge.format.config import ModelConfig
from multires_edge.format.fields import plain
from multires_edge.format.golden import GOLDEN_FILE
from multires_edge.format.manifest import FILE_NAME, MANIFEST, Manifest
from multires_edge.format.module import ModuleConfig
from multires_edge.format.parity import PARITY_FILE
from multires_edge.format.pooling import Pooling
from multires_edge.format.specs import GraphSpec, RingBank, StateSpec, TensorSpec
from multires_edge.format.targets import FORMS, TARGETS

_QUEUE_DTYPES = {"fp32": ("float32",), "fp16": ("float16",), "int8": ("float32", "int8")}
ENCODER_QUEUE = "encoder_queue"
_POSITION = TensorSpec("position", "int64", ("batch",))


def read_manifest(folder: Path, sha256: str | None = None) -> Manifest:
    """Read the manifest of a bundle folder, whose digest may be known. Raises BundleError."""
    path = folder / FILE_NAME
    try:
        manifest = MANIFEST.read(path, sha256)
    except FileNotFoundError:
        what = "no manifest.json in it" if folder.is_dir() else "no such folder"
        raise BundleError(f"{folder}: not a bundle, {what}") from None
    try:
        check_manifest(manifest)
    except (BundleError, CardError) as error:
        raise BundleError(f"{path}: {error}: {MANIFEST.remedy}") from error
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Raise BundleError or CardError for a manifest that contradicts itself."""
    if isinstance(manifest.network, ModuleConfig):
        _check_module(manifest)
    else:
        _check_pooling(manifest)
    if manifest.card is not None:
        manifest.card.check_network(manifest.model)
    elif manifest.preprocessing is not None or manifest.labels is not None:
        raise BundleError("card is null, but preprocessing or labels are not")
    _check_targets(manifest)
    _check_files(manifest)
    precisions = set(manifest.graphs.get("full", {}))
    if not precisions or not {*manifest.native, *manifest.quantization} <= precisions:
        raise BundleError("native and quantization need graphs of their precisions")
    for form, graphs in manifest.by_form.items():
        path = "graphs" if form == manifest.form else f"forms.{form}"
        if set(graphs.get("full", {})) != precisions or set(graphs.get("step", {})) != precisions:
            raise BundleError(f"{path}: full and step need the precisions {', '.join(sorted(precisions))}")
        for kind, of_kind in sorted(graphs.items()):  # a taps graph after its step graph, whose rings it has
            for precision, spec in of_kind.items():
                step = graphs["step"].get(precision)
                if step is None:
                    raise BundleError(f"{path}.{kind}.{precision}: has no step graph beside it")
                at = f"{path}.{kind}.{precision}"
                if isinstance(manifest.network, ModuleConfig):
                    _check_module_graph(spec, step, manifest.network, kind, precision, at)
                else:
                    _check_graph(spec, step, manifest, kind, precision, at)


def _check_pooling(manifest: Manifest) -> None:
    pooling, own = manifest.pooling, manifest.model.pooled_by()
    if (pooling and pooling.kind) != (own and own.kind):
        raise BundleError(f"pool is {pooling}, but the model's pooling is {own and own.kind}")


def _check_module(manifest: Manifest) -> None:
    given = {"pool": manifest.pool, "card": manifest.card, "native": manifest.native}
    if wrong := [name for name, value in given.items() if value]:
        raise BundleError(f"{wrong[0]} is given, but the network is a module of the user's own")


def _check_module_graph(
    spec: GraphSpec, step: GraphSpec, module: ModuleConfig, kind: str, precision: str, path: str
) -> None:
    """Compare a graph with the inputs and outputs of a traced network. Its states are what it says."""
    whole = kind == "full"
    inputs = list(module.inputs if whole else module.step_inputs())
    outputs = list(module.outputs if whole else module.step_outputs())
    if kind in ("taps", "sums"):
        outside = [ring.state for bank in spec.banks for ring in bank.rings]
        if kind == "taps":
            inside = _check_rings_outside(spec, step, path)
            inputs, outputs = _with_rings(spec, inputs, outputs)
        else:
            _check_banks(spec.banks, {s.input: s for s in step.states if s.input in outside}, path)
            inside = [state for state in step.states if state.input not in outside]
            inputs += [_sums(bank.taps, bank, spec.inputs, path) for bank in spec.banks]
            outputs += [_sums(bank.pushes, bank, spec.outputs, path) for bank in spec.banks]
        _compare(f"{path}.states", spec.states, inside)
    elif spec.banks:
        raise BundleError(f"{path}: has banks, expected them in taps and sums graphs alone")
    if (kind == "sums") != (spec.factors is not None and bool(spec.banks)):
        raise BundleError(f"{path}: has factors or banks, expected both in sums graphs alone")
    _compare(f"{path}.inputs", _by_name(spec.inputs), _by_name(inputs))
    _compare(f"{path}.outputs", _by_name(spec.outputs), _by_name(outputs))
    if kind in ("taps", "sums"):
        return
    names = [state.input for state in spec.states]
    if whole != (not names) or names != sorted(set(names)) or (not whole and "position" not in names):
        raise BundleError(
            f"{path}.states: are {', '.join(names) or 'none'}, expected them sorted, with position"
        )
    for state in spec.states:
        ring = state.in_place or state.dilation is not None
        good = state.output == f"next_{state.input}" and state.shape[:1] == ("batch",)
        good = good and all(isinstance(size, int) for size in state.shape[1:])
        good = good and state.dtype in ("int64", "float32", *_QUEUE_DTYPES[precision])
        if not good or (ring and (len(state.shape) != 4 or state.shape[1] != 1)):
            raise BundleError(f"{path}.states: {state.input} is not a state of a stream")


def _check_rings_outside(spec: GraphSpec, step: GraphSpec, path: str) -> list[StateSpec]:
    """Check the rings of a taps graph. Returns the states that are left in it."""
    rings = {state.input: state for state in step.states if state.in_place}
    _check_banks(spec.banks, rings, path)
    return [state for state in step.states if state.input not in {*rings, "position"}]


def _sums(name: str, bank: RingBank, tensors: Sequence[TensorSpec], path: str) -> TensorSpec:
    """The input or output of a bank of a sums graph. Raises BundleError unless it is in whole widths."""
    found = next((tensor for tensor in tensors if tensor.name == name), None)
    good = found is not None and found.dtype == bank.dtype == "float32" and len(found.shape) == 2
    if not good or found is None or found.shape[0] != "batch" or int(found.shape[1]) % bank.width:
        raise BundleError(f"{path}: {name} is not a float32 (batch, n * {bank.width}) of the graph")
    return found


def _with_rings(
    spec: GraphSpec, inputs: list[TensorSpec], outputs: list[TensorSpec]
) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """The inputs and outputs of a taps graph, from those of its step graph."""
    clock = [_POSITION] if _POSITION in spec.inputs else []  # a network may need no clock
    taps = [_rows(bank.taps, bank, bank.n_taps) for bank in spec.banks]
    pushes = [_rows(bank.pushes, bank, len(bank.rings)) for bank in spec.banks]
    return [*inputs, *clock, *taps], [*outputs, *pushes]


def _check_targets(manifest: Manifest) -> None:
    names = [manifest.form, *manifest.forms]
    if len(set(names)) < len(names) or not set(names) <= set(FORMS):
        raise BundleError(
            f"form and forms are {', '.join(names)}, expected different ones of {', '.join(FORMS)}"
        )
    for target, forms in manifest.targets.items():
        if target not in TARGETS or not forms or not set(forms) <= set(names):
            raise BundleError(
                f"targets: {target} has the forms {', '.join(forms)}, expected some of {', '.join(names)}, "
                f"and one of the targets {', '.join(TARGETS)}"
            )
    if manifest.form not in manifest.targets.get(manifest.target, ())[:1]:
        raise BundleError(
            f"target is {manifest.target}, expected a target whose best form is {manifest.form}"
        )
    for form, *_, spec in manifest.every_graph():
        if spec.opset != FORMS[form].opset:
            raise BundleError(f"{form}: {spec.file} has opset {spec.opset}, expected {FORMS[form].opset}")


def _check_files(manifest: Manifest) -> None:
    graphs = [spec.file for *_, spec in manifest.every_graph()]
    further = [*manifest.native.values(), *manifest.factor_files()]
    names = Counter([*graphs, *(spec.file for spec in further), *manifest.files])
    if twice := [name for name, count in names.items() if count > 1]:
        raise BundleError(f"{', '.join(twice)}: named more than once, expected a file for each entry")
    if missing := {GOLDEN_FILE, PARITY_FILE} - set(manifest.files):
        raise BundleError(f"files: has no {', '.join(sorted(missing))}")


def _check_graph(
    spec: GraphSpec, step: GraphSpec, manifest: Manifest, kind: str, precision: str, path: str
) -> None:
    """Compare a graph with what the network, its pooling and the step graph beside it ask for."""
    model, pooling = manifest.model, manifest.pooling
    sample, output = _sample_and_output(model, ("time",) if kind == "full" else ())
    inputs, outputs = [sample], [output]
    if kind == "full" and len(spec.inputs) > 1 and pooling is not None:
        inputs.append(TensorSpec("lengths", "int64", ("batch",)))
    states: Sequence[StateSpec] = ()
    if kind == "step":
        dtype = next((state.dtype for state in spec.states if state.scale is not None), "float32")
        if dtype not in _QUEUE_DTYPES[precision]:
            raise BundleError(f"{path}: queues are {dtype}, expected {' or '.join(_QUEUE_DTYPES[precision])}")
        states = step_states(model, pooling, dtype)
    if kind == "taps":
        states = _check_rings_outside(spec, step, path)
        inputs, outputs = _with_rings(spec, inputs, outputs)
    elif spec.banks or kind == "sums" or spec.factors is not None:
        raise BundleError(f"{path}: has banks, expected them in taps graphs alone")
    _compare(f"{path}.inputs", _by_name(spec.inputs), _by_name(inputs))
    _compare(f"{path}.outputs", _by_name(spec.outputs), _by_name(outputs))
    _compare(f"{path}.states", spec.states, states)


def _sample_and_output(model: ModelConfig, time: tuple[str, ...]) -> tuple[TensorSpec, TensorSpec]:
    sample = TensorSpec("tokens", "int64", ("batch", *time))
    if model.encoder == "linear":
        sample = TensorSpec("x", "float32", ("batch", model.channels, *time))
    time = time if model.per_step else ()
    return sample, TensorSpec(model.output, "float32", ("batch", model.d_output, *time))


def step_states(model: ModelConfig, pooling: Pooling | None, dtype: str) -> list[StateSpec]:
    """The states of a step graph whose queues have a type, sorted by name."""
    width = model.n_layers * model.d_model
    queues = [
        StateSpec(
            input=f"queue_{j:02d}",
            output=f"next_queue_{j:02d}",
            dtype=dtype,
            scale=j,
            dilation=1 << j,
            shape=("batch", 1, history + 1, width),
            in_place=True,
        )
        for j, history in enumerate(model.history())
    ]
    samples = []
    if model.encoder_taps > 1:
        # The samples before this one, which a convolution in front of the blocks reads.
        shape = ("batch", 1, model.encoder_taps, model.channels)
        samples = [
            StateSpec(
                input=ENCODER_QUEUE,
                output=f"next_{ENCODER_QUEUE}",
                dtype="float32",
                dilation=1,
                shape=shape,
                in_place=True,
            )
        ]
    position = StateSpec(input="position", output="next_position", dtype="int64", shape=("batch",))
    pooled = () if pooling is None else pooling.states(model.d_model)
    return sorted([position, *samples, *queues, *pooled], key=lambda state: state.input)


def _check_banks(banks: Sequence[RingBank], rings: dict[str, StateSpec], path: str) -> None:
    """Every ring of the step graph is in one bank of its type and width, and is read at the right delays."""
    named = [ring.state for bank in banks for ring in bank.rings]
    if sorted(named) != sorted(rings):
        raise BundleError(f"{path}.banks: has the rings {', '.join(named)}, expected {', '.join(rings)}")
    for bank in banks:
        for ring in bank.rings:
            state = rings[ring.state]
            good = state.shape == ("batch", 1, ring.slots, bank.width) and state.dtype == bank.dtype
            if not good or ring.delays != state.delays:
                raise BundleError(f"{path}.banks: {ring.state} is not the ring that the step graph has")


def _rows(name: str, bank: RingBank, count: int) -> TensorSpec:
    return TensorSpec(name, bank.dtype, ("batch", 1, count, bank.width))


def _by_name(tensors: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The sample or the output first; the order of the others does not matter."""
    return [*tensors[:1], *sorted(tensors[1:], key=lambda tensor: tensor.name)]


def _compare(path: str, given: Sequence[Any], expected: Sequence[Any]) -> None:
    if len(given) != len(expected):
        raise BundleError(f"{path}: has {len(given)} entries, expected {len(expected)}")
    for i, (mine, theirs) in enumerate(zip(given, expected, strict=True)):
        if mine != theirs:
            raise BundleError(
                f"{path}[{i}] is {json.dumps(plain(mine))}, expected {json.dumps(plain(theirs))}"
            )
