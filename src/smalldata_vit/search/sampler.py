"""Proposals: a function of (seed, trial, what is known), and never one that was tried before."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from smalldata_vit.search.space import Space, rounded

PROPOSALS = 20
"""Asked of the sampler before an untried combination is drawn from those that are left."""
MOST_LISTED = 100_000
"""Combinations that are looked through for one that is left."""


class Untried(BaseSampler):
    """Another sampler's proposals without those that were tried before, in this search or in one that shares storage.

    A job is a function of its words: what was done once would only be done again. The inner sampler is made anew for
    every proposal, with a seed of its own, so a search that goes on proposes what it would have proposed without a
    stop (with one job at a time; with several, what is known when one ends depends on the clock).

    Arguments:
        make: the inner sampler of a seed.
        space: what varies.
        seed: of the search.
    """

    def __init__(self, make: Callable[..., BaseSampler], space: Space, seed: int) -> None:
        self.make, self.space, self.seed = make, space, seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All keys, which are proposed together."""
        return dict(self.space.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A combination that was not tried, unless there is none."""
        tried = combinations_tried(study, trial.number)
        for proposed in self._proposals(study, trial):
            if identity(proposed) not in tried:
                return proposed
        if self.space.size <= MOST_LISTED:
            left = [one for one in self.space.combinations() if identity(one) not in tried]
            if left:
                return left[int(np.random.default_rng([self.seed, trial.number]).integers(len(left)))]
        return proposed

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value; asked for nothing that the space has."""
        return RandomSampler(seed=self._seed(trial.number, 0)).sample_independent(
            study, trial, param_name, param_distribution
        )

    def _proposals(self, study: Study, trial: FrozenTrial) -> Iterator[dict[str, Any]]:
        varying = {key: one for key, one in self.space.distributions.items() if not one.single()}
        for attempt in range(PROPOSALS):
            seed = self._seed(trial.number, attempt)
            proposed = dict(self.make(seed=seed).sample_relative(study, trial, varying))
            drawn = RandomSampler(seed=seed)
            for key, one in self.space.distributions.items():
                if key not in proposed:  # the sampler knows too little yet, or there is one value alone
                    proposed[key] = drawn.sample_independent(study, trial, key, one)
            yield {key: rounded(proposed[key], one) for key, one in self.space.distributions.items()}

    def _seed(self, number: int, attempt: int) -> int:
        return int(np.random.SeedSequence([self.seed, number, attempt]).generate_state(1)[0])


def combinations_tried(study: Study, apart_from: int = -1) -> set[tuple[tuple[str, str], ...]]:
    """What all trials but one were, whatever became of them."""
    trials = study.get_trials(deepcopy=False)
    return {identity(trial.params) for trial in trials if trial.number != apart_from and trial.params}


def identity(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The same for the same combination."""
    return tuple(sorted((key, str(value)) for key, value in params.items()))


def all_tried(study: Study, space: Space) -> bool:
    """Whether nothing is left to propose."""
    return space.size <= MOST_LISTED and len(combinations_tried(study)) >= space.size
