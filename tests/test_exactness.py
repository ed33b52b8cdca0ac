import torch

from smalldata_vit.exactness import exact_float32


def test_there_is_no_autocast_inside_and_there_is_outside() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with exact_float32(torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_products_of_an_accelerator_are_full_float32_inside_and_as_before_outside() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with exact_float32(torch.device("cuda")):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
