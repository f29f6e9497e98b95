"""Follow the docs to the letter: a block of theirs is given to bash, in a folder with the configs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from harness import PATIENCE

ROOT = Path(__file__).parents[2]


def block(page: str, mention: str) -> str:
    """The one block of commands in a page of the docs that mentions something."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = [b for b in re.findall(r"^```(?:bash|sh)\n(.*?)^```", text, re.M | re.S) if mention in b]
    assert len(found) == 1, f"{len(found)} blocks of {page} mention {mention}"
    return str(found[0])


def configs(folder: Path) -> Path:
    """Copy configs/ there, as a newcomer has it."""
    shutil.copytree(ROOT / "configs", folder / "configs", ignore=shutil.ignore_patterns("runs", "data"))
    return folder


def follow(text: str, folder: Path, env: Mapping[str, str] = os.environ, *under: str) -> str:
    """Give a block to bash, which ends at the first command that fails; what was printed."""
    path = f"{Path(sys.executable).parent}:{env['PATH']}"
    done = subprocess.run(
        [*under, "bash", "-ec", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{text}"],
        check=False, cwd=folder, env={**env, "PATH": path}, timeout=PATIENCE, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout}"
    return done.stdout
