"""Networks with other frames around the published blocks: poolings, outputs at every step, no shift.

The reference, the full graph, the step graph and the native engine compute the same of each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multires_edge.base.errors import BundleError, ConfigError
from multires_edge.export import export_bundle
from multires_edge.export.folding import fold
from multires_edge.export.graphs.full import build_full_graph
from multires_edge.export.graphs.step import build_step_graph
from multires_edge.export.native_weights import native_weights
from multires_edge.export.options import Int8Options
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Pooling, parse_pooling
from multires_edge.format.targets import TARGETS
from multires_edge.models import load_checkpoint, save_checkpoint
from multires_edge.models.inference import Overrides
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends import _native
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.verify import verify_bundle
from tests.conftest import (
    as_double,
    configs,
    random_inputs,
    random_net,
    save_published,
    variant,
    within_limit,
)
from tests.export.graphs.harness import Steps, session

ROWS, STEPS = 3, 70


@st.composite
def frames(draw: st.DrawFn) -> tuple[ModelConfig, Pooling | None]:
    """Random networks of every frame, and another pooling of the same kind for a stream of theirs."""
    config = draw(configs(max_depth=4))
    more: dict[str, Any] = {"output_activation": draw(st.sampled_from([None, "sigmoid", "softmax"]))}
    if config.encoder == "linear":
        more["encoder_kernel_size"] = draw(st.sampled_from([None, 2, 3, 17]))
    shifted = draw(st.booleans())
    if config.task == "autoregressive":
        return variant(**(vars(config) | more | {"shifted": shifted})), None
    kinds = draw(st.lists(st.sampled_from(["mean", "max", "last"]), unique=True))
    changed = variant(**(vars(config) | more | {"pooling": "+".join(kinds) or "none"}))
    if not kinds:
        return changed, None
    return changed, parse_pooling("+".join(kinds)).over(draw(st.one_of(st.none(), st.integers(1, 40))))


def full_graph(model: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    (y,) = session(model.SerializeToString()).run(None, feeds)
    return np.asarray(y)


@given(frame=frames(), form=st.sampled_from(["cpu", "portable"]))
@settings(max_examples=30)
@pytest.mark.slow
def test_reference_full_step_and_native_agree(frame: tuple[ModelConfig, Pooling | None], form: str) -> None:
    config, pooling = frame
    net = random_net(config).double()
    inputs, network = random_inputs(config, ROWS, STEPS), fold(net)
    name = "tokens" if config.encoder == "token" else "x"
    target = TARGETS[form].form
    whole = net(as_double(inputs))
    assert within_limit(full_graph(build_full_graph(network, target), {name: inputs}), whole)
    stepwise = net.stepwise(as_double(inputs), pooling)
    assert within_limit(Steps(build_step_graph(network, target, pooling), ROWS).run(inputs), stepwise)
    state = _native.State(_native.Model(native_weights(network, pooling)), ROWS)
    samples = np.ascontiguousarray(np.moveaxis(inputs, -1, 0))
    outputs = np.empty((STEPS, ROWS, config.d_output), np.float32)
    state.run(samples, outputs)
    assert within_limit(np.moveaxis(outputs, 0, -1), stepwise)
    fed = as_double(inputs)
    if config.shifts:
        fed = torch.nn.functional.pad(fed[..., :-1], (1, 0))
    steps = net.stepwise(fed)
    assert torch.allclose(whole, steps if config.per_step else steps[..., -1], atol=1e-12)


@pytest.mark.parametrize("pooling", ["max", "last", "mean+max+last"])
def test_lengths_cut_each_row(pooling: str) -> None:
    net = random_net(variant(encoder="token", pooling=pooling)).double()
    tokens, lengths = random_inputs(net.config, 3, 20), np.array([1, 13, 20])
    expected = torch.cat([net(torch.from_numpy(tokens[i : i + 1, :n])) for i, n in enumerate(lengths)])
    assert torch.allclose(net(torch.from_numpy(tokens), torch.from_numpy(lengths)), expected)
    for form in ("cpu", "portable"):
        model = build_full_graph(fold(net), TARGETS[form].form, lengths=True)
        assert within_limit(full_graph(model, {"tokens": tokens, "lengths": lengths}), expected)


def export(tmp_path: Path, net: Any, **options: Any) -> Path:
    x = random_inputs(net.config, 16, 60)
    name = "tokens" if net.config.encoder == "token" else "x"
    np.savez(tmp_path / "data.npz", **{name: x, "y": net.double()(as_double(x)).numpy()})
    net.float()
    parts = ["mixing", "head", "queues", *(["encoder"] if name == "x" else [])]
    return export_bundle(
        save_published(net, tmp_path / "run"),
        tmp_path / "b",
        precisions=("fp32", "fp16", "int8"),
        target="portable,jetpack6",
        verify_data=tmp_path / "data.npz",
        int8=Int8Options(data=tmp_path / "data.npz", parts=parts),
        **options,
    ).path


FRAMES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "per step": ({"pooling": "none"}, {"pool": "none"}),
    "max": ({"pooling": "max"}, {"pool": "max"}),
    "mean, max and last": ({"pooling": "mean+max+last"}, {"pool": "window:9+max:9+last"}),
    "a convolution in front, a sigmoid behind": (
        {"encoder_kernel_size": 5, "output_activation": "sigmoid"},
        {"overrides": Overrides(output_activation="sigmoid")},
    ),
    "a softmax of every step": (
        {"pooling": "none", "output_activation": "softmax"},
        {"pool": "none", "overrides": Overrides(output_activation="softmax")},
    ),
    "a shifted convolution": ({"task": "autoregressive", "encoder_kernel_size": 2}, {}),
    "unshifted tokens": (
        {"task": "autoregressive", "encoder": "token", "shifted": False},
        {"overrides": Overrides(shifted=False)},
    ),
}


@pytest.mark.filterwarnings("ignore:.*advised")
@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
def test_is_proven_in_every_precision_graph_and_backend(name: str, tmp_path: Path) -> None:
    changes, options = FRAMES[name]
    net = random_net(variant(**changes))
    bundle = open_bundle(export(tmp_path, net, **options))
    assert set(bundle.manifest.native) == {"fp32", "fp16", "int8"}
    checks = {check.name for check in bundle.parity().checks if check.passed}
    assert {"full graph, your outputs", "step graph, every prefix", "taps graph, every prefix"} <= checks
    assert {"native engine, every prefix", "fp16: native engine, every prefix"} <= checks
    assert all(check.passed for check in verify_bundle(bundle))
    inputs = random_inputs(net.config, 2, 50)
    reference = net.double().stepwise(as_double(inputs), bundle.manifest.pooling)
    for backend in ("native", "onnxruntime"):
        stream = bundle.stream(2, backend=backend)
        first = np.stack([stream.step(np.ascontiguousarray(inputs[..., t])) for t in range(20)], -1)
        other = bundle.stream(2, backend=backend)
        other.load_state(StreamState.from_bytes(stream.save_state().to_bytes()))
        other.reset([1])
        rest = other.run(inputs[..., 20:])
        assert within_limit(first, reference[..., :20]) and within_limit(rest[0], reference[0, :, 20:])
        again = net.stepwise(as_double(inputs[1:, ..., 20:]), bundle.manifest.pooling)
        assert within_limit(rest[1:], again)
    whole = net(as_double(inputs))
    for backend in ("native", "onnxruntime"):
        assert within_limit(bundle.full(backend=backend)(inputs), whole)


class TestPoolingIsRefused:
    def test_where_the_head_does_not_fit(self, tmp_path: Path) -> None:
        path = save_published(random_net(variant(pooling="mean+max")), tmp_path)
        with pytest.raises(ConfigError, match=r"reads 16 values of 8 channels.* give --pool"):
            export_bundle(path)
        with pytest.raises(ConfigError, match="reads 16 values"):
            export_bundle(path, pool="max")

    def test_for_a_stream_of_a_network_of_another_kind(self, exported: Path) -> None:
        with pytest.raises(ConfigError, match="this network was trained with pooling by mean"):
            open_bundle(exported).stream(pool="max")

    def test_where_a_manifest_contradicts_itself(self, exported: Path, tmp_path: Path) -> None:
        from dataclasses import replace

        from multires_edge.format.reading import check_manifest

        manifest = open_bundle(exported).manifest
        with pytest.raises(BundleError, match="pool is max, but the model's pooling is mean"):
            check_manifest(replace(manifest, pool="max"))

    @pytest.mark.parametrize("pooling", ["cumulative", "sum", "max+max", "mean+none", ""])
    def test_of_an_unknown_name(self, pooling: str) -> None:
        with pytest.raises(ConfigError, match="pool"):
            variant(pooling=pooling)


def test_a_published_network_is_described_as_before() -> None:
    assert variant(pooling="mean", shifted=False) == variant()
    published = variant(task="autoregressive")
    assert variant(task="autoregressive", pooling="none", shifted=True) == published


class TestACheckpointSays:
    def test_by_its_configuration(self, tmp_path: Path) -> None:
        net = random_net(variant(pooling="max+last", output_activation="sigmoid", encoder_kernel_size=3))
        save_checkpoint(net, tmp_path / "a.pth")
        assert load_checkpoint(tmp_path / "a.pth").config == net.config
        for overrides, words in (
            (Overrides(pool="cumulative"), "--pool mean contradicts .*: max.last"),
            (Overrides(pool="none"), "--pool none contradicts"),
            (Overrides(shifted=True), "--shifted contradicts"),
        ):
            with pytest.raises(ConfigError, match=words):
                load_checkpoint(tmp_path / "a.pth", overrides)

    def test_by_hyper_parameters(self, tmp_path: Path) -> None:
        net = random_net(variant(pooling="mean+max"))
        torch.save({"model": net.state_dict(), "hparams": {"pooling": "mean+max"}}, tmp_path / "a.pth")
        with pytest.warns(UserWarning, match="assumed a fading tree"):
            assert load_checkpoint(tmp_path / "a.pth").config == net.config

    def test_by_the_shape_of_its_encoder(self, tmp_path: Path) -> None:
        net = random_net(variant(encoder_kernel_size=4))
        assert load_checkpoint(save_published(net, tmp_path)).config == net.config

    @pytest.mark.parametrize("rank", [2, 3])
    def test_a_pooled_head_called_decoder(self, rank: int, tmp_path: Path) -> None:
        net = random_net(variant(pooling="max"))
        state = {name.replace("output_mapping", "decoder"): value for name, value in net.state_dict().items()}
        if rank == 3:
            state["decoder.weight"] = state["decoder.weight"][..., None]
        torch.save({"model": state}, tmp_path / "a.pth")
        with pytest.warns(UserWarning, match="assumed a fading tree"):
            found = load_checkpoint(tmp_path / "a.pth", Overrides(pool="max"))
        x = torch.from_numpy(random_inputs(net.config, 2, 30))
        assert found.config == net.config and torch.equal(found(x), net(x))

    def test_a_stream_s_mean_is_ignored_where_nothing_is_pooled(self, tmp_path: Path) -> None:
        net = random_net(variant(task="autoregressive"))
        path = save_published(net, tmp_path)
        with pytest.warns(UserWarning, match="pool window:9 ignored.* give --pool mean"):
            assert load_checkpoint(path, Overrides(pool="window:9")).config == net.config


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            '"pooling":"max"',
            '"pooling":"sum"',
            "pooling is 'sum', this release runs mean, max and last, or none",
        ),
        ('"sigmoid"', '"sigmoyd"', "output_activation is 'sigmoyd', this release runs sigmoid and softmax"),
        ('"encoder_kernel_size":"3"', '"encoder_kernel_size":"4"', "tensor encoder.weight has shape"),
    ],
)
def test_the_engine_refuses_what_it_does_not_run(old: str, new: str, words: str) -> None:
    net = random_net(variant(pooling="max", output_activation="sigmoid", encoder_kernel_size=3))
    content = native_weights(fold(net))
    assert content.count(old.encode()) == 1
    with pytest.raises(RuntimeError, match=words):
        _native.Model(content.replace(old.encode(), new.encode()))


def test_the_engine_refuses_a_window_where_there_is_none() -> None:
    content = native_weights(fold(random_net(variant(pooling="last"))))
    with pytest.raises(RuntimeError, match="window is for models that pool by the mean or the maximum"):
        _native.Model(content.replace(b'"window":"0"', b'"window":"7"'))
