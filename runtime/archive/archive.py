"""Decisions on all recordings of a folder, in one Parquet file.

Every piece becomes a part in a folder beside the file. Its name is a digest of all that its decisions depend
on, so a run that was ended continues, and a run with nothing new computes nothing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from multires_edge.base.errors import BundleError, DataError, OutputError, StateError
from multires_edge.base.files import check_file, disk_errors, lies_in, lock_file, write_file
from multires_edge.format.fields import digest_of, plain
from multires_edge.runtime.archive.pieces import Piece, Reader, cut, decide
from multires_edge.runtime.archive.survey import Survey, digest_of_record, stamp_of
from multires_edge.runtime.archive.table import (
    about,
    is_part,
    need_parquet,
    part_bytes,
    read_part,
    write_table,
)
from multires_edge.runtime.archive.workers import Failure, Workers
from multires_edge.runtime.bundle import open_bundle
from multires_edge.runtime.ecg.identity import digest_of_card, digest_of_weights
from multires_edge.runtime.ecg.settings import StreamOptions
from multires_edge.runtime.ecg.sources.opening import find_records
from multires_edge.runtime.ecg.sources.protocol import SignalSpec
from multires_edge.runtime.ecg.streams import preprocessing_of

_VERSION = 1  # of what a part contains


@dataclass(frozen=True)
class Work:
    """What every worker needs: the bundle's path, the options, and the ``digest`` of both."""

    bundle: Path
    options: StreamOptions
    digest: str


@dataclass(frozen=True)
class Surveyed:
    """A recording, its digest, sizes and times of its files, and how it can be cut."""

    path: Path
    digest: str
    stamp: list[tuple[int, int]]
    survey: Survey


@dataclass(frozen=True)
class Task:
    """A piece to decide on, and the part that it becomes."""

    recording: Surveyed
    piece: Piece
    part: Path


@dataclass(frozen=True)
class Summary:
    """What a run has made. ``computed``: pieces of it that no earlier run had made."""

    recordings: int
    decisions: int
    pieces: int
    computed: int
    left_out: dict[str, str]


