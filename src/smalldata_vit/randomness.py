"""Numbers and permutations as functions of (seed, stream, step, …): no hidden state, so nothing to save or to leak."""

import hashlib

import numpy as np


def key(*parts: int | str) -> int:
    """A 63-bit number that depends on every part and on their order; equal on every machine and Python version."""
    text = "\x1f".join(f"{type(p).__name__}:{p}" for p in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """A counter-based generator of its own for these parts: `generator(seed, "views", step)`."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of n images in an epoch, int64 (n,)."""
    return generator(seed, "order", epoch).permutation(n)
