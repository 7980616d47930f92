"""Modules that no stream can compute are refused, by the operator and the line of the user's code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multires_edge.base.errors import ModuleError
from multires_edge.export import export_module
from tests.export.trace.harness import plan_of

X = (torch.zeros(2, 4, 12),)


class Function(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Tensor) -> object:
        return self.function(*x)


def squeeze_and_excite(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x.mean(-1, keepdim=True))


def attention(x: Tensor) -> Tensor:
    q = x.transpose(1, 2)
    return F.scaled_dot_product_attention(q, q, q)


def hand_made_attention(x: Tensor) -> Tensor:
    return (x.transpose(1, 2) @ x).softmax(-1) @ x.transpose(1, 2)


def steps_in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y[..., -1] = 0.0
    return y


def in_half_precision(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ x.new_ones(12, 12)


class Positions(nn.Module):
    """Adds a row of a table to each step."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 4, 100))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[..., : x.shape[-1]]


class Layer(nn.Module):
    """A recurrent layer over the steps of (batch, channels, time), which may start from ones."""

    def __init__(self, layer: nn.Module, from_ones: bool = False) -> None:
        super().__init__()
        self.layer, self.from_ones = layer, from_ones

    def forward(self, x: Tensor) -> Any:
        state = x.new_ones(1, x.shape[0], 3) if self.from_ones else None
        y, _ = self.layer(x.transpose(1, 2), state)
        return y.transpose(1, 2)


class Memory(Layer):
    def forward(self, x: Tensor) -> Any:
        return self.layer(x.transpose(1, 2))[1][1][-1]


def test_a_table_of_positions() -> None:
    with pytest.raises(ModuleError, match=r"slice in .*over the end of a table of positions"):
        plan_of(Positions().eval(), X)


