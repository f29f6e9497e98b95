"""The page and the metrics on a real scheduler with separate workers, in a real browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from runs import command, config_file, dataset, start, store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PREFIX = "/user/me"

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.slow_cluster, pytest.mark.timeout(400)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def process(*words, log):
    with log.open("w") as out:
        started = subprocess.Popen([sys.executable, "-m", *words], stdout=out, stderr=out)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            started.wait(15)
        if started.poll() is None:
            started.kill()
            started.wait()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A scheduler with a prefix and two workers: its address, its page and its log."""
    folder = tmp_path_factory.mktemp("scheduler")
    port, http = free_port(), free_port()
    address = f"tcp://127.0.0.1:{port}"
    log = folder / "scheduler.log"
    with ExitStack() as stack:
        stack.enter_context(
            process(
                "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port),
                "--dashboard-address", f"127.0.0.1:{http}", "--dashboard-prefix", PREFIX, log=log,
            )
        )  # fmt: skip
        for number in range(2):
            stack.enter_context(
                process(
                    "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                    "--local-directory", str(folder / f"worker-{number}"), log=folder / f"w{number}.log",
                )
            )  # fmt: skip
        yield address, f"http://127.0.0.1:{http}{PREFIX}", log


@pytest.fixture(scope="module")
def fit(scheduler, tmp_path_factory):
    """A driver whose fit goes on until it is told to stop."""
    folder = tmp_path_factory.mktemp("fit")
    ocean(folder, 200_000)
    driver = start("run", settings(folder, scheduler[0], fit__max_passes=50_000, fit__tolerance=1e-15))
    try:
        waited_for(lambda: figures(scheduler[1]).get("distem_log_likelihood"))
        yield driver
    finally:
        driver.kill()
        driver.communicate()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


