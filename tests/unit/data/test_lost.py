"""Data whose server is gone is waited for, then left for later; data that is wrong is told at once."""

import pytest

from distem.data import lost
from distem.data.lost import is_lost, patiently
from distem.errors import DamagedChunkError, StoreError

botocore = pytest.importorskip("botocore.exceptions")


def gone():
    return botocore.EndpointConnectionError(endpoint_url="http://127.0.0.1:1")


def answered(code):
    about = {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": code}}
    return botocore.ClientError(about, "GetObject")


def wrapped(error):
    """As s3fs raises it: another error, from the client's."""
    made = OSError("translated")
    made.__cause__ = error
    return made


@pytest.mark.parametrize("error", [gone(), answered(503), wrapped(answered(500)), wrapped(gone())])
def test_a_server_that_is_gone(error, monkeypatch):
    monkeypatch.setattr(lost, "_PAUSE", 0.0)
    assert is_lost(error)
    failures = [error, error]

    def read():
        if failures:
            raise failures.pop()
        return 1

    assert patiently(read) == 1


@pytest.mark.parametrize(
    "error", [answered(403), wrapped(answered(404)), FileNotFoundError("x"), OSError(5, "I/O")]
)
def test_an_answer_is_none(error):
    assert not is_lost(error)


def test_what_is_wrong_is_told_at_once():
    def read():
        raise DamagedChunkError("Chunk 3 is damaged.")

    with pytest.raises(DamagedChunkError):
        patiently(read)


def test_who_does_not_come_back():
    def read():
        raise gone()

    with pytest.raises(StoreError, match="could not be reached: EndpointConnectionError") as raised:
        patiently(read, 0.0)
    assert raised.value.exit_code == 75
