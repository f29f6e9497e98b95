"""Features made of a raster's bands: what they are, and that chunks have no part in them."""

import pickle

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from strategies import examples

from distem.data.colours import SPACES
from distem.data.derive import Derive, Texture, derived
from distem.data.open import open_like, open_source
from distem.data.texture import texture
from distem.data.transform import Transform
from distem.errors import ConfigError, DataError

skimage = pytest.importorskip("skimage.color")

rng = np.random.default_rng(4)
ALL = ("mean", "deviation", "gradient")


def load(source):
    """All rows by their place, shape (*sample dims, d)."""
    out = np.full((*source.shape, source.d), np.inf)
    for block in pickle.loads(pickle.dumps(source)).blocks(Transform(missing="keep")):
        rows, at = block.load(), 0
        for box in rows.places.boxes:
            view = out[box]
            view[...] = rows.values[at : at + view[..., 0].size].reshape(view.shape)
            at += view[..., 0].size
    return out


def raster(path, values, chunks, dims=("band", "y", "x"), attrs=None):
    group = zarr.open_group(path, mode="w")
    group.create_array(
        "reflectance", data=values, chunks=chunks, dimension_names=dims, attributes=attrs or {}
    )
    names = np.array(["red", "green", "blue", "nir"], np.dtypes.StringDType())
    group.create_array("band", data=names[: values.shape[dims.index("band")]], dimension_names=("band",))
    return str(path)


def by_definition(picture, window):
    """The texture, pixel by pixel."""
    half, (rows, columns) = window // 2, picture.shape
    slopes = np.zeros(picture.shape)
    for axis in (0, 1):
        padded = np.pad(picture, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], constant_values=np.nan)
        after = (padded[2:] if axis == 0 else padded[:, 2:]) - picture
        before = picture - (padded[:-2] if axis == 0 else padded[:, :-2])
        both = np.stack([after, before])
        there = np.isfinite(both)
        slopes += (np.where(there, both, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)) ** 2
    found = np.zeros((rows, columns, 3))
    for i in range(rows):
        for j in range(columns):
            window_ = (slice(max(0, i - half), i + half + 1), slice(max(0, j - half), j + half + 1))
            values = picture[window_][np.isfinite(picture[window_])]
            if values.size:
                energy = slopes[window_][np.isfinite(picture[window_])].mean()
                found[i, j] = values.mean(), values.std(), np.sqrt(energy)
    return found


@pytest.mark.parametrize("window", [3, 7])
def test_texture_is_what_it_is_called(window):
    picture = rng.normal(1e4, 3.0, size=(13, 9))
    assert_allclose(texture(picture, window, ALL), by_definition(picture, window), rtol=1e-12, atol=1e-10)
    picture[rng.random(picture.shape) < 0.3] = np.nan
    assert_allclose(texture(picture, window, ALL), by_definition(picture, window), rtol=1e-12, atol=1e-10)


def test_a_picture_far_from_zero_loses_no_digits():
    flat = texture(np.full((8, 8), 1e6 + 1 / 3), 5, ("deviation", "gradient"))
    assert_allclose(flat, 0.0, atol=1e-9)


@pytest.mark.parametrize("name", SPACES)
def test_colour_spaces_lead_back(name):
    pixels = rng.integers(0, 256, size=(20, 3)) / 255
    assert_allclose(SPACES[name].backward(SPACES[name].forward(pixels)), pixels, atol=2e-6)


def test_hue_has_no_seam():
    reds = SPACES["hsv"].forward(np.array([[1.0, 0.0, 1e-6], [1.0, 1e-6, 0.0]]))
    assert_allclose(reds[0], reds[1], atol=1e-5)
    assert_allclose(reds[0], [1, 0, 1], atol=1e-5)


