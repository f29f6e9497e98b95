"""The JSON Schema of a line of `log.jsonl`, made from the events themselves."""

from __future__ import annotations

import inspect
import types
from dataclasses import MISSING, fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from distem import events
from distem.events import Event

_PLAIN: dict[Any, dict[str, Any]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}


def kinds() -> list[type[Event]]:
    """The events that are logged."""
    found = [
        kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if issubclass(kind, Event) and kind is not Event and kind.logged
    ]
    return sorted(found, key=lambda kind: kind.event)


def log_schema() -> dict[str, Any]:
    """The schema of one line: what every line has, and what each kind of event adds."""
    common = {
        "time": {"type": "string", "format": "date-time", "description": "When it happened, UTC."},
        "run": {"type": "string", "description": "Name of the run."},
        "phase": {
            "type": ["string", "null"],
            "description": "scan, seed, fit, assign or finalise; null before the first.",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of log.jsonl",
        "oneOf": [_of(kind, common) for kind in kinds()],
    }


def _of(kind: type[Event], common: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    own = {field.name.rstrip("_"): _type(hints[field.name]) for field in fields(kind)}
    always = [
        field.name.rstrip("_") for field in fields(kind) if field.default is MISSING
    ]  # others are newer
    about = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
    return {
        "title": kind.__name__,
        "description": about,
        "type": "object",
        "properties": {**common, "event": {"const": kind.event}, **own},
        "required": list(dict.fromkeys([*common, "event", *always])),  # the event `phase` has one of its own
        "additionalProperties": False,
    }


def _type(hint: Any) -> dict[str, Any]:
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if get_origin(hint) in (Union, types.UnionType):
        return {"anyOf": [_type(part) for part in get_args(hint)]}
    if get_origin(hint) is list:
        return {"type": "array", "items": _type(get_args(hint)[0])}
    return {}
