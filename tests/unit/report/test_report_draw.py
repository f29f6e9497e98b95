"""The whole report: what it holds, that it stands alone, that it can be read, and what it refuses."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from runs import config, events, store

from distem.cli import main
from distem.errors import ConfigError
from distem.report.draw import draw
from distem.run import run

MakeRun = Callable[..., Path]
VOID = {"meta", "br", "img", "link", "input", "hr"}
FETCHED = ("src", "srcset", "data", "action", "poster", "background", "xlink:href")


class Page(html.parser.HTMLParser):
    """Reads a page and keeps what tests ask for; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.ids: list[str] = []
        self.svgs: list[dict[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "svg":
            self.svgs.append(
                {"label": given.get("aria-label", ""), "role": given.get("role", ""), "title": ""}
            )
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "title" and "svg" in self.open:
            self.svgs[-1]["title"] += data
        elif self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def drawn(folder: Path) -> tuple[str, Page]:
    path = draw(folder)
    assert path == folder / "report.html"
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def clusters(n: int, d: int, k: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=3.0, size=(k, d))[rng.integers(k, size=n)] + rng.normal(size=(n, d))


@pytest.mark.parametrize(
    ("d", "k", "covariance"),
    [(1, 1, "full"), (1, 2, "full"), (2, 3, "tied"), (4, 2, "full"), (4, 20, "diag"), (200, 20, "spherical")],
)
def test_it_stands_alone_and_every_figure_has_a_title_and_words(
    a_run: MakeRun, d: int, k: int, covariance: str
) -> None:
    text, page = drawn(a_run(clusters(500, d, k), components=[k], covariances=[covariance], max_passes=8))
    assert len(text.encode()) < 3e6
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "embed", "img")]
    for _, attrs in page.tags:
        assert not set(attrs) & set(FETCHED)
        assert attrs.get("href", "#").startswith(("#", "data:image/png;base64,"))
        assert not [name for name in attrs if name.startswith("on")]
    assert len(page.ids) == len(set(page.ids))
    assert len(page.svgs) >= 2
    for svg in page.svgs:
        assert svg["role"] == "img"
        assert svg["title"].strip()
        assert len(svg["label"]) > 20
    labels = [figure["label"] for figure in page.svgs]
    for word in ("nan", "inf", "None", "not known"):
        assert not re.search(rf"(?<![\w-]){word}(?![\w-])", page.text + " ".join(labels))
    # what figures refer to is there
    referred = set(re.findall(r'(?:href="#|url\(#)([\w-]+)', text))
    assert referred <= set(page.ids)


def test_two_drawings_have_the_same_bytes(a_run: MakeRun) -> None:
    folder = a_run(clusters(300, 3, 2))
    first = draw(folder).read_bytes()
    (folder / "report.html").unlink()
    assert draw(folder).read_bytes() == first


def test_one_feature_is_shown_before_and_after(a_run: MakeRun) -> None:
    values = np.concatenate([np.random.default_rng(0).normal(m, 1.0, 500) for m in (-2.0, 2.0)])[:, None]
    begin = ([0.5, 0.5], [[-0.5], [0.5]], [[[9.0]], [[9.0]]])
    _, page = drawn(
        a_run(values, begin=begin, scale=False, feature_attrs={"x0": {"units": "m", "long_name": "depth"}})
    )
    titles = {svg["title"]: svg["label"] for svg in page.svgs}
    before = next(label for title, label in titles.items() if title.startswith("Before"))
    after = next(label for title, label in titles.items() if title.startswith("After"))
    assert "−0.5 ± 3.0 m" in before
    assert "0.5 ± 3.0 m" in before
    assert "±" in after
    assert "3.0 m" not in after
    assert "depth (m)" in page.text
    assert "density (per m)" in page.text


def test_names_from_the_data_are_text_and_nothing_else(a_run: MakeRun) -> None:
    evil = "<script>alert(1)</script>"
    features = [evil, "a\"b'&$x^2$", "温度 🌡️", "line\nend\x00\x1b"]
    attrs = {
        evil: {"units": "</svg><b>", "long_name": "<img src=x onerror=alert(1)>"},
        "温度 🌡️": {"long_name": "熱"},
    }
    folder = a_run(
        clusters(200, 4, 2),
        features=features,
        feature_attrs=attrs,
        name="</title><script>x</script>",
        run_warnings=["'<script>y</script>' is constant."],
    )
    text, page = drawn(folder)
    assert not [
        tag for tag, _ in page.tags if tag in ("script", "img", "b") and "alert" in text and tag != "b"
    ]
    assert "<script" not in text
    assert evil in page.text
    assert any(evil in svg["label"] or evil in svg["title"] for svg in page.svgs)
    assert "'<script>y</script>' is constant." in page.text
    assert "$x^2$" in page.text  # no mathematics
    assert "# <b>resolved</b> config" in page.text
    assert "温度" in page.text
    assert "\x00" not in text
    assert "\x1b" not in text


