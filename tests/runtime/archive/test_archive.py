"""A folder becomes one file: the same bytes whoever computes them, and whatever ended the run before."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from multires_edge.base.errors import (
    BackendError,
    DataError,
    InputError,
    MultiresError,
    OutputError,
    StateError,
)
from multires_edge.cli.main import main
from multires_edge.runtime import EcgStream, open_bundle
from multires_edge.runtime.archive.archive import Summary, _parts_of, archive
from multires_edge.runtime.archive.workers import Cluster, Failure, Processes, ThisProcess, Workers
from multires_edge.runtime.ecg.settings import StreamOptions
from tests.runtime.archive.mortal import die, die_once, fail
from tests.runtime.conftest import beats, write_wfdb

RATE = 100
X = {"a": beats(90, RATE, seed=1), "deep/b": beats(40, RATE, seed=2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings that can be read, and one that cannot."""
    for name, x in X.items():
        write_wfdb(tmp_path / "rec" / Path(name).parent, Path(name).name, x, RATE, ("I", "II"))
    (tmp_path / "rec" / "bad.hea").write_text("nothing of a header\n")
    return tmp_path / "rec"


def run(bundle: Path, folder: Path, name: str, workers: Workers | None = None, **options: Any) -> Summary:
    return archive(bundle, folder, folder.parent / name, workers or ThisProcess(), **options)


def content(folder: Path, name: str) -> bytes:
    return (folder.parent / name).read_bytes()


def test_the_table_has_the_decisions_of_streams(two_leads: Path, folder: Path) -> None:
    said: list[str] = []
    summary = run(two_leads, folder, "out.parquet", say=said.append)
    assert (summary.recordings, summary.pieces, summary.decisions) == (2, 2, 180 + 80)
    assert list(summary.left_out) == ["bad"] and said[0].startswith("warning: bad is left out: ")
    assert "\n" not in said[0]
    rows = pq.read_table(folder.parent / "out.parquet").to_pylist()
    import wfdb

    for name in X:
        samples = wfdb.rdrecord(str(folder / name)).p_signal
        stream = EcgStream(open_bundle(two_leads), leads=["I", "II"], rate=RATE)
        decisions = stream.feed(samples) + stream.finish()
        got = [row for row in rows if row["record"] == name]
        assert [row["time"] for row in got] == [d.time for d in decisions]
        assert [[row[f"p_{label}"] for label in "ABC"] for row in got] == [
            list((d.probabilities or {}).values()) for d in decisions
        ]
        assert [row["warming"] for row in got] == [d.warming for d in decisions]
        assert all(row["quality"] == [] for row in got)


def test_pieces_and_processes_change_no_byte(two_leads: Path, folder: Path) -> None:
    run(two_leads, folder, "one.parquet")
    workers = Processes(2)
    try:
        summary = run(two_leads, folder, "two.parquet", workers, piece_seconds=20)
    finally:
        workers.close()
    assert (summary.pieces, summary.computed) == (5 + 2, 7)
    assert content(folder, "one.parquet") == content(folder, "two.parquet")


class Killed(Exception):
    """The process ends here."""


class Mortal(ThisProcess):
    """Dies after so many items."""

    def __init__(self, items: int) -> None:
        self._left = items

    def run(self, function: Any, items: Any) -> Iterator[Any]:
        for each in super().run(function, items):
            if not self._left:
                raise Killed
            self._left -= 1
            yield each


@pytest.mark.parametrize("items", [1, 4, 7, 9])
def test_a_run_that_was_killed_goes_on(two_leads: Path, folder: Path, items: int) -> None:
    with pytest.raises(Killed):
        run(two_leads, folder, "out.parquet", Mortal(items), piece_seconds=20)
    assert not (folder.parent / "out.parquet").exists()
    summary = run(two_leads, folder, "out.parquet", piece_seconds=20)
    assert summary.computed == 7 - max(0, items - 3)
    run(two_leads, folder, "whole.parquet")
    assert content(folder, "out.parquet") == content(folder, "whole.parquet")


def test_only_what_changed_is_computed(two_leads: Path, folder: Path) -> None:
    assert run(two_leads, folder, "out.parquet").computed == 2
    before = content(folder, "out.parquet")
    assert run(two_leads, folder, "out.parquet").computed == 0
    assert content(folder, "out.parquet") == before
    write_wfdb(folder / "deep", "b", -X["deep/b"], RATE, ("I", "II"))
    assert run(two_leads, folder, "out.parquet").computed == 1
    assert content(folder, "out.parquet") != before
    assert run(two_leads, folder, "out.parquet", options=StreamOptions(every=1)).computed == 2
    part = next((folder.parent / "out.parquet.parts").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-50])
    assert run(two_leads, folder, "out.parquet", options=StreamOptions(every=1)).computed <= 1


def test_a_recording_that_breaks_off_is_left_out_whole(two_leads: Path, folder: Path) -> None:
    data = folder / "a.dat"
    data.write_bytes(data.read_bytes()[:-5000])
    summary = run(two_leads, folder, "out.parquet", piece_seconds=20)
    assert set(summary.left_out) == {"a", "bad"} and summary.recordings == 1
    assert set(pq.read_table(folder.parent / "out.parquet")["record"].to_pylist()) == {"deep/b"}


