"""The words of the house as types: what is handed from data to method, from method to learner, to evaluators."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from smalldata_vit.schedules import Progress


@dataclass(frozen=True)
class Ragged:
    """Images of different sizes in one buffer, each row by row with its three channels side by side."""

    pixels: UInt8[Tensor, " bytes"]
    offsets: Int[Tensor, " B"]
    """Where each image begins."""
    heights: Int[Tensor, " B"]
    widths: Int[Tensor, " B"]
    longest: int
    """No image of the whole set has a longer side, so that shapes are the same for every batch."""

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, some: slice) -> "Ragged":
        return replace(self, offsets=self.offsets[some], heights=self.heights[some], widths=self.widths[some])

    def __iter__(self) -> Iterator[UInt8[Tensor, "3 _ _"]]:
        """One after the other, for which the host has to read where each lies."""
        for offset, height, width in torch.stack([self.offsets, self.heights, self.widths], 1).tolist():
            yield self.pixels[offset : offset + 3 * height * width].view(height, width, 3).permute(2, 0, 1)

    def to(self, device: torch.device) -> "Ragged":
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("pixels", "offsets", "heights", "widths")}
        return replace(self, **moved)


Pictures = UInt8[Tensor, "B 3 H W"] | Sequence[UInt8[Tensor, "3 _ _"]] | Ragged
"""Decoded images as they lie in memory: one tensor when all are equally large, else a list, or one buffer on an
accelerator, where a list would cost a launch for each."""


@dataclass(frozen=True)
class DataFacts:
    """What a network or a method has to know of the dataset that was found, counted after every split."""

    num_images: int
    """Images that training sees in this stage; IDMM has one class for each."""
    num_classes: int
    image_size: int
    """Side of the network's input in pixels."""
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to 0..1."""
    std: tuple[float, ...]
    in_channels: int = 3


@dataclass(frozen=True)
class Batch:
    """The images of one pass as training sees them."""

    views: Sequence[Float[Tensor, "B _ 3 _ _"]]
    """One tensor per group of equally large views, normalised float32, on the device."""
    boxes: Sequence[Float[Tensor, "B _ 4"]]
    """Where each view was cut: top, left, height, width in pixels of the source image."""
    flips: Sequence[Bool[Tensor, "B _"]]
    """Which views were mirrored."""
    label: Int[Tensor, " B"]
    """-1 where the label is hidden."""
    index: Int[Tensor, " B"]
    """The image's place in the training set, 0 .. num_images - 1."""
    seed: int
    """Of this pass; a method that mixes images draws from it."""


@dataclass(frozen=True)
class Seen:
    """A detached tensor that a method needs from the whole global batch, and how passes and ranks are combined."""

    value: Tensor
    combine: Literal["mean", "gather"]
    """`mean`: weighted by images; `gather`: concatenated along the first axis, in the order of the global batch."""


@dataclass(frozen=True)
class Loss:
    """What a method returns: named terms whose sum is minimised, numbers to watch, and what all passes must share."""

    terms: Mapping[str, Float[Tensor, ""]]
    stats: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)

    @property
    def total(self) -> Float[Tensor, ""]:
        """The sum of the terms."""
        first, *rest = self.terms.values()
        return sum(rest, start=first)


BackboneFactory = Callable[..., nn.Module]
"""`factory(drop_path_rate=…)` makes a network without a head: `num_features`, and `network(images) -> (B, D)`."""


class Method(nn.Module, ABC):
    """What is minimised. Knows nothing of trainers, loggers or configs.

    A method is made by `Method(backbone=<factory>, facts=<DataFacts>, …its own arguments…)`.
    """

    couples_images: bool = False
    """Whether images of one forward influence each other's loss (mixing, contrast, batch statistics)."""
    reads_labels: bool = False
    """Whether it learns from labels, so that a stage that hides them cannot train it."""

    @abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> Loss:
        """The loss of one pass."""

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:
        """The network that is judged and handed on: images (B, 3, H, W) to features (B, D)."""

    def sources(self) -> dict[str, nn.Module]:
        """Networks that a later stage may ask for by name (`student`, `teacher`), `encoder` among them."""
        return {"encoder": self.encoder}

    def compiled(self) -> list[nn.Module]:
        """The modules whose forward is worth compiling, each called with few different shapes."""
        return list({id(network): network for network in self.sources().values()}.values())

    def before_step(self, progress: Progress) -> None:
        """Edit gradients after backward, before clipping."""

    def after_step(self, progress: Progress, seen: Mapping[str, Tensor]) -> None:
        """Once per optimizer step that was taken; the only place where buffers change."""


