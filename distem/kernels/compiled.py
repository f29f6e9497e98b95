"""Compiled kernels: the twins of `distem.kernels.reference`, same names and signatures."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import DTypeLike

from distem.kernels.reference import e_step_diag as e_step_diag
from distem.kernels.reference import e_step_full as e_step_full
from distem.kernels.reference import e_step_spherical as e_step_spherical
from distem.kernels.reference import e_step_tied as e_step_tied
from distem.kernels.reference import log_density_diag as log_density_diag
from distem.kernels.reference import log_density_full as log_density_full
from distem.kernels.reference import log_density_spherical as log_density_spherical
from distem.kernels.reference import log_density_tied as log_density_tied
from distem.kernels.reference import moments_diag as moments_diag
from distem.kernels.reference import moments_full as moments_full
from distem.kernels.reference import moments_spherical as moments_spherical
from distem.kernels.reference import moments_tied as moments_tied
from distem.kernels.reference import nearest as nearest
from distem.kernels.reference import normalise as normalise

_FACTORS = {"full": np.eye(2)[None], "tied": np.eye(2), "diag": np.ones((1, 2)), "spherical": np.ones(1)}


def warm(kind: str, dtype: DTypeLike) -> float:
    """Compile, or load from the cache, what a fit of one kind needs; return the seconds it took."""
    begin = time.perf_counter()
    x, means, factor = np.zeros((1, 2), dtype), np.zeros((1, 2)), _FACTORS[kind]
    globals()[f"e_step_{kind}"](x, None, np.zeros(1), means, factor)
    normalise(globals()[f"log_density_{kind}"](x, means, factor))
    return time.perf_counter() - begin
