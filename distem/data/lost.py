"""A server of data that is gone: waited for, and told from data that is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from distem.data.object_store import PATIENCE
from distem.errors import StoreError

T = TypeVar("T")

_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "fsspec", "s3fs", "gcsfs", "adlfs")
_LOST = {
    "ConnectionError",
    "HTTPClientError",
    "ClientConnectionError",
    "ClientPayloadError",
    "FSTimeoutError",
    "TimeoutError",
}
_PAUSE = 1.0


def is_lost(error: BaseException) -> bool:
    """Whether a store's client says that there was no answer, or one that the server cannot now."""
    return any(_is_one(each) for each in _chain(error))


def _is_one(error: BaseException) -> bool:
    if isinstance(error, StoreError):
        return True
    if type(error).__module__.partition(".")[0] not in _CLIENTS:
        return False
    if not _LOST.isdisjoint(kind.__name__ for kind in type(error).__mro__):
        return True
    response = getattr(error, "response", None)
    about = response.get("ResponseMetadata") if isinstance(response, dict) else None
    code = about.get("HTTPStatusCode") if isinstance(about, dict) else getattr(error, "status", None)
    return isinstance(code, int) and code >= 500


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def store_lost(error: BaseException) -> StoreError:
    """The error for data whose server is gone."""
    last = next(each for each in _chain(error) if _is_one(each))
    if isinstance(last, StoreError):
        return last
    said = (str(last).strip().splitlines() or [""])[0].rstrip(". ")
    return StoreError(
        f"The data's server could not be reached: {type(last).__name__}: {said}.",
        "See that it runs; run the same command to go on.",
    )


def patiently(read: Callable[[], T], patience: float = PATIENCE) -> T:
    """Read, again and again for a while where the server is gone.

    Raises
    ------
    StoreError
        It did not come back.
    """
    until: float | None = None
    while True:
        try:
            return read()
        except Exception as error:
            if not is_lost(error):
                raise
            until = until or time.monotonic() + patience
            if time.monotonic() > until:
                raise store_lost(error) from error
        time.sleep(min(_PAUSE, patience))