@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    window=st.sampled_from([3, 5, 9]),
    colour=st.sampled_from(["rgb", *SPACES]),
    order=st.permutations(["band", "y", "x", "time"]),
)
@examples(20)
def test_chunks_have_no_part_in_the_features(data, shape, window, colour, order, tmp_path_factory):
    sizes = {"band": 4, "time": 2, "y": shape[0], "x": shape[1]}
    values = np.random.default_rng(shape[0]).integers(0, 256, [sizes[dim] for dim in order]).astype("u1")
    chunks = tuple(data.draw(st.integers(min(3, sizes[dim]), sizes[dim]), label=dim) for dim in order)
    derive = Derive(colour, Texture(window, ALL), 0.5, nodata=data.draw(st.sampled_from([None, 7.0])))
    folder = tmp_path_factory.mktemp("chunks")
    path = raster(folder / "cut.zarr", values, chunks, order)
    cut = open_source("zarr", path, ["reflectance"], feature_dim="band", derive=derive)
    path = raster(folder / "whole.zarr", values, values.shape, order)
    whole = open_source("zarr", path, ["reflectance"], feature_dim="band", derive=derive)
    assert cut.features == whole.features
    found, there = load(cut), load(whole)
    assert_allclose(found, there, rtol=0, atol=1e-12)
    if colour == "rgb":
        assert found.tobytes() == there.tobytes()


@given(data=st.data(), shape=st.tuples(st.integers(1, 14), st.integers(1, 14)), halo=st.integers(0, 6))
@examples(20)
def test_a_halo_is_what_lies_about_a_block(data, shape, halo, tmp_path_factory):
    values = np.arange(3 * shape[0] * shape[1], dtype=float).reshape(3, *shape)
    chunks = (3, *(data.draw(st.integers(min(2, n), n)) for n in shape))
    source = open_source("zarr", raster(tmp_path_factory.mktemp("halo") / "x.zarr", values, chunks))
    for block in source.blocks(Transform(missing="keep"), halo):
        rows, at = block.load(), 0
        assert rows.n == block.n
        for inner, outer in zip(source.grid.boxes(block.chunks), rows.places.boxes, strict=True):
            assert all(o.start == max(0, i.start - halo) for i, o in zip(inner, outer, strict=True))
            want = np.moveaxis(values, 0, -1)[outer].reshape(-1, 3)
            assert_array_equal(rows.values[at : at + len(want)], want)
            at += len(want)


def test_names_units_and_emphasis(tmp_path):
    path = raster(tmp_path / "x.zarr", rng.integers(0, 256, (4, 8, 9)).astype("u1"), (1, 3, 3))
    source = open_source("zarr", path, derive=Derive("lab", Texture(3, ("deviation", "gradient")), 0.25))
    assert source.features == ("L", "a", "b", "nir", "local_deviation", "gradient", "y", "x")
    assert source.emphasis == (1,) * 6 + (0.25, 0.25)
    assert source.feature_attrs["y"]["units"] == "pixel"
    assert (source.stored_bytes, source.raw_bytes) == (4, 64)
    found = load(source)
    rgb = np.moveaxis(
        open_source("zarr", path).reader.read((slice(0, 8), slice(0, 9)))[0].reshape(8, 9, 4), 0, 0
    )
    assert_allclose(found[..., :3], skimage.rgb2lab(rgb[..., :3] / 255), atol=1e-12)
    assert_array_equal(found[..., 3], rgb[..., 3])
    assert_array_equal(found[..., 6], np.arange(8)[:, None] + np.zeros(9))
    assert_array_equal(found[..., 7], np.arange(9) + np.zeros((8, 1)))
    assert_allclose(SPACES["lab"].backward(found[..., :3]), rgb[..., :3] / 255, atol=2e-6)


@pytest.mark.parametrize(
    ("values", "attrs"),
    [
        (np.uint8, {"nodata": 9}),
        (np.uint8, {"_FillValue": 9}),
        (np.int16, {"nodata": 9.0}),
        (np.float32, {"nodata": 9.0}),
    ],
    ids=str,
)
def test_no_data_is_missing(tmp_path, values, attrs):
    pixels = rng.integers(10, 256, (3, 8, 9)).astype(values)
    pixels[1, 2, 3] = 9
    path = raster(tmp_path / "x.zarr", pixels, (3, 4, 4), attrs=attrs)
    source = open_source("zarr", path, derive=Derive(texture=Texture(3)))
    found = load(source)
    assert_array_equal(np.argwhere(np.isnan(found[..., :3]).any(axis=-1)), [[2, 3]])
    assert np.isfinite(found[..., 3]).all()  # neighbours are measured without it
    (block,) = source.blocks()
    rows = block.load()
    assert rows.places.addresses[~rows.kept].tolist() == [2 * 9 + 3]


