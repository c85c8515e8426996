"""The one picture loader on every mode and file a photo collection holds, and on the broken ones."""
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gre.data.images import formats, load_image, picture_size
from gre.data.raw import DataError

RED = (200, 30, 40)

# where the upper left pixel of the stored picture is seen, for each EXIF orientation
SEEN = {1: "left top", 2: "right top", 3: "right bottom", 4: "left bottom",
        5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom"}


def saved(path, picture, **options):
    picture.save(path, **options)
    return path


def assert_plain(picture):
    assert picture.mode == "RGB"
    assert not picture.info and not picture.getexif()


@pytest.mark.parametrize("mode, name", [
    ("RGB", "a.png"), ("RGB", "a.webp"), ("RGB", "a.bmp"), ("RGB", "a.gif"), ("P", "a.png"), ("P", "a.gif"),
    ("RGBA", "a.png"), ("RGBA", "a.tif"), ("CMYK", "a.tif"), ("YCbCr", "a.tif"), ("LAB", "a.tif"),
])
def test_colour_modes_keep_their_colour(tmp_path, mode, name):
    colour = Image.new("RGB", (8, 6), RED)
    if mode == "LAB":
        picture = Image.new("LAB", (8, 6), (107, 190, 170))  # L 42, a 62, b 42 with 128 as zero: a red
    else:
        picture = colour.convert(mode)
    options = {"lossless": True} if name.endswith("webp") else {}
    loaded = load_image(saved(tmp_path / name, picture, **options))
    assert_plain(loaded)
    assert loaded.size == (8, 6)
    red, green, blue = loaded.getpixel((3, 3))
    assert abs(red - 200) < 60 and green < 80 and blue < 90


def test_cmyk_jpeg(tmp_path):
    loaded = load_image(saved(tmp_path / "a.jpg", Image.new("RGB", (8, 8), RED).convert("CMYK"), quality=95))
    assert_plain(loaded)
    assert np.abs(np.asarray(loaded).astype(int) - RED).max() < 12


@pytest.mark.parametrize("picture, expected", [
    (Image.new("1", (4, 4), 1), 255),
    (Image.new("L", (4, 4), 77), 77),
    (Image.fromarray(np.full((4, 4), 77 * 256 + 9, np.uint16)), 77),  # 16 bits: the upper 8 remain
    (Image.fromarray(np.full((4, 4), 77 * 256, np.int32)), 77),
    (Image.fromarray(np.full((4, 4), 0.5, np.float32)), 128),
    (Image.fromarray(np.full((4, 4), 77.0, np.float32)), 77),
    (Image.fromarray(np.full((4, 4), np.nan, np.float32)), 0),
    (Image.new("LA", (4, 4), (77, 255)), 77),
    (Image.new("LA", (4, 4), (77, 0)), 255),  # transparent: white paper
    (Image.new("RGBA", (4, 4), (1, 2, 3, 0)), 255),
], ids=lambda value: getattr(value, "mode", str(value)))
def test_greys_and_transparency(tmp_path, picture, expected):
    loaded = load_image(saved(tmp_path / ("a.tif" if picture.mode in ("I", "F") else "a.png"), picture))
    assert_plain(loaded)
    assert (np.asarray(loaded) == expected).all()


def test_a_transparent_palette_colour_becomes_white(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 30, 40])
    picture.putpixel((1, 0), 1)
    loaded = load_image(saved(tmp_path / "a.png", picture, transparency=0))
    assert [loaded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), RED]


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    for name in ("a.gif", "a.webp", "a.png"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        loaded = load_image(tmp_path / name)
        assert_plain(loaded)
        assert loaded.getpixel((0, 0)) == RED


@pytest.mark.parametrize("name, options", [
    ("a.heic", {}), ("a.heif", {"quality": -1, "chroma": 444}), ("a.avif", {"quality": 95}),
    ("a.webp", {"lossless": True})])
@pytest.mark.parametrize("orientation", [1, 6, 3])
def test_what_phones_write_stands_upright(tmp_path, name, options, orientation):
    formats()
    picture = Image.new("RGB", (96, 64), "black")
    picture.paste((255, 255, 255), (0, 0, 24, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 24.0)}
    loaded = load_image(saved(tmp_path / name, picture, exif=exif.tobytes(), **options))
    assert_plain(loaded)
    side, edge = SEEN[orientation].split()
    assert loaded.size == ((96, 64) if orientation < 5 else (64, 96))
    bright = np.asarray(loaded.convert("L")) > 128
    assert bright.sum() == pytest.approx(24 * 16, rel=0.1)
    assert bright[8 if edge == "top" else -8, 8 if side == "left" else -8]
    assert sorted(picture_size(tmp_path / name)) == [64, 96]


def test_a_heic_is_turned_by_its_box_alone(tmp_path):
    formats()
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.heic", Image.new("RGB", (96, 64), RED), exif=exif)  # an object: no box is written
    assert b"irot" not in path.read_bytes() and load_image(path).size == (96, 64)


def test_heic_of_ten_bits(tmp_path):
    import pillow_heif

    grey = np.full((64, 64, 3), 300 << 6, np.uint16)  # 300 of 1023, which is 75 of 255
    pillow_heif.encode("RGB;16", (64, 64), grey.tobytes(), str(tmp_path / "a.heic"), quality=-1)
    loaded = load_image(tmp_path / "a.heic")
    assert_plain(loaded)
    assert np.abs(np.asarray(loaded).astype(int) - 75).max() <= 2


def test_the_first_of_several_pictures_in_a_jpeg(tmp_path):
    first, second = Image.new("RGB", (600, 400), RED), Image.new("RGB", (60, 40), (0, 0, 255))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    for budget in (None, 10_000):
        loaded = load_image(tmp_path / "a.jpg", budget)
        assert_plain(loaded)
        assert np.abs(np.asarray(loaded).astype(int) - RED).max() < 12
        assert loaded.size == ((600, 400) if budget is None else (122, 81))


@pytest.mark.parametrize("channels, kind", [(3, 2), (4, 6), (1, 0)])
def test_png_of_16_bits_a_channel(tmp_path, channels, kind):
    values = [200 * 256 + 99, 30 * 256 + 99, 40 * 256 + 99, 65535][:channels]
    row = b"\0" + struct.pack(f">{channels}H", *values) * 8
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, kind, 0, 0, 0)), (b"IDAT", zlib.compress(row * 6)),
              (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks))
    loaded = load_image(tmp_path / "a.png")
    assert_plain(loaded)
    assert loaded.getpixel((3, 3)) == (RED if channels > 1 else (200, 200, 200))


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8))



