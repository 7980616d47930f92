"""JSON read into dataclasses and written from them; the annotations are the format.

A field of a dataclass is a key of a JSON object. Its annotation says what the value must be: int, float (an
integer is one too, and stays one), bool, str, None, Literal, Any, a dataclass, ``tuple[T, ...]``,
``tuple[T, U]``, ``dict[K, T]``, their unions, and ``Annotated`` with the rules below; any
other class, such as a numpy array in a saved state, is taken as it is. Every key is required
and no other is allowed. A field with the metadata ``ABSENT`` is left out of the JSON where it has its
default; ``{"key": KEY}`` gives it another key than its name. ``__post_init__`` checks what several fields
must agree on and raises a ValueError. Needs no installed package: kits carry this file.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from multires_edge.base.files import read_regular
from multires_edge.base.names import printable

T = TypeVar("T")


class FieldError(ValueError):
    """A value that does not fit; the message begins with its path, such as ``graphs.step.fp32.opset``."""


@dataclass(frozen=True)
class Between:
    """A rule for numbers: from ``least`` to ``most``."""

    least: float
    most: float

    def check(self, value: Any) -> str | None:
        return None if self.least <= value <= self.most else f"{_number(self.least)} to {_number(self.most)}"

    def schema(self) -> dict[str, Any]:
        return {"minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Above:
    """A rule for numbers: more than ``least``."""

    least: float

    def check(self, value: Any) -> str | None:
        return None if value > self.least else f"a number above {self.least:g}"

    def schema(self) -> dict[str, Any]:
        return {"exclusiveMinimum": self.least}


@dataclass(frozen=True)
class Pattern:
    """A rule for strings: a regular expression that all of it matches, and what that means."""

    regex: str
    meaning: str

    def check(self, value: Any) -> str | None:
        return None if re.fullmatch(self.regex, value) else self.meaning

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^{self.regex}$"}


@dataclass(frozen=True)
class OneOf:
    """A rule for strings whose type is str for Python, where Literal would be in the way."""

    values: tuple[str, ...]

    def check(self, value: Any) -> str | None:
        return None if value in self.values else " or ".join(self.values)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


def shortened(text: str) -> str:
    """A text of another program, such as an error, as one printable line of at most 300 characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= 300 else f"{line[:297]}..."


# No escape sequences for a terminal, no half of a surrogate pair, which UTF-8 cannot encode, and nothing that
# makes the text around it run from right to left.
_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
Utf8 = Annotated[str, Pattern(r"[^\ud800-\udfff]*", "text that UTF-8 has")]
Text = Annotated[str, Pattern(f"[^{_CONTROL}]*", "text without control characters")]
Line = Annotated[str, Pattern(rf"[^{_CONTROL}\t\n\u2028\u2029]+", "one line of text")]
Name = Annotated[str, Pattern("[A-Za-z0-9_.-]+", "a name of letters, digits, '_', '.' and '-'")]
_PART = "[A-Za-z0-9_-][A-Za-z0-9_.-]*"
FileName = Annotated[str, Pattern(f"{_PART}(/{_PART})*", "a file in the bundle")]
Sha256 = Annotated[str, Pattern("[0-9a-f]{64}", "64 hexadecimal digits")]
_MAX_JSON_BYTES = 1 << 26  # a parsed file takes many times its size
ABSENT = {"absent": True}  # metadata of a field that JSON leaves out where it has its default
Count = Annotated[int, Between(1, (1 << 31) - 1)]
Natural = Annotated[int, Between(0, (1 << 62) - 1)]


def key_of(field: dataclasses.Field[Any]) -> str:
    """The key of a field in JSON."""
    return str(field.metadata.get("key", field.name))


def parse_json(text: str) -> Any:
    """A JSON text. Raises RecursionError, and ValueError also for NaN and keys that come twice."""
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_distinct)


def read_fields(cls: type[T], entry: Any, path: str = "") -> T:
    """Read an object of a dataclass. Raises FieldError."""
    if not isinstance(entry, dict):
        raise _error(path, entry, "an object")
    hints, values = hints_of(cls), {}
    fields = {key_of(field): field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(entry) - set(fields)):
        raise FieldError(f"{_within(path)}unknown keys {_shown(unknown)}, expected {', '.join(fields)}")
    for key, field in fields.items():
        if key in entry:
            values[field.name] = _read(hints[field.name], entry[key], _join(path, key))
        elif not field.metadata.get("absent"):
            raise FieldError(f"{_within(path)}has no {key}")
    try:
        return cls(**values)
    except FieldError:
        raise
    except ValueError as error:
        raise FieldError(f"{_within(path)}{error}") from error


def check_fields(value: Any) -> None:
    """Check the fields of a dataclass that was not read. Raises FieldError."""
    for field in dataclasses.fields(value):
        _read(hints_of(type(value))[field.name], plain(getattr(value, field.name)), field.name)


