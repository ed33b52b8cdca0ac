import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from made_images import noise
from PIL import Image

from smalldata_vit.data.decode import BACKGROUND, BadImage, decode, shrunk

GREY = noise(0)[:, :, 0]


def saved(image: Image.Image, path: Path, **options: object) -> np.ndarray:
    image.save(path, **options)
    return decode(path)


@pytest.mark.parametrize("ending", ["png", "webp", "bmp", "tif", "ppm"])
def test_a_lossless_colour_file_gives_its_pixels_whatever_the_format(ending: str, tmp_path: Path) -> None:
    options = {"lossless": True} if ending == "webp" else {}
    assert np.array_equal(saved(Image.fromarray(noise(1)), tmp_path / f"a.{ending}", **options), noise(1))


def test_a_grey_file_gets_three_equal_channels(tmp_path: Path) -> None:
    assert np.array_equal(saved(Image.fromarray(GREY), tmp_path / "a.png"), np.stack([GREY] * 3, 2))


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    bits = Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE)
    assert np.array_equal(saved(bits, tmp_path / "a.png")[:, :, 1], np.where(GREY >= 128, 255, 0))


def test_sixteen_bits_are_scaled_by_the_range_of_the_type(tmp_path: Path) -> None:
    values = np.array([[0, 257, 128, 65535], [25700, 32896, 129, 1]], dtype=np.uint16)
    expected = np.array([[0, 1, 0, 255], [100, 128, 1, 0]], dtype=np.uint8)
    for ending in ("png", "tif"):
        assert np.array_equal(saved(Image.fromarray(values), tmp_path / f"a.{ending}")[:, :, 0], expected)


def test_integers_beyond_sixteen_bits_are_refused_with_their_range(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"a\.tif: integers from 0 to 70000"):
        saved(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), tmp_path / "a.tif")


def test_floats_between_zero_and_one_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert saved(Image.fromarray(values), tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(("wrong", "said"), [(1.5, "from 0 to 1.5"), (-0.1, "from -0.1 to 0"), (np.nan, "not finite")])
def test_floats_of_unknown_range_are_refused_with_the_file_named(wrong: float, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=rf"a\.tif: .*{said}"):
        saved(Image.fromarray(np.array([[0.0, wrong]], dtype=np.float32)), tmp_path / "a.tif")


def test_transparent_pixels_show_the_stated_colour_and_half_transparent_ones_a_mixture(tmp_path: Path) -> None:
    pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], dtype=np.uint8)
    seen = saved(Image.fromarray(pixels), tmp_path / "a.png")
    assert tuple(seen[0, 0]) == BACKGROUND
    assert tuple(seen[0, 1]) == (10, 20, 30)
    assert tuple(seen[0, 2]) == (204, 204, 204)  # four fifths of white


def test_grey_with_alpha_is_composited_too(tmp_path: Path) -> None:
    pixels = np.array([[[7, 0], [7, 255]]], dtype=np.uint8)
    assert saved(Image.fromarray(pixels), tmp_path / "a.png")[0, :, 0].tolist() == [255, 7]


def test_a_palette_gives_its_colours_and_its_transparent_entry_the_stated_one(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    image.putpalette([255, 0, 0, 0, 255, 0, 1, 2, 3])
    assert saved(image, tmp_path / "a.png")[0].tolist() == [[255, 0, 0], [0, 255, 0], [1, 2, 3]]
    assert saved(image, tmp_path / "b.png", transparency=1)[0].tolist() == [[255, 0, 0], [255] * 3, [1, 2, 3]]


def test_a_sixteen_bit_grey_with_one_transparent_level_shows_the_stated_colour_there(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[514, 1000, 65535]], dtype=np.uint16))
    path = tmp_path / "a.png"
    image.save(path)
    body = path.read_bytes()
    chunk = b"tRNS" + struct.pack(">H", 1000)
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    place = body.index(b"IDAT") - 4
    path.write_bytes(body[:place] + chunk + body[place:])
    assert decode(path)[0, :, 0].tolist() == [2, 255, 255]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    bands = [Image.fromarray(np.ascontiguousarray(inks[:, :, c])) for c in range(4)]
    seen = saved(Image.merge("CMYK", bands), tmp_path / "a.tif")
    assert seen[0].tolist() == [[255, 255, 255], [0, 255, 255], [0, 0, 0]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_and_mirroring_are_undone(orientation: int, tmp_path: Path) -> None:
    upright = noise(3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),  # row 0 is the visual right side, column 0 the visual top
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, 3),  # row 0 is the visual left side, column 0 the visual bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = saved(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / "a.png", exif=exif)
    assert np.array_equal(seen, upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_does_not_spoil_the_picture(tmp_path: Path) -> None:
    plain = tmp_path / "plain.jpg"
    Image.fromarray(noise(4, 16, 16)).save(plain)
    body, block = plain.read_bytes(), b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff broken"
    path = tmp_path / "a.jpg"
    path.write_bytes(body[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + body[2:])
    assert np.array_equal(decode(path), decode(plain))


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), level, dtype=np.uint8)) for level in (10, 200)]
    assert (saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:]) == 10).all()


def test_the_name_s_ending_does_not_decide_the_format(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(noise(5)).save(stream, "PNG")
    (tmp_path / "a.jpg").write_bytes(stream.getvalue())
    assert np.array_equal(decode(tmp_path / "a.jpg"), noise(5))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "an empty file"), (b"no picture at all", "no image format"), (b"<html></html>", "no image format")],
)
def test_what_is_no_image_is_refused_with_name_and_reason(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadImage, match=rf"a\.jpg: {said}"):
        decode(tmp_path / "a.jpg")


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_cut_off_file_is_refused_wherever_it_was_cut(ending: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(noise(6, 64, 64)).save(path)
    body = path.read_bytes()
    path.write_bytes(body[: int(len(body) * share)])
    with pytest.raises(BadImage, match=rf"a\.{ending}: "):
        decode(path)


def test_a_broken_link_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(BadImage, match=r"a\.png: a link to a file that is not there"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize("side", [7100, 20000])
def test_a_header_that_claims_too_many_pixels_is_refused_before_they_are_allocated(side: int, tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(BadImage, match=r"bomb\.png: .*more than 50,000,000"):
        decode(path)


def test_shrinking_keeps_the_shape_of_larger_pictures_and_leaves_smaller_ones_alone() -> None:
    assert shrunk(noise(7, 40, 60), 20).shape == (20, 30, 3)
    assert shrunk(noise(7, 60, 41), 20).shape == (29, 20, 3)
    assert np.array_equal(shrunk(noise(7, 20, 60), 20), noise(7, 20, 60))
