"""Two runs compared: what distances are in, and what the limits do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from runs import config, store

from distem.cli import main
from distem.run import run


def test_states_that_say_symbols_are_compared_by_hellingers_distance(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, shift in (("one", 0), ("other", 2)):
        said = rng.integers(0, 2, 200) + np.repeat([0, 2, 0, 2], 50) + shift * np.repeat([0, 1, 0, 1], 50)
        store(tmp_path / f"{name}.zarr", xr.Dataset({"s": ("row", said.astype(float))}))
        run(config(
            tmp_path, name=name, data__path=f"{name}.zarr", output__path=name, fit={"max_passes": 8},
            model={"kind": "hidden_markov", "states": 2, "emission": "categorical", "symbols": 6},
        ))  # fmt: skip
    page = tmp_path / "compared.html"
    call = ["compare", str(tmp_path / "one"), str(tmp_path / "other"), "--html", str(page)]
    out = CliRunner().invoke(main, call)
    assert out.exit_code == 0, out.output
    assert out.output.startswith("Changed")
    text = page.read_text(encoding="utf-8")
    for told in (text, out.output):
        assert "Hellinger" in told
        assert "standard deviation" not in told


@pytest.mark.parametrize(
    ("threshold", "fail_over", "pairs", "code"),
    [("0.1", "0.1", 0, 4), ("0.1", "2", 1, 0), ("2", "0.1", 1, 4)],
)
def test_within_the_widest_limit_a_component_is_no_other(
    tmp_path: Path, threshold: str, fail_over: str, pairs: int, code: int
) -> None:
    rows = np.random.default_rng(0).normal(size=200)
    for name, shift in (("one", 0.0), ("other", 3.0)):  # 1.66 standard deviations of both together
        store(tmp_path / f"{name}.zarr", xr.Dataset({"x": ("row", rows + shift)}))
        run(config(tmp_path, data__path=f"{name}.zarr", output__path=name, model__components=1))
    call = ["compare", str(tmp_path / "one"), str(tmp_path / "other"), "--json"]
    out = CliRunner().invoke(main, [*call, "--threshold", threshold, "--fail-over", fail_over])
    assert out.exit_code == code, out.output
    assert len(json.loads(out.output)["matched"]) == pairs
