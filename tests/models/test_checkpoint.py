"""Reading checkpoints: every form that users have, and every file that is not one."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from multires_edge.base.errors import CheckpointError
from multires_edge.models import load_checkpoint
from multires_edge.models.checkpoint import read_checkpoint
from multires_edge.models.network import MultiresNet
from tests.conftest import SMALL, published_args, random_net, save_published, variant


@pytest.fixture
def net() -> MultiresNet:
    return random_net(SMALL)


def same_weights(a: MultiresNet, b: MultiresNet) -> bool:
    return a.state_dict().keys() == b.state_dict().keys() and all(
        torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items()
    )


def with_args(path: Path) -> Path:
    path.with_name("args.txt").write_text(published_args(SMALL))
    return path


class TestForms:
    def test_published(self, net: MultiresNet, tmp_path: Path) -> None:
        assert same_weights(load_checkpoint(save_published(net, tmp_path)), net)

    def test_bare_state_dict(self, net: MultiresNet, tmp_path: Path) -> None:
        torch.save(net.state_dict(), tmp_path / "bare.pt")
        assert same_weights(load_checkpoint(with_args(tmp_path / "bare.pt")), net)

    def test_safetensors(self, net: MultiresNet, tmp_path: Path) -> None:
        safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
        assert same_weights(load_checkpoint(with_args(tmp_path / "net.safetensors")), net)

    def test_the_old_file_format(self, net: MultiresNet, tmp_path: Path) -> None:
        torch.save({"model": net.state_dict()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        assert same_weights(load_checkpoint(with_args(tmp_path / "old.pth")), net)

    def test_half_precision_weights_are_widened(self, net: MultiresNet, tmp_path: Path) -> None:
        torch.save({k: v.bfloat16() for k, v in net.state_dict().items()}, tmp_path / "half.pt")
        loaded = load_checkpoint(with_args(tmp_path / "half.pt"))
        assert all(p.dtype == torch.float32 for p in loaded.parameters())

    def test_numpy_is_never_called(self, net: MultiresNet, tmp_path: Path) -> None:
        """numpy.scalar with a dtype of objects and no data would be a crash of the process."""

        class Crash:
            def __reduce__(self) -> Any:
                return np.float64(0).__reduce__()[0], (np.dtype([("a", "O")]),)

        torch.save({"model": net.state_dict(), "val_acc": Crash()}, tmp_path / "evil.pth")
        assert same_weights(load_checkpoint(with_args(tmp_path / "evil.pth")), net)
        torch.save({"model": Crash()}, tmp_path / "evil.pth")
        with pytest.raises(CheckpointError, match="expected a state dict"):
            load_checkpoint(tmp_path / "evil.pth")

    @pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
    def test_numpy_scalars_of_either_numpy(self, net: MultiresNet, tmp_path: Path, module: str) -> None:
        state: dict[str, Any] = {"model": net.state_dict()}
        state |= {"val_acc": np.float64(0.5), "val_loss": np.float32(2), "epoch": np.int64(3)}
        torch.save(state, tmp_path / "ckpt.pth", _use_new_zipfile_serialization=False)
        path = with_args(tmp_path / "ckpt.pth")
        written, other = b"numpy._core.multiarray", module.encode()
        assert written in path.read_bytes() or b"numpy.core.multiarray" in path.read_bytes()
        data = path.read_bytes().replace(b"numpy.core.multiarray", written)
        path.write_bytes(data.replace(written, other))
        assert same_weights(load_checkpoint(path), net)

    def test_tensors_saved_on_a_gpu(
        self, net: MultiresNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:3")
        path = save_published(net, tmp_path)
        monkeypatch.undo()
        with pytest.raises(RuntimeError, match="CUDA"):  # it really says that it is on a GPU
            torch.load(path, weights_only=False)
        assert same_weights(load_checkpoint(path), net)

    def test_without_the_batch_counter(self, tmp_path: Path) -> None:
        net = random_net(variant(norm="batch"))
        state = {k: v for k, v in net.state_dict().items() if "num_batches" not in k}
        torch.save(state, tmp_path / "ckpt.pth")
        loaded = load_checkpoint(with_args(tmp_path / "ckpt.pth"))
        name = "norms.0.running_var"
        assert torch.equal(loaded.state_dict()[name], net.state_dict()[name])

    def test_the_loaded_network_is_for_evaluation(self, net: MultiresNet, tmp_path: Path) -> None:
        loaded = load_checkpoint(save_published(net, tmp_path))
        assert not loaded.training
        assert not any(p.requires_grad for p in loaded.parameters())


class RunsCode:
    """What an attacker pickles."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