class TestProcesses:
    def test_one_that_dies_is_replaced(self, tmp_path: Path) -> None:
        workers = Processes(2)
        results = dict(workers.run(partial(die_once, tmp_path / "marker"), range(9)))
        assert results == {item: 10 * item for item in range(9)}
        assert dict(workers.run(fail, [7])) == {7: Failure("item 7")}
        workers.close()

    def test_one_that_dies_between_two_items_is_replaced(self) -> None:
        with contextlib.closing(Processes(2)) as workers:
            assert isinstance(workers._pool.submit(die, 0).exception(), BrokenProcessPool)
            assert sorted(workers.run(abs, [-1, -2])) == [(-2, 2), (-1, 1)]

    def test_an_item_that_kills_all_of_them_is_an_error(self) -> None:
        workers = Processes(1)
        with pytest.raises(BackendError, match="processes died 3 times in a row"):
            list(workers.run(die, [1]))
        workers.close()


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker_changes_no_byte(two_leads: Path, folder: Path) -> None:
    distributed: Any = import_module("distributed")
    run(two_leads, folder, "one.parquet")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        workers = Cluster(cluster.scheduler_address)
        killed: list[str] = []

        def kill(_: str) -> None:
            if not killed:
                nanny = next(iter(cluster.workers.values()))
                killed.append("one")
                os.kill(nanny.pid, 9)

        summary = run(two_leads, folder, "two.parquet", workers, piece_seconds=6, progress=kill)
        workers.close()
    assert killed and summary.computed == 15 + 7
    assert content(folder, "one.parquet") == content(folder, "two.parquet")


class TestRefusals:
    def refused(self, *arguments: Any) -> str:
        result = CliRunner().invoke(main, ["archive", *map(str, arguments)])
        assert result.exit_code == 2 and result.output.count("\n") <= 2, result.output
        return result.output

    def test_a_scheduler_that_is_not_there(self, two_leads: Path, folder: Path) -> None:
        out = folder.parent / "out.parquet"
        for address in ("nonsense", "tcp://", "tcp://127.0.0.1"):
            assert "expected an address such as" in self.refused(
                two_leads, folder, "-o", out, "--scheduler", address
            )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("multires_edge.runtime.archive.workers._CONNECT_SECONDS", 0.3)
            with pytest.raises(InputError, match=r"^no Dask scheduler answers at tcp://127\.0\.0\.1:9 "):
                Cluster("tcp://127.0.0.1:9")
        assert "exclude each other" in self.refused(
            two_leads, folder, "-o", out, "--scheduler", "tcp://127.0.0.1:9", "--jobs", 2
        )

    def test_folders_options_and_files(self, two_leads: Path, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.parquet"
        with pytest.raises(DataError, match="no such folder; expected one of recordings"):
            archive(two_leads, tmp_path / "nowhere", out, ThisProcess())
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="no recordings in the folder"):
            archive(two_leads, tmp_path / "empty", out, ThisProcess())
        (tmp_path / "empty" / "\udcff.npz").touch()
        with pytest.raises(DataError, match="is not UTF-8; rename it"):
            archive(two_leads, tmp_path / "empty", out, ThisProcess())
        for options in (StreamOptions(pool="7"), StreamOptions(every="x"), StreamOptions(gap="y")):
            with pytest.raises(MultiresError, match="expected"):
                archive(two_leads, folder, out, ThisProcess(), options)
        out.write_text("a thesis")
        with pytest.raises(OutputError, match="exists already; give --force"):
            archive(two_leads, folder, out, ThisProcess())
        assert out.read_text() == "a thesis"
        for recording in filter(Path.is_file, folder.rglob("*")):
            before = recording.read_bytes()
            with pytest.raises(OutputError, match="lies among the recordings"):
                archive(two_leads, folder, recording, ThisProcess(), force=True)
            assert recording.read_bytes() == before
        for name in X:
            (folder / f"{name}.dat").unlink()
        with pytest.raises(DataError, match="no recording could be read; the first: "):
            archive(two_leads, folder, out, ThisProcess(), force=True)

    def test_a_second_run_on_the_same_file(self, two_leads: Path, folder: Path) -> None:
        out = folder.parent / "out.parquet"
        with _parts_of(out), pytest.raises(StateError, match="another process is using it"):
            archive(two_leads, folder, out, ThisProcess())

    def test_without_the_extra(self, two_leads: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib.util

        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        out = self.refused(two_leads, folder, "-o", folder.parent / "out.parquet")
        assert "needs pyarrow" in out and "archive" in out


def test_the_command(two_leads: Path, folder: Path) -> None:
    shutil.rmtree(folder / "deep")
    result = CliRunner().invoke(
        main, ["archive", str(two_leads), str(folder), "-o", str(folder / "out.parquet")]
    )
    assert result.exit_code == 1
    assert (
        "out.parquet: 180 decisions on 1 recording (1 of 1 piece computed); 1 recording left out"
        in result.output
    )
    assert np.isfinite(pq.read_table(folder / "out.parquet")["p_A"].to_numpy()).all()
