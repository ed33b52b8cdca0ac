"""Relative locations (Drloc): from two places' features a small network tells how far apart the places are.

Liu et al., Efficient Training of Visual Transformers with Small Datasets, NeurIPS 2021, arXiv:2106.03746.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from smalldata_vit import randomness
from smalldata_vit.contracts import DataFacts, Loss
from smalldata_vit.parts.guidance_networks import shapes_of
from smalldata_vit.schedules import Progress, Schedule

Mode = Literal["l1", "ce", "cbr"]
"""`l1`: mean absolute error of two numbers; `ce`: each axis' displacement is a class; `cbr`: the mean over those
classes is regressed, its squared error weighed by their variance."""

CBR_VARIANCE_WEIGHT, CBR_SMALLEST = 0.001, 1e-8
"""Of the logarithm of the variance in `cbr`, and what is added to the variance; their code's."""


class RiseAndFall(Schedule):
    """λ of whole epochs: a straight line from 0 to `peak` over `rise_epochs`, then one that would be 0 behind the last.

    With E epochs in all, epoch e has peak · e / rise up to e = rise, then peak · (1 - (e - rise) / (E - rise)).

    Arguments:
        peak: λ at its highest; 0.5 for Swin, 0.1 for T2T and CvT in Liu et al.
        rise_epochs: 20 in their code.
    """

    def __init__(self, peak: float, rise_epochs: int = 20) -> None:
        self.peak, self.rise_epochs = peak, rise_epochs

    def __call__(self, progress: Progress) -> float:
        """λ of the epoch that the step is in; 0 in the first if there is a rise."""
        epoch, rise = progress.step // progress.steps_per_epoch, self.rise_epochs
        if epoch <= rise:
            return self.peak * epoch / rise if rise else self.peak
        epochs = progress.total_steps / progress.steps_per_epoch
        return max(self.peak * (1 - (epoch - rise) / (epochs - rise)), 0.0)


