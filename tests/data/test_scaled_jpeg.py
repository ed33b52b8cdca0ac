from pathlib import Path

import numpy as np
import pytest
from made_images import dataset, noise
from PIL import Image

from smalldata_vit.data.decode import BadImage, decode, decode_scaled, header_size, shrunk
from smalldata_vit.data.resolution import Resolution
from smalldata_vit.data.sources import Opened


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth shapes with some sharp edges and a little grain, uint8 (height, width, 3)."""
    made = np.zeros((height, width, 3))
    for side, seed in ((8, 1), (40, 2), (150, 3)):
        small = noise(seed, height // side + 2, width // side + 2)
        made += np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)) * side**0.5
    made[height // 3 : height // 2, width // 4 : width // 3] *= 0.3
    made = made / made.max() * 250 + np.random.default_rng(0).normal(0, 2, made.shape)
    return made.clip(0, 255).astype(np.uint8)


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    Image.fromarray(photograph(500, 667)).save(tmp_path / "photograph.jpg", quality=92)
    return tmp_path / "photograph.jpg"


@pytest.mark.parametrize("side", [224, 112])
def test_jpegs_decoded_for_a_smaller_size_differ_by_no_more_than_stated(jpeg: Path, side: int) -> None:
    exact, scaled = shrunk(decode(jpeg), side), decode_scaled(jpeg, side)
    assert scaled.shape == exact.shape
    difference = np.abs(scaled.astype(int) - exact)
    assert difference.mean() < 1.2
    assert (difference > 8).mean() < 1 / 200


@pytest.mark.parametrize("side", [300, 500, 600])
def test_nothing_changes_where_no_smaller_decoding_is_large_enough(jpeg: Path, side: int) -> None:
    assert np.array_equal(decode_scaled(jpeg, side), shrunk(decode(jpeg), side))


def test_pngs_are_decoded_as_ever(tmp_path: Path) -> None:
    Image.fromarray(noise(1, 90, 70)).save(tmp_path / "a.png")
    assert np.array_equal(decode_scaled(tmp_path / "a.png", 20), shrunk(noise(1, 90, 70), 20))


@pytest.mark.parametrize("sides", [(501, 667), (503, 333), (250, 999), (401, 401)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_scaled_picture_is_upright_and_has_the_size_of_the_exact_one(
    sides: tuple[int, int], orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photograph(*sides)).save(tmp_path / "a.jpg", quality=95, exif=exif)
    exact, scaled = shrunk(decode(tmp_path / "a.jpg"), 100), decode_scaled(tmp_path / "a.jpg", 100)
    assert scaled.shape == exact.shape
    # Half a pixel beside its place, it would differ by twice as much.
    assert np.abs(scaled.astype(int) - exact).mean() < 2.0


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_keep_their_meaning(mode: str, tmp_path: Path) -> None:
    Image.fromarray(photograph(300, 400)).convert(mode).save(tmp_path / "a.jpg", quality=95)
    exact, scaled = shrunk(decode(tmp_path / "a.jpg"), 60), decode_scaled(tmp_path / "a.jpg", 60)
    assert scaled.shape == exact.shape
    assert np.abs(scaled.astype(int) - exact).mean() < 2.0


def test_a_cut_off_jpeg_is_refused_when_it_is_decoded_smaller_too(jpeg: Path) -> None:
    jpeg.write_bytes(jpeg.read_bytes()[:20_000])
    with pytest.raises(BadImage, match=r"photograph\.jpg: "):
        decode_scaled(jpeg, 100)


def test_scaled_jpegs_are_other_images_than_exact_ones_and_are_kept_apart(jpeg: Path, tmp_path: Path) -> None:
    (tmp_path / "root" / "a").mkdir(parents=True)
    jpeg.rename(tmp_path / "root" / "a" / "1.jpg")
    found = [
        dataset(tmp_path / "root", shorter_side=100, scaled_jpeg=scaled, decoded=decoded).load(0).split_hash
        for scaled in (False, True)
        for decoded in ("cache", "stream")
    ]
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[0] != found[2]


def test_decoding_for_a_smaller_size_needs_one() -> None:
    with pytest.raises(ValueError, match=r"dataset.scaled_jpeg=true .* needs dataset.shorter_side=PIXELS"):
        Resolution(None, scaled_jpeg=True)


def test_a_source_that_decodes_itself_cannot_decode_for_a_smaller_size() -> None:
    with pytest.raises(ValueError, match=r"needs image files that we decode ourselves.*dataset.layout=folder"):
        Resolution(8, scaled_jpeg=True).reader(Opened(["a"], ["1"], lambda i: (noise(i), 0)))


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("ending", ["jpg", "png", "tiff", "webp"])
def test_a_header_tells_the_size_that_the_decoder_gives(orientation: int, ending: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise(2, 30, 50)).save(tmp_path / f"a.{ending}", exif=exif)
    assert header_size(tmp_path / f"a.{ending}") == decode(tmp_path / f"a.{ending}").shape[:2]


def test_a_file_without_a_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(BadImage, match=r"a\.jpg: an empty file"):
        header_size(tmp_path / "a.jpg")
