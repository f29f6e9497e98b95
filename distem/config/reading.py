"""From a file or a text to a config, with errors that say where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from distem.config.cluster import AdaptConfig, AnyCluster, SecurityConfig
from distem.config.data import AnyData, DeriveConfig, TextureConfig
from distem.config.env import ENV, unset
from distem.config.fields import has_password
from distem.config.fit import FitConfig, GivenParameters
from distem.config.kinds import AnyModel
from distem.config.section import Section
from distem.config.top import Config, EncodingConfig, OutputConfig, SmoothingConfig
from distem.config.wording import Problem, config_error, explain
from distem.config.yaml import MAX_BYTES, Document, read
from distem.errors import ConfigError

ENV_ALLOWED = (
    "data.path",
    "data.storage_options",
    "fit.init",
    "cluster.address",
    "cluster.password",
    "cluster.proxy_address",
    "cluster.security",
    "cluster.username",
    "output.path",
    "output.match",
)
"""Where ``${env:NAME}`` may stand: fields that hold a location or a secret."""


def load(path: str | Path, overrides: Sequence[str] = (), *, require_env: bool = True) -> Config:
    """Read a config file.

    Parameters
    ----------
    path : str or Path
        The YAML file.
    overrides : sequence of str, optional
        Assignments such as ``model.components=3``, applied in order.
    require_env : bool, optional
        Whether every ``${env:NAME}`` must be set now; False is for reading a finished run's config.

    Raises
    ------
    ConfigError
        With a line for each problem: file:line:column, the key, the fact, what is allowed.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        # a text cut short here is refused for its size by `read`; it may end within a character
        text = data.decode(errors="replace" if len(data) > MAX_BYTES else "strict")
    except FileNotFoundError:
        raise ConfigError(
            f"The config {path} does not exist.",
            "Give the path of a YAML file; `distem schema` says what it may hold.",
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"The config {path} is a folder.", "Give the path of a YAML file in it.") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"The config {path} cannot be read: {why}.", "Is it the right file?") from None
    # the file itself may be a link, as mounted ones are: the folder is where the user sees it
    return loads(text, str(path), Path(path).parent, overrides, require_env=require_env)


def loads(
    text: str,
    name: str = "config",
    folder: str | Path = ".",
    overrides: Sequence[str] = (),
    *,
    require_env: bool = True,
) -> Config:
    """Read a config from text; `name` begins the positions in messages. See `load`."""
    document = read(text, name)
    for assignment in overrides:
        document = document.override(assignment, _label(assignment))
    problems = _env_problems(document, require_env)
    try:
        config = Config.model_validate(document.tree, context={"folder": folder})
    except ValidationError as error:
        known = {problem.path for problem in problems}
        found = explain(error.errors(include_url=False), document, _keys(document.tree), _homes())
        problems += [problem for problem in found if problem.path not in known]
    else:
        if not problems:
            return config
    raise config_error(problems, document) from None


def _label(assignment: str) -> str | None:
    # these values may be secrets, and labels stand in messages
    secret = any(word in assignment for word in ("storage_options", "security", "password")) or has_password(
        assignment
    )
    return f"--set {assignment.partition('=')[0].strip()}=…" if secret else None


def _env_problems(document: Document, require: bool) -> list[Problem]:
    """Return what is wrong with the ``${env:NAME}`` of a config: where they stand, what is not set."""
    problems: list[Problem] = []
    allowed = f"it may stand in {', '.join(ENV_ALLOWED)}"

    def walk(tree: Any, path: tuple[str | int, ...]) -> None:
        if isinstance(tree, dict):
            for key, value in tree.items():
                if "${env:" in key:
                    problems.append(Problem((*path, key), f"${{env:…}} cannot be a key; {allowed}"))
                walk(value, (*path, key))
        elif isinstance(tree, list):
            for index, value in enumerate(tree):
                walk(value, (*path, index))
        elif isinstance(tree, str) and "${env:" in tree:
            place = ".".join(str(part) for part in path)
            if not any(f"{place}.".startswith(f"{field}.") for field in ENV_ALLOWED):
                problems.append(Problem(path, f"${{env:…}} cannot stand here; {allowed}"))
            elif require:
                problems.extend(
                    Problem(path, f"the environment variable {name} {why}; export {name}=…")
                    for name in ENV.findall(tree)
                    if (why := unset(name))
                )

    walk(document.tree, ())
    return problems


_KINDS: dict[str, dict[str, type[Section]]] = {
    section: {get_args(cls.model_fields["kind"].annotation)[0]: cls for cls in classes}
    for section, classes in {
        "data": get_args(get_args(AnyData)[0]),
        "model": get_args(get_args(AnyModel)[0]),
        "cluster": get_args(get_args(AnyCluster)[0]),
    }.items()
}
_SECTIONS: dict[tuple[str, ...], type[Section]] = {
    (): Config,
    ("data", "derive"): DeriveConfig,
    ("data", "derive", "texture"): TextureConfig,
    ("fit",): FitConfig,
    ("fit", "init"): GivenParameters,
    ("cluster", "security"): SecurityConfig,
    ("cluster", "adapt"): AdaptConfig,
    ("output",): OutputConfig,
    ("output", "encoding"): EncodingConfig,
    ("output", "smoothing"): SmoothingConfig,
}


def _keys(tree: Any) -> Mapping[tuple[str | int, ...], Sequence[str]]:
    """Return each section's keys, those of data, model and cluster for the kind this config has."""
    keys: dict[tuple[str | int, ...], Sequence[str]] = {
        path: list(cls.model_fields) for path, cls in _SECTIONS.items()
    }
    for section, kinds in _KINDS.items():
        written = tree.get(section) if isinstance(tree, dict) else None
        kind = written.get("kind", "local") if isinstance(written, dict) else None
        if isinstance(kind, str) and kind in kinds:
            keys[(section,)] = list(kinds[kind].model_fields)
        keys[(section, "kind")] = list(kinds)
    return keys


def _homes() -> Mapping[str, Sequence[str]]:
    """Return where each key belongs: "group" to "data (zarr, netcdf)"."""
    homes: dict[str, list[str]] = {}
    for path, cls in _SECTIONS.items():
        for key in cls.model_fields:
            homes.setdefault(key, []).append(".".join(path) or "the top level")
    for section, kinds in _KINDS.items():
        for key in dict.fromkeys(key for cls in kinds.values() for key in cls.model_fields):
            having = [kind for kind, cls in kinds.items() if key in cls.model_fields]
            some = f" ({', '.join(having)})" if len(having) < len(kinds) else ""
            homes.setdefault(key, []).append(f"{section}{some}")
    return homes


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a config."""
    body = Config.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **body,
        "title": "distem config",
        "description": "What distem run is given.",
    }