class RelativeLocations(nn.Module):
    """A term of a classifier's loss: λ times the error of displacements told from pairs of features of the last map.

    The map is the last block's output before the final norm, without class token. While λ is 0 the student is asked for
    nothing more than its features, and the network's own weights neither move nor decay nor count in clipping: the
    student's are bit for bit those of training without this term.

    Arguments:
        student: the backbone that is trained; it gives maps (`forward_intermediates`), else ValueError.
        facts: of the data that it is trained on.
        weight: λ over time.
        pairs: m, drawn from each image's places with replacement; 64 in their scripts, 32 in their config.
        mode: `l1` in their scripts.
        use_abs: the target is the distance along each axis, as in their scripts; else displacement + side - 1.
        normalize: the target is divided by its largest value; not done in their scripts. Only with `l1`.
        hidden: width of the hidden layers.

    Departures: pairs are a function of the pass's seed and the image's place in the training set, so that the cut into
    passes and ranks changes nothing; maps need not be square; the first weights (truncated normal with 0.02, as in
    their Swin) come from a generator of their own.
    """

    couples_images = False

    def __init__(
        self,
        student: nn.Module,
        facts: DataFacts,
        weight: Schedule,
        pairs: int = 64,
        mode: Mode = "l1",
        use_abs: bool = True,
        normalize: bool = False,
        hidden: int = 512,
    ) -> None:
        super().__init__()
        if pairs < 1 or (normalize and mode != "l1"):
            raise ValueError(f"pairs={pairs} has to be 1 or more, and normalize={normalize} goes with mode=l1 only")
        try:
            shapes = shapes_of(student, facts.image_size)
        except ValueError as error:
            name, instead = type(student).__name__, "choose another arch, or method.relative_locations=null"
            raise ValueError(
                f"{name} gives no maps, and relative locations are told from its last: {instead}"
            ) from error
        (width, *self.grid), self.block = shapes[-1], len(shapes) - 1
        """Place of the last map among the student's intermediates."""
        self.schedule, self.pairs, self.use_abs, self.normalize = weight, pairs, use_abs, normalize
        self.mode: Mode = mode
        with own_randomness():
            layers = [nn.Linear(2 * width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
            self.layers = nn.Sequential(*layers, nn.Linear(hidden, 2 if mode == "l1" else hidden))
            axes = [] if mode == "l1" else [nn.Linear(hidden, self._classes(side)) for side in self.grid]
            self.axes = nn.ModuleList(axes)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)

    def weight(self, progress: Progress) -> float:
        """λ of this step; the same on every rank."""
        return self.schedule(progress)

    def forward(
        self, maps: Float[Tensor, "VB D h w"], index: Int[Tensor, " B"], seed: int, group: int
    ) -> Float[Tensor, ""]:
        """The error of one group of views without its weight, views before images as the maps have them."""
        sides = (maps.shape[2], maps.shape[3])
        if self.mode != "l1" and list(sides) != self.grid:
            raise ValueError(
                f"mode={self.mode} has a class for each displacement on a grid of {self.grid[0]} x {self.grid[1]}, and "
                f"a view gave one of {sides[0]} x {sides[1]}: use mode=l1 or views of image_size"
            )
        views = len(maps) // max(len(index), 1)
        places = drawn_places(index, views, self.pairs, sides, seed, group)
        features = maps.flatten(2).transpose(1, 2)
        both = [features.gather(1, p[..., None].expand(-1, -1, features.shape[2])) for p in places]
        displacement = [places[0] // sides[1] - places[1] // sides[1], places[0] % sides[1] - places[1] % sides[1]]
        target = torch.stack([self._target(d, side) for d, side in zip(displacement, sides, strict=True)], dim=2)
        found = self.layers(torch.cat(both, dim=2))
        if self.mode == "l1":
            return F.l1_loss(found.float(), target)
        error = cross_entropy if self.mode == "ce" else cycle_back_regression
        axes = [error(axis(found).float().flatten(0, 1), target[..., n].flatten()) for n, axis in enumerate(self.axes)]
        return torch.stack(axes).sum()

    def _classes(self, side: int) -> int:
        return side if self.use_abs else 2 * side - 1

    def _target(self, displacement: Int[Tensor, "N m"], side: int) -> Float[Tensor, "N m"]:
        target = displacement.abs() if self.use_abs else displacement + (side - 1)
        return target.float() / max(self._classes(side) - 1, 1) if self.normalize else target.float()

    def part(self, loss: Float[Tensor, ""] | None, weight: float, others: Float[Tensor, ""]) -> Loss:
        """What this adds to a pass: `loss` as `forward` gave it, None while λ = `weight` is 0."""
        stats = {"relative_locations_weight": others.detach().new_full((), weight)}
        if loss is None:  # ranks wait for every parameter's gradient
            idle = [p.sum() for p in self.parameters()]
            return Loss({"relative_locations": 0.0 * torch.stack(idle).sum().abs()}, stats)
        return Loss({"relative_locations": weight * loss}, stats | {"relative_locations_loss": loss.detach()})

    def before_step(self, progress: Progress) -> None:
        """Out of clipping, decay and the optimizer's memory while λ is 0."""
        if self.weight(progress) == 0:
            for parameter in self.parameters():
                parameter.grad = None


def cross_entropy(logits: Float[Tensor, "N C"], target: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Of displacements as classes 0 .. C - 1."""
    return F.cross_entropy(logits, target.long())


def cycle_back_regression(logits: Float[Tensor, "N C"], target: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """(μ - target)² / σ² + 0.001 log σ², with μ and σ² of the classes' numbers under the softmax; as in their code.

    The regression is that of Dwibedi et al., CVPR 2019, arXiv:1904.07846, section 3.3.
    """
    share, number = logits.softmax(dim=1), torch.arange(logits.shape[1], device=logits.device)
    mean = (share * number).sum(1)
    spread = ((number - mean[:, None]) ** 2 * share).sum(1) + CBR_SMALLEST
    return ((mean - target) ** 2 / spread + CBR_VARIANCE_WEIGHT * spread.log()).mean()


def drawn_places(
    index: Int[Tensor, " B"], views: int, pairs: int, sides: Sequence[int], seed: int, group: int
) -> tuple[Int[Tensor, "VB m"], Int[Tensor, "VB m"]]:
    """Two places of each pair on a grid of these sides, row by row; a function of the image, the view and the seed."""
    key = randomness.key(seed, "relative locations", group)
    number = torch.arange(views * pairs * 2, device=index.device).view(views, 1, pairs, 2)
    mixed = scrambled(index.view(1, -1, 1, 1) ^ (key & 0xFFFFFFFF))
    mixed = scrambled((mixed + scrambled(number ^ (key >> 32))) & 0xFFFFFFFF)
    places = ((mixed * (sides[0] * sides[1])) >> 32).flatten(0, 1)
    return places[..., 0], places[..., 1]


def scrambled(number: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Each number of 32 bits to another one, as if at random: two rounds of multiply, shift and exclusive or."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        number = ((number ^ (number >> shift)) * factor) & 0xFFFFFFFF
    return number ^ (number >> 16)


@contextmanager
def own_randomness() -> Iterator[None]:
    """Inside it torch's CPU generator is one for this part alone, so that what is drawn here shifts nothing else."""
    seed = randomness.key(torch.initial_seed(), "relative locations")
    generator: Any = torch.default_generator
    with torch.random.fork_rng(devices=[]):
        generator.manual_seed(seed)
        yield
