"""Examples that fit a JSON Schema, for who has written a schema and no example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_FORMATS: Final = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00",
    "email": "somebody@example.com",
    "uri": "https://example.com/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "decimal": "1",
    "binary": "",
}


def example_of(schema: Mapping[str, Any]) -> Any:
    """A value that ``schema`` accepts, made of what it says: its own examples, enums, bounds.

    None for an empty schema, which accepts anything. ``pattern`` is not looked at.
    """
    for keyword in ("example", "default", "const"):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None)
    return _MAKERS[kind](schema) if kind in _MAKERS else None


def _text(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "text")
    return text[: schema.get("maxLength")].ljust(int(schema.get("minLength", 0)), "x")


def _number(schema: Mapping[str, Any]) -> Any:
    number = max(1, schema.get("minimum", 1))
    return min(number, schema.get("maximum", number))


def _object(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: example_of(one) for name, one in schema.get("properties", {}).items()}


def _array(schema: Mapping[str, Any]) -> list[Any]:
    return [example_of(schema.get("items", {}))]


_MAKERS: Final = {
    "string": _text,
    "integer": _number,
    "number": _number,
    "boolean": lambda schema: True,
    "object": _object,
    "array": _array,
}
