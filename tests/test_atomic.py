from pathlib import Path

import pytest

from smalldata_vit.atomic import remove_unfinished, replaced


def test_a_file_is_the_old_one_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_bytes(b"old")
    with replaced(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path) -> None:
    with replaced(path) as file:
        file.write(b"half")
        raise OSError("no more")


def test_an_error_inside_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="no more"):
        write_half(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_the_file_system_takes_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with replaced(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"


def test_only_unfinished_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".77-abc.unfinished").touch()
    (tmp_path / "kept.unfinished").touch()
    assert [path.name for path in remove_unfinished(tmp_path)] == [".77-abc.unfinished"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept.unfinished"]