def test_no_data_that_the_dtype_cannot_hold_is_none(tmp_path):
    pixels = rng.integers(0, 256, (3, 8, 9)).astype("u1")
    path = raster(tmp_path / "x.zarr", pixels, (3, 8, 9), attrs={"nodata": -9999})
    source = open_source("zarr", path)
    assert source.dtype == np.uint8
    assert_array_equal(load(source), np.moveaxis(pixels, 0, -1))


def test_full_brightness_is_that_of_the_stored_type(tmp_path):
    levels = rng.integers(1, 256, (3, 5, 5))
    found = []
    for dtype, factor, attrs in [
        ("u1", 1, {}),
        ("u1", 1, {"_FillValue": 0}),
        ("u2", 257, {}),
        ("f8", 1 / 255, {}),
    ]:
        path = raster(tmp_path / "x.zarr", (levels * factor).astype(dtype), (3, 5, 5), attrs=attrs)
        found.append(load(open_source("zarr", path, derive=Derive("lab"))))
    for other in found[1:]:
        assert_allclose(other, found[0], atol=1e-10)
    path = raster(tmp_path / "x.zarr", levels.astype("f4"), (3, 5, 5))
    assert_allclose(load(open_source("zarr", path, derive=Derive("lab", white=255.0))), found[0], atol=1e-10)


def test_transparent_pixels_are_missing(tmp_path):
    pixels = rng.integers(1, 256, (6, 7, 4)).astype("u1")
    pixels[2, 3, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "i.png")
    for derive in (None, Derive("lab"), Derive(texture=Texture(3))):
        source = open_source("image", str(tmp_path / "i.png"), derive=derive)
        assert_array_equal(np.argwhere(np.isnan(load(source)).any(axis=-1)), [[2, 3]])
    lab = load(open_source("image", str(tmp_path / "i.png"), derive=Derive("lab")))
    assert_allclose(lab[0], skimage.rgb2lab(pixels[0, :, :3] / 255), atol=1e-10)


def test_a_stack_of_images_has_no_neighbours_across_images(tmp_path):
    stack = rng.integers(0, 256, (3, 6, 7, 3)).astype("u1")
    for i, pixels in enumerate(stack):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    derive = Derive("luv", Texture(5, ALL), 1.0)
    found = load(open_source("image", str(tmp_path), derive=derive))
    for i in range(3):
        alone = open_source("image", str(tmp_path / f"{i}.png"), derive=derive)
        assert_allclose(found[i], load(alone), atol=1e-12)


def test_a_model_asks_new_data_for_the_same_features(tmp_path):
    derive = Derive("lab", Texture(3, ("gradient",)), 0.5)
    path = raster(tmp_path / "x.zarr", rng.integers(0, 256, (3, 8, 9)).astype("u1"), (3, 4, 4))
    described = open_source("zarr", path, derive=derive).describe()
    assert load(open_like(described, "zarr", path)).shape == (8, 9, 6)
    Image.fromarray(rng.integers(0, 256, (5, 6, 3)).astype("u1")).save(tmp_path / "i.png")
    other = open_like(described, "image", str(tmp_path / "i.png"))
    assert (other.features, other.derive) == (tuple(described["features"]), derive)


def test_refusals(tmp_path):
    gray = tmp_path / "gray.png"
    Image.fromarray(rng.integers(0, 256, (5, 6)).astype("u1")).save(gray)
    with pytest.raises(DataError, match=r"colour is lab.*the bands are gray"):
        open_source("image", str(gray), derive=Derive("lab"))
    source = open_source("image", str(gray), derive=Derive(texture=Texture(3), coordinates=1.0))
    assert source.features == ("gray", "local_deviation", "y", "x")
    with pytest.raises(ConfigError, match=r"no colour space 'labb'.*lab"):
        Derive("labb")
    with pytest.raises(ConfigError, match="window of a texture is 4"):
        Texture(4)
    with pytest.raises(ConfigError, match="no texture 'entropy'"):
        Texture(3, ("entropy",))
    with pytest.raises(ConfigError, match="coordinates is 0"):
        Derive(coordinates=0.0)
    np.save(tmp_path / "t.npy", np.ones((5, 3)))
    with pytest.raises(ConfigError, match="lie along row: they are no picture"):
        open_source("npy", str(tmp_path / "t.npy"), derive=Derive(coordinates=1.0))
    twice = derived(open_source("image", str(gray)), Derive(texture=Texture(3)))
    with pytest.raises(ConfigError, match="share a name"):
        derived(twice, Derive(texture=Texture(3)))
