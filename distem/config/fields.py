"""The types of a config's fields: what pydantic's own constraints do not say."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationInfo
from pydantic_core import PydanticCustomError

from distem.config.env import ENV
from distem.config.yaml import describe

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PIPELINE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*|[^\0]*\.py")
_HOST_PORT = re.compile(r"[^\s/]*:\d{1,5}")
_SCHEDULER = re.compile(r"(tcp|tls)://\S+:\d{1,5}")
_PASSWORD = re.compile(r"://[^/@]*:[^/@]+@")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt])(i?))?b", re.IGNORECASE)
_SECRET = re.compile(
    r"secret|passw|token|credential|account_?key|api_?key|connection_string|authorization", re.IGNORECASE
)
_NO_SECRET = ("anon", "cloud", "google_default")  # what gcsfs takes for a token beside a token


def wrong(text: str, *path: str | int) -> PydanticCustomError:
    """Return what validators raise: a sentence without its end, and where below the field it belongs."""
    # braces in the text would be taken for placeholders, so it goes in as one
    return PydanticCustomError("distem", "{text}", {"text": text, "path": path})


def has_password(text: str) -> bool:
    """Return whether a text holds a URL with a password written out."""
    return _PASSWORD.search(ENV.sub("", text)) is not None


def _location(value: str) -> str:
    if "\0" in value:
        raise wrong("holds a NUL character")
    if "${" in ENV.sub("", value):
        raise wrong("has a ${…} that is not of the form ${env:NAME}")
    if has_password(value):
        raise wrong("holds a password, which would be written to the results; write ${env:NAME} for it")
    return value


def _name(value: str) -> str:
    if not _SLUG.fullmatch(value):
        raise wrong("needs letters, digits, '.', '_' and '-' only, the first a letter or digit, at most 100")
    return value


def _pipeline(value: str) -> str:
    if not _PIPELINE.fullmatch(value):
        raise wrong(f"needs a pipeline's name or the path of a .py file, got {describe(value)}")
    return value


def _host_port(value: str) -> str:
    if not _HOST_PORT.fullmatch(value):
        raise wrong(f"needs host:port, such as 127.0.0.1:8787 (port 0: any free one), got {describe(value)}")
    return value


def _scheduler(value: str) -> str:
    if not ENV.search(value) and not _SCHEDULER.fullmatch(value):
        raise wrong("needs a scheduler's address, tcp://host:port or tls://host:port")
    return value


def _memory(value: Any) -> Any:
    # asked before the type is: a number without a unit deserves the same answer as a wrong text
    if value != "auto" and not (isinstance(value, str) and memory_bytes(value)):
        raise wrong(f"needs auto or a size with its unit, such as 4GiB or 500MB, got {describe(value)}")
    return value


def memory_bytes(value: str) -> int:
    """Return the bytes that "4GiB" or "500MB" means; 0 for what is no size."""
    match = _MEMORY.fullmatch(value)
    if match is None:
        return 0
    number, prefix, binary = match.groups()
    step = 1024 if binary else 1000
    return int(float(number) * step ** (" kmgt".index(prefix.lower()) if prefix else 0))


def _unique(value: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = next((item for i, item in enumerate(value) if item in value[:i]), None)
    if twice is not None:
        raise wrong(f"names {twice!r} twice")
    return value


def _leaves(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(tree, dict):
        for key, item in tree.items():
            if not isinstance(key, str):
                raise wrong("needs text for its keys", *path)
            yield from _leaves(item, (*path, key))
    elif isinstance(tree, list):
        for index, item in enumerate(tree):
            yield from _leaves(item, (*path, index))
    else:
        yield path, tree


def _json(value: dict[str, Any]) -> dict[str, Any]:
    for path, leaf in _leaves(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise wrong("is infinite or undefined, which JSON cannot write", *path)
        if not isinstance(leaf, str | int | float | bool | None):
            raise wrong(f"is a {type(leaf).__name__}, which JSON cannot write", *path)
    return value


def _storage_options(value: dict[str, Any]) -> dict[str, Any]:
    for path, leaf in _leaves(_json(value)):
        if not isinstance(leaf, str):
            continue
        try:
            _location(leaf)
        except PydanticCustomError as error:
            raise wrong(error.message(), *path) from None
        if any(_SECRET.search(str(key)) for key in path) and not ENV.search(leaf) and leaf not in _NO_SECRET:
            raise wrong("would be written to the results as it stands; write ${env:NAME}", *path)
    return value


def _init(value: str, info: ValidationInfo) -> str:
    """Accept a method's name or a run folder's path, but not a misspelt name taken for a path."""
    if value in INIT_METHODS or "/" in value or ENV.search(value):
        return _location(value)
    plain = {re.sub(r"[-_ ]", "", name): name for name in INIT_METHODS}
    near = get_close_matches(re.sub(r"[-_ ]", "", value.lower()), plain, 1, 0.75)
    folder = (info.context or {}).get("folder", Path())
    if near and ("\0" in value or not os.path.lexists(os.path.join(folder, value))):
        raise wrong(
            f"is {value!r}, neither a method nor a run folder that exists; "
            f'allowed values: {", ".join(INIT_METHODS)}; did you mean "{plain[near[0]]}"?'
        )
    return _location(value)


def _is_integer(value: Any) -> Any:
    # a Literal takes what is equal to it, and True and 1.0 are equal to 1
    if not isinstance(value, int) or isinstance(value, bool):
        raise PydanticCustomError("int_type", "")
    return value


def _one_or_list(value: Any) -> str:
    return "<list>" if isinstance(value, list | tuple) else "<one>"


def _named_or_given(value: Any) -> str:
    return "<given>" if isinstance(value, dict | BaseModel) else "<name>"


def nesting(value: Any) -> int:
    """Return how deep lists stand in lists, from 1 to 3."""
    depth = 0
    while isinstance(value, list | tuple) and depth < 3:
        depth, value = depth + 1, value[0] if value else None
    return max(depth, 1)


# Python's input is a list where the object keeps a tuple: strictness is for the items
_LIST = Field(strict=False, min_length=1)
_SET = Field(strict=False, json_schema_extra={"uniqueItems": True})
_SETS = (Field(min_length=1), _SET, AfterValidator(_unique))

# Tags in angle brackets name the alternatives in the validator's findings; messages leave them out.
OneOrList = Discriminator(_one_or_list)
NamedOrGiven = Discriminator(_named_or_given)
NAMED, GIVEN = Tag("<name>"), Tag("<given>")
_ONE, _MANY = Tag("<one>"), Tag("<list>")

CovarianceType = Literal["full", "tied", "diag", "spherical"]
VariableName = Literal["label", "probability", "log_density", "uncertainty", "distance", "path"]
InitMethod = Literal["kmeans", "kmeans||", "kmeans++", "random", "random_from_data"]
INIT_METHODS: tuple[str, ...] = get_args(InitMethod)
VARIABLES: tuple[VariableName, ...] = ("label", "probability", "log_density", "uncertainty")

Version = Annotated[Literal[1], BeforeValidator(_is_integer)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Location = Annotated[str, Field(min_length=1), AfterValidator(_location)]
Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{_SLUG.pattern}$"})]
PipelineName = Annotated[str, AfterValidator(_pipeline)]
HostPort = Annotated[str, AfterValidator(_host_port)]
SchedulerAddress = Annotated[Location, AfterValidator(_scheduler)]
Memory = Annotated[str, BeforeValidator(_memory)]
InitName = Annotated[str, Field(min_length=1), AfterValidator(_init)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_json)]
StorageOptions = Annotated[dict[str, Any], AfterValidator(_storage_options)]

Texts = Annotated[tuple[Text, ...], *_SETS]
Variables = Annotated[tuple[VariableName, ...], _SET, AfterValidator(_unique)]
Images = Annotated[tuple[Literal["png", "geotiff"], ...], _SET, AfterValidator(_unique)]
TextOrTexts = Annotated[Annotated[Text, _ONE] | Annotated[Texts, _MANY], OneOrList]
CountOrCounts = Annotated[
    Annotated[Count, _ONE] | Annotated[tuple[Count, ...], *_SETS, _MANY],
    OneOrList,
]
CovarianceOrList = Annotated[
    Annotated[CovarianceType, _ONE] | Annotated[tuple[CovarianceType, ...], *_SETS, _MANY],
    OneOrList,
]

Shares = Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(strict=False)]
Vector = Annotated[tuple[float, ...], _LIST]
Matrix = Annotated[tuple[Vector, ...], _LIST]
Tensor = Annotated[tuple[Matrix, ...], _LIST]
Nested = Annotated[
    Annotated[Vector, Tag("<1>")] | Annotated[Matrix, Tag("<2>")] | Annotated[Tensor, Tag("<3>")],
    Discriminator(lambda value: f"<{nesting(value)}>"),
]