RECURRENT: dict[str, tuple[nn.Module, str]] = {
    "both ways": (Layer(nn.GRU(4, 3, batch_first=True, bidirectional=True)), "gru in .*is bidirectional"),
    "a projection": (Layer(nn.LSTM(4, 3, batch_first=True, proj_size=2)), "lstm in .*proj_size"),
    "a start": (Layer(nn.GRU(4, 3, batch_first=True), from_ones=True), "gru in .*states of its own"),
    "rows as steps": (Layer(nn.GRU(4, 3)), "gru in .*expected .time, batch, features"),
    "its memory": (Memory(nn.LSTM(4, 3, batch_first=True)), "lstm in .*memory behind the last step"),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_layer_is_refused(name: str) -> None:
    net, message = RECURRENT[name]
    with pytest.raises(ModuleError, match=message):
        plan_of(net.eval(), X)


REFUSED: dict[str, tuple[Callable[..., object], str]] = {
    "bidirectional": (lambda x: x + x.flip(-1), "flip in .*turns time around"),
    "future padding": (lambda x: F.conv1d(F.pad(x, (1, 1)), x.new_ones(2, 4, 3)), "pad in .*of the future"),
    "a padded convolution": (
        lambda x: F.conv1d(x, x.new_ones(2, 4, 3), padding=1),
        "conv1d in .*of the future",
    ),
    "padding='same'": (
        lambda x: F.conv1d(x, x.new_ones(2, 4, 3), padding="same"),
        "conv1d in .*of the future",
    ),
    "attention": (attention, "scaled_dot_product_attention in .*no rule"),
    "attention by hand": (hand_made_attention, "matmul in .*multiplies two values of the input"),
    "softmax over time": (lambda x: x.softmax(-1), "softmax in .*softmax over time"),
    "layer norm over time": (lambda x: F.layer_norm(x[:, :, :], (x.shape[-1],)), "."),
    "instance norm": (F.instance_norm, "instance_norm in .*normalises over time"),
    "group norm": (lambda x: F.group_norm(x, 2), "group_norm in .*normalises over time"),
    "a norm by hand": (lambda x: x - x.mean(-1, keepdim=True), "sub in .*value of all steps with every step"),
    "squeeze and excite": (squeeze_and_excite, "mul in .*value of all steps with every step"),
    "the longest norm": (lambda x: F.normalize(x, dim=-1), "linalg_vector_norm in .*norm over time"),
    "a stride": (lambda x: F.conv1d(x, x.new_ones(2, 4, 1), stride=2), "conv1d in .*strides over 2 steps"),
    "every second step": (lambda x: x[..., ::2], "slice in .*one output for each step"),
    "max pooling": (lambda x: F.max_pool1d(x, 2), "max_pool1d in .*strides over 2 steps; give stride=1"),
    "mean pooling": (lambda x: F.avg_pool1d(x, 3, 1, 1), "avg_pool1d in .*of the future"),
    "max pooling around a step": (lambda x: F.max_pool1d(x, 3, 1, 1), "max_pool1d in .*of the future"),
    "a sum over time": (lambda x: torch.einsum("bct,to->bco", x, x.new_ones(12, 2)), "."),
    "a product over time": (lambda x: torch.einsum("bct,bct->bc", x, x), "einsum in .*sums over time"),
    "attention by einsum": (lambda x: torch.einsum("bct,bcs->bts", x, x), "einsum in .*relates steps"),
    "upsampling": (lambda x: F.interpolate(x, scale_factor=2), "."),
    "the first step": (lambda x: x[..., 0], "select in .*step 0 of the whole sequence"),
    "a later step": (lambda x: x[..., 1:], "fewer than the inputs"),
    "a linear layer over time": (lambda x: F.linear(x, x.new_ones(2, 12)), "."),
    "a mean of rows": (lambda x: x - x.mean(0), "mean in .*mixes the streams of a batch"),
    "a place": (lambda x: x.max(-1).indices, "place of a maximum over time"),
    "a minimum": (lambda x: x.amin(-1), "amin in .*minimum over time"),
    "steps as channels": (lambda x: x.reshape(x.shape[0], -1), "."),
    "positions": (lambda x: x + torch.arange(x.shape[-1]), "arange in .*numbers the steps; count them by"),
    "random values": (lambda x: F.dropout(x, training=True), "dropout in .*at random"),
    "statistics of the batch": (lambda x: F.batch_norm(x, None, None, training=True), "batch_norm in"),
    "a roll": (lambda x: x.roll(1, -1), "roll in .*moves the last steps to the start"),
    "a Fourier transform": (
        lambda x: torch.fft.irfft(torch.fft.rfft(x, n=24) * torch.fft.rfft(x.new_ones(4, 3), n=24))[..., :12],
        "fft_rfft in .*transforms all steps at once; convolve by conv1d",
    ),
    "a running maximum of its own": (lambda x: x.cummax(-1).values, "cummax in .*no rule"),
    "an index that depends on the input": (lambda x: x[:, x[0, :, 0].long()], "."),
    "steps in place": (steps_in_place, "."),
    "half precision": (in_half_precision, "in torch.bfloat16 under torch.autocast.*enabled=False"),
    "a list in a list": (lambda x: (x, [x, x]), "returns a list among its outputs"),
    "an object": (lambda x: object(), "returns a object, expected tensors"),
    "numbers that add up over channels": (lambda x: x + torch.ones_like(x).cumsum(1), "cumsum in"),
    "a constant": (torch.zeros_like, "does not depend on the inputs"),
    "a number": (lambda x: (x, 3), "."),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(ModuleError, match=message):
        plan_of(Function(function).eval(), X)


def test_the_message_has_the_line_of_the_user() -> None:
    class Excited(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x.mean(-1, keepdim=True))

    with pytest.raises(ModuleError) as raised:
        plan_of(Excited().eval(), X)
    line = Excited.forward.__code__.co_firstlineno + 1
    assert re.search(rf"mul in test_refusals\.py:{line} \(return x \* torch\.sigmoid", str(raised.value))


def test_what_no_output_needs_is_not_refused() -> None:
    def with_a_debug_value(x: Tensor) -> Tensor:
        _ = x.flip(-1).softmax(-1)
        return x + 1

    plan_of(Function(with_a_debug_value).eval(), X)


def test_a_module_in_training_mode() -> None:
    with pytest.raises(ModuleError, match="training mode: call its eval"):
        plan_of(nn.Conv1d(4, 2, 1), X)


def test_a_norm_without_running_statistics() -> None:
    net = nn.Sequential(nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    with pytest.raises(ModuleError, match=r"batch_norm in .*statistics from the input"):
        plan_of(net, X)


def test_a_tensor_that_is_no_buffer() -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filters = torch.ones(2, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.conv1d(x, self.filters)

    with pytest.raises(ModuleError, match="hold tensors as parameters or buffers"):
        plan_of(Loose().eval(), X)


def test_a_size_that_is_fixed() -> None:
    with pytest.raises(ModuleError, match="only with a size of 2 for batch"):
        plan_of(Function(lambda x: x / len(x)).eval(), X)


def test_a_part_in_training_mode() -> None:
    net = nn.Sequential(nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4)).eval()
    net[1].train()
    with pytest.raises(ModuleError):
        plan_of(net, X)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ((), "empty"),
        (([1.0],), "is a list, expected a tensor"),
        (torch.zeros(2, 4, 8, dtype=torch.float64), "float64, expected float32 or int64"),
        (torch.zeros(8), r"expected \(batch, channels, time\)"),
        (torch.full((1, 4, 8), torch.nan), "NaN"),
        (torch.zeros(2, 3, 8), "cannot run on the example"),
    ],
)
def test_examples(example: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModuleError, match=message):
        export_module(nn.Conv1d(4, 2, 1).eval(), example, tmp_path / "b")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_module_that_looks_at_the_number_of_steps(tmp_path: Path) -> None:
    """Its trace is that of the example alone. The module itself, as the reference, shows it."""

    def odd(x: Tensor) -> Tensor:
        return x * 2 if x.shape[-1] > 5 else x

    with pytest.raises(ModuleError):
        export_module(Function(odd).eval(), X, tmp_path / "b")