def told(page: Page, what: str) -> str:
    """What the provenance says of something."""
    return page.text.split(what)[1].strip().partition("\n")[0]


def test_the_command_to_run_it_again_runs_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "data.zarr", clusters(100, 3, 2))
    run(config(tmp_path, fit={"max_passes": 3, "kernels": "reference"}, output={"path": "run"}))
    folder = tmp_path / "run"
    began = events(folder)[0]["time"]
    _, page = drawn(folder)
    said = told(page, "command to run it again")
    keep = told(page, "to keep this run")
    monkeypatch.chdir(folder)
    for words in (said, said.replace("--fresh", keep.replace("…", "../other"))):
        out = CliRunner().invoke(main, words.split()[1:])
        assert out.exit_code == 0, out.output
        assert "already complete" not in out.output
    assert events(folder)[0]["time"] > began
    assert (tmp_path / "other" / "manifest.json").exists()


def test_candidates_are_compared_and_the_chosen_one_is_marked(a_run: MakeRun) -> None:
    folder = a_run(
        clusters(400, 2, 3), components=[1, 2, 3], covariances=["full", "diag"], restarts=2, max_passes=30
    )
    _, page = drawn(folder)
    titles = [svg["title"] for svg in page.svgs]
    assert "BIC, which decided" in titles
    assert {"AIC", "ICL"} <= set(titles)
    chosen = json.loads((folder / "manifest.json").read_text())["fit"]["chosen"]
    assert f"{chosen} (chosen)" in page.text
    assert "12 candidates" in page.text


def test_an_outlier_does_not_squash_the_panels(a_run: MakeRun) -> None:
    values = clusters(600, 2, 2)
    values[0, 0] = 1e12
    folder = a_run(values, components=[3], covariances=["diag"])
    text, page = drawn(folder)
    axis = text.split("<title>x0</title>")[1].split("</svg>")[0]
    assert "10¹²" not in axis
    assert (
        "lie outside the panel" in " ".join(svg["label"] for svg in page.svgs) or "lies outside" in page.text
    )


@pytest.mark.parametrize(
    "values",
    [
        np.array([[1.0, 2.0]]),
        np.full((40, 2), 7.0),
        clusters(100, 2, 2) * 1e150,
        clusters(100, 2, 2) * 1e-150,
        clusters(100, 2, 2) * 1e-6 + 1e9,
        np.random.default_rng(0).integers(0, 3, (100, 2)).astype(float),
    ],
    ids=["one row", "constant", "huge", "tiny", "offset", "few values"],
)
@pytest.mark.filterwarnings("error")
def test_unusual_data_is_drawn_without_a_warning(a_run: MakeRun, values: np.ndarray) -> None:
    _, page = drawn(a_run(values, components=[1]))
    assert not re.search(r"\bnan\b|\binf\b", page.text)


def test_weights_of_sample_rows_count_in_histograms(a_run: MakeRun) -> None:
    values = clusters(300, 2, 2)
    plain = draw(a_run(values)).read_text(encoding="utf-8")
    weighted = a_run(values, folder="weighted", sample_weights=np.linspace(0.0, 5.0, 300))
    assert draw(weighted).read_text(encoding="utf-8") != plain


def test_without_log_and_config_file_it_draws_all_the_same(a_run: MakeRun) -> None:
    folder = a_run(clusters(100, 2, 2))
    (folder / "log.jsonl").unlink()
    (folder / "config.yaml").unlink()
    _, page = drawn(folder)
    assert '"select": "bic"' in page.text


def test_collapses_are_told_once_and_a_torn_log_is_read(a_run: MakeRun) -> None:
    folder = a_run(clusters(100, 2, 2))
    chosen = json.loads((folder / "manifest.json").read_text())["fit"]["chosen"]
    line = json.dumps(
        {"event": "collapsed", "pass": 3, "candidate": chosen, "component": 1, "action": "reseeded"}
    )
    other = json.dumps(
        {"event": "collapsed", "pass": 3, "candidate": "9-full-1", "component": 1, "action": "reseeded"}
    )
    with (folder / "log.jsonl").open("a") as log:
        log.write(f"{line}\n{line}\n{other}\n[1]\n{line[:20]}")
    _, page = drawn(folder)
    assert "Components collapsed 1 time on the way" in page.text


def manifest_with(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_folders_that_are_no_complete_run_are_refused(a_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no manifest\.json"):
        draw(tmp_path / "nowhere")
    folder = a_run(clusters(100, 2, 2))
    manifest_with(folder, status="interrupted")
    with pytest.raises(ConfigError, match="status is interrupted"):
        draw(folder)
    manifest_with(folder, status="complete")
    shutil.rmtree(folder / "result.zarr" / "trace")
    with pytest.raises(ConfigError, match="trace is missing"):
        draw(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ConfigError, match="not a manifest"):
        draw(folder)
    assert not list(folder.glob("*.html"))
    assert not list(folder.glob("*.partial"))
