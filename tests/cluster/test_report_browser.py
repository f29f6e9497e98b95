"""The report and the comparison in a real browser: wide and narrow, light and dark, offline.

No console error, no horizontal scrolling, nothing that axe-core finds against WCAG 2 AA. Screenshots are left
in the folder DISTEM_SCREENSHOTS names, to be looked at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from runs import blobs, config, dataset, store
from scenes import pictures

from distem.cli import main
from distem.run import run

pytestmark = [pytest.mark.slow, pytest.mark.slow_cluster]
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FIT = {"max_passes": 15, "restarts": 2, "init_tries": 1, "kernels": "reference", "init": "random_from_data"}
REPORTS = ("mixture", "raster", "chain", "k-means", "regression", "hard-soft", "segments", "motion")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("There is no chromium on this machine.")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-sync"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind, one chosen among candidates, one on a raster with a map, and two compared."""
    folder = tmp_path_factory.mktemp("pages")
    units = dataset(blobs(600))
    units["a"].attrs |= {"units": "m", "long_name": "depth"}
    store(folder / "data.zarr", units)
    raster = dataset(blobs(40 * 30).reshape(40, 30, 3), ("y", "x"))
    store(folder / "raster.zarr", raster.assign_coords(y=np.arange(40.0), x=np.arange(30.0)), (20, 30))
    shots = np.round(255 * np.clip(pictures(shape=(64, 80), frames=3)[0], 0, 1))
    video = xr.Dataset({"brightness": (("time", "y", "x"), shots)}, coords={"time": np.arange(3.0)})
    store(folder / "video.zarr", video, (3, 64, 80))
    colours = 60.0 + 25.0 * blobs(48 * 64).reshape(48, 64, 3).clip(-2, 5)
    picture = dataset(np.sort(colours, axis=0), ("y", "x"))
    store(folder / "picture.zarr", picture, (48, 64))
    asked: dict[str, dict[str, Any]] = {
        "mixture": {
            "model": {"kind": "gaussian_mixture", "components": [2, 3, 4], "covariance": ["full", "diag"]}
        },
        "again": {"seed": 4},
        "raster": {"data": {"kind": "zarr", "path": "raster.zarr"}},
        "chain": {"model": {"kind": "hidden_markov", "states": 3}},
        "k-means": {"model": {"kind": "kmeans", "components": 3}, "fit": FIT | {"init": "kmeans"}},
        "regression": {
            "model": {"kind": "regression_mixture", "components": 2, "response": "a", "outliers": True}
            | {"design": [1, "b", "c", "b^2"]},
            "data": {"kind": "zarr", "path": "data.zarr", "features": ["a", "b", "c"]},
        },
        "hard-soft": {"pipeline": "compare_hard_soft", "fit": FIT | {"init": "kmeans"}},
        "segments": {
            "pipeline": "segment_image", "data": {"kind": "zarr", "path": "picture.zarr"},
            "fit": FIT | {"init": "kmeans"},
        },
        "motion": {
            "pipeline": "estimate_motion", "fit": {"restarts": 1},
            "data": {"kind": "zarr", "path": "video.zarr", "sample_dims": ["time", "y", "x"]},
            "model": {"kind": "motion", "motions": 2, "levels": 1, "warps": 2, "passes": 6},
        },
    }  # fmt: skip
    for name, changes in asked.items():
        run(config(folder, **({"fit": FIT} | changes | {"name": name, "output": {"path": name}})))
    compared = folder / "compared.html"
    call = ["compare", str(folder / "again"), str(folder / "raster"), "--html", str(compared)]
    assert CliRunner().invoke(main, call).exit_code == 0
    assert set(asked) - {"again"} == set(REPORTS)
    reports = {name: folder / name / "report.html" for name in asked if name != "again"}
    return reports | {"compared": compared}


@pytest.mark.parametrize("name", [*REPORTS, "compared"])
def test_on_paper_nothing_is_wider_than_the_page(browser: Any, pages: dict[str, Path], name: str) -> None:
    page = browser.new_page(viewport={"width": 688, "height": 1000})  # A4 within its margins
    try:
        page.emulate_media(media="print")
        page.goto(pages[name].as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 688
    finally:
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", [*REPORTS, "compared"])
def test_a_page_opens_offline_and_can_be_read_by_all(
    browser: Any, axe: str, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    try:
        assert said == []
        assert asked == [pages[name].as_uri()] + [url for url in asked if url.startswith("data:")]
        beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(beyond) == 0
        figures = page.evaluate("""() => [...document.querySelectorAll('figure')].map(f => ({
            title: f.querySelector('figcaption b')?.textContent ?? '',
            words: f.querySelector('svg')?.getAttribute('aria-label') ?? '',
            cut: [...f.querySelectorAll('svg text')].filter(t => {
                const a = t.getBoundingClientRect(), b = t.ownerSVGElement.getBoundingClientRect();
                return a.left < b.left - 2 || a.right > b.right + 2
                    || a.top < b.top - 2 || a.bottom > b.bottom + 2;
            }).map(t => t.textContent)}))""")
        assert figures
        for figure in figures:
            assert figure["title"].strip()
            assert len(figure["words"]) > 20
            assert figure["cut"] == [], figure["title"]
        page.evaluate(axe)
        found = page.evaluate(
            "async tags => (await axe.run({runOnly: tags})).violations"
            ".map(v => [v.id, v.nodes.map(n => n.html)])",
            STANDARDS,
        )
        assert found == []
        if folder := os.environ.get("DISTEM_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}-{width}-{scheme}.png", full_page=True)
    finally:
        context.close()