class TestRefusals:
    @pytest.mark.parametrize("container", ["torch", "pickle", "old pickle"])
    def test_a_pickle_that_runs_code_runs_nothing(self, tmp_path: Path, container: str) -> None:
        witness, path = tmp_path / "witness", tmp_path / "evil.pth"
        payload = {"model": RunsCode(witness)}
        if container == "torch":
            torch.save(payload, path)
        else:
            path.write_bytes(pickle.dumps(payload, protocol=2 if "old" in container else None))
        with pytest.raises(CheckpointError, match="nothing was run") as refusal:
            read_checkpoint(path)
        assert container == "pickle" or "system" in str(refusal.value)
        assert not witness.exists()

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no such file"):
            read_checkpoint(tmp_path / "none.pth")
        with pytest.raises(CheckpointError, match="a folder"):
            read_checkpoint(tmp_path)

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "ckpt.pth").touch()
        with pytest.raises(CheckpointError, match="empty"):
            read_checkpoint(tmp_path / "ckpt.pth")

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_truncated_anywhere(self, net: MultiresNet, tmp_path: Path, suffix: str) -> None:
        whole = tmp_path / f"whole{suffix}"
        if suffix == ".pth":
            torch.save(net.state_dict(), whole)
        else:
            safetensors.torch.save_file(net.state_dict(), whole)
        data = whole.read_bytes()
        cut = tmp_path / f"cut{suffix}"
        for size in [1, 2, 10, *range(50, len(data), len(data) // 40), len(data) - 1]:
            cut.write_bytes(data[:size])
            with pytest.raises(CheckpointError):
                read_checkpoint(cut)

    @pytest.mark.slow
    def test_any_damaged_byte_is_an_error_or_harmless(self, net: MultiresNet, tmp_path: Path) -> None:
        torch.save(net.state_dict(), tmp_path / "ckpt.pth")
        path = with_args(tmp_path / "ckpt.pth")
        data = bytearray(path.read_bytes())
        random = np.random.default_rng(0)
        for where in random.integers(0, len(data), 150):
            damaged = bytearray(data)
            damaged[where] ^= 0xFF
            path.write_bytes(damaged)
            try:
                load_checkpoint(path)
            except ValueError as error:
                assert "ckpt.pth" in str(error)

    @pytest.mark.parametrize("content", [[1, 2], {}, {"model": {"h": 3}}, {"a": "b"}, None])
    def test_not_a_state_dict(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "ckpt.pth")
        with pytest.raises(CheckpointError, match="expected a state dict"):
            read_checkpoint(tmp_path / "ckpt.pth")

    def test_another_network(self, tmp_path: Path) -> None:
        torch.save(torch.nn.Linear(3, 4).state_dict(), tmp_path / "ckpt.pth")
        with pytest.raises(CheckpointError, match="not a complete MultiresNet checkpoint"):
            load_checkpoint(with_args(tmp_path / "ckpt.pth"))

    @pytest.mark.parametrize(
        "name", ["seq_layers.1.h1", "output_mapping.weight", "norms.0.weight", "encoder.weight"]
    )
    def test_a_missing_tensor_is_named(self, net: MultiresNet, tmp_path: Path, name: str) -> None:
        state = net.state_dict()
        del state[name]
        torch.save(state, tmp_path / "ckpt.pth")
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(with_args(tmp_path / "ckpt.pth"))

    def test_an_unexpected_tensor_is_named(self, net: MultiresNet, tmp_path: Path) -> None:
        torch.save(net.state_dict() | {"extra.weight": torch.zeros(3)}, tmp_path / "ckpt.pth")
        with pytest.raises(CheckpointError, match=r"unexpected extra\.weight"):
            load_checkpoint(with_args(tmp_path / "ckpt.pth"))

    def test_a_wrong_shape_is_named(self, net: MultiresNet, tmp_path: Path) -> None:
        torch.save(net.state_dict() | {"seq_layers.1.w": torch.zeros(8, 6)}, tmp_path / "ckpt.pth")
        with pytest.raises(CheckpointError, match=r"seq_layers\.1\.w has shape \(8, 6\), expected \(8, 5\)"):
            load_checkpoint(with_args(tmp_path / "ckpt.pth"))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite(self, net: MultiresNet, tmp_path: Path, value: float) -> None:
        net.state_dict()["seq_layers.1.w"][0, 0] = value
        with pytest.raises(CheckpointError, match=r"1 of \d+ values of seq_layers\.1\.w are NaN or infinite"):
            load_checkpoint(save_published(net, tmp_path))

    def test_weights_of_another_kind(self, net: MultiresNet, tmp_path: Path) -> None:
        state = net.state_dict()
        state["output_mapping.bias"] = torch.zeros(3, dtype=torch.int32)
        torch.save(state, tmp_path / "ckpt.pth")
        with pytest.raises(CheckpointError, match="expected floating point"):
            load_checkpoint(with_args(tmp_path / "ckpt.pth"))
