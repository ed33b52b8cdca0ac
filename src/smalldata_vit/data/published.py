"""Files that others publish: are they there, can they be fetched, and if not, the sentence that says where they are."""

import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smalldata_vit.data.decode import readable
from smalldata_vit.output import Lock

SECONDS_FOR_AN_ANSWER = 20.0
NAMED = 3
"""Missing images that a message names."""


@dataclass(frozen=True)
class Published:
    """What a dataset's authors offer, as it lies in a folder once it was fetched and unpacked."""

    name: str
    """In messages."""
    files: Sequence[str]
    """What must be there; folders end in `/`."""
    page: str
    """Where a person finds it."""

    def missing(self, folder: Path) -> list[str]:
        """Those of the files that are not in the folder."""
        return [name for name in self.files if not (folder / name).exists()]

    def settle(
        self,
        folder: Path,
        fetch: Callable[[Path], Path] | None,
        archives: Mapping[str, Path],
        otherwise: str = "dataset.source.download is false",
    ) -> None:
        """Fetch what is missing; FileNotFoundError says what that is and where it can be had.

        fetch: makes the files below the empty folder that it is given and returns where they lie; None: not allowed.
        archives: by the name that `fetch` would download it under, where a person may have put one already.
        otherwise: why nothing is fetched where `fetch` is None, for the message.
        """
        if self.missing(folder) and fetch is not None:
            self._bring(folder, fetch, archives)
        if self.missing(folder):
            raise FileNotFoundError(self._told(folder, otherwise))

    def refuse_gaps(self, folder: Path, images: Sequence[str]) -> None:
        """FileNotFoundError if the folder lacks listed images, as after an archive that was not unpacked to its end."""
        if lacking := [name for name in images if not (folder / name).exists()]:
            some = ", ".join(map(readable, lacking[:NAMED])) + (", …" if len(lacking) > NAMED else "")
            raise FileNotFoundError(
                f"{self.name}: {len(lacking):,} of {len(images):,} listed images are not in {folder}: {some}. It was "
                f"not unpacked whole, or parts were removed; get it from {self.page}"
            )

    def _bring(self, folder: Path, fetch: Callable[[Path], Path], archives: Mapping[str, Path]) -> None:
        """Fetch once, however many processes start together; nothing half unpacked is ever in its final place."""
        beside = folder / f".fetching-{self.name}"
        before = socket.getdefaulttimeout()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with Lock(folder / f".{self.name}.lock", what=f"the download of {self.name}", waits=True):
                shutil.rmtree(beside, ignore_errors=True)
                socket.setdefaulttimeout(SECONDS_FOR_AN_ANSWER)
                try:
                    if self.missing(folder):
                        self._move(fetch(_with_links(beside, archives)), folder)
                finally:
                    shutil.rmtree(beside, ignore_errors=True)
        # An archive that was cut off makes its reader raise whatever it runs into.
        except Exception as error:
            raise FileNotFoundError(self._told(folder, f"fetching them failed: {error}")) from error
        finally:
            socket.setdefaulttimeout(before)

    def _move(self, found: Path, folder: Path) -> None:
        if lacking := self.missing(found):
            raise ValueError(f"what came has no {', '.join(lacking)}")
        for name in self.missing(folder):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (found / name).replace(folder / name)

    def _told(self, folder: Path, why: str) -> str:
        return (
            f"{self.name} needs {', '.join(self.files)} in {folder}; missing: {', '.join(self.missing(folder))} "
            f"({why}). Get them from {self.page}, or name the folder that has them: dataset.root=FOLDER; class folders "
            "of images do as well: dataset.layout=folder dataset.root=FOLDER"
        )


def _with_links(folder: Path, archives: Mapping[str, Path]) -> Path:
    """A new folder that has what was downloaded already."""
    folder.mkdir()
    for name, there in archives.items():
        if there.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(there.resolve())
    return folder
