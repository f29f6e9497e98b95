"""Words for errors: names that exist, near misses, attributes as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from distem.errors import ConfigError, DataError

NUMERIC = "biuf"
"""dtype kinds that can be features: bool, integers, unsigned, floats."""


def no_such(what: str, name: str, existing: Iterable[str], where: str) -> DataError:
    """Return the error for a name the store does not have, with a near miss if there is one."""
    names = sorted(str(n) for n in existing)
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    near = get_close_matches(str(name), names, n=1)
    remedy = f"Did you mean '{near[0]}'? " if near else ""
    return DataError(f"There is no {what} '{name}' in {where}.", f"{remedy}It has: {shown or 'none'}.")


def not_numeric(what: str, dtype: Any) -> DataError:
    """Return the error for values that are no real numbers."""
    kind = np.dtype(dtype).kind if not isinstance(dtype, str) else "?"
    name = {"O": "object", "c": f"complex ({dtype})", "M": "datetime", "m": "timedelta"}.get(kind)
    name = name or ("string" if kind in "UST" else str(dtype))
    return DataError(
        f"{what} has dtype {name}, which is not a real number.",
        "Features and weights must be integers, floats or booleans: leave it out or convert it.",
    )


def need(extra: str, what: str, error: ImportError) -> ConfigError:
    """Return the error for an optional dependency that is not installed."""
    return ConfigError(f"{what} needs {error.name or extra}, which is not installed.",
                       f'Install it: pip install "distem[{extra}]".')  # fmt: skip


def plain(value: Any) -> Any:
    """Return an attribute as a JSON-able value, or None if it has none."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, list | tuple):
        items = [plain(v) for v in value]
        return None if any(v is None for v in items) else items
    if isinstance(value, Mapping):
        pairs = {str(k): plain(v) for k, v in value.items()}
        return {k: v for k, v in pairs.items() if v is not None}
    return None


def plain_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the attributes that JSON can hold."""
    found = {str(name): plain(value) for name, value in attrs.items()}
    return {name: value for name, value in found.items() if value is not None}
