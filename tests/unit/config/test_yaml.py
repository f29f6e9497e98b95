"""What the YAML reader makes of text, and what it refuses."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distem.config import yaml as _yaml
from distem.config.yaml import Document, read, write
from distem.errors import ConfigError


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, "my.yaml")
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-6", 1e-6),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("0o17", 15),
        ("0x1f", 31),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("2013-01-01", "2013-01-01"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("=", "="),
        ("'1e-4'", "1e-4"),
        ('"true"', "true"),
        ("'010'", "010"),
        ("!!str 010", "010"),
        ("! 3", "3"),
        ("!!float 1", 1.0),
        ("!!int 1", 1),
        ("!!seq [1]", [1]),
        ("|\n  3\n", "3\n"),
        ("${env:A_B}/x", "${env:A_B}/x"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    got = read(f"a: {text}", "my.yaml").tree["a"]
    assert got == value
    assert type(got) is type(value)


def test_nan_is_a_float() -> None:
    assert math.isnan(read("a: .nan", "my.yaml").tree["a"])


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff"])
def test_an_empty_document_is_none(text: str) -> None:
    assert read(text, "my.yaml").tree is None


@pytest.mark.parametrize(
    ("text", "where", "fact"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "my.yaml:4:3: ", "the key 'c' stands here a second time"),
        ("a: 010", "my.yaml:1:4: ", "010 is ambiguous"),
        ("a: -007", "my.yaml:1:4: ", "leading zero"),
        ("a: 1e999", "my.yaml:1:4: ", "too large for a float64"),
        ("a: " + "9" * 5000, "my.yaml:1:4: ", "5000 digits"),
        ("a: !!python/object/apply:os.getcwd []", "my.yaml:1:4: ", "!!python/object/apply:os.getcwd"),
        ("a: !anything x", "my.yaml:1:4: ", "the tag !anything is not allowed"),
        ("a: !!set {b}", "my.yaml:1:4: ", "!!set"),
        ("a: !!int x", "my.yaml:1:4: ", "the tag says int"),
        ("a: &x 1\n<<: {b: 1}", "my.yaml:2:1: ", "merge keys (<<) are not supported"),
        ("a: &x [*x]", "my.yaml:1:8: ", "stands inside the value it names"),
        ("a: *x", "my.yaml:1:4: ", "names no value above it"),
        ("a: 1\n---\nb: 2\n", "my.yaml:2:1: ", "a second document"),
        ("1: a", "my.yaml:1:1: ", "a key must be a string, this one is the integer 1"),
        ("true: a", "my.yaml:1:1: ", "this one is true"),
        ("? [a]\n: 1", "my.yaml:1:3: ", "this one is a list"),
        ("a:\n\tb: 1", "my.yaml:2:1: ", "Indent with spaces"),
        ("a: [1,", "my.yaml:", "not valid YAML"),
        ("a: b\x00", "my.yaml:1:5: ", "U+0000"),
        ("a: 1\r\nb: \x07", "my.yaml:2:4: ", "U+0007"),
        ("a: '\ud800'", "my.yaml:1:5: ", "U+D800"),
        ("[" * 100_000, "my.yaml:1:66: ", "nests deeper than 64"),
        ("- " * 100_000, "my.yaml:1:", "nests deeper than 64"),
        ("#" * (1 << 20) + "\n", "my.yaml:1:1: ", "at most 1048576"),
    ],
)
def test_refused_with_its_place(text: str, where: str, fact: str) -> None:
    message = refused(text)
    assert message.startswith(where)
    assert fact in message


def test_an_alias_may_repeat_a_value_but_not_multiply() -> None:
    assert read("a: &x {b: [1]}\nc: *x", "my.yaml").tree == {"a": {"b": [1]}, "c": {"b": [1]}}
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)
    )
    assert "aliases unfold to more than 10000" in refused(bomb)


def test_aliases_that_nest_are_bounded_in_depth() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 100))
    assert "64 levels" in refused(text)


def test_copies_through_an_alias_are_apart() -> None:
    tree = read("a: &x [1]\nb: *x", "my.yaml").tree
    tree["a"].append(2)
    assert tree["b"] == [1]


def test_long_lists_written_out_are_no_bomb() -> None:
    text = f"a: [{', '.join(['0.5'] * 50_000)}]"
    assert len(read(text, "my.yaml").tree["a"]) == 50_000


def test_where() -> None:
    document = read("a: 1\nb:\n  c: [x,\n    y]\n  d: *e\n".replace("*e", "{f: 1}"), "my.yaml")
    assert document.where(()) == "my.yaml:1:1"
    assert document.where(("b",)) == "my.yaml:2:1"
    assert document.where(("b", "c")) == "my.yaml:3:3"
    assert document.where(("b", "c", 1)) == "my.yaml:4:5"
    assert document.where(("b", "c", 7)) == "my.yaml:3:3"
    assert document.where(("b", "missing", "deeper")) == "my.yaml:2:1"
    assert document.where(("b", "d", "f")) == "my.yaml:5:7"
    assert document.where(("missing",)) == "my.yaml:1:1"


def test_override() -> None:
    document = read("a: {b: 1, c: 2}\nd:\n", "my.yaml")
    after = document.override("a.b=[2, 3]").override("d.e.f=1e-4").override("new.key=no")
    assert after.tree == {"a": {"b": [2, 3], "c": 2}, "d": {"e": {"f": 1e-4}}, "new": {"key": "no"}}
    assert document.tree == {"a": {"b": 1, "c": 2}, "d": None}
    assert after.where(("a", "b")) == "--set a.b=[2, 3]"
    assert after.where(("a", "b", 0)) == "--set a.b=[2, 3]"
    assert after.where(("a", "c")) == "my.yaml:1:11"
    assert after.where(("new",)) == "--set new.key=no"
    assert after.where(("new", "other")) == "--set new.key=no"


def test_the_last_override_wins_and_speaks() -> None:
    document = read("a: 1", "my.yaml").override("a=2").override("a=3")
    assert document.tree == {"a": 3}
    assert document.where(("a",)) == "--set a=3"


def test_override_on_nothing_and_with_equals_signs() -> None:
    assert read("", "my.yaml").override("a.b=x=y").tree == {"a": {"b": "x=y"}}
    assert read("a: 1", "my.yaml").override("a=").tree == {"a": None}


@pytest.mark.parametrize(
    ("assignment", "fact"),
    [
        ("a", "is not of the form key=value"),
        ("=3", "is not of the form key=value"),
        ("a..b=3", "is not of the form key=value"),
        (".".join("a" * 1000) + "=3", "is not of the form key=value"),
        ("a.b=3", "a is the integer 1, not a mapping"),
        ("l.0=3", "l is a list of 1, not a mapping"),
        ("c={d: 1, d: 2}", "the key 'd' stands here a second time"),
        ("c=!x 1", "the tag !x is not allowed"),
        ("c=010", "ambiguous"),
        ("c=[1", "not valid YAML"),
    ],
)
def test_wrong_overrides(assignment: str, fact: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read("a: 1\nl: [1]", "my.yaml").override(assignment)
    assert fact in str(caught.value)
    assert str(caught.value).startswith(f"--set {assignment[:60]}")


keys = st.text(max_size=8).filter(lambda s: all(_yaml._UNPRINTABLE.match(c) is None for c in s))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(
        ["1e-4", "no", "010", "0o17", ".5", ".inf", "~", "null", "<<", "=", "1_0", "${env:A}", " "]
    )
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(trees)
@example({"a": [["x"], []], "b": {}, "c": "a\u2028b\ufeff\x85\x00"})
@example(1e22)
def test_what_is_written_reads_back(tree: object) -> None:
    again = read(write(tree), "my.yaml").tree
    assert again == tree
    assert repr(again) == repr(tree)  # True is not 1, nor 1.0


yaml_like = st.text("ab01:.-?!&*|>'\"%@`[]{},#~\\ \t\n\r$<=/eExo\u2028\x85\ufeff", max_size=60)


@pytest.mark.parametrize(
    "loader", dict.fromkeys([_yaml._Loader, yaml.SafeLoader]), ids=lambda loader: loader.__name__
)
@settings(deadline=None)
@given(text=yaml_like | st.text(max_size=60))
@example('a: "\\uD800"')
@example('"\\UFFFFFFFF"')
@example("!!%FF a")
@example("%YAML 9.9\n---\na")
@example("!<> a")
@example("? - !!int\n? b")
def test_any_text_is_read_or_refused(loader: type, text: str) -> None:
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_yaml, "_Loader", loader)
            document = read(text, "my.yaml")
    except ConfigError as error:
        assert str(error).startswith("my.yaml:")  # noqa: PT017 -- a refusal is one of two good ends
    else:
        assert isinstance(document, Document)
        assert repr(read(write(document.tree), "again").tree) == repr(document.tree)


@settings(deadline=None)
@given(st.text(max_size=30) | yaml_like.map(lambda text: f"a.b={text}"))
def test_any_override_is_taken_or_refused(text: str) -> None:
    try:
        read("a: {b: 1}", "my.yaml").override(text)
    except ConfigError as error:
        assert str(error).startswith("--set ")  # noqa: PT017
