"""Run the examples in README.md and docs/: Python, YAML configs, and `$ distem …` commands."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

ROOT = Path(__file__).parent


def check_config(example: Example) -> None:
    """A YAML block that begins a config must be one."""
    text = str(example.parsed)
    if text.lstrip().startswith(("version:", "#")) and "model:" in text:
        from distem.config import loads

        loads(text, str(example.path), require_env=False)


def run_commands(example: Example) -> None:
    """Run what follows `$ distem`; it must end with 0."""
    for line in str(example.parsed).splitlines():
        if line.startswith("$ distem "):
            words = shlex.split(line.removeprefix("$ distem "), comments=True)
            done = subprocess.run(
                [sys.executable, "-m", "distem", *words], check=False, capture_output=True, text=True
            )
            if done.returncode:
                raise AssertionError(f"{line}\nended with {done.returncode}:\n{done.stderr}")


@pytest.fixture(scope="module")
def in_a_copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Examples run in a folder that has the configs and nothing else."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(ROOT / "configs", folder / "configs", ignore=shutil.ignore_patterns("runs", "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


pytest_collect_file = Sybil(
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser(language="yaml", evaluator=check_config),
        CodeBlockParser(language="console", evaluator=run_commands),
    ],
    patterns=["README.md", "docs/*.md"],
    fixtures=["in_a_copy"],
).pytest()
