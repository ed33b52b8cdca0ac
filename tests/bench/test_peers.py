"""Contenders from a folder of somebody else's."""

from pathlib import Path

import pytest

from smalldata_vit.bench.peers import asked, found_in

PEER = """
from smalldata_vit.bench.harness import Contender, timed

def contenders(table, given):
    if not table.startswith("step"):
        return []
    return [Contender("theirs", timed(lambda: None, given["batch"], 0.0), "commit 1234567")]
"""


def test_a_peer_is_asked_for_each_table_and_may_have_nothing(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(PEER)
    peers = found_in(tmp_path)
    assert asked(peers, "views, CIFAR 2x32+8x16", {}) == []
    [contender] = asked(peers, "step, DINO 2x32+8x16", {"batch": 4})
    assert (contender.name, contender.note, contender.turn().images % 4) == ("theirs", "commit 1234567", 0)


def test_files_that_begin_with_an_underscore_are_not_peers(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(PEER)
    (tmp_path / "_shared.py").write_text("raise AssertionError('read')")
    assert list(found_in(tmp_path)) == ["theirs"]


def test_a_folder_without_a_peer_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="contenders"):
        found_in(tmp_path)