def archive(
    bundle: Path,
    folder: Path,
    output: Path,
    workers: Workers,
    options: StreamOptions | None = None,
    *,
    piece_seconds: float = 3600.0,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Write the decisions on the recordings of ``folder`` and its subfolders to ``output``.

    The file has the same bytes whatever the workers and pieces. A recording that cannot be read is left out,
    and ``say`` is called with the reason. An existing file is replaced if it is one of decisions, or with
    ``force`` if it is outside ``folder``. Raises MultiresError; the parts that are done stay.
    """
    need_parquet()
    options = options or StreamOptions()
    reader = Reader(open_bundle(bundle), options)
    preprocessing = preprocessing_of(reader.bundle)
    reader.stream(SignalSpec(preprocessing.channels, preprocessing.sampling_rate, preprocessing.unit))
    work = Work(bundle.absolute(), options, _digest(reader))
    paths = _recordings(folder)
    ours = output.is_file() and about(output) is not None
    if output.exists() and not ours and lies_in(output, folder):
        raise OutputError(
            f"{output}: lies among the recordings and is no table of decisions; choose another output"
        )
    check_file(output, force=force or ours)
    with _parts_of(output) as parts:
        run = _Run(work, workers, {_name(path, folder): path for path in paths}, parts, progress, say)
        recordings = run.survey()
        tasks = {
            name: [run.task(recording, piece) for piece in cut(recording.survey, piece_seconds)]
            for name, recording in recordings.items()
        }
        computed = run.decide(tasks)
        done = {name: each for name, each in sorted(tasks.items()) if name not in run.left_out}
        if not done:
            raise DataError(
                f"{folder}: no recording could be read; the first: {next(iter(run.left_out.values()))}"
            )
        progress("writing")
        said = {
            "settings": _settings(reader), "labels": reader.bundle.class_names, "left_out": run.left_out,
            "records": {name: recordings[name].digest for name in done},
        }  # fmt: skip
        tables = ((name, (_table(task.part) for task in each)) for name, each in done.items())
        decisions = write_table(output, tables, reader.bundle.class_names, said)
    return Summary(len(done), decisions, sum(map(len, done.values())), computed, run.left_out)


class _Run:
    """The recordings by name, and those that are left out, with the reason."""

    def __init__(
        self,
        work: Work,
        workers: Workers,
        paths: Mapping[str, Path],
        parts: Path,
        progress: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._work, self._workers, self._parts = work, workers, parts
        self._names = {path: name for name, path in paths.items()}
        self._progress, self._say = progress, say
        self.left_out: dict[str, str] = {}

    def survey(self) -> dict[str, Surveyed]:
        """Survey all recordings."""
        found: dict[str, Surveyed] = {}
        for path, result in self._workers.run(partial(survey_recording, self._work), list(self._names)):
            if isinstance(result, Failure):
                self._leave_out(self._names[path], result.message)
            else:
                found[self._names[path]] = result
            self._progress(f"recording {len(found) + len(self.left_out)} of {len(self._names)}")
        return found

    def task(self, recording: Surveyed, piece: Piece) -> Task:
        """The task of a piece; its part is named by all that it depends on."""
        name = digest_of({"work": self._work.digest, "record": recording.digest, "piece": asdict(piece)})
        return Task(recording, piece, self._parts / f"{name[:40]}.parquet")

    def decide(self, tasks: Mapping[str, list[Task]]) -> int:
        """Make the parts that are not there. Returns their number."""
        missing = {task.part: task for each in tasks.values() for task in each if not is_part(task.part)}
        total, count = len(missing), 0

        def wanted() -> Iterator[Task]:
            for task in missing.values():
                if self._names[task.recording.path] not in self.left_out:
                    yield task

        for task, result in self._workers.run(partial(decide_piece, self._work), wanted()):
            name = self._names[task.recording.path]
            if isinstance(result, Failure):
                self._leave_out(name, result.message)
                continue
            write_file(task.part, result, force=True)
            count += 1
            self._progress(f"piece {count} of {total}")
        return count

    def _leave_out(self, name: str, reason: str) -> None:
        if name not in self.left_out:
            self.left_out[name] = reason
            self._say(f"warning: {name} is left out: {reason}")


# What workers do. Each process opens the bundle once.

_READERS: dict[str, Reader] = {}


def _reader(work: Work) -> Reader:
    if work.digest not in _READERS:
        reader = Reader(open_bundle(work.bundle), work.options)
        if _digest(reader) != work.digest:
            raise BundleError(
                f"{work.bundle}: is another bundle for this worker; give all workers the same files"
            )
        _READERS[work.digest] = reader
    return _READERS[work.digest]


def survey_recording(work: Work, path: Path) -> Surveyed:
    """Survey a recording. Raises MultiresError."""
    stamp = stamp_of(path)
    surveyed = Surveyed(path, digest_of_record(path), stamp, _reader(work).survey(path))
    _check_unchanged(path, stamp)
    return surveyed


def decide_piece(work: Work, task: Task) -> bytes:
    """The part of a piece. Raises MultiresError."""
    recording, reader = task.recording, _reader(work)
    decisions = decide(reader, recording.path, recording.survey, task.piece)
    data = part_bytes(decisions, reader.bundle.class_names)
    _check_unchanged(recording.path, recording.stamp)
    return data


def _check_unchanged(path: Path, stamp: list[tuple[int, int]]) -> None:
    if stamp_of(path) != stamp:
        raise DataError(f"{path}: changed while it was read")


def _settings(reader: Reader) -> dict[str, Any]:
    bundle, options = reader.bundle, plain(asdict(reader.options))
    weights = digest_of_weights(bundle, reader.options.precision)
    return {"version": _VERSION, "weights": weights, "card": digest_of_card(bundle), "options": options}


def _digest(reader: Reader) -> str:
    return digest_of(json.loads(json.dumps(_settings(reader))))


def _recordings(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one of recordings")
    if not (paths := [path.absolute() for path in find_records(folder)]):
        raise DataError(f"{folder}: no recordings in the folder, expected .hea, .edf, .npz or .jsonl files")
    return paths


def _name(path: Path, folder: Path) -> str:
    name = path.relative_to(folder.absolute())
    return (name.with_suffix("") if name.suffix == ".hea" else name).as_posix()


@contextlib.contextmanager
def _parts_of(output: Path) -> Iterator[Path]:
    """The folder of the parts, locked for this process. Raises StateError if another process has it."""
    parts = output.with_name(f"{output.name}.parts")
    with disk_errors(parts):
        parts.mkdir(exist_ok=True)
        lock = (parts / ".lock").open("wb")
    with lock:
        if not lock_file(lock.fileno()):
            raise StateError(f"{parts}: another process is using it")
        yield parts


def _table(part: Path) -> Any:
    if (table := read_part(part)) is None:
        with disk_errors(part):
            part.unlink(missing_ok=True)
        raise OutputError(f"{part}: is damaged, and was deleted; start the command again")
    return table
