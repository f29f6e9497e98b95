import pickle
import struct
import sys
import zlib

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image, TiffImagePlugin

from distem.data.open import open_source
from distem.data.transform import Transform
from distem.errors import ConfigError, DamagedChunkError, DataError

rng = np.random.default_rng(9)


def load(source):
    blocks = pickle.loads(pickle.dumps(source)).blocks(Transform(missing="keep"))
    return np.concatenate([b.load().values for b in blocks])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", ">f4", "i2", "?", "f2"])
def test_npy(tmp_path, order, dtype):
    x = np.asarray(rng.integers(0, 2, (5000, 3)), dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", x)
    source = open_source("npy", str(tmp_path / "x.npy"))
    assert (source.dims, source.features) == (("row",), ("x0", "x1", "x2"))
    assert_array_equal(load(source), x.astype(float))
    assert_array_equal(
        load(open_source("npy", str(tmp_path / "x.npy"), ["x2", "x0"])), x[:, [2, 0]].astype(float)
    )


def test_npy_of_more_dimensions(tmp_path):
    x = rng.normal(size=(4, 300, 200, 3))
    np.save(tmp_path / "x.npy", x)
    path = str(tmp_path / "x.npy")
    assert_array_equal(load(open_source("npy", path)), x.reshape(-1, 3))
    source = open_source("npy", path, feature_dim="dim_0", block_rows=1000)
    assert source.dims == ("dim_1", "dim_2", "dim_3")
    assert_array_equal(load(source), np.moveaxis(x, 0, -1).reshape(-1, 4))
    for keywords, message in [
        ({"features": ["x9"]}, "no column 'x9'"),
        ({"sample_dims": ["dim_7"]}, "no dimension 'dim_7'"),
        ({"sample_dims": ["dim_1", "dim_0", "dim_2"]}, "those of .* are dim_0, dim_1, dim_2"),
    ]:
        with pytest.raises(DataError, match=message):
            open_source("npy", path, **keywords)
    with pytest.raises(ConfigError, match="weights is 'w'"):
        open_source("npy", path, weights="w")


def test_npy_refusals(tmp_path):
    path = tmp_path / "x.npy"
    for x, message in [
        (np.ones(3), r"shape \(3,\), without a feature dimension"),
        (np.ones((3, 2), complex), "dtype complex"),
        (np.array([[object()]]), "cannot be opened"),
        (np.ones((3, 0)), "no numeric columns"),
    ]:
        np.save(path, x)
        with pytest.raises(DataError, match=message):
            open_source("npy", str(path))
    np.save(path, np.ones((1000, 3)))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"x\.npy cannot be opened"):
        open_source("npy", str(path))
    with pytest.raises(DataError, match="There is no file"):
        open_source("npy", str(tmp_path / "no.npy"))


def test_colour_image(tmp_path):
    pixels = rng.integers(1, 256, (40, 30, 4)).astype("u1")
    Image.fromarray(pixels).save(tmp_path / "i.png")
    path = str(tmp_path / "i.png")
    source = open_source("image", path)
    # floats, for transparent pixels are missing
    assert (source.dims, source.features, source.dtype) == (("y", "x"), ("red", "green", "blue"), np.float32)
    assert_array_equal(load(source), pixels[..., :3].reshape(-1, 3))
    named = open_source("image", path, ["alpha", "red"], block_rows=100)
    assert named.grid.chunks == ((4,) * 10, (30,))
    assert_array_equal(load(named), pixels[..., [3, 0]].reshape(-1, 2))
    with pytest.raises(DataError, match=r"no column 'rde'.*Did you mean 'red'"):
        open_source("image", path, ["rde"])


@pytest.mark.parametrize("dtype", ["u1", "u2", "?"])
def test_one_band(tmp_path, dtype):
    pixels = rng.integers(0, 2 if dtype == "?" else np.iinfo(dtype).max, (20, 30)).astype(dtype)
    Image.fromarray(pixels).save(tmp_path / "i.png")
    source = open_source("image", str(tmp_path / "i.png"))
    assert source.features == ("gray",)
    assert_array_equal(load(source)[:, 0], pixels.ravel().astype(float))


def test_palette(tmp_path):
    image = Image.fromarray(rng.integers(0, 256, (20, 20, 3)).astype("u1")).quantize(16)
    image.save(tmp_path / "p.png")
    assert_array_equal(
        load(open_source("image", str(tmp_path / "p.png"))), np.asarray(image.convert("RGB")).reshape(-1, 3)
    )