def page_of(browser):
    """A page, and what it says that is wrong."""
    said = []
    page = browser.new_page(viewport={"width": 1280, "height": 1800})
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("response", lambda r: said.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    return page, said


def ocean(folder, n):
    """Rows of five groups that overlap, with units."""
    rng = np.random.default_rng(0)
    centres = np.array([[3.2, 8.0, 1.0], [6.0, 9.5, 4.0], [7.5, 4.0, 2.0], [4.5, 2.5, 5.5], [9.5, 7.0, 3.0]])
    kind = rng.choice(5, size=n, p=[0.3, 0.25, 0.2, 0.15, 0.1])
    turn = rng.normal(size=(5, 3, 3)) * 0.45 + np.eye(3) * 0.8
    data = dataset(centres[kind] + np.einsum("nij,nj->ni", turn[kind], rng.normal(size=(n, 3))))
    for name, (called, units) in {"a": ("air temperature", "°C"), "b": ("salinity", "g/kg")}.items():
        data[name].attrs |= {"long_name": called, "units": units}
    store(folder / "data.zarr", data, chunks=20_000)


def settings(folder, address="", **more):
    changes = {"fit__restarts": 2, "fit__acceleration": "none", "fit__tolerance": 1e-9}
    changes |= {"fit__init_tries": 1, "model__components": [3, 4, 5, 6, 7]}
    return config_file(
        folder, name="ocean-profiles", data__scale="standard",
        **{"cluster": {"kind": "address", "address": address, "resident": False}, **changes, **more},
    )  # fmt: skip


def fetched(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def figures(page):
    """By name; counters over all phases of the run together."""
    found = {}
    for family in text_string_to_metric_families(fetched(f"{page}/metrics")):
        for sample in family.samples:
            if sample.name.startswith("distem_"):
                before = found.get(sample.name, 0.0) if family.type == "counter" else 0.0
                found[sample.name] = before + sample.value
    return found


def waited_for(wanted, seconds=200.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(Exception):
            if (found := wanted()) is not None:
                return found
        time.sleep(0.2)
    raise AssertionError("It did not come about in time.")


def test_the_page_during_a_fit(scheduler, fit, browser, tmp_path):
    page, said = page_of(browser)
    page.goto(f"{scheduler[1]}/status")
    page.click("text=Distem")
    page.wait_for_selector("tr.best")
    first = likelihood(page)
    assert waited_for(lambda: found if (found := likelihood(page)) > first else None) > first
    time.sleep(1.0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.inner_text(".head .name") == "ocean-profiles"
    page.screenshot(path=shot("dashboard.png", tmp_path))
    page.close()
    assert said == []
    assert fit.poll() is None
    assert "distem" not in "".join(tracebacks(scheduler[2]))


NGINX = """
daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  {recipe}
}}
"""
DOCS = Path(__file__).parents[2] / "docs"


@contextmanager
def proxy(behind, folder):
    """Run nginx with the recipe of docs/monitoring.md."""
    port = free_port()
    text = (DOCS / "monitoring.md").read_text(encoding="utf-8")
    recipe = text.partition("```nginx\n")[2].partition("```")[0]
    recipe = recipe.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("http://127.0.0.1:8787", behind)
    (folder / "nginx.conf").write_text(NGINX.format(recipe=recipe))
    words = ["nginx", "-p", str(folder), "-e", "nginx.log", "-c", "nginx.conf"]
    started = subprocess.Popen(words)
    try:
        waited_for(lambda: socket.create_connection(("127.0.0.1", port), 1.0).close() or True)
        yield f"http://127.0.0.1:{port}"
    finally:
        started.terminate()
        started.wait(15)


@pytest.mark.parametrize("prefix", [PREFIX, "/lab/dask"])
def test_the_page_behind_a_reverse_proxy(scheduler, fit, browser, tmp_path, prefix):
    """The page and its websocket, through a proxy that keeps the prefix and one that puts another there."""
    if shutil.which("nginx") is None:
        pytest.skip("no nginx on this machine: apt-get install nginx-light")
    page, said = page_of(browser)
    sockets, frames = [], []

    def opened(found):
        sockets.append(found.url)
        found.on("framereceived", lambda _: frames.append(1))

    page.on("websocket", opened)
    with proxy(scheduler[1].removesuffix(PREFIX), tmp_path) as front:
        page.goto(f"{front}{prefix}/status")
        page.click("text=Distem")
        page.wait_for_selector("tr.best")
        assert page.url == f"{front}{prefix}/distem"
        first, seen = passes(page), len(frames)
        assert waited_for(lambda: True if passes(page) > first else None)
        assert len(frames) > seen
        there = f"{front}{prefix}/distem/ws".replace("http:", "ws:")
        assert any(url.startswith(there) for url in sockets)
        assert all(url.startswith(front.replace("http:", "ws:")) for url in sockets)
        assert said == []
        page.close()
    assert fit.poll() is None


def test_the_page_outlives_the_driver(scheduler, fit, browser, tmp_path):
    page, said = page_of(browser)
    fit.send_signal(signal.SIGTERM)
    assert fit.wait(60) == 75
    page.goto(f"{scheduler[1]}/distem?theme=dark")
    page.wait_for_selector(".badge.interrupted")
    assert "unfinished" in page.inner_text("tr.best")
    time.sleep(1.5)
    page.screenshot(path=shot("dashboard-dark.png", tmp_path))
    page.close()
    assert said == []


def tracebacks(log):
    """What the scheduler logged of errors; Dask's own, when a driver hangs up, is one of them."""
    return [part.split("\n\n")[0].split("\n20")[0] for part in log.read_text().split("Traceback")[1:]]


def likelihood(page):
    return float(page.locator("tr.best td").nth(2).inner_text())


def passes(page):
    return int(page.locator(".tile .value").nth(1).inner_text())


def shot(name, folder):
    """Where a screenshot goes: where it was asked for, to be looked at."""
    return str((folder if not (kept := os.environ.get("DISTEM_SCREENSHOTS")) else type(folder)(kept)) / name)


def test_runs_one_after_another(scheduler, tmp_path):
    address, page_at, log = scheduler
    ocean(tmp_path, 100_000)
    for number in range(2):
        # a second run on the same scheduler, by another driver: the page is there already
        cluster = {
            "kind": "address",
            "address": address,
            "resident": False,
            "performance_report": number == 1,
        }
        chosen = {"fit__max_passes": 8, "output__path": f"run-{number}", "cluster": cluster}
        done = command("run", settings(tmp_path, **chosen, model__components=5), timeout=300)
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run-0" / "dask-report.html").exists()
    report = (tmp_path / "run-1" / "dask-report.html").read_text(encoding="utf-8")
    assert "e-step" in report  # the task stream, with our names
    # it opens offline; the icon is Bokeh's, and may be missing
    assert not re.findall(r"<script[^>]+src=|<link[^>]+stylesheet", report)
    found = figures(page_at)
    assert found["distem_run_active"] == 0.0
    assert found["distem_passes_total"] == 8.0
    assert found["distem_rows_total"] == 8 * 100_000
    assert found["distem_tasks_total"] > 8
    assert found["distem_read_bytes_total"] > 0.0
    parts = [
        found[f"distem_{part}_seconds_total"] for part in ("reading", "computing", "reducing", "waiting")
    ]
    assert all(part >= 0.0 for part in parts)
    assert found["distem_observer_seconds_total"] > 0.0
    assert fetched(f"{page_at}/status").count('href="distem"') == 1
    assert 'href="distem"' in fetched(f"{page_at}/distem")
    assert "distem" not in "".join(tracebacks(log))
