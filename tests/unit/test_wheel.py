"""The wheel, installed where there is nothing of this repository, works."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from runs import arrays, blobs, config_file, store

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def ran(*arguments, **more):
    done = subprocess.run(
        [str(a) for a in arguments], capture_output=True, text=True, check=False, timeout=240, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel in it, and the dependencies of this one; nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # a copy: building writes beside the sources
    tracked = ran("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, tracked):
        if name.startswith(("distem/", "pipelines/")) or "/" not in name:
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    ran(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", source)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    target = ran(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    ran(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel)
    # the dependencies, but not what makes this repository importable
    (Path(target) / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return folder, python


def clean():
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COVERAGE_PROCESS_START")}


def test_it_comes_from_the_wheel_and_from_nowhere_else(installed, tmp_path):
    _, python = installed
    shown = ran(
        python,
        "-c",
        "import distem, distem.pipelines.cluster, distem.report.draw as draw\n"
        "print(distem.__file__, draw.__file__)",
        cwd=tmp_path,
        env=clean(),
    )
    assert "site-packages/distem/__init__.py" in shown
    assert str(ROOT) not in shown.replace(str(installed[0]), "")


def test_it_holds_what_it_needs_and_no_tests(installed):
    folder, _ = installed
    (wheel,) = (folder / "dist").glob("*.whl")
    names = ran(sys.executable, "-m", "zipfile", "-l", wheel)
    for wanted in ("distem/py.typed", "distem/pipelines/cluster.py", "distem/report/page.html", "LICENSE"):
        assert wanted in names
    for unwanted in ("tests/", "benchmarks/", "configs/"):
        assert unwanted not in names


def test_help_and_a_run_from_an_empty_folder(installed, tmp_path):
    _, python = installed
    shown = ran(python, "-m", "distem", "--help", cwd=tmp_path, env=clean())
    assert "schema" in shown
    store(tmp_path / "data.zarr", blobs(200))
    path = config_file(
        tmp_path,
        output__report=True,
        cluster={"kind": "local", "workers": 1},
        fit__kernels="reference",  # nothing of its cache is there, and compiling is tested elsewhere
    )
    shown = ran(python, "-m", "distem", "run", path, cwd=tmp_path, env=clean())
    assert shown.splitlines()[-1] == str(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000
    assert (arrays(tmp_path / "run")["/assignment/label"] >= 0).all()
