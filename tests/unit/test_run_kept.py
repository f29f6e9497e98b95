"""Run folders that version 0.1.0 wrote: later ones read, resume and report them."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from runs import arrays, manifest

from distem.config import load
from distem.events import PassDone, Resumed
from distem.fitted import FittedModel
from distem.report.draw import draw
from distem.run import run

KEPT = Path(__file__).parent.parent / "fixtures" / "runs_0_1_0.zip"


@pytest.fixture
def kept(tmp_path):
    with zipfile.ZipFile(KEPT) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def test_a_complete_one_is_read_and_reported(kept):
    model = FittedModel.load(kept / "complete")
    assert model.k == 3
    assert model.features == ("a", "b", "c")
    found = arrays(kept / "complete")
    np.testing.assert_array_equal(found["/assignment/label"].shape, (80,))
    assert manifest(kept / "complete")["status"] == "complete"
    assert "<html" in draw(kept / "complete").read_text(encoding="utf-8")


def test_an_interrupted_one_goes_on_from_its_checkpoint(kept):
    place = kept / "interrupted"
    config = load(place / "config.yaml")
    # the place of the data is a part of what a run is, and this one was moved
    moved = manifest(place) | {"config_hash": config.hash()}
    (place / "manifest.json").write_text(json.dumps(moved), encoding="utf-8")
    heard = []
    assert run(config, observers=(heard.append,)).status == "complete"
    assert [event.passes for event in heard if isinstance(event, Resumed)] == [4]
    assert [event.pass_ for event in heard if isinstance(event, PassDone)] == [5, 6, 7, 8]
    one, other = arrays(place), arrays(kept / "complete")
    for name in ("/model/means", "/model/covariances", "/model/weights", "/trace/log_likelihood"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9)
    np.testing.assert_array_equal(one["/assignment/label"], other["/assignment/label"])