def plain(value: Any) -> Any:
    """A dataclass as JSON values, its keys in the order of its fields."""
    if dataclasses.is_dataclass(value):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {key_of(f): plain(v) for f, v in fields if not (f.metadata.get("absent") and v == f.default)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def hints_of(cls: Any) -> dict[str, Any]:
    """The annotations of a dataclass."""
    return _hints(cls)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _read(hint: Any, value: Any, path: str) -> Any:
    if hint is Any:
        return value
    options = alternatives(hint)
    fitting = [option for option in options if _of_kind(option, value)]
    if fitting:
        # Of several dataclasses, the one whose keys are there.
        option = next((each for each in fitting if _keys_fit(each, value)), fitting[0])
        return _read_one(option, value, path)
    raise _error(path, value, " or ".join(dict.fromkeys(_kind_name(option) for option in options)))


def _read_one(hint: Any, value: Any, path: str) -> Any:
    """Read what is already known to be of the right kind."""
    base, rules = base_of(hint)
    origin = get_origin(base)
    if dataclasses.is_dataclass(base):
        value = read_fields(base, value, path)  # type: ignore[arg-type]
    elif origin is Literal and value not in get_args(base):
        raise _error(path, value, " or ".join(map(str, get_args(base))))
    elif origin is tuple:
        items = get_args(base)
        if items[-1] is ...:
            items = items[:1] * len(value)
        if len(items) != len(value):
            raise _error(path, value, f"a list of {len(items)}")
        value = tuple(_read(item, value[i], f"{path}[{i}]") for i, item in enumerate(items))
    elif origin is dict:
        of_key, of_value = get_args(base)
        value = {
            _read(of_key, key, f"a key of {path}"): _read(of_value, each, _join(path, key))
            for key, each in value.items()
        }
    elif base is float and not abs(value) <= sys.float_info.max:
        raise _error(path, value, "a finite number")
    for rule in rules:
        if (expected := rule.check(value)) is not None:
            raise _error(path, value, expected)
    return value


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation alone."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def base_of(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """What an annotation is of, and its rules."""
    return (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())


_KINDS: dict[Any, tuple[type, ...]] = {
    int: (int,), float: (int, float), bool: (bool,), str: (str,), NoneType: (NoneType,),
    Literal: (str,), tuple: (list,), dict: (dict,),
}  # fmt: skip
_KIND_NAMES = {
    int: "an integer", float: "a number", bool: "true or false", str: "a string", NoneType: "null",
    Literal: "a string", tuple: "a list", dict: "an object",
}  # fmt: skip


def kind(hint: Any) -> Any:
    """A key of the tables above."""
    base, _ = base_of(hint)
    return dict if dataclasses.is_dataclass(base) else get_origin(base) or base


def _of_kind(hint: Any, value: Any) -> bool:
    wanted = kind(hint)
    return type(value) in _KINDS.get(wanted, (wanted,))  # not isinstance: a bool is no integer


def _keys_fit(hint: Any, value: Any) -> bool:
    base, _ = base_of(hint)
    if not dataclasses.is_dataclass(base):
        return True
    return all(
        key_of(field) in value for field in dataclasses.fields(base) if not field.metadata.get("absent")
    )


def _kind_name(hint: Any) -> str:
    wanted = kind(hint)
    return _KIND_NAMES.get(wanted) or f"an object of {wanted.__name__}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _within(path: str) -> str:
    return f"{path}: " if path else ""


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    text = " ".join(repr(value).encode("utf-8", "backslashreplace").decode().split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _error(path: str, value: Any, expected: str) -> FieldError:
    return FieldError(f"{path or 'it'} is {_shown(value)}, expected {expected}")


@dataclass(frozen=True)
class Document(Generic[T]):
    """A kind of JSON file: ``content`` between ``format``, ``version`` and a digest of the rest.

    ``error`` is raised for a file that does not fit, and ``remedy`` says what to do about it.
    """

    what: str
    format: str
    version: int
    content: type[T]
    error: type[Exception]
    remedy: str
    digest: bool = True

    def to_json(self, content: T) -> dict[str, Any]:
        """The JSON object, its digest last."""
        entry = {"format": self.format, "version": self.version, **plain(content)}
        return {**entry, "sha256": digest_of(entry)} if self.digest else entry

    def to_bytes(self, content: T) -> bytes:
        """The content of a file."""
        return (json.dumps(self.to_json(content), indent=2) + "\n").encode()

    def from_json(self, entry: Any) -> T:
        """Read :meth:`to_json` back. Raises ``error``."""
        if not isinstance(entry, dict) or entry.get("format") != self.format:
            raise self.error(f"not a {self.what}, its format is not {self.format!r}: {self.remedy}")
        if type(entry.get("version")) is not int or entry["version"] != self.version:
            raise self.error(
                f"has version {_shown(entry.get('version'))}, this release reads {self.version}: "
                f"{self.remedy}"
            )
        if self.digest and entry.get("sha256") != digest_of(entry):
            raise self.error(f"changed since it was written (its SHA-256 differs): {self.remedy}")
        rest = {key: value for key, value in entry.items() if key not in ("format", "version")}
        if self.digest:
            del rest["sha256"]
        try:
            return read_fields(self.content, rest)
        except FieldError as error:
            raise self.error(f"{error}: {self.remedy}") from error

    def read(self, path: Path, sha256: str | None = None) -> T:
        """Read a file, whose digest may be known. Raises ``error``, and FileNotFoundError."""
        try:
            return self.from_json(read_json(path, sha256))
        except FileNotFoundError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, self.error):
                raise self.error(f"{path}: {error}") from error
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise self.error(f"{path}: cannot be read ({reason}): {self.remedy}") from error


def read_json(path: Path, sha256: str | None = None) -> Any:
    """A JSON file. Raises OSError, RecursionError, and ValueError also for NaN and keys that come twice.

    If the digest of the file is known, other content is a ValueError too.
    """
    content = read_regular(path, _MAX_JSON_BYTES)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("its SHA-256 differs from the expected one")
    return parse_json(content.decode("utf-8"))


def digest_of(entry: dict[str, Any]) -> str:
    """SHA-256 of an object without its own digest, as JSON with sorted keys and no spaces."""
    content = {key: value for key, value in entry.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        raise ValueError(f"a key is given twice in {_shown([key for key, _ in pairs])}")
    return entry
