"""A state on disk: whole, or the one before, whatever happens and whenever."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.base.errors import OutputError, StateError
from multires_edge.runtime.ecg.state_file import StateFile, pack, unpack


class Crash(BaseException):
    """The power goes."""


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | FINITE | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1).filter(str.isprintable), inner),
        max_leaves=10,
    )
)
def test_json_values_come_back(value: Any) -> None:
    assert unpack(pack({"value": value})) == {"value": value}


def test_arrays_come_back() -> None:
    tree: dict[str, Any] = {
        "a": [np.arange(6.0).reshape(2, 3), {"b": np.zeros((0, 2), np.float32)}],
        "c": np.array([True]),
    }
    back = unpack(pack(tree))
    assert np.array_equal(back["a"][0], tree["a"][0]) and back["c"].dtype == bool
    assert back["a"][1]["b"].shape == (0, 2) and back["a"][1]["b"].dtype == np.float32


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "s").read() == (None, None)


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:40], lambda b: b[:-1], lambda b: b[:-1] + b"?", lambda b: b"x" + b]
)
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = StateFile(tmp_path / "s")
    file.write({"n": 1})
    file.write({"n": 2})
    assert file.read() == ({"n": 2}, None)
    file.path.write_bytes(damage(file.path.read_bytes()))
    tree, wrong = file.read()
    assert tree == {"n": 1} and wrong is not None and "damaged" in wrong
    file.previous.write_bytes(b"junk")
    with pytest.raises(StateError, match="move it away to start over"):
        file.read()


def test_a_crash_at_any_point_leaves_one_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every system call that changes the disk is the last one once."""
    file = StateFile(tmp_path / "s")
    countdown = 10**9

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal countdown
            countdown -= 1
            if countdown < 0:
                raise Crash
            return call(*args, **kwargs)

        return wrapped

    for owner, name in ((os, "fsync"), (os, "fchmod"), (Path, "replace"), (Path, "unlink"), (Path, "open")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    file.write({"n": 0})
    survived = 0
    for n in range(1, 100):
        countdown = n % 12
        try:
            file.write({"n": n})
            written = True
        except Crash:
            written = False
        countdown = 10**9
        tree, wrong = file.read()
        assert tree is not None and wrong is None
        assert tree["n"] == n or (not written and tree["n"] == survived)
        survived = tree["n"]
    assert survived > 50


def test_a_disk_that_refuses_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StateFile(tmp_path / "s")
    file.write({"n": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        file.write({"n": 2})
    assert file.read() == ({"n": 1}, None)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_the_good_one_stays_while_the_other_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = StateFile(tmp_path / "s")
    file.write({"n": 1})
    file.write({"n": 2})
    file.path.write_bytes(b"junk")
    file = StateFile(tmp_path / "s")
    assert file.read()[0] == {"n": 1}

    def crash(*_: Any) -> None:
        raise Crash

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(Crash):
        file.write({"n": 3})
    assert file.read()[0] == {"n": 1}
    monkeypatch.undo()
    file.write({"n": 3})
    assert file.read() == ({"n": 3}, None)
    assert file.previous.exists()


def test_it_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT and some overlays have none."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    file = StateFile(tmp_path / "s")
    for n in range(3):
        file.write({"n": n})
    file.path.unlink()
    assert file.read() == ({"n": 1}, None)


def test_its_mode_and_a_link_to_it_stay(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "s")
    file = StateFile(tmp_path / "link")
    file.write({"n": 1})
    (tmp_path / "s").chmod(0o640)
    file.write({"n": 2})
    assert (tmp_path / "link").is_symlink() and StateFile(tmp_path / "s").read()[0] == {"n": 2}
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    """Not at the first state, after the run has begun."""
    with (
        pytest.raises(OutputError, match="no such folder; create it"),
        StateFile(tmp_path / "no" / "s").locked(),
    ):
        pass
    (tmp_path / ".s.partial").mkdir()
    with (
        pytest.raises(OutputError, match="choose a folder that can be written"),
        StateFile(tmp_path / "s").locked(),
    ):
        pass


def test_what_is_no_file_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", Path(os.devnull)):
        with pytest.raises(StateError, match="exists and is not a file"):
            StateFile(path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    file, other = StateFile(tmp_path / "s"), StateFile(tmp_path / "s")
    with file.locked(), pytest.raises(StateError, match="another process"), other.locked():
        pass
    # The file of the lock stays, as after a kill, and does not lock.
    with other.locked():
        pass
