"""One split of a dataset: every image decoded once, in one flat uint8 buffer, or decoded anew when it is asked for."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from smalldata_vit.contracts import Pictures, Ragged
from smalldata_vit.data.mapped import Mapped
from smalldata_vit.data.streaming import Stream


@dataclass(frozen=True, eq=False)
class Images:
    """Decoded images, RGB, with their labels. Subsets share the buffer, which may be mapped from a file."""

    pixels: Tensor
    """uint8, flat; an image lies in it row by row with its three channels side by side."""
    offsets: Tensor
    """int64 (N,): where each image begins in `pixels`."""
    heights: Tensor
    """int64 (N,), pixels."""
    widths: Tensor
    """int64 (N,), pixels."""
    labels: Tensor
    """int64 (N,), 0 .. number of classes - 1."""
    digests: Tensor
    """uint8 (N, 16): a hash of each image's size and pixels; always on the CPU."""
    moments: Tensor
    """int64 (N, 2, 3): sums of each channel's values and of their squares; always on the CPU."""
    names: list[str]
    """Of the classes."""
    files: list[str]
    """What each image is called in messages and records."""
    stream: Stream | None = None
    """Who decodes the images when they are asked for; then `pixels` is empty, and `offsets` are places in the split."""
    mapped: Mapped | None = None
    """The file that `pixels` is, where that is one."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the pixels lie."""
        return self.pixels.device

    @cached_property
    def uniform(self) -> bool:
        """Whether all images are equally large."""
        return bool((self.heights == self.heights[:1]).all() and (self.widths == self.widths[:1]).all())

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all pixels, sizes, labels and class names, in hexadecimal: the same wherever the files lie."""
        digest = hashlib.sha256("\x1f".join(self.names).encode())
        digest.update(self.digests.numpy().tobytes())
        digest.update(self.labels.cpu().numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def take(self, index: Int[Tensor, " B"]) -> Pictures:
        """The images at `index` (which lies where the pixels lie).

        (B, 3, H, W) uint8, channels last in memory, if all images are equally large; else a list of (3, h, w), or
        `ragged` on an accelerator.
        """
        if self._rows is not None:
            buffer, row = self._rows
            return buffer[row[index]].permute(0, 3, 1, 2)
        if self.device.type != "cpu":
            return self.ragged(index)
        facts = torch.stack([self.offsets, self.heights, self.widths], 1)[index].tolist()
        if self.stream is not None:
            pictures = self.stream.pictures(facts, [self.files[i] for i in index.tolist()])
        else:
            if self.mapped is not None:
                self.mapped.read_soon([(offset, 3 * height * width) for offset, height, width in facts])
            ends = [(offset, offset + 3 * height * width, height, width) for offset, height, width in facts]
            pictures = [self.pixels[start:end].view(height, width, 3) for start, end, height, width in ends]
        if self.uniform and pictures:
            return torch.stack(pictures).permute(0, 3, 1, 2)
        return [picture.permute(2, 0, 1) for picture in pictures]

    def ragged(self, index: Int[Tensor, " B"]) -> Ragged:
        """The images at `index` where they lie, without a word to the host."""
        return Ragged(self.pixels, self.offsets[index], self.heights[index], self.widths[index], self.longest)

    @cached_property
    def longest(self) -> int:
        """The longest side of any image."""
        return int(torch.cat([self.heights, self.widths, self.heights.new_zeros(1)]).max())

    def subset(self, index: Int[Tensor, " M"]) -> "Images":
        """The images at `index`, in that order, over the same buffer."""
        here, on_cpu = index.to(self.device), index.cpu()
        return replace(
            self,
            offsets=self.offsets[here],
            heights=self.heights[here],
            widths=self.widths[here],
            labels=self.labels[here],
            digests=self.digests[on_cpu],
            moments=self.moments[on_cpu],
            files=[self.files[i] for i in on_cpu.tolist()],
        )

    def to(self, device: torch.device) -> "Images":
        """The same on a device; nothing but the images of this split goes there, and of streamed ones nothing."""
        if device == self.device or self.stream is not None:
            return self
        whole = self if int(self._sizes.sum()) == self.pixels.numel() else self._compact()
        moved = {name: getattr(whole, name).to(device) for name in ("pixels", "offsets", "heights", "widths", "labels")}
        return replace(whole, mapped=None, **moved)

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over all pixels, scaled to 0..1; exact sums of integers."""
        count = int((self.heights * self.widths).sum())
        first, second = ([int(v) for v in row] for row in self.moments.sum(0))
        mean = [s / count for s in first]
        # Python's integers do not overflow, and nothing is lost where a channel hardly varies.
        variance = [(count * s2 - s * s) / count**2 for s, s2 in zip(first, second, strict=True)]
        return [m / 255 for m in mean], [v**0.5 / 255 for v in variance]

    @property
    def _sizes(self) -> Tensor:
        return 3 * self.heights * self.widths

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor] | None:
        """The buffer as (rows, H, W, 3) and each image's row, when the images lie in a grid of equal cells."""
        if len(self) == 0 or not self.uniform or self.stream is not None:
            return None
        height, width = int(self.heights[0]), int(self.widths[0])
        size = 3 * height * width
        if bool((self.offsets % size != 0).any()) or self.pixels.numel() % size != 0:
            return None
        return self.pixels.view(-1, height, width, 3), self.offsets // size

    def _compact(self) -> "Images":
        """The same images in a buffer of their own."""
        ends = self._sizes.cumsum(0)
        pixels = torch.empty(int(ends[-1]) if len(self) else 0, dtype=torch.uint8, device=self.device)
        for end, size, offset in torch.stack([ends, self._sizes, self.offsets], 1).tolist():
            pixels[end - size : end] = self.pixels[offset : offset + size]
        return replace(self, pixels=pixels, offsets=ends - self._sizes, mapped=None)
