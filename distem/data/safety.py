"""What somebody else may have put into a store: told from its description, before a byte is decoded."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from distem.errors import ConfigError, DataError

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "memory")
"""What data may be read from besides files; nothing that runs or unpacks anything on the way."""
MOST_GROUP_BYTES = 1 << 30
MOST_FACTS = 1 << 24
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_ENOUGH = 16
"""So many times its size may a chunk of texts unfold: numbers do not compress like a bomb."""
_NAMED = ("bytes", "crc32c", "zstd", "vlen-utf8")


def require_scheme(path: str, key: str) -> None:
    """Refuse URLs of other kinds, and chains of them.

    Raises
    ------
    ConfigError
        With those that are allowed.
    """
    scheme, there, rest = path.partition("://")
    if there and (scheme.lower() not in SCHEMES or "::" in rest or "::" in scheme):
        raise ConfigError(
            f"{key} is a URL of the kind {scheme[:40]}://.",
            f"It can be a local path, or one of {', '.join(f'{s}://' for s in SCHEMES)}.",
        )


def require_group_name(name: str) -> None:
    """Refuse a group's name that would lie elsewhere than right below the result.

    Raises
    ------
    ConfigError
        It does.
    """
    if not _GROUP.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a group of the result.",
            "Use letters, digits, '_', '-' and '.', the first a letter, digit or '_'.",
        )


def refuse_code(name: str, metadata: Any, where: str) -> None:
    """Refuse an array whose chunks would be unpickled: that runs whatever is in them.

    Raises
    ------
    DataError
        It is one.
    """
    parts = [getattr(metadata, part, None) for part in ("filters", "compressor", "codecs")]
    codecs = [codec for part in parts for codec in (part if isinstance(part, list | tuple) else [part])]
    if any("pickle" in _codec(codec) for codec in codecs if codec is not None):
        raise DataError(
            f"'{name}' in {where} is stored as Python pickles, which could run anything.",
            "Have it written as numbers.",
        )


def _codec(codec: Any) -> str:
    return (
        f"{getattr(codec, 'codec_id', '')} {getattr(codec, 'codec_name', '')} {type(codec).__name__}".lower()
    )


def require_harmless_group(path: Path) -> None:
    """Refuse a stored model, or what lies beside it, that is larger, or other, than distem writes them.

    Before anything is decoded. Not for assignments, which are as large as the data.

    Raises
    ------
    DataError
        Says which array, and why.
    """
    claimed = 0
    _facts(path / "zarr.json")
    for file in sorted(path.glob("*/zarr.json")):
        claimed = _claimed(path, file.parent.name, _facts(file), claimed)


def doubtful_indexes(path: Path) -> list[str]:
    """Coordinates of dimensions that are larger, or other, than distem writes them: opening decodes those.

    Raises
    ------
    DataError
        What describes the group or an array in it cannot be read.
    """
    found = []
    _facts(path / "zarr.json")
    for file in sorted(path.glob("*/zarr.json")):
        name, about = file.parent.name, _facts(file)
        if about.get("dimension_names") == [name]:
            try:
                _claimed(path, name, about)
            except DataError:
                found.append(name)
    return found


def _claimed(path: Path, name: str, about: dict[str, Any], before: int = 0) -> int:
    """Bytes that an array claims besides those before it, if it is one that distem writes."""
    try:
        shape = [int(n) for n in about["shape"]]
        chunks = [int(n) for n in about["chunk_grid"]["configuration"]["chunk_shape"]]
        kind = str(about["data_type"])
        codecs = [str(codec["name"]) for codec in about["codecs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _not_ours(path, f"'{name}' is described as no array is") from error
    size = 64 if kind == "string" else _item(kind)
    # a codec that stands there twice would unfold what the first of them has unfolded
    if size is None or not set(codecs) <= set(_NAMED) or len(set(codecs)) < len(codecs):
        raise _not_ours(path, f"'{name}' is of {kind}, stored by {', '.join(codecs)}"[:200])
    if min([0, *shape, *chunks]) < 0 or len(shape) != len(chunks):
        raise _not_ours(path, f"'{name}' has the shape {shape[:8]} in chunks of {chunks[:8]}")
    total = before + max(math.prod(shape), math.prod(chunks)) * size
    if total > MOST_GROUP_BYTES:
        raise _not_ours(path, f"with '{name}' of shape {shape[:8]} it claims {total:,} bytes")
    _require_honest_chunks(path / name, math.prod(chunks) * size, kind, path)
    return total


def _require_honest_chunks(folder: Path, nbytes: int, kind: str, path: Path) -> None:
    """Refuse a compressed chunk that says it unfolds to more than the array has, or does not say."""
    for file in folder.rglob("*"):
        if not file.is_file() or file.name == "zarr.json":
            continue
        with file.open("rb") as opened:
            head = opened.read(18)
        if head[:4] != b"\x28\xb5\x2f\xfd":
            if file.stat().st_size > nbytes + 4 and kind != "string":
                raise _not_ours(path, f"a chunk of '{folder.name}' has {file.stat().st_size:,} bytes")
            continue
        size = _unfolded(head)
        most = MOST_GROUP_BYTES // _ENOUGH if kind == "string" else nbytes
        if size is None or size > most:
            raise _not_ours(path, f"a chunk of '{folder.name}' unfolds to {size or 'unknown'} bytes")


def _unfolded(head: bytes) -> int | None:
    """The size of its content that a Zstandard frame declares (RFC 8878, 3.1.1.1), or None."""
    flags = head[4]
    single, code = bool(flags & 0x20), flags >> 6
    length = {0: 1 if single else 0, 1: 2, 2: 4, 3: 8}[code]
    start = 5 + (0 if single else 1) + {0: 0, 1: 1, 2: 2, 3: 4}[flags & 3]
    if not length or len(head) < start + length:
        return None
    return int.from_bytes(head[start : start + length], "little") + (256 if length == 2 else 0)


def _facts(file: Path) -> dict[str, Any]:
    folder = file.parent
    if file.stat().st_size > MOST_FACTS:
        raise _not_ours(folder.parent, f"{file.name} of '{folder.name}' is too large")
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _not_ours(folder.parent, f"{file.name} of '{folder.name}' cannot be read") from error
    if not isinstance(found, dict):
        raise _not_ours(folder.parent, f"{file.name} of '{folder.name}' describes nothing")
    return found


def _item(kind: str) -> int | None:
    found = re.fullmatch(r"(?:u?int|float)(8|16|32|64)|(bool)", kind)
    return None if found is None else (1 if found[2] else int(found[1]) // 8)


def _not_ours(path: Path, why: str) -> DataError:
    return DataError(f"{path} is not what distem writes: {why}.", "Use a run folder you trust.")
