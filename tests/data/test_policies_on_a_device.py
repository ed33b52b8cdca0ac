"""Policies on an accelerator: nothing is read from it, and how a batch is cut changes nothing.

The `meta` device has no numbers: whatever would read one, or would have to know how many there are, raises there.
"""

import pytest
import torch
from policy_samples import drawn, flat, images
from torch.utils._python_dispatch import TorchDispatchMode

from smalldata_vit.data.choices import HOST, moved
from smalldata_vit.data.erasing import RandomErasing
from smalldata_vit.data.policies import AutoAugment, RandAugment, TrivialAugment
from smalldata_vit.data.policies_three import ThreeAugment
from smalldata_vit.data.policies_timm import TimmRandAugment
from smalldata_vit.data.policies_uda import UDARandAugment

POLICIES = {
    "AutoAugment": AutoAugment("IMAGENET", 128),
    "bilinear": AutoAugment("SVHN", 128, "bilinear"),
    "gani": AutoAugment("SVHN", 128, variant="gani"),
    "RandAugment": RandAugment(2, 9, 0),
    "TrivialAugment": TrivialAugment(0),
    "TimmRandAugment": TimmRandAugment("rand-m9-mstd0.5-inc1", (124, 116, 104)),
    "UDARandAugment": UDARandAugment(0.5, (128, 128, 128), (125, 122, 113)),
}
READS = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "bincount", "item"}


class Watch(TorchDispatchMode):
    """Notes operations that read a device, that index with a mask, and copies between devices."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        masks = [m for group in args if isinstance(group, (list, tuple)) for m in group if isinstance(m, torch.Tensor)]
        crossing = isinstance(made, torch.Tensor) and any(t.device != made.device and t.ndim > 0 for t in tensors)
        if function.__name__.split(".")[0] in READS or crossing or any(m.dtype == torch.bool for m in masks):
            self.seen.append(function.__name__)
        return made


@pytest.mark.parametrize("name", [*POLICIES, "ThreeAugment"])
def test_nothing_is_read_from_the_device_nor_copied_there(name):
    policy = POLICIES.get(name) or ThreeAugment(0.3)
    choices = moved(flat(drawn(policy, 64)), torch.device("meta"))
    with Watch() as watch:
        made = policy(torch.empty(64, 3, 32, 32, device="meta"), choices)
    assert made.shape == (64, 3, 32, 32)
    assert watch.seen == []


@pytest.mark.parametrize("fill", ["black", "noise", "colour"])
def test_erasing_reads_nothing_from_the_device(fill):
    erasing, mean = RandomErasing(0.5, (0.1, 0.3), (0.3, 3.3), fill, count=(1, 3)), torch.ones(3, 1, 1, device="meta")
    uniform = torch.rand(16, 1, erasing.numbers, dtype=torch.float64).numpy()
    choices = moved(flat(erasing.draw(uniform, 32)), torch.device("meta"))
    with Watch() as watch:
        erasing(torch.empty(16, 3, 32, 32, device="meta"), choices, mean, mean)
    assert watch.seen == []


def test_the_watch_notices_a_copy_and_a_mask():
    with Watch() as watch:
        torch.zeros(3).to("meta")
        torch.zeros(3)[torch.zeros(3, dtype=torch.bool)]
    assert "_to_copy.default" in watch.seen
    assert any(name.startswith("index") for name in watch.seen)


def test_what_decides_about_launches_stays_on_the_host():
    choices = moved(drawn(POLICIES["gani"], 4), torch.device("meta"))
    assert {name: value.device.type for name, value in choices.items()} == {
        "kernel": "meta", HOST + "kernel": "cpu", "parameters": "meta"
    }  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("side", [32, 45])
def test_a_view_is_the_same_bits_alone_and_in_a_batch(name, side):
    policy, pictures = POLICIES[name], images(60, side) / 255
    choices = flat(drawn(policy, 60))
    whole = policy(pictures.clone(), choices)
    for i in range(60):
        alone = policy(pictures[i : i + 1].clone(), {key: value[i : i + 1] for key, value in choices.items()})
        assert torch.equal(alone[0], whole[i])


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("side", [1, 2, 3])
def test_the_smallest_views_pass_through_every_operation(name, side):
    policy = POLICIES[name]
    made = policy(images(200, side) / 255, flat(drawn(policy, 200)))
    assert ((made >= 0) & (made <= 1)).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", POLICIES)
def test_a_gpu_makes_the_views_of_the_cpu_without_being_waited_for(name):
    policy, pictures = POLICIES[name], images(60) / 255
    choices = flat(drawn(policy, 60))
    there = moved(choices, torch.device("cuda"))
    on_gpu = pictures.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = policy(on_gpu, there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    different = (made.cpu() - policy(pictures, choices)).abs() > 1e-6
    assert different.double().mean() < 2e-3  # where a place or a value lies on an edge, one rounding decides