class Classifier(Method):
    """A method that also names classes."""

    reads_labels = True
    head: nn.Linear
    """The last layer: features to logits."""

    @abstractmethod
    def probe_input(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The form of the encoder's features that a probe must be fitted to before it can become the head."""

    @abstractmethod
    def set_head(self, weight: Float[Tensor, "C D"], bias: Float[Tensor, " C"]) -> None:
        """Start the head from a probe that was fitted to `probe_input`."""

    @abstractmethod
    def classify(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C"]:
        """Logits."""


@dataclass(frozen=True)
class Shown:
    """Images that an evaluator is shown, as a network sees them in evaluation."""

    image: Float[Tensor, "B 3 H W"]
    label: Int[Tensor, " B"]
    index: Int[Tensor, " B"]
    """Place in its split; evaluators sort by it, so that batch size and number of ranks change nothing."""
    memory: Int[Tensor, " B"] | None = None
    """None: an image to be judged. Else a training image that may be learnt from, and this is its place in the
    seeded labelling order of its class: the first n places are the subset with n labels per class."""
    logits: Float[Tensor, "B C"] | None = None
    """What a classifier says of images to be judged, in float32; given where an evaluator reads it."""


class Evaluator(nn.Module, ABC):
    """How a method is judged. One object serves one judgement: reset, update over images, compute."""

    needs_memory: bool = False
    """Whether it has to be shown training images (k-NN, probes)."""
    periodic: bool = True
    """Whether it judges every few epochs too, or only at the end of a stage."""
    reads_logits: bool = False
    """Whether it judges a classifier by `Shown.logits`; all that do share one forward."""
    choose: bool = False
    """Whether compute() may choose its own hyper-parameters on the judged images: for the validation split alone."""

    @abstractmethod
    def can_judge(self, method: Method) -> bool:
        """Whether this kind of method can be judged; the learner refuses a mismatch when it is built."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything that was shown."""

    @abstractmethod
    def update(self, method: Method, shown: Shown) -> None:
        """Look at some images; called under no_grad, in evaluation mode."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Flat names and numbers (fractions), the same on every rank; a name carries no split."""

    @abstractmethod
    def recorded(self) -> dict[str, object]:
        """What the last judgement used (k, temperature, bank size, regularisation), as plain values."""


@runtime_checkable
class ImageSet(Protocol):
    """The decoded images of one split."""

    @property
    def labels(self) -> Int[Tensor, " N"]:
        """0 .. number of classes - 1."""

    @property
    def device(self) -> torch.device:
        """Where the pixels lie."""

    @property
    def heights(self) -> Int[Tensor, " N"]:
        """Pixels."""

    @property
    def widths(self) -> Int[Tensor, " N"]:
        """Pixels."""

    def __len__(self) -> int:
        """Number of images."""

    def take(self, index: Int[Tensor, " B"]) -> Pictures:
        """Some of them; `index` lies where the pixels lie."""


@runtime_checkable
class Drawn(Protocol):
    """The random choices for the views of a global batch."""

    def take(self, places: slice) -> "Drawn":
        """Those of some places of the global batch."""

    def to(self, device: torch.device) -> "Drawn":
        """The same on a device."""


@runtime_checkable
class Views(Protocol):
    """How images become what a stage trains on."""

    def compile(self) -> None:
        """Compile the arithmetic after the drawing, where that is possible."""

    def path(self, device: torch.device) -> str:
        """Which form runs on a device, in a few words for the log."""

    def draw(self, seed: int, step: int, heights: Int[Tensor, " B"], widths: Int[Tensor, " B"]) -> Drawn:
        """Random choices for a global batch whose images have these sizes; a function of its arguments, on the CPU."""

    def __call__(
        self, pictures: Pictures, drawn: Drawn
    ) -> tuple[list[Float[Tensor, "B _ 3 _ _"]], list[Float[Tensor, "B _ 4"]], list[Bool[Tensor, "B _"]]]:
        """Views, boxes and flips, a list entry per group."""
