"""Checkpoints from a hub and bundles to it, with a hub on this machine."""

from __future__ import annotations

import errno
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from multires_edge.base.errors import CheckpointError
from multires_edge.base.files import sha256_of
from multires_edge.cli.main import main
from multires_edge.export.hub import HubAddress
from multires_edge.runtime import open_bundle
from tests.cli.commands.test_export import assert_refused
from tests.conftest import SMALL, random_net, save_published
from tests.hub_server import TOKEN, Hub, hub_server

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, and an empty cache and no token on this side."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the library's attempts
    monkeypatch.chdir(tmp_path)
    path = save_published(random_net(SMALL), tmp_path / "net")
    with hub_server() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        files = {each.name: each.read_bytes() for each in path.parent.iterdir()}
        served.repositories["org/net"] = files | {"README.md": b"# A net"}
        yield served


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("address", ["hf://org/net", "hf://org/net@main/ckpt.pth"])
def test_exports_from_the_hub(hub: Hub, address: str, tmp_path: Path) -> None:
    result = run("export", address)
    assert (result.exit_code, result.stderr) == (0, "")
    manifest = open_bundle(tmp_path / "net.bundle").manifest
    assert manifest.source.sha256 == sha256_of(tmp_path / "net" / "ckpt.pth")
    assert manifest.model == SMALL  # args.txt came too


def test_pushes_a_bundle_that_others_can_use(
    hub: Hub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    result = run("push", bundle, "hf://org/ecg", "--message", "First")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{hub.url}/org/ecg/commit/" in result.output
    files = dict(hub.repositories["org/ecg"])
    assert len(hub.objects) == sum(name.endswith(hub.large) for name in files) > 0
    readme = files.pop("README.md").decode()
    assert readme.startswith("---\nlibrary_name: multires-edge\n")
    assert readme.endswith((bundle / "card.md").read_text())
    assert hub.commits[0]["summary"] == "First"
    for name, content in files.items():
        (tmp_path / "again" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "again" / name).write_bytes(content)
    assert open_bundle(tmp_path / "again").manifest == open_bundle(bundle).manifest


class TestRefusals:
    def test_what_is_not_there(self, hub: Hub) -> None:
        assert_refused(run("export", "hf://org/none"), "hf://org/none: no such repository")
        assert_refused(run("export", "hf://org/net@v9"), "hf://org/net@v9: no such revision")
        assert_refused(run("export", "hf://org/net/a.pth"), "no such file; the repository has ckpt.pth")
        hub.repositories["org/net"]["other.safetensors"] = b"x"
        assert_refused(run("export", "hf://org/net"), "expected one checkpoint", "add /FILE")
        hub.repositories["org/bare"] = {}
        assert_refused(run("export", "hf://org/bare"), "the repository has no files")

    def test_a_push_without_a_token(self, hub: Hub, bundle: Path) -> None:
        assert_refused(run("push", bundle, "hf://org/ecg"), "token", "hf auth login")
        assert "org/ecg" not in hub.repositories
        assert_refused(run("push", bundle, "hf://org/ecg/file"), "leave the file out")

    def test_a_network_that_is_away(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        assert_refused(run("export", "hf://org/net"), "hf://org/net: the transfer failed")

    def test_half_a_download(self, hub: Hub, tmp_path: Path) -> None:
        hub.cut = 100
        assert_refused(run("export", "hf://org/net"), "hf://org/net: the transfer failed")
        hub.cut = None
        assert run("export", "hf://org/net").exit_code == 0

    def test_a_full_disk(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def download(*_: object, **__: object) -> str:
            warnings.warn("Not enough free disk space", stacklevel=1)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        assert_refused(run("export", "hf://org/net"), f"{tmp_path / 'cache'} cannot be written (No space")

    def test_a_damaged_download(self, hub: Hub) -> None:
        hub.damaged = True
        assert_refused(run("export", "hf://org/net"), "was damaged on its way", "delete")

    @pytest.mark.parametrize(
        "text", ["hf://", "hf://net", "hf://org/net@", "hf://org/../net", "hf://o/n/..\\x", "hf://a b/c"]
    )
    def test_no_address(self, text: str) -> None:
        with pytest.raises(CheckpointError, match="is no address of the hub"):
            HubAddress.parse(text)


def test_addresses() -> None:
    for text, parts in (
        ("hf://org/net", ("org/net", None, None)),
        ("hf://org/net@v1.0/a/b.pth", ("org/net", "v1.0", "a/b.pth")),
        ("hf://org/net/b.pth", ("org/net", None, "b.pth")),
    ):
        assert HubAddress.parse(text) == HubAddress(*parts)
        assert str(HubAddress(*parts)) == text
