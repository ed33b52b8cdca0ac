"""What a few seeds can say: means and paired differences with 95 % intervals of Student's t."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its interval `mean ± half`; `half` is None where one value says nothing of the spread."""

    mean: float
    half: float | None
    n: int


@dataclass(frozen=True)
class Paired:
    """A mean difference over common seeds, its interval, and the two-sided p of no difference (None: not defined)."""

    difference: Interval
    p: float | None


def interval(values: Sequence[float]) -> Interval:
    """Mean ± t·s/√n over runs that differ in their seed; ValueError without a value."""
    if not values:
        raise ValueError("there is no mean of no runs")
    mean, n = statistics.fmean(values), len(values)
    return Interval(mean, None if n < 2 else quantile(n - 1) * statistics.stdev(values) / math.sqrt(n), n)


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Paired | None:
    """`one - other` over the seeds that both have; None without a common seed."""
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    differences = [one[seed] - other[seed] for seed in seeds]
    return Paired(interval(differences), p_of_no_difference(differences))


def p_of_no_difference(differences: Sequence[float]) -> float | None:
    """Of the paired t-test; None for fewer than two differences, or where all are the same."""
    if len(differences) < 2 or statistics.stdev(differences) == 0:
        return None
    from scipy.special import stdtr  # scipy.stats takes a second to import

    n = len(differences)
    t = statistics.fmean(differences) / (statistics.stdev(differences) / math.sqrt(n))
    return 2 * float(stdtr(n - 1, -abs(t)))


def quantile(freedom: int) -> float:
    """Of Student's t with so many degrees of freedom, between whose negative and itself 95 % lie."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))
