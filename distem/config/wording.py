"""What is wrong with a config, in a config's own words.

The validator's findings come as data; here they become lines that say where, what and what
instead, without a word of the validator's own language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from distem.config.yaml import Document, Path, describe
from distem.errors import ConfigError

MAX_SHOWN = 10
_HIDDEN = (("data", "storage_options"), ("cluster", "security"))

_TYPES = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dataclass_type": "a mapping of keys",
    "finite_number": "a finite number",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the key it is about, and a sentence without its end."""

    path: Path
    text: str


def config_error(problems: Sequence[Problem], document: Document) -> ConfigError:
    """Return one error that names all problems, at most ten of them."""
    ordered = sorted(problems, key=lambda problem: document.order(problem.path))
    lines = []
    for problem in ordered[:MAX_SHOWN]:
        key = _dotted(problem.path)
        lines.append(f"{document.where(problem.path)}: {key}{': ' if key else ''}{problem.text}")
    if len(ordered) > MAX_SHOWN:
        lines.append(f"and {len(ordered) - MAX_SHOWN} more")
    return ConfigError("\n".join(lines))


def explain(
    findings: Sequence[Any],
    document: Document,
    keys: Mapping[Path, Sequence[str]],
    homes: Mapping[str, Sequence[str]],
) -> list[Problem]:
    """Turn the validator's findings into problems.

    Parameters
    ----------
    findings : sequence of dict
        Each with type, loc, msg, input and ctx.
    document : Document
        What was validated.
    keys : mapping
        A section's path to its keys; the path of a `kind` to the kinds there are.
    homes : mapping
        A key to the sections it belongs to.
    """
    problems = []
    for finding in findings:
        if finding["type"] == "too_short" and finding["input"]:
            continue  # its items were wrong, and are named themselves
        path = _path(finding, document.tree)
        problems.append(Problem(path, _text(finding, path, keys, homes)))
    # with the wrong kind, a section's other keys cannot be judged
    lost = {problem.path[:-1] for problem in problems if len(problem.path) == 2 and problem.path[1] == "kind"}
    return [p for p in problems if p.path[:1] not in lost or p.path[1:] == ("kind",)]


def _path(finding: Any, tree: Any) -> Path:
    """Return the finding's place in the document: without the validator's names for alternatives."""
    path = [part for part in finding["loc"] if not (isinstance(part, str) and part.startswith("<"))]
    if len(path) > 1 and path[0] in ("data", "model", "cluster") and isinstance(tree, dict):
        section = tree.get(path[0])
        kind = section.get("kind", "local") if isinstance(section, dict) else None
        if path[1] == kind and (len(path) > 2 or finding["type"] != "extra_forbidden"):
            del path[1]  # the alternative's name, unless it is itself an unknown key
    path += finding.get("ctx", {}).get("path", ())
    if finding["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append("kind")
    return tuple(path)


def _text(
    finding: Any, path: Path, keys: Mapping[Path, Sequence[str]], homes: Mapping[str, Sequence[str]]
) -> str:
    kind, value, ctx = finding["type"], finding["input"], finding.get("ctx", {})
    if kind == "distem":
        return str(ctx["text"])
    if kind == "extra_forbidden":
        return _unknown_key(path, keys, homes)
    if kind == "missing" or kind == "union_tag_not_found":
        allowed = f"; {_allowed(keys[path])}" if path in keys else ""
        return f"is missing{allowed}"
    if kind == "union_tag_invalid":
        return _not_allowed(value.get("kind"), keys[path])
    if kind == "literal_error":
        choices = keys[path] if path in keys else _choices(ctx["expected"])
        return _not_allowed(value, choices)
    if value is None and not path:
        return "the config is empty"
    # what stands there may be a secret in the wrong place
    got = "something else" if path[:2] in _HIDDEN else describe(value)
    if kind in _TYPES:
        wanted = _TYPES[kind] + (", or a list of them" if finding["loc"][-1:] == ("<one>",) else "")
        return f"needs {wanted}, got {got}{_hint(kind, value, path, keys)}"
    for limit, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
        if limit in ctx:
            return f"needs {words} {ctx[limit]:g}, got {got}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    return f"{finding['msg'][:1].lower()}{finding['msg'][1:]}, got {got}"


def _hint(kind: str, value: Any, path: Path, keys: Mapping[Path, Sequence[str]]) -> str:
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if (*path, "kind") in keys and isinstance(value, str) and value in keys[(*path, "kind")]:
        return f"; write {path[-1]}: {{kind: {value}}}"
    if value is None and "mapping" in _TYPES[kind]:
        return "; leave the key out, or give it keys"
    return ""


def _unknown_key(path: Path, keys: Mapping[Path, Sequence[str]], homes: Mapping[str, Sequence[str]]) -> str:
    known = keys.get(path[:-1], ())
    key = str(path[-1])
    section = _dotted(path[:-1]) or "the top level"
    near = get_close_matches(key.lower(), known, 1, 0.6)
    text = f"unknown key; the keys of {section} are {', '.join(known)}"
    if key in homes:
        return f"{text}; {key} belongs to {', '.join(homes[key])}"
    return f'{text}; did you mean "{near[0]}"?' if near else text


def _not_allowed(value: Any, choices: Sequence[str]) -> str:
    near = get_close_matches(value.lower(), choices, 1, 0.6) if isinstance(value, str) else []
    mean = f'; did you mean "{near[0]}"?' if near else ""
    return f"is {describe(value)}; {_allowed(choices)}{mean}"


def _allowed(choices: Sequence[str]) -> str:
    return f"allowed values: {', '.join(choices)}"


def _choices(expected: str) -> list[str]:
    """Undo the validator's listing: "'a', 'b' or 'c'"."""
    return [part.strip("'") for part in expected.replace(" or ", ", ").split(", ")]


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text
