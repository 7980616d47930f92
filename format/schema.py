"""The JSON Schemas of a manifest and of a card, generated from their dataclasses.

They say what :mod:`multires_edge.format.fields` checks of each value. What several values must agree on, such
as the number of labels and outputs, no JSON Schema can say; ``read_manifest`` checks it too.

    python -m multires_edge.format.schema        # writes the files anew
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from multires_edge.format.card import Card
from multires_edge.format.fields import Document, alternatives, base_of, hints_of, key_of, kind
from multires_edge.format.manifest import MANIFEST

_FOLDER = Path(__file__).parent
MANIFEST_SCHEMA = _FOLDER / "manifest.schema.json"
CARD_SCHEMA = _FOLDER / "card.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string", NoneType: "null"}


def document_schema(document: Document[Any]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a kind of file, with its format, version and digest."""
    schema = class_schema(document.content)
    frame: dict[str, Any] = {"format": {"const": document.format}, "version": {"const": document.version}}
    if document.digest:
        frame["sha256"] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    schema["properties"] = frame | schema["properties"]
    schema["required"] = [*frame, *schema["required"]]
    return schema


def class_schema(cls: type) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a dataclass."""
    definitions: dict[str, Any] = {}
    schema = _object(cls, definitions)
    return {"$schema": _DIALECT, "title": cls.__name__, **schema, "$defs": definitions}


def _object(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    properties, required = {}, []
    for field in dataclasses.fields(cls):
        properties[key_of(field)] = _schema(hints_of(cls)[field.name], definitions)
        if not field.metadata.get("absent"):
            required.append(key_of(field))
    return {
        "description": inspect.cleandoc(cls.__doc__ or "").replace("``", ""),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    options = [_one(option, definitions) for option in alternatives(hint)]
    return options[0] if len(options) == 1 else {"anyOf": options}


def _one(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    base, rules = base_of(hint)
    schema: dict[str, Any]
    if hint is Any:
        return {}
    if dataclasses.is_dataclass(base):
        assert isinstance(base, type)
        if base.__name__ not in definitions:
            definitions[base.__name__] = {}  # a class may hold itself
            definitions[base.__name__] = _object(base, definitions)
        return {"$ref": f"#/$defs/{base.__name__}"}
    items, wanted = get_args(base), kind(hint)
    if wanted is tuple and items[-1] is ...:
        schema = {"type": "array", "items": _schema(items[0], definitions)}
    elif wanted is tuple:
        of_items = [_schema(item, definitions) for item in items]
        schema = {"type": "array", "prefixItems": of_items, "items": False, "minItems": len(items)}
    elif wanted is dict:
        of_key, of_value = (_schema(item, definitions) for item in items)
        schema = {"type": "object", "propertyNames": of_key, "additionalProperties": of_value}
    elif get_origin(base) is not None:
        schema = {"enum": list(items)}
    else:
        schema = {"type": _TYPES[wanted]}
    for rule in rules:
        schema |= rule.schema()
    return schema


def schema_files() -> dict[Path, str]:
    """The text of each schema's file."""
    schemas = {MANIFEST_SCHEMA: document_schema(MANIFEST), CARD_SCHEMA: class_schema(Card)}
    return {path: json.dumps(schema, indent=1) + "\n" for path, schema in schemas.items()}


if __name__ == "__main__":
    for path, text in schema_files().items():
        path.write_text(text, encoding="utf-8")
