"""Examples in README.md and docs/: Python, configs and `$ distem …` are run, other commands understood."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Document, Example, Region, Sybil
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


def check_shell(example: Example) -> None:
    """Of what needs a cluster or a secret: bash can read it, and each command would be understood."""
    text = str(example.parsed)
    done = subprocess.run(["bash", "-n"], check=False, input=text, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                command.append(word)
                continue
            understood(command)
            command = []


def understood(words: list[str]) -> None:
    """Refuse a command line of distem's, Dask's or pip's that its program would not take."""
    match words:
        case ["distem", name, *rest]:
            from distem.cli import main
            from distem.config import load

            given = main.commands[name].make_context(name, rest).params
            if str(given.get("config", "")).startswith("configs/"):
                load(given["config"], given["overrides"], require_env=False)
        case ["dask", "scheduler" | "worker" as name, *rest]:
            from distributed.cli import dask_scheduler, dask_worker

            of = dask_scheduler if name == "scheduler" else dask_worker
            of.main.make_context(name, rest)
        case ["pip", "install", *rest]:
            from importlib.metadata import metadata

            known = metadata("distem").get_all("Provides-Extra") or []
            for extras in re.findall(r"distem\[(.*?)\]", " ".join(rest)):
                if unknown := set(extras.split(",")) - set(known):
                    raise AssertionError(f"There is no extra {unknown}.")


def check_ini(example: Example) -> None:
    """Units of systemd."""
    configparser.ConfigParser(strict=False).read_string(str(example.parsed))


def mentions(document: Document) -> Iterator[Region]:
    """Commands named within the text, outside of its blocks."""
    for found in re.finditer(r"`((?:distem|pip install|dask) [a-z\"][^`\n]*)`", document.text):
        if document.text[: found.start()].count("```") % 2 == 0:
            yield Region(found.start(), found.end(), found[1], check_mention)


def check_mention(example: Example) -> None:
    """A command named with its arguments must be understood; named without them, its options must exist."""
    words = shlex.split(str(example.parsed))
    if words[0] != "distem" or any(not word.startswith("-") for word in words[2:]):
        return understood(words)
    from distem.cli import main

    known = {option for parameter in main.commands[words[1]].params for option in parameter.opts}
    if unknown := set(words[2:]) - known:
        raise AssertionError(f"distem {words[1]} has no {unknown}.")
    return None


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
        CodeBlockParser(language="bash", evaluator=check_shell),
        CodeBlockParser(language="sh", evaluator=check_shell),
        CodeBlockParser(language="ini", evaluator=check_ini),
        mentions,
    ],
    patterns=["README.md", "docs/*.md"],
    fixtures=["in_a_copy"],
).pytest()
