import csv
import io
import pickle
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from distem.data import csv_files
from distem.data.open import open_like, open_source
from distem.data.transform import Transform
from distem.errors import ConfigError, DamagedChunkError, DataError

rng = np.random.default_rng(8)


def load(source):
    blocks = pickle.loads(pickle.dumps(source)).blocks(Transform(missing="keep"))
    rows = [b.load() for b in blocks]
    assert [r.n for r in rows] == [b.n for b in blocks]
    return np.concatenate([r.values for r in rows])


def frame(n=1000):
    return pd.DataFrame(
        {
            "a": rng.normal(size=n),
            "b": rng.integers(0, 100, n).astype("i2"),
            "name": [f"n{i}" for i in range(n)],
            "c": rng.normal(size=n).astype("f4"),
        }
    )


# Parquet


@pytest.mark.parametrize("group", [1000, 170, 7])
@pytest.mark.parametrize("block_rows", [None, 1, 64, 5000])
def test_parquet_rows_are_cut_anywhere(tmp_path, group, block_rows):
    df = frame()
    df.to_parquet(tmp_path / "t.parquet", row_group_size=group)
    if block_rows == 1 and group == 7:
        df = df[:30]
        df.to_parquet(tmp_path / "t.parquet", row_group_size=group)
    source = open_source("parquet", str(tmp_path / "t.parquet"), ["c", "a"], block_rows=block_rows)
    assert (source.dims, source.features) == (("row",), ("c", "a"))
    assert_array_equal(load(source), df[["c", "a"]].to_numpy())
    if block_rows:
        assert source.grid.regular_sizes == (min(block_rows, len(df)),)


