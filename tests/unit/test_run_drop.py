"""A run that drops the hopeless says so, and chooses what one that does not would have chosen."""

from __future__ import annotations

import xarray as xr
from runs import blobs, config, events, manifest, store

from distem.report.draw import draw
from distem.run import run


def made(folder, name, drop):
    return config(
        folder,
        output__path=str(folder / name),
        model__components=[1, 2, 3, 6],
        fit__restarts=2,
        fit__tolerance=1e-13,
        fit__max_passes=150,
        fit__drop=drop,
    )


def test_manifest_table_log_and_report_name_each_drop_with_its_numbers(tmp_path):
    store(tmp_path / "data.zarr", blobs())
    run(made(tmp_path, "all", "never"))
    run(made(tmp_path, "fewer", "hopeless"))
    whole, told = manifest(tmp_path / "all")["fit"], manifest(tmp_path / "fewer")["fit"]
    assert "drop" not in whole
    assert {k: told[k] for k in whole} == whole  # the winner, its likelihood, its passes
    assert "10 times what Aitken's estimate" in told["drop"]["rule"]
    dropped = told["drop"]["dropped"]
    assert dropped
    assert whole["chosen"] not in dropped
    with xr.open_datatree(tmp_path / "fewer" / "result.zarr", engine="zarr") as tree:
        table = tree["selection"].to_dataset().load()
    assert set(table["candidate"].values[table["dropped"].values.astype(bool)]) == set(dropped)
    lines = {e["candidate"]: e["reason"] for e in events(tmp_path / "fewer") if e["event"] == "dropped"}
    assert lines == dropped
    assert draw(tmp_path / "fewer").read_text().count(">dropped</td>") == len(dropped)
