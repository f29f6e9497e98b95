"""What `warm` promises: nothing that a fit or an answer needs is compiled, or loaded, after it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ASKED = """
import json, sys
import numpy as np
from distem.kernels import _answers, _entries, compiled, scaling

kind, dtype = sys.argv[1:]


def known():
    modules = (_answers, _entries, scaling)
    return {
        f"{m.__name__}.{name}": len(value.signatures)
        for m in modules
        for name, value in vars(m).items()
        if hasattr(value, "signatures")
    }


compiled.warm_all((kind,), dtype)
before = known()
rng = np.random.default_rng(0)
for d, k in ((1, 1), (3, 4), (40, 3), (2, 150)):
    factor = {"full": np.stack([np.eye(d)] * k), "tied": np.eye(d), "diag": np.ones((k, d))}
    factor = factor.get(kind, np.ones(k))
    x = np.asarray(rng.normal(size=(300, d)), dtype)
    for weights in (None, rng.uniform(size=300)):
        getattr(compiled, f"e_step_{kind}")(x, weights, np.zeros(k), rng.normal(size=(k, d)), factor)
    for probability in (True, False):
        getattr(compiled, f"answers_{kind}")(x, np.zeros(k), rng.normal(size=(k, d)), factor, probability)
    scaling.scale(x, np.zeros(d), np.ones(d), np.empty_like(x), 1e9)
after = known()
print(json.dumps({name: after[name] for name in after if after[name] != before[name]}))
"""


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("tied", "float64"),
        ("tied", "float32"),
        ("full", "float64"),
        ("diag", "float32"),
        ("spherical", "float64"),
    ],
)
def test_nothing_is_compiled_after_warming(kind, dtype):
    done = subprocess.run(
        [sys.executable, "-c", ASKED, kind, dtype], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}
