"""How the answers for rows are stored: the probabilities' type, compressor and level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from distem.errors import ConfigError

_MISSING = 255
_STEPS = 254
"""A byte holds multiples of 1/254, 0 and 1 among them; one value is left for what is missing."""


LEVELS = {"zstd": 22, "blosc": 9, "gzip": 9, "none": 22}
"""The highest level of each compressor."""


@dataclass(frozen=True)
class Encoding:
    """How the answers for rows are stored.

    Attributes
    ----------
    probability : {"float64", "float32", "float16", "uint8"}
        Of the responsibilities. uint8 is packed by the CF conventions, at most 1/508 from what it was;
        float16 at most 2**-12, float32 2**-25.
    compressor : {"zstd", "blosc", "gzip", "none"}
        Blosc is Zstd behind a byte shuffle.
    level : int
        The compressor's own.
    """

    probability: str = "float64"
    compressor: str = "zstd"
    level: int = 1

    def __post_init__(self) -> None:
        if self.probability not in ("float64", "float32", "float16", "uint8"):
            raise ConfigError(
                f"Probabilities cannot be stored as {self.probability}.",
                "They can be float64, float32, float16 or uint8.",
            )
        if self.compressor not in LEVELS:
            raise ConfigError(f"There is no compressor {self.compressor}.", f"It can be {', '.join(LEVELS)}.")
        if not 1 <= self.level <= LEVELS[self.compressor]:
            raise ConfigError(
                f"{self.compressor} has no level {self.level}.",
                f"It can be 1 to {LEVELS[self.compressor]}.",
            )

    @property
    def is_packed(self) -> bool:
        """Whether probabilities are stored as integers."""
        return self.probability == "uint8"

    @property
    def itemsize(self) -> int:
        """Bytes of a probability, before compression."""
        return np.dtype(self.probability).itemsize

    @property
    def fill_value(self) -> float:
        """What is stored where no probability is."""
        return _MISSING if self.is_packed else np.nan

    @property
    def attributes(self) -> dict[str, Any]:
        """Return the CF attributes by which readers decode the probabilities."""
        if not self.is_packed:
            return {}
        return {"scale_factor": 1 / _STEPS, "_FillValue": _MISSING}

    def pack(self, probability: NDArray[np.float64]) -> NDArray[Any]:
        """Return probabilities, none of them missing, as they are stored."""
        if not self.is_packed:
            return probability.astype(self.probability, copy=False)
        return np.rint(probability * _STEPS).astype(np.uint8)

    def codecs(self) -> list[BytesBytesCodec]:
        """Return the compressors: a flipped bit must not pass in silence."""
        if self.compressor == "none":
            return [Crc32cCodec()]
        compressor: BytesBytesCodec
        if self.compressor == "blosc":
            compressor = BloscCodec(cname="zstd", clevel=self.level, shuffle="shuffle")
        else:
            compressor = {"zstd": ZstdCodec, "gzip": GzipCodec}[self.compressor](level=self.level)
        return [compressor, Crc32cCodec()]
