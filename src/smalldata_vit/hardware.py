"""Where a stage runs: device, number of processes, precision, Lightning's Trainer, and where its images lie."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn

from smalldata_vit.checkpoints import Checkpoints
from smalldata_vit.cluster import started_beside
from smalldata_vit.contracts import Method, Views
from smalldata_vit.data.images import Images
from smalldata_vit.data.sources import cache_folder

Config = Mapping[str, Any]

SHARE_OF_ACCELERATOR = 0.4
"""Of the free memory of an accelerator that resident images may take; the rest belongs to training."""


def device_of(trainer: Config) -> torch.device:
    """The device that this process trains on."""
    wanted = trainer["accelerator"]
    if wanted in ("gpu", "cuda") or (wanted == "auto" and torch.cuda.is_available()):
        if not torch.cuda.is_available():
            raise ValueError(f"trainer.accelerator={wanted}, but there is no GPU here: trainer=cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def precision_of(trainer: Config, device: torch.device) -> str:
    """`auto` is bf16 on a GPU and float32 elsewhere."""
    if trainer["precision"] == "auto":
        return "bf16-mixed" if device.type == "cuda" else "32-true"
    return str(trainer["precision"])


def devices_of(trainer: Config, device: torch.device) -> int:
    """Processes on this machine: those that were started; else `auto` is every visible GPU, or one on a CPU."""
    started = started_beside(os.environ)
    if started is not None:
        return started
    if trainer["devices"] == "auto":
        return torch.cuda.device_count() if device.type == "cuda" else 1
    return int(trainer["devices"])


def resident(images: Images, device: torch.device) -> Images:
    """The images on the accelerator when they fit beside the training, else where they are."""
    if device.type != "cuda":
        return images
    free, _ = torch.cuda.mem_get_info(device)
    size = int((3 * images.heights * images.widths).sum())
    return images.to(device) if size < SHARE_OF_ACCELERATOR * free else images


def speed_up(method: Method, views: Views, trainer: Config, device: torch.device) -> None:
    """What the trainer's settings ask for beside precision: compilation, recomputed activations, TF32.

    ValueError: settings that exclude each other, or a network that cannot recompute its activations.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if trainer["tf32"] else "highest")
        torch.backends.cudnn.allow_tf32 = bool(trainer["tf32"])
    if trainer["checkpoint_activations"]:
        if trainer["compile"]:
            raise ValueError(
                "trainer.compile=true chooses by itself which activations are kept: with it "
                "trainer.checkpoint_activations has to be false"
            )
        for network in method.sources().values():
            recompute(network)
    if trainer["compile"]:
        from torch._inductor import config as inductor  # a second that nobody else has to wait

        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder(None) / "inductor"))
        # Compiled or not, the same numbers are drawn (dropout inside a network; dropped paths are drawn outside).
        inductor.fallback_random = True
        for part in method.compiled():
            part.compile(dynamic=False)
        views.compile()


def recompute(network: nn.Module) -> None:
    """Let a network make its blocks' activations again in the backward pass."""
    try:
        switch: Any = network.set_grad_checkpointing
    except AttributeError:
        raise ValueError(
            f"{type(network).__name__} cannot recompute its activations: trainer.checkpoint_activations=false"
        ) from None
    switch(True)


def build_trainer(config: Config, devices: int, device: torch.device, loggers: list[Any]) -> lightning.Trainer:
    """Lightning's Trainer: devices, ranks, precision, the loop. Position, checkpoints and numbers are ours.

    `devices` are those of each machine. Ranks are where the environment says, whatever cluster Lightning believes in.
    """
    settings = config["trainer"]
    strategy: str | Strategy = "auto"
    if devices * settings["nodes"] > 1:
        strategy = DDPStrategy(
            process_group_backend="nccl" if device.type == "cuda" else "gloo",
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            timeout=timedelta(minutes=10),
        )
    return instantiate(settings["lightning"], _convert_="all")(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=devices,
        num_nodes=settings["nodes"],
        strategy=strategy,
        precision=precision_of(settings, device),
        deterministic=settings["deterministic"],
        logger=loggers or False,
        plugins=[Checkpoints(config_hash=config["hash"]), LightningEnvironment()],
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
