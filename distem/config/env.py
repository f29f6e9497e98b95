"""Values from the environment: ``${env:NAME}`` filled in where it is used, and taken out of messages."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit

from distem.errors import ConfigError

ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*(://|::)")


def expand(value: str) -> str:
    """Fill every ``${env:NAME}`` of a text in from the environment.

    The result may be a secret: hand it to what needs it and write it nowhere.

    Raises
    ------
    ConfigError
        A variable is not set, or is empty.
    """
    return ENV.sub(lambda match: _variable(match.group(1)), value)


def expand_all(value: Any) -> Any:
    """Like `expand`, for every text in a tree of dicts and lists, such as ``data.storage_options``."""
    if isinstance(value, dict):
        return {key: expand_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [expand_all(item) for item in value]
    return expand(value) if isinstance(value, str) else value


def _variable(name: str) -> str:
    if problem := unset(name):
        raise ConfigError(f"The environment variable {name} {problem}.", f"Set it: export {name}=…")
    return os.environ[name]


def unset(name: str) -> str:
    """Return what keeps a variable from being used, or nothing."""
    if os.environ.get(name):
        return ""
    return "is empty" if name in os.environ else "is not set"


def texts(tree: Any) -> list[str]:
    """Return the texts in a tree that hold ``${env:NAME}``."""
    if isinstance(tree, dict):
        return [text for item in tree.values() for text in texts(item)]
    if isinstance(tree, list):
        return [text for item in tree for text in texts(item)]
    return [tree] if isinstance(tree, str) and ENV.search(tree) else []


def redact(text: str, raws: Iterable[str], folder: str) -> str:
    """Put unexpanded texts back wherever their values, or parts that tell them, stand in a text.

    Parameters
    ----------
    text : str
        A message, say of a library that does not know what is secret.
    raws : iterable of str
        Texts that hold ``${env:NAME}``.
    folder : str
        What relative paths start from: libraries show paths made absolute.
    """
    shown: dict[str, str] = {}
    names = set()
    for raw in raws:
        needed = ENV.findall(raw)
        names.update(needed)
        if any(unset(name) for name in needed):
            continue
        value = expand(raw)
        path = os.path.join(folder, os.path.expanduser(value))
        whole = () if URL.match(value) or "\0" in path else (path, os.path.realpath(path))
        for form in _forms(value, *whole):
            shown.setdefault(form, raw)
    for name in sorted(names):
        for form in _forms(os.environ.get(name, "")):
            shown[form] = f"${{env:{name}}}"
    if not shown:
        return text
    # one sweep, longest first: what was put in is not looked at again
    pattern = "|".join(re.escape(form) for form in sorted(shown, key=len, reverse=True))
    return re.sub(pattern, lambda match: shown[match.group()], text)


def _forms(*values: str) -> set[str]:
    """Return the ways in which other libraries may show values."""
    forms = set(values)
    for value in values:
        forms |= {value.rstrip("/"), os.path.normpath(value) if "/" in value else value}
        if URL.match(value):
            forms.add(value.partition("://")[2])
            try:
                url = urlsplit(value)
                forms |= {url.netloc, url.hostname or "", url.username or "", url.password or ""}
            except ValueError:  # not a URL after all
                continue
    for form in list(forms):
        # a value from the environment may hold bytes that are no UTF-8
        escaped = quote(form, errors="surrogateescape"), quote(form, safe="", errors="surrogateescape")
        forms |= {repr(form)[1:-1], json.dumps(form)[1:-1], *escaped}
    return forms - {"", ".", "..", "/"}
