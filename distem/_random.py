"""Random numbers keyed by what they are for, so that partitioning work changes nothing."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """Return the generator of (seed, purpose, key): the same wherever and whenever it is asked for.

    Parameters
    ----------
    seed : int
        The run's seed.
    purpose : str
        What the numbers are for, e.g. ``"sample"``; two purposes never share a stream.
    *key : int
        Block, restart or pass number.
    """
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return np.random.default_rng(np.random.SeedSequence([seed % 2**64, word, *key]))
