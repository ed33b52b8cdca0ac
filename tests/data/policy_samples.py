"""Images and draws that the tests of policies share."""

import numpy as np
import torch
from PIL import Image

from smalldata_vit.data.policies_plan import KERNELS, OPERATIONS, Named, planned


def images(count=5, side=32, seed=0):
    """Noise, a photograph-like mixture of waves, and for every fifth a picture with few values."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    place = torch.arange(side) / side
    for i in range(1, count, 2):
        waves = torch.sin(7 * place + i)[:, None] + torch.cos(5 * place * (1 + i % 3))[None, :]
        made[i] = (waves[None] * torch.tensor([30.0, 45.0, 50.0])[:, None, None] + 110 + 9 * (i % 5)).to(torch.uint8)
    for i in range(4, count, 5):
        made[i] //= 100
    return made


def drawn(policy, count, seed=0):
    return policy.draw(np.random.default_rng(seed).random((count, 1, policy.numbers)))


def named(policy, count, seed=0):
    return policy.name(np.random.default_rng(seed).random((count, 1, policy.numbers)))


def flat(choices):
    return {key: value.flatten(0, 1) for key, value in choices.items()}


def one_kernel(change, name, pictures, sizes, arithmetic, interpolation=0, centre=None, pixels=False):
    """All pictures after one named operation, each with a magnitude of its own, in one call."""
    operation = np.full((len(pictures), 1, 1), OPERATIONS.index(name))
    what = Named(
        operation, np.reshape(sizes, (-1, 1, 1)), np.full_like(operation, interpolation), centre, pixels=pixels
    )
    plan = flat(planned(what, arithmetic))
    kernel = KERNELS[int(plan["kernel"][0, 0])]
    return change(pictures, kernel, plan["parameters"][:, 0])


def as_picture(image):
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def as_tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
