"""YAML text to plain Python values that know where they stand, and back.

Only the scanner and parser of PyYAML are used. Values are made here, by YAML 1.2's core
schema, because PyYAML's own rules surprise: there `1e-4` is a string, `no` is False, `010`
is 8, and of two equal keys the second silently wins. Nothing here can run code, and a
hostile file costs no more than reading it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import yaml

from distem.errors import ConfigError

try:  # the same events, ten times faster
    from yaml import CSafeLoader as _Loader
except ImportError:  # pragma: no cover -- PyYAML built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

Path = tuple[str | int, ...]
"""Keys and list positions that lead to a value, from the top."""

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_ALIASED = 10_000

_CORE = "tag:yaml.org,2002:"
_NULL = re.compile(r"(null|Null|NULL|~|)")
_TRUE = re.compile(r"(true|True|TRUE)")
_FALSE = re.compile(r"(false|False|FALSE)")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Refused(Exception):  # noqa: N818 -- becomes a ConfigError once its position is known
    """A scalar that cannot be read: (fact, remedy)."""


def resolve(text: str) -> bool | int | float | str | None:
    """Return what an unquoted scalar means in YAML 1.2's core schema."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _LEADING_ZERO.fullmatch(text):
        raise _Refused(
            f"{_clip(text)} is ambiguous: some readers of YAML take a leading zero for octal.",
            "Write the number without leading zeros, or put it in quotes if it is text.",
        )
    if _INT.fullmatch(text):
        if len(text) > 100:
            raise _Refused(
                f"{_clip(text)} has {len(text)} digits.", "Write at most 100, or put it in quotes."
            )
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise _Refused(f"{_clip(text)} is too large for a float64.", "Write .inf if infinity is meant.")
        return number
    if _INFINITE.fullmatch(text):
        return -math.inf if text[0] == "-" else math.inf
    return math.nan if _NAN.fullmatch(text) else text


def describe(value: object) -> str:
    """Name a value and its type in the words of a config: "the string '3'", "a list of 2"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the string {_clip(repr(value))}" if value else "an empty string"
    if isinstance(value, int):
        return f"the integer {_clip(str(value))}"
    if isinstance(value, float):
        return f"the number {value!r}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        keys = ", ".join(str(key) for key in value)
        return f"a mapping of {_clip(keys)}" if value else "an empty mapping"
    return f"a {type(value).__name__}"


def _clip(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


@dataclass(frozen=True, slots=True)
class _Node:
    """A value in the text: where it begins (from 1), and a scalar, items or (key, value) nodes."""

    line: int
    column: int
    content: Any
    aliased: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A config's text, read.

    Attributes
    ----------
    name : str
        What messages call it: the file's path as the user gave it.
    tree : Any
        Plain Python: dict with str keys, list, str, int, float, bool, None.
    """

    name: str
    tree: Any
    _root: _Node = field(repr=False)
    _overrides: tuple[tuple[Path, str], ...] = field(default=(), repr=False)

    def where(self, path: Path) -> str:
        """Return "file:line:column" of a key or list item, or of the nearest thing around it that exists."""
        return self._find(path)[0]

    def order(self, path: Path) -> tuple[int, int]:
        """Return what sorts paths in the order a reader meets them, overrides last."""
        return self._find(path)[1]

    def _find(self, path: Path) -> tuple[str, tuple[int, int]]:
        node, line, column, depth = self._root, self._root.line, self._root.column, 0
        for part in path:
            if isinstance(node.content, dict) and isinstance(part, str) and part in node.content:
                key, node = node.content[part]
                line, column = key.line, key.column
            elif isinstance(node.content, list) and isinstance(part, int) and part < len(node.content):
                node = node.content[part]
                line, column = node.line, node.column
            else:
                break
            depth += 1
        for index, (keys, label) in reversed(list(enumerate(self._overrides))):
            # a section that only an override brought into being is best named by that override
            shared = next(
                (i for i, (a, b) in enumerate(zip(keys, path)) if a != b), min(len(keys), len(path))
            )
            if shared == len(keys) or shared > depth:
                return label, (1 << 31, index)
        return f"{self.name}:{line}:{column}", (line, column)

    def override(self, assignment: str, label: str | None = None) -> Document:
        """Return a copy with one value replaced, as `--set a.b=c` does.

        Parameters
        ----------
        assignment : str
            Dotted keys, an equals sign, and a value in YAML: ``model.components=[2, 3]``.
            Mappings that are missing on the way are made.
        label : str, optional
            What messages about the value are headed with; ``--set`` and the assignment by default.
        """
        left, equals, right = assignment.partition("=")
        keys = tuple(key.strip() for key in left.split("."))
        label = label or f"--set {_clip(assignment, 100)}"
        if not equals or not all(keys) or len(keys) > MAX_DEPTH:
            raise ConfigError(
                f"{label}: is not of the form key=value.",
                "Write the key's place with dots, as in --set model.components=3.",
            )
        value = _Reader(right, lambda _line, _column: label).read().tree
        tree = _put(self.tree, keys, value, label)
        return replace(self, tree=tree, _overrides=(*self._overrides, (keys, label)))


