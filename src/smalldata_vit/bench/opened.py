"""Which files are opened, and which pictures decoded, while somebody watches."""

import sys
from types import TracebackType
from typing import Any
from unittest.mock import patch

from PIL import Image

_watching: list[list[str]] = []
"""Lists that take names now; an audit hook stays for the life of the process, so it is installed once."""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watching:
        for names in _watching:
            names.append(str(arguments[0]))


class Opened:
    """Collects into `files` in its `with` blocks, from all threads of the process."""

    _installed = False

    def __init__(self) -> None:
        self.files: list[str] = []
        self._decoding = patch.object(Image, "open", self._decode)
        self._open = Image.open

    def __enter__(self) -> "Opened":
        if not Opened._installed:
            sys.addaudithook(_hook)
            Opened._installed = True
        _watching.append(self.files)
        self._decoding.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._decoding.stop()
        _watching[:] = [names for names in _watching if names is not self.files]

    def _decode(self, *arguments: Any) -> Any:
        self.files.append("a picture decoded by Pillow")
        return self._open(*arguments)
