"""Whether a classifier is as sure as it is right: reliability by confidence, and the expected calibration error.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599: equal bins of the highest
probability; ECE is eq. (3), the mean over images of the gap between confidence and accuracy in their bin.
"""

from dataclasses import dataclass

import numpy as np

BINS = 15
"""As in the paper."""


@dataclass(frozen=True)
class Reliability:
    """Bins of confidence; a bin without images has 0 in all three lists."""

    count: list[int]
    confidence: list[float]
    """Mean over the images of a bin."""
    accuracy: list[float]
    ece: float

    @property
    def overconfident(self) -> float:
        """Mean confidence less accuracy over all images."""
        whole = sum(self.count)
        gaps = zip(self.count, self.confidence, self.accuracy, strict=True)
        return sum(n * (sure - right) for n, sure, right in gaps) / whole


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability | None:
    """Images sorted into bins ((b - 1)/bins, b/bins]; None where no confidence is a finite number.

    `confidence` (N,) float, `right` (N,) bool; not as types, for which every command would import jaxtyping.
    """
    known = np.isfinite(confidence)
    confidence, right = confidence[known].astype(np.float64), right[known]
    if len(confidence) == 0:
        return None
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    divisor = np.maximum(count, 1)
    sure = np.bincount(place, weights=confidence, minlength=bins) / divisor
    correct = np.bincount(place, weights=right, minlength=bins) / divisor
    ece = float((count * np.abs(sure - correct)).sum() / count.sum())
    return Reliability(count.tolist(), sure.tolist(), correct.tolist(), ece)