def test_stack(tmp_path):
    stack = rng.integers(0, 256, (3, 20, 30, 3)).astype("u1")
    for i, pixels in enumerate(stack):
        Image.fromarray(pixels).save(tmp_path / f"frame_{i}.png")
    for path in (tmp_path, tmp_path / "*.png"):
        source = open_source("image", str(path))
        assert source.dims == ("image", "y", "x")
        assert source.grid.chunks == ((1, 1, 1), (20,), (30,))
        assert_array_equal(load(source), stack.reshape(-1, 3))
    assert open_source("image", str(tmp_path / "frame_[0]*.png")).shape == (1, 20, 30)
    whole = (tmp_path / "frame_1.png").read_bytes()
    (tmp_path / "frame_1.png").write_bytes(whole[:200])
    source = open_source("image", str(tmp_path))
    with pytest.raises(DamagedChunkError, match=r"The image .*frame_1\.png .*cannot be decoded"):
        load(source)
    Image.fromarray(stack[0, :10]).save(tmp_path / "frame_1.png")
    with pytest.raises(DataError, match=r"frame_1\.png has shape \(10, 30, 3\), .*frame_0.png \(20, 30, 3\)"):
        open_source("image", str(tmp_path))


def test_image_refusals(tmp_path, monkeypatch):
    (tmp_path / "i.png").write_text("no image")
    with pytest.raises(DataError, match=r"i\.png cannot be opened as an image"):
        open_source("image", str(tmp_path / "i.png"))
    frames = [Image.new("L", (5, 5), i) for i in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="holds 3 images"):
        open_source("image", str(tmp_path / "a.tif"))
    deep = Image.fromarray(rng.integers(0, 256, (5, 5, 3)).astype("u1"))
    deep.save(tmp_path / "deep.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"too large to be decoded at once.*Zarr"):
        open_source("image", str(tmp_path / "deep.png"))
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="images have none"):
        open_source("image", str(tmp_path / "a.tif"), weights="w")
    with pytest.raises(DataError, match="holds no"):
        open_source("image", str(tmp_path / "*.jpg"))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match=r'pip install "distem\[image\]"'):
        open_source("image", str(tmp_path / "i.png"))


def test_bands_of_16_bits_are_not_cut_to_8(tmp_path):
    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    pixels = rng.integers(0, 65536, (4, 5, 3)).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    with pytest.raises(DataError, match=r"deep\.png holds 16 bits .* 8 would be read.*Zarr"):
        open_source("image", str(tmp_path / "deep.png"))


def test_what_a_tiff_says_is_no_data_is_missing(tmp_path):
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    pixels[1, 2] = -9999.0
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = "-9999"
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo=tags)
    source = open_source("image", str(tmp_path / "a.tif"))
    values, _ = source.reader.read((slice(0, 3), slice(0, 4)))
    expected = np.where(pixels == -9999.0, np.nan, pixels).reshape(-1, 1)
    np.testing.assert_array_equal(values, expected)


def test_a_transparent_colour_is_missing(tmp_path):
    pixels = rng.integers(0, 256, (6, 5, 3)).astype("u1")
    pixels[2, 3] = pixels[0, 0]
    for kept in (pixels, pixels[..., 0], pixels[..., 0].astype("u2") * 200):
        kept[pixels[..., 0] == pixels[0, 0, 0]] = kept[0, 0]
        clear = tuple(int(v) for v in kept[0, 0]) if kept.ndim == 3 else int(kept[0, 0])
        Image.fromarray(kept).save(tmp_path / "t_0.png", transparency=clear)
        Image.fromarray(kept).save(tmp_path / "t_1.png", transparency=clear)
        expected = kept.reshape(30, -1).astype(float)
        expected[(expected == expected[0]).all(axis=1)] = np.nan
        assert 2 <= np.isnan(expected[:, 0]).sum() < 30
        source = open_source("image", str(tmp_path / "t_0.png"))
        values, _ = source.window((slice(0, 6), slice(0, 5)))
        assert_array_equal(values, expected)
        stack = open_source("image", str(tmp_path))
        assert_array_equal(
            stack.window(tuple(slice(0, n) for n in stack.shape))[0], np.tile(expected, (2, 1))
        )