@pytest.mark.parametrize("orientation", SEEN)
def test_exif_orientation_is_applied_and_gone(tmp_path, orientation):
    picture = Image.new("RGB", (6, 4), "black")
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 24.0)}  # the answer must not travel with the picture
    loaded = load_image(saved(tmp_path / "a.png", picture, exif=exif))
    assert_plain(loaded)
    assert loaded.size == ((6, 4) if orientation < 5 else (4, 6))
    side, edge = SEEN[orientation].split()
    x, y = (0 if side == "left" else loaded.width - 1), (0 if edge == "top" else loaded.height - 1)
    assert loaded.getpixel((x, y)) == (255, 255, 255)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=st.integers(1, 300), height=st.integers(1, 300), budget=st.integers(1, 20_000), kind=st.sampled_from(
    ["a.png", "a.jpg"]))
def test_the_pixel_budget_is_kept_and_nearly_used(tmp_path, width, height, budget, kind):
    loaded = load_image(saved(tmp_path / kind, Image.new("RGB", (width, height), RED)), max_pixels=budget)
    assert loaded.width * loaded.height <= budget
    if width * height <= budget:
        assert loaded.size == (width, height)
    elif min(loaded.size) > 10:
        assert loaded.width * loaded.height > 0.75 * budget
        assert loaded.width / loaded.height == pytest.approx(width / height, rel=0.2)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere.jpg: no such photo.*data.image_root"):
        load_image(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match="no such photo"):
        load_image(tmp_path)


def test_damaged_files_are_named(tmp_path):
    good = saved(tmp_path / "good.jpg", Image.effect_noise((64, 64), 80).convert("RGB")).read_bytes()
    for name, content in {"empty.jpg": b"", "text.jpg": b"hello", "cut.jpg": good[: len(good) // 2],
                          "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: cannot be read as a photo.*Replace the file"):
            load_image(tmp_path / name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["png", "jpg", "gif", "tif", "webp", "bmp", "heic", "avif"]), data=st.data())
def test_flipped_bytes_give_a_picture_or_a_clear_error(tmp_path, kind, data):
    exif = Image.Exif()
    exif[0x0112] = 6
    formats()
    path = saved(tmp_path / f"a.{kind}", NOISE, **({"exif": exif} if kind != "bmp" else {}))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert_plain(load_image(path, max_pixels=10_000))
    except DataError as error:
        assert path.name in str(error)


def test_a_budget_below_one_pixel_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_pixels must be at least 1, got 0"):
        load_image(tmp_path / "a.png", max_pixels=0)