def _put(tree: Any, keys: tuple[str, ...], value: Any, label: str, done: tuple[str, ...] = ()) -> Any:
    if not keys:
        return value
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{label}: {'.'.join(done) or 'the config'} is {describe(tree)}, not a mapping with keys.",
            "Set it as a whole." if done else "",
        )
    return {**tree, keys[0]: _put(tree.get(keys[0]), keys[1:], value, label, (*done, keys[0]))}


def read(text: str, name: str) -> Document:
    """Read YAML text.

    Parameters
    ----------
    text : str
        One YAML document of at most 1 MiB.
    name : str
        What positions in messages begin with, usually the file's path.

    Returns
    -------
    Document

    Raises
    ------
    ConfigError
        The text is not YAML, or uses what a config may not: duplicate or non-string keys,
        tags, merge keys, several documents, aliases that multiply.
    """
    document = _Reader(text, lambda line, column: f"{name}:{line}:{column}").read()
    return replace(document, name=name)


class _Reader:
    """Builds the nodes of one document from the parser's events, then the values from the nodes.

    PyYAML's own composer recurses as deep as the text nests; here the depth is bounded.
    """

    def __init__(self, text: str, place: Callable[[int, int], str]) -> None:
        self.text = text.removeprefix("\ufeff")
        self.place = place
        self.anchors: dict[str | None, _Node | None] = {}
        self.aliased = 0

    def read(self) -> Document:
        self._check_text()
        try:
            root = self._document(yaml.parse(self.text, Loader=_Loader))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            problem = ", ".join(part for part in (error.context, error.problem) if part)
            lines = [*_BREAK.split(self.text), ""]
            tab = lines[min(line, len(lines)) - 1][column - 1 :].startswith("\t")
            remedy = "Indent with spaces, not tabs." if tab else ""
            self._fail(line, column, f"this is not valid YAML: {problem}.", remedy)
        except ConfigError:
            raise
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            # a bad escape or tag; the parser's exceptions of these kinds have no position
            self._fail(1, 1, f"this is not valid YAML: {_clip(str(error), 200)}.")
        return Document("", self._value(root, 0, False), root)

    def _fail(self, line: int, column: int, fact: str, remedy: str = "") -> NoReturn:
        raise ConfigError(f"{self.place(line, column)}: {fact}", remedy) from None

    def _fail_at(self, event: Any, fact: str, remedy: str = "") -> NoReturn:
        self._fail(event.start_mark.line + 1, event.start_mark.column + 1, fact, remedy)

    def _check_text(self) -> None:
        if match := _UNPRINTABLE.search(self.text):
            breaks = list(_BREAK.finditer(self.text, 0, match.start()))
            column = match.start() - (breaks[-1].end() if breaks else 0) + 1
            code = f"U+{ord(match.group()):04X}"
            self._fail(len(breaks) + 1, column, f"the character {code} is not allowed in YAML.", "Remove it.")
        size = len(self.text.encode())
        if size > MAX_BYTES:
            self._fail(
                1, 1, f"the text has {size} bytes; at most {MAX_BYTES} are read.", "Is this the config?"
            )

    # from events to nodes

    def _document(self, events: Iterator[Any]) -> _Node:
        next(events)  # the stream's start
        first = next(events)
        if isinstance(first, yaml.StreamEndEvent):
            return _Node(1, 1, None)
        root = self._node(next(events), events, 0)
        next(events)  # the document's end
        after = next(events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._fail_at(after, "a second document begins here.", "Keep one; remove the line '---'.")
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> _Node:
        if depth > MAX_DEPTH:
            self._fail_at(event, f"the text nests deeper than {MAX_DEPTH} levels.", "Flatten it.")
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, yaml.AliasEvent):
            target = self.anchors.get(event.anchor)
            if target is None:
                known = event.anchor in self.anchors
                fact = "stands inside the value it names" if known else "names no value above it"
                self._fail_at(event, f"the alias *{event.anchor} {fact}.", "Write the value out.")
            return _Node(line, column, target.content, aliased=True)
        if event.anchor is not None:
            self.anchors[event.anchor] = None  # under way: an alias inside would never end
        if isinstance(event, yaml.ScalarEvent):
            content: Any = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event, "seq")
            content = []
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                content.append(self._node(item, events, depth + 1))
        else:
            self._check_tag(event, "map")
            content = self._entries(events, depth)
        node = _Node(line, column, content)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _entries(self, events: Iterator[Any], depth: int) -> dict[str, tuple[_Node, _Node]]:
        entries: dict[str, tuple[_Node, _Node]] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                self._fail_at(event, "merge keys (<<) are not supported.", "Write the merged keys out.")
            key = self._node(event, events, depth + 1)
            if not isinstance(key.content, str):
                what = "a list" if isinstance(key.content, list) else describe(key.content)
                what = "a mapping" if isinstance(key.content, dict) else what
                self._fail_at(event, f"a key must be a string, this one is {what}.", "Put the key in quotes.")
            if key.content in entries:
                first = entries[key.content][0]
                self._fail_at(
                    event,
                    f"the key {_clip(repr(key.content))} stands here a second time; "
                    f"the first is at {self.place(first.line, first.column)}.",
                    "Keep one of the two.",
                )
            entries[key.content] = key, self._node(next(events), events, depth + 1)
        return entries

    def _scalar(self, event: Any) -> bool | int | float | str | None:
        text: str = event.value
        if _SURROGATE.search(text):
            self._fail_at(event, "half a character (a surrogate) is escaped here.", "Write it out in UTF-8.")
        tag = event.tag
        try:
            if tag is None:
                return resolve(text) if event.implicit[0] else text
            if tag in ("!", _CORE + "str"):
                return text
            value = resolve(text)
        except _Refused as refused:
            fact, remedy = refused.args
            self._fail_at(event, fact, remedy)
        if tag == _CORE + "float" and type(value) is int:
            return float(value)
        types = {"int": int, "float": float, "bool": bool, "null": type(None)}
        wanted = types.get(tag.removeprefix(_CORE)) if tag.startswith(_CORE) else None
        if wanted is None:
            self._foreign_tag(event)
        if type(value) is not wanted:
            self._fail_at(event, f"the tag says {tag.removeprefix(_CORE)}, the value is {describe(value)}.")
        return value

    def _check_tag(self, event: Any, kind: str) -> None:
        if event.tag not in (None, "!", _CORE + kind):
            self._foreign_tag(event)

    def _foreign_tag(self, event: Any) -> NoReturn:
        tag = str(event.tag)
        tag = "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag
        self._fail_at(
            event, f"the tag {_clip(tag)} is not allowed: a config holds plain values.", "Remove it."
        )

    # from nodes to values

    def _value(self, node: _Node, depth: int, aliased: bool) -> Any:
        aliased = aliased or node.aliased
        if aliased:
            self.aliased += 1
        if self.aliased > MAX_ALIASED or depth > MAX_DEPTH:
            self._fail(
                node.line,
                node.column,
                f"aliases unfold to more than {MAX_ALIASED} values or {MAX_DEPTH} levels.",
                "Write the values out.",
            )
        if isinstance(node.content, list):
            return [self._value(item, depth + 1, aliased) for item in node.content]
        if isinstance(node.content, dict):
            return {key: self._value(value, depth + 1, aliased) for key, (_, value) in node.content.items()}
        return node.content


class _Dumper(yaml.SafeDumper):
    """Writes what `read` reads back: strings are quoted wherever the core schema would see another type."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _represent_str(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    try:
        plain = isinstance(resolve(value), str)
    except _Refused:
        plain = False
    style = None if plain else "'"
    # the emitter folds some line breaks away unless they are escaped
    return dumper.represent_scalar(_CORE + "str", value, style=style if value.isprintable() else '"')


def _represent_list(dumper: _Dumper, value: list[Any]) -> yaml.SequenceNode:
    flat = not any(isinstance(item, list | dict) for item in value)
    return dumper.represent_sequence(_CORE + "seq", value, flow_style=flat)


_Dumper.add_representer(str, _represent_str)
_Dumper.add_representer(list, _represent_list)


def write(tree: Any) -> str:
    """Return YAML text that `read` turns into an equal tree, keys in the tree's order."""
    return yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=100
    )
