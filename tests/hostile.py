"""Documents with hostile values in them: written by hand, and generated."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import numpy as np

from multires_edge.base.errors import MultiresError
from multires_edge.format.fields import Line

# How many documents each test generates. The tests that `make test` runs are a sample of the whole trial.
COUNT = int(os.environ.get("MULTIRES_HOSTILE", "60"))
ONE_LINE = get_args(Line)[1]
_SECONDS = 30  # none of the documents is large

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 1 << 31, 1 << 40, 1 << 62, 1 << 64, 10**400, 0.5, -0.0, 1e-320, 1e308,
    "", "a", "a\0b", "\x1b[31mred", "\x9b32m", "two\nlines", "\ud800", "\u202e", "../../etc/passwd",
    "/dev/zero", "x" * 5000, "0" * 64, "window:0", "window:99999999999999999999", "cumulative",
    "nan", "int8", "float16", [], {}, [[]], [None], {"": None}, [1, 2, 3], ["a", "a"],
    {"x": {"y": []}}, [0] * 300,
)  # fmt: skip


def put(entry: Any, path: str, value: Any) -> Any:
    """Set the value at a path such as ``graphs.step.fp32.states.0.shape``; returns the document."""
    *parents, last = path.split(".")
    node = entry
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[int(last) if isinstance(node, list) else last] = value
    return entry


def hostile_documents(examples: Sequence[Any], count: int, seed: int) -> Iterator[tuple[str, Any]]:
    """Copies of trees of JSON values and arrays, each with one to three changes, and what was changed.

    A change replaces a value, takes one from another place, moves a number a little, renames, removes or
    adds a key, or repeats, drops or reorders items of a list.
    """
    draw = random.Random(seed)
    for _ in range(count):
        document = copy.deepcopy(draw.choice(examples))
        changes = [_change(document, draw) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
        yield "; ".join(changes), document


def _places(node: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Every container, key and path below a node."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key, f"{path}.{key}"
        if isinstance(node[key], dict | list):
            yield from _places(node[key], f"{path}.{key}")


def _change(document: Any, draw: random.Random) -> str:
    places = list(_places(document))
    # Long lists, such as counts of a histogram, would otherwise take nearly all changes.
    parents = {id(node): node for node, _, _ in places}
    parent = draw.choice(list(parents.values()))
    node, key, path = draw.choice([place for place in places if place[0] is parent])
    value, kind = node[key], draw.randrange(6)
    if isinstance(value, np.ndarray):
        node[key] = _hostile_array(value, draw)
        return f"{path} = {node[key].dtype} {node[key].shape}"
    if kind == 0 and isinstance(value, int | float) and not isinstance(value, bool):
        node[key] = draw.choice((value + 1, value - 1, -value, value * 2, value + 0.5))
    elif kind == 1:
        other, at, _ = draw.choice(places)
        node[key] = copy.deepcopy(other[at])
    elif kind == 2 and isinstance(node, dict):
        other = draw.choice([draw.choice(places)[1], "", "more", f"{key} "])
        node[str(other)] = node.pop(key)
        return f"{path} renamed to {other!r:.40}"
    elif kind == 3 and isinstance(node, dict):
        del node[key]
        return f"{path} removed"
    elif kind == 4 and isinstance(node, list):
        node.insert(draw.randrange(len(node)), copy.deepcopy(value))
        return f"{path} repeated"
    elif kind == 5 and isinstance(node, list):
        draw.shuffle(node) if draw.random() < 0.5 else node.pop(key)
        return f"{path} reordered or dropped"
    else:
        node[key] = copy.deepcopy(draw.choice(_VALUES))
    return f"{path} = {node.get(key) if isinstance(node, dict) else node[key]!r:.60}"


def _hostile_array(array: np.ndarray, draw: random.Random) -> np.ndarray:
    """An array with other values, another shape or another type."""
    other = array.copy()
    with np.errstate(all="ignore"):
        match draw.randrange(8):
            case 0 if other.size and other.dtype.kind in "iuf":
                lowest = np.iinfo(other.dtype).min if other.dtype.kind in "iu" else np.nan
                other.reshape(-1)[draw.randrange(other.size)] = lowest
            case 1 if other.size and other.dtype.kind in "iuf":
                largest = np.iinfo(other.dtype).max if other.dtype.kind in "iu" else np.inf
                other.reshape(-1)[draw.randrange(other.size)] = largest
            case 2:
                other = np.concatenate([other[None], other[None]])
            case 3 if other.ndim:
                other = other[:-1]
            case 4 if other.ndim:
                other = np.concatenate([other, other])
            case 5:
                other = other.astype(draw.choice([np.float64, np.float32, np.int64, np.bool_, np.uint8]))
            case 6:
                other = -other if other.dtype.kind in "if" else ~other if other.dtype.kind == "b" else other
            case _:
                other = other.reshape(-1)
    return other


def check_hostile(
    examples: Sequence[Any], use: Callable[[Any], None], *, seed: int = 0, count: int | None = None
) -> tuple[int, int]:
    """Give ``use`` generated documents; returns how many were taken and how many refused.

    Fails for each that ``use`` does not refuse by a MultiresError of one line without control
    characters, or takes too long over.
    """
    taken = refused = 0
    wrong = []
    for number, (changes, document) in enumerate(hostile_documents(examples, count or COUNT, seed)):
        try:
            with within(_SECONDS):
                use(document)
        except MultiresError as error:
            refused += 1
            if ONE_LINE.check(str(error)) is not None:
                wrong.append(f"{number}: {changes}\n{error!r}")
        except Exception:
            wrong.append(f"{number}: {changes}\n{traceback.format_exc(limit=-6)}")
        else:
            taken += 1
    assert not wrong, f"{len(wrong)} of {taken + refused + len(wrong)} documents:\n" + "\n".join(wrong[:20])
    return taken, refused


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise TimeoutError after some seconds."""

    def expire(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
