"""The straightforward streaming form: one shift queue a layer and scale, exported as it is.

This is what an engineer writes first, and what exporters of streaming convolutional networks produce:
each dilated convolution keeps its past in a tensor that is shifted by one at every step.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multires_edge.models.multires import MultiresLayer
from multires_edge.models.network import MultiresNet


class ShiftQueueStep(nn.Module):
    """One step of a fading classifier: (1, d_input), the pooling state and all queues in and out."""

    def __init__(self, net: MultiresNet) -> None:
        super().__init__()
        self.net = net

    def queue_shapes(self) -> list[tuple[int, int, int]]:
        config = self.net.config
        history = [(config.kernel_size - 1) << j for j in range(config.depth)]
        return [(1, config.d_model, size) for _ in range(config.n_layers) for size in history]

    def forward(self, x: Tensor, total: Tensor, count: Tensor, *queues: Tensor) -> tuple[Tensor, ...]:
        net, config = self.net, self.net.config
        x = net.encoder(x[..., None])
        new, waiting = [], iter(queues)
        for i, (mixing, norm) in enumerate(zip(net.mixing_layers, net.norms, strict=True)):
            layer = net.seq_layers[i]
            assert isinstance(layer, MultiresLayer)
            a = x
            y = layer.w[:, -1:] * x
            for j in range(config.depth):
                past = torch.cat([next(waiting), a], dim=-1)
                new.append(past[..., 1:])
                taps = past[..., :: 1 << j]
                b = (taps * layer.h1[:, 0]).sum(-1, keepdim=True)
                a = (taps * layer.h0[:, 0]).sum(-1, keepdim=True)
                y = y + layer.w[:, config.depth - j, None] * b
            y = torch.nn.functional.gelu(y + layer.w[:, :1] * a)
            x = norm(x + mixing(y))
        total, count = total + x[..., 0], count + 1
        return net.output_mapping(total / count), total, count, *new

    def state_shapes(self) -> list[tuple[int, ...]]:
        return [(1, self.net.config.d_model), (1, 1), *self.queue_shapes()]


class CompiledShiftQueues:
    """That step by torch.compile."""

    def __init__(self, net: MultiresNet) -> None:
        # It is compiled at the first call. Until then the caller may make its network float64.
        step = ShiftQueueStep(copy.deepcopy(net))
        self._states = [torch.zeros(shape) for shape in step.state_shapes()]
        self._step = torch.compile(step)

    def step(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed one sample (1, d_input); logits (1, d_output)."""
        with torch.inference_mode():
            logits, *self._states = self._step(torch.from_numpy(x), *self._states)
        found: NDArray[np.float32] = logits.numpy()
        return found


class ShiftQueues:
    """That step in ONNX Runtime; states are bound to two buffers in turn, so nothing is allocated."""

    def __init__(self, net: MultiresNet, folder: Path) -> None:
        step = ShiftQueueStep(net)
        config = net.config
        shapes = step.state_shapes()
        names = [f"state_{i:03d}" for i in range(len(shapes))]
        path = folder / "shift_queues.onnx"
        assert config.d_input is not None
        torch.onnx.export(
            step,
            (torch.zeros(1, config.d_input), *(torch.zeros(shape) for shape in shapes)),
            str(path),
            input_names=["x", *names],
            output_names=["logits", *(f"next_{name}" for name in names)],
            dynamo=True,
            verbose=False,
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.session = session
        self.nodes, self.states = _node_count(path), len(shapes)
        self._x = np.zeros((1, config.d_input), np.float32)
        self._logits = np.zeros((1, config.d_output), np.float32)
        self._buffers = [[np.zeros(shape, np.float32) for shape in shapes] for _ in range(2)]
        self._bindings = [self._bind(names, turn) for turn in (0, 1)]
        self._turn = 0
        self._states = {name: np.zeros(shape, np.float32) for name, shape in zip(names, shapes, strict=True)}

    def _bind(self, names: list[str], turn: int) -> Any:
        binding = self.session.io_binding()
        binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(self._x))
        binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(self._logits))
        for i, name in enumerate(names):
            old, new = self._buffers[turn][i], self._buffers[1 - turn][i]
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(old))
            binding.bind_ortvalue_output(f"next_{name}", ort.OrtValue.ortvalue_from_numpy(new))
        return binding

    def step(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed one sample (1, d_input); logits (1, d_output)."""
        self._x[...] = x
        self.session.run_with_iobinding(self._bindings[self._turn])
        self._turn = 1 - self._turn
        return self._logits.copy()

    def step_by_run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same by ``session.run``, outputs fed back as they come: what most programs do."""
        logits: NDArray[np.float32]
        logits, *states = self.session.run(None, {"x": x, **self._states})
        self._states = dict(zip(self._states, states, strict=True))
        return logits


def _node_count(path: Path) -> int:
    import onnx

    return len(onnx.load(path, load_external_data=False).graph.node)
