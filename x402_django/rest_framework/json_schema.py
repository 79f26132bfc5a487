"""What a serializer takes and gives, as JSON Schema."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from rest_framework import serializers

if TYPE_CHECKING:
    from rest_framework.views import APIView

#: The first class that a field is of decides.
_TYPES: Final[tuple[tuple[type, dict[str, Any]], ...]] = (
    (serializers.BooleanField, {"type": "boolean"}),
    (serializers.IntegerField, {"type": "integer"}),
    (serializers.FloatField, {"type": "number"}),
    (serializers.DecimalField, {"type": "string", "format": "decimal"}),
    (serializers.EmailField, {"type": "string", "format": "email"}),
    (serializers.URLField, {"type": "string", "format": "uri"}),
    (serializers.CharField, {"type": "string"}),
    (serializers.UUIDField, {"type": "string", "format": "uuid"}),
    (serializers.DateTimeField, {"type": "string", "format": "date-time"}),
    (serializers.DateField, {"type": "string", "format": "date"}),
    (serializers.TimeField, {"type": "string", "format": "time"}),
    (serializers.DurationField, {"type": "string"}),
    (serializers.FileField, {"type": "string", "format": "binary"}),
    (serializers.StringRelatedField, {"type": "string"}),
    (serializers.DictField, {"type": "object"}),
)
_BOUNDS: Final = (
    ("min_length", "minLength"),
    ("max_length", "maxLength"),
    ("min_value", "minimum"),
    ("max_value", "maximum"),
)


def bazaar_options(view: APIView, method: str) -> dict[str, Any]:
    """What ``view`` takes by ``method`` and gives, by its serializer; empty where it has none."""
    chosen: Any
    if not hasattr(view, "get_serializer_class"):
        chosen = getattr(view, "serializer_class", None)
    elif view.serializer_class is None and not _chooses(view):  # type: ignore[attr-defined]
        chosen = None
    else:
        chosen = view.get_serializer_class()
    if not (isinstance(chosen, type) and issubclass(chosen, serializers.BaseSerializer)):
        return {}
    serializer_class: Any = chosen
    options: dict[str, Any] = {}
    if method in ("POST", "PUT", "PATCH"):
        options["INPUT_SCHEMA"] = _input_schema(serializer_class, method == "PATCH")
    output = _output_schema(serializer_class)
    if _lists(view, method):
        output = {"type": "array", "items": output}
        paginator = getattr(view, "paginator", None)
        if paginator is not None:
            output = paginator.get_paginated_response_schema(output)
    return {**options, "OUTPUT_SCHEMA": output}


def _chooses(view: APIView) -> bool:
    from rest_framework.generics import GenericAPIView

    return type(view).get_serializer_class is not GenericAPIView.get_serializer_class  # type: ignore[attr-defined]


def _lists(view: APIView, method: str) -> bool:
    action = getattr(view, "action", None)
    if action is not None:
        return bool(action == "list")
    return method in ("GET", "HEAD") and hasattr(view, "list")


@lru_cache(maxsize=512)
def _input_schema(serializer_class: type, partial: bool) -> dict[str, Any]:
    return serializer_schema(serializer_class(), writing=True, partial=partial)


@lru_cache(maxsize=512)
def _output_schema(serializer_class: type) -> dict[str, Any]:
    return serializer_schema(serializer_class(), writing=False)


def serializer_schema(serializer: Any, *, writing: bool, partial: bool = False) -> dict[str, Any]:
    """The JSON Schema of what ``serializer`` takes (``writing``) or gives.

    What a field of a site's own class may be is not known; its schema is then empty.
    """
    if isinstance(serializer, serializers.ListSerializer):
        return {"type": "array", "items": _schema(serializer.child, writing)}
    fields = getattr(serializer, "fields", None)
    if fields is None:
        return {}
    skip = "read_only" if writing else "write_only"
    shown = {
        name: field
        for name, field in fields.items()
        if not getattr(field, skip) and not isinstance(field, serializers.HiddenField)
    }
    required = [name for name, field in shown.items() if field.required and writing and not partial]
    return {
        "type": "object",
        "properties": {name: _schema(field, writing) for name, field in shown.items()},
        **({"required": required} if required else {}),
    }


def _schema(field: Any, writing: bool) -> dict[str, Any]:
    if isinstance(field, serializers.BaseSerializer):
        schema = serializer_schema(field, writing=writing)
    elif isinstance(field, serializers.MultipleChoiceField):
        schema = {"type": "array", "items": {"enum": [*field.choices]}}
    elif isinstance(field, serializers.ChoiceField):
        blank = [""] if field.allow_blank and "" not in field.choices else []
        schema = {"enum": [*field.choices, *blank, *([None] if field.allow_null else [])]}
    elif isinstance(field, serializers.ListField):
        schema = {"type": "array", "items": _schema(field.child, writing)}
    elif isinstance(field, serializers.ManyRelatedField):
        schema = {"type": "array", "items": _schema(field.child_relation, writing)}
    else:
        schema = dict(next((kind for cls, kind in _TYPES if isinstance(field, cls)), {}))
        for attribute, keyword in _BOUNDS:
            bound = getattr(field, attribute, None)
            if isinstance(bound, int) and "format" not in schema and schema:
                schema[keyword] = bound
    if field.allow_null and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    if field.help_text:
        schema["description"] = str(field.help_text)
    return schema
