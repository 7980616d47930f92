"""Deployments: at any moment the target leads to a whole and checked bundle."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from multires_edge.base.errors import BundleError, OutputError, SignatureError
from multires_edge.cli.main import main
from multires_edge.format.minisign import read_public_key
from multires_edge.runtime import open_bundle
from multires_edge.runtime.deployment import deploy, go_back
from tests.minisign_keys import KeyPair, make_keys
from tests.waiting import exit_code_of

_CHANGING = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.truncate"}


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    return make_keys(tmp_path)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "device").mkdir()
    return tmp_path / "device" / "ecg.bundle"


def release(bundle: Path, number: int) -> Path:
    """A bundle that differs from the others in a file that no digest names."""
    copy = Path(shutil.copytree(bundle, bundle.with_name(f"release{number}")))
    (copy / "devices").mkdir()
    (copy / "devices" / "number").write_text(str(number))
    return copy


def number_of(target: Path) -> int:
    """The release in the place of the target, which is whole."""
    open_bundle(target)
    return int((target / "devices" / "number").read_text())


def names(target: Path) -> list[str]:
    store = target.with_name(f"{target.name}.deployed")
    return sorted(path.name for path in store.iterdir()) if store.exists() else []


def test_releases_follow_each_other_and_go_back(bundle: Path, target: Path) -> None:
    releases = {number: release(bundle, number) for number in range(1, 5)}
    for number in (1, 2, 3):
        deploy(releases[number], target)
        assert number_of(target) == number
    assert names(target) == [".lock", "2", "3"]
    go_back(target)
    assert number_of(target) == 2
    with pytest.raises(OutputError, match="has no earlier bundle"):
        go_back(target)
    assert number_of(target) == 2
    deploy(releases[4], target)  # release 3 was gone back from, so this goes back to release 2
    assert number_of(target) == 4
    go_back(target)
    assert number_of(target) == 2


def test_an_open_bundle_stays_what_it_was(bundle: Path, target: Path) -> None:
    deploy(release(bundle, 1), target)
    opened = open_bundle(target)
    deploy(release(bundle, 2), target)
    opened.stream(backend="native")
    assert (opened.path / "devices" / "number").read_text() == "1"


def test_more_can_be_kept(bundle: Path, target: Path) -> None:
    for _ in range(5):
        deploy(bundle, target, keep=3)
    assert names(target) == [".lock", "3", "4", "5"]


class TestWithAKey:
    def test_only_what_is_signed_is_deployed(self, bundle: Path, target: Path, keys: KeyPair) -> None:
        key = read_public_key(keys.public)
        with pytest.raises(SignatureError, match="is not signed"):
            deploy(bundle, target, key=key)
        assert not target.exists() and names(target) == []
        make_keys(keys.public.parent, 2).sign(bundle)
        with pytest.raises(SignatureError, match="was signed with the key"):
            deploy(bundle, target, key=key)
        keys.sign(bundle)
        deploy(bundle, target, key=key)
        open_bundle(target, key=key)

    def test_going_back_checks_too(self, bundle: Path, target: Path, keys: KeyPair) -> None:
        key = read_public_key(keys.public)
        deploy(release(bundle, 1), target)
        signed = release(bundle, 2)
        keys.sign(signed)
        deploy(signed, target, key=key)
        with pytest.raises(SignatureError, match="is not signed"):
            go_back(target, key=key)
        assert number_of(target) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda target: target.mkdir(), "exists and was not deployed"),
        (lambda target: target.touch(), "exists and was not deployed"),
        (lambda target: target.symlink_to("elsewhere"), "is a link to elsewhere, which was not deployed"),
        (lambda target: target.symlink_to("ecg.bundle.deployed/../x"), "which was not deployed"),
        (lambda target: target.parent.rmdir(), "cannot be written"),
        (lambda target: target.with_name("ecg.bundle.deployed").touch(), "exists and is not a folder"),
    ],
)
def test_targets_that_are_refused(
    make: Callable[[Path], Any], message: str, bundle: Path, target: Path
) -> None:
    make(target)
    before = sorted(target.parent.parent.rglob("*"))
    with pytest.raises(OutputError, match=message):
        deploy(bundle, target)
    assert sorted(target.parent.parent.rglob("*")) == before


def test_nothing_to_go_back_to(target: Path) -> None:
    with pytest.raises(OutputError, match="has no earlier bundle"):
        go_back(target)


def test_damaged_and_unproven_bundles_are_not_deployed(bundle: Path, target: Path) -> None:
    deploy(release(bundle, 1), target)
    damaged = release(bundle, 2)
    (damaged / "step.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="changed since"):
        deploy(damaged, target)
    shutil.rmtree(damaged / "native")
    with pytest.raises(BundleError):
        deploy(damaged, target)
    assert number_of(target) == 1 and names(target) == [".lock", "1"]


def test_a_second_process_is_refused(bundle: Path, target: Path) -> None:
    deploy(release(bundle, 1), target)
    with (target.with_name(f"{target.name}.deployed") / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process deploys there"):
            deploy(bundle, target)
        with pytest.raises(OutputError, match="another process deploys there"):
            go_back(target)
    deploy(release(bundle, 2), target)
    assert number_of(target) == 2


_hook: list[Callable[[str], None]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _hook:
        opens = event == "open" and isinstance(arguments[2], int)
        if event in _CHANGING or (opens and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            _hook[0](event)


@contextmanager
def before_changes(act: Callable[[str], None]) -> Iterator[None]:
    """Call a function before each call that changes the disk."""
    if _audit not in _installed:
        sys.addaudithook(_audit)
        _installed.append(_audit)
    _hook.append(act)
    try:
        yield
    finally:
        _hook.clear()


_installed: list[Any] = []


def count_changes(call: Callable[[], Any]) -> int:
    events: list[str] = []
    with before_changes(events.append):
        call()
    return len(events)


def killed_before(change: int, call: Callable[[], Any]) -> None:
    """Run a call in a process that ends before its change number ``change``."""
    seen = 0

    def act(event: str) -> None:
        nonlocal seen
        if seen == change:
            os._exit(9)
        seen += 1

    child = os.fork()
    if child == 0:
        try:
            with before_changes(act):
                call()
        finally:
            os._exit(1)
    assert exit_code_of(child) == 9


@pytest.mark.filterwarnings("ignore:This process .*is multi-threaded:DeprecationWarning")
def test_a_process_that_is_killed_at_any_moment(bundle: Path, target: Path, tmp_path: Path) -> None:
    old, new = release(bundle, 1), release(bundle, 2)
    deploy(old, target)
    deploy(old, target)
    prepared = tmp_path / "prepared"
    target.parent.rename(prepared)
    shutil.copytree(prepared, target.parent, symlinks=True)
    total = count_changes(lambda: deploy(new, target))
    assert total > 20
    outcomes = set()
    copying = range(0, total - 12, 4)
    for change in (*copying, *range(total - 12, total)):
        shutil.rmtree(target.parent)
        shutil.copytree(prepared, target.parent, symlinks=True)
        killed_before(change, lambda: deploy(new, target))
        outcomes.add(number_of(target))
        deploy(new, target)  # the lock is free, and what was left is cleaned up
        assert number_of(target) == 2
        assert not any(name.endswith(".partial") for name in names(target))
    assert outcomes == {1, 2}


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_at_any_moment(reason: int, bundle: Path, target: Path) -> None:
    old, new = release(bundle, 1), release(bundle, 2)
    deploy(old, target)
    total = count_changes(lambda: deploy(old, target))
    step = max(total // 6, 1)
    for change in range(0, total, step):
        left = [change]

        def act(event: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0 and event not in {"os.remove", "os.rmdir"}:  # a full disk can still delete
                raise OSError(reason, os.strerror(reason))

        with before_changes(act), pytest.raises(OutputError, match=os.strerror(reason)) as caught:
            deploy(new, target)
        assert "\n" not in str(caught.value)
        assert number_of(target) in (1, 2)
    deploy(new, target)
    assert number_of(target) == 2


def test_the_command(bundle: Path, target: Path, keys: KeyPair) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["deploy", *map(str, arguments)])
        return result.exit_code, result.output

    assert run(bundle, target, "--key", keys.public)[0] == 2
    keys.sign(bundle)
    assert run(bundle, target, "--key", keys.public) == (0, f"{target} -> ecg.bundle.deployed/1\n")
    assert run(bundle, target, "--key", keys.public)[0] == 0
    assert run("--back", target, "--key", keys.public) == (0, f"{target} -> ecg.bundle.deployed/1\n")
    for wrong in ((target,), (bundle, target, "--back"), ()):
        code, output = run(*wrong)
        assert code == 2 and output.startswith("error: expected ")


@pytest.mark.parametrize("name", [".", "..", "x" * 300])
def test_names_that_cannot_be_links(name: str, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        deploy(bundle, tmp_path / name)
    with pytest.raises(OutputError):
        go_back(tmp_path / name)