def test_parquet_folders_and_globs(tmp_path):
    df = frame()
    for i, start in enumerate((0, 300, 300, 900)):
        df[start : (300, 300, 900, 1000)[i]].to_parquet(tmp_path / f"part-{i}.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    for path in (tmp_path, tmp_path / "part-*.parquet"):
        source = open_source("parquet", str(path), weights="b", block_rows=128)
        assert source.features == ("a", "c")
        assert_array_equal(load(source), df[["a", "c"]].to_numpy())
        assert_array_equal(source.blocks()[0].load().weights, df.b)


def test_parquet_uniform_row_groups_are_chunks(tmp_path):
    df = pd.DataFrame({"a": rng.normal(size=200_000)})
    df.to_parquet(tmp_path / "t.parquet", row_group_size=60_000)
    source = open_source("parquet", str(tmp_path / "t.parquet"))
    assert source.grid.chunks == ((60_000,) * 3 + (20_000,),)
    assert_array_equal(load(source)[:, 0], df.a)


def test_parquet_types(tmp_path):
    n = 5
    table = pa.table(
        {
            "i": pa.array([1, None, 3, 4, 5], pa.int64()),
            "t": pa.array([True, None, False, True, True]),
            "h": pa.array(np.arange(n, dtype="f2")),
            "u": pa.array(range(n), pa.uint8()),
            "d": pa.array([1.5, 2, None, 3, 4]).cast(pa.decimal128(9, 2)),
            "e": pa.array([1, 2, 1, None, 2]).dictionary_encode(),
            "z": pa.nulls(n),
            "s": pa.array(list("abcde")),
            "when": pa.array(range(n), pa.timestamp("ns")),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    path = str(tmp_path / "t.parquet")
    source = open_source("parquet", path)
    assert source.features == tuple("ituhde") or set(source.features) == set("ithudez")
    nan = np.nan
    want = {
        "i": [1, nan, 3, 4, 5],
        "t": [1, nan, 0, 1, 1],
        "h": range(n),
        "u": range(n),
        "d": [1.5, 2, nan, 3, 4],
        "e": [1, 2, 1, nan, 2],
        "z": [nan] * n,
    }
    assert_array_equal(load(source), np.array([list(want[f]) for f in source.features], float).T)
    assert open_source("parquet", path, ["t", "u"]).dtype == np.float32
    for keywords, message in [
        ({"features": ["s"]}, "Column 's' of .* has dtype string"),
        ({"features": ["when"]}, r"Column 'when' of .* has dtype timestamp\[ns\]"),
        ({"features": ["j"]}, "no column 'j' in"),
        ({"features": ["i"], "weights": "wen"}, r"no weights column 'wen'.*Did you mean 'when'"),
        ({"features": []}, "No features"),
        ({"features": ["i", "i"]}, "named twice"),
        ({"sample_dims": ["time"]}, "no dimension 'time'"),
    ]:
        with pytest.raises(DataError, match=message):
            open_source("parquet", path, **keywords)
    with pytest.raises(ConfigError, match="features are columns"):
        open_source("parquet", path, feature_dim="row")


def test_parquet_damage(tmp_path):
    path = tmp_path / "t.parquet"
    df = pd.DataFrame({"a": rng.normal(size=1000)})
    df.to_parquet(path, row_group_size=250, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(2).column(0).data_page_offset
    content[at : at + 12] = b"\xff" * 12
    path.write_bytes(content)
    with pytest.raises(DamagedChunkError, match=r"Row group 2 of .*t\.parquet cannot be decoded"):
        load(open_source("parquet", str(path), block_rows=100))
    path.write_bytes(content[:200])
    with pytest.raises(DataError, match=r"t\.parquet cannot be opened as Parquet"):
        open_source("parquet", str(path))
    with pytest.raises(DataError, match="There is no file"):
        open_source("parquet", str(tmp_path / "no.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.parquet"):
        open_source("parquet", str(tmp_path / "empty"))


def test_parquet_files_must_agree(tmp_path):
    frame().to_parquet(tmp_path / "1.parquet")
    frame().drop(columns="c").to_parquet(tmp_path / "2.parquet")
    with pytest.raises(DataError, match=r"differ: 'c' is not the same in .*1\.parquet and .*2\.parquet"):
        open_source("parquet", str(tmp_path))


def test_without_pyarrow(tmp_path, monkeypatch):
    frame().to_parquet(tmp_path / "1.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r'pip install "distem\[parquet\]"'):
        open_source("parquet", str(tmp_path))


# CSV

texts = st.sampled_from(["", "x", "two words", 'say "so"', "a,b", "line\nbreak", "crlf\r\nbreak", '"'])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(texts, st.floats(allow_nan=True), st.integers(-9, 9) | st.none()), max_size=30),
    st.integers(1, 9),
    st.integers(3, 40),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_csv_whatever_is_quoted(tmp_path, records, block_rows, buffer, newline, ends):
    with io.StringIO(newline="") as text:
        writer = csv.writer(text, lineterminator=newline)
        writer.writerow(["te,xt", "x", "y"])
        for record in records:
            writer.writerow(
                ["" if v is None or v != v else repr(v) if isinstance(v, float) else v for v in record]
            )
        content = text.getvalue()
    if not ends:
        content = content.removesuffix(newline)
    (tmp_path / "t.csv").write_bytes(content.encode())
    want = np.array([[x, np.nan if y is None else y] for _, x, y in records], float).reshape(-1, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "_BUFFER", buffer)
        source = open_source("csv", str(tmp_path / "t.csv"), ["x", "y"], block_rows=block_rows)
    assert source.n == len(records)
    assert_array_equal(load(source), want)
    for chunk in range(source.grid.n_chunks if records else 0):
        rows = source.grid.region(chunk)[0]
        assert_array_equal(source.read(range(chunk, chunk + 1))[0], want[rows])


def test_csv_files_are_one_table(tmp_path):
    df = frame(1000)
    for i, (start, stop) in enumerate([(0, 250), (250, 251), (251, 1000)]):
        part = df[start:stop]
        (part if i % 2 else part[["c", "name", "b", "a"]]).to_csv(tmp_path / f"{i}.csv", index=False)
    source = open_source("csv", str(tmp_path / "*.csv"), ["a", "c"], weights="b", block_rows=100)
    assert_array_equal(load(source)[:, 0], df.a)
    assert_array_equal(source.blocks()[0].load().weights, df.b)
    for chunk in range(10):
        want = df[["a", "c"]][chunk * 100 : chunk * 100 + 100].to_numpy()
        got = source.read(range(chunk, chunk + 1))[0].astype("f4")
        assert_array_equal(got, want.astype("f4"))


def test_csv_as_people_write_it(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(
        b"\xef\xbb\xbf when; depth ;ok;note\r\n\r\nmon;1.5;true;\r\n\r\ntue; NA ;FALSE;x\r\nwed;;true;y"
    )
    source = open_source("csv", str(path))
    assert source.features == ("depth", "ok")
    assert_array_equal(load(source), [[1.5, 1], [np.nan, 0], [np.nan, 1]])
    path.write_text("a\tb\n1\t2\n")
    assert_array_equal(load(open_source("csv", str(path))), [[1, 2]])
    path.write_text("a,b\n")
    assert open_source("csv", str(path), ["a"]).n == 0
    path.write_text("a\n1\n\n2\n")
    assert_array_equal(load(open_source("csv", str(path))), [[1], [2]])


@pytest.mark.parametrize(
    ("content", "keywords", "message"),
    [
        (
            "a,b\n1,2\n3,x7\n",
            {"features": ["a", "b"]},
            r"Column 'b' of .*t\.csv has 'x7' at row 1, which is not",
        ),
        ("a,b\n1,2\n3\n", {}, r"Row 1 of .*t\.csv has 1 fields, the header 2"),
        ("a,b\n1,2,3\n3\n", {}, r"Row 0 of .*t\.csv has 3 fields"),
        ('a,b\n1,"2\n3,4\n', {"features": ["a"]}, "ends inside quotes"),
        ("a,a\n1,2\n", {}, "names 'a' twice"),
        ("", {}, "has no header"),
        ("a,b\nx,y\n", {}, "no numeric columns.*It has: a, b"),
        ("alpha,b\n1,2\n", {"features": ["alhpa"]}, r"no column 'alhpa'.*Did you mean 'alpha'"),
        ("alpha,b\n1,2\n", {"weights": "w"}, "no weights column 'w'"),
        ("a\n1\n \n2\n", {"features": ["a"]}, "has 2 rows from row 0, where 3 were counted"),
        ("\x1f\x8b", {}, "compressed"),
    ],
)
def test_csv_errors_name_the_place(tmp_path, content, keywords, message):
    (tmp_path / "t.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        load(open_source("csv", str(tmp_path / "t.csv"), **keywords))


def test_csv_files_must_agree(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("a,c\n1,2\n")
    with pytest.raises(DataError, match=r"differ: there is no column 'b' in .*2\.csv"):
        open_source("csv", str(tmp_path))


def test_csv_of_several_blocks(tmp_path):
    df = pd.DataFrame({"a": rng.normal(size=700_000)})
    df.to_csv(tmp_path / "t.csv", index=False)
    source = open_source("csv", str(tmp_path / "t.csv"))
    assert len(source.blocks()) == 2
    assert_array_equal(load(source)[:, 0], df.a)


# predict across formats


def test_a_model_may_read_another_format(tmp_path):
    df = frame(100)
    df.to_csv(tmp_path / "t.csv", index=False)
    df.to_parquet(tmp_path / "t.parquet")
    fitted = open_source("csv", str(tmp_path / "t.csv"), ["c", "a"]).describe()
    assert open_like(fitted, "parquet", str(tmp_path / "t.parquet")).features == ("c", "a")
