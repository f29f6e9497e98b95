"""The ways of adding up for machines of few registers have the bits of the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from distem.kernels import _simd

ASKED = """
import hashlib, json, sys
import numpy as np
from distem.kernels import _simd

narrow = sys.argv[1] == "narrow"
_simd.NARROW, _simd.PARTS = narrow, 4 if narrow else 1
from distem.kernels import _moments, _tiles
assert _moments.NARROW == narrow and _tiles.PARTS == _simd.PARTS
from distem.kernels import compiled, compiled_centres

rng = np.random.default_rng(0)
found = {}
for d, k, n in ((1, 1, 7), (3, 5, 300), (9, 4, 500), (18, 7, 260)):
    x, means, weights = rng.normal(size=(n, d)), rng.normal(size=(k, d)), rng.uniform(size=n)
    square = np.stack([np.triu(np.eye(d) + 0.2 * rng.normal(size=(d, d))) for _ in range(k)])
    spread = rng.uniform(0.5, 2.0, (k, d))
    for kind, factors in (("full", square), ("diag", spread), ("spherical", spread[:, 0])):
        sums = getattr(compiled, f"e_step_{kind}")(x, weights, np.zeros(k), means, factors)
        code = hashlib.sha256()
        for value in sums:
            code.update(np.ascontiguousarray(value).tobytes())
        found[f"{kind} {d} {k}"] = code.hexdigest()
    labels, inertia = compiled_centres.nearest(x, means)
    found[f"nearest {d} {k}"] = hashlib.sha256(labels.tobytes() + inertia.tobytes()).hexdigest()
print(json.dumps(found))
"""


def asked(way: str, folder) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    if (way == "narrow") != _simd.NARROW:
        # kernels of the other way must not be taken for this machine's: a cache of their own
        env["NUMBA_CACHE_DIR"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-c", ASKED, way],
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(600)
def test_few_registers_change_no_bit(tmp_path):
    narrow, wide = asked("narrow", tmp_path / "narrow"), asked("wide", tmp_path / "wide")
    assert len(narrow) == 4 * 4
    assert narrow == wide
