"""The saved views: pretraining health, fine-tuning, guidance, speed, comparison."""

from smalldata_vit.dashboards.panels import Bars, Dots, Lines, Media, Section, View

SPEED = Section(
    "speed",
    [
        Lines("images a second", ["train/images_per_second"], "time"),
        Lines("seconds a step", ["train/seconds_per_step"], "time"),
        Lines("share of the time that waits for images", ["train/waiting"], "time"),
        Lines("FLOP/s of the network", ["train/flops_per_second"], "time"),
        Lines("share of the devices' peak (logger.wandb.peak_flops)", ["train/share_of_peak"], "time"),
    ],
)
MEMORY = Section(
    "memory and load, as W&B measures them",
    [
        Lines("memory of the process, MB", ["system/proc.memory.rssMB"], "time"),
        Lines("memory of the machine, %", ["system/memory_percent"], "time"),
        Lines("memory of the first GPU, bytes", ["system/gpu.0.memoryAllocatedBytes"], "time"),
        Lines("load of the first GPU, %", ["system/gpu.0.gpu"], "time"),
        Lines("power of the first GPU, W", ["system/gpu.0.powerWatts"], "time"),
    ],
)
SCHEDULES = Section(
    "schedules",
    [
        Lines("learning rate", ["train/learning_rate"]),
        Lines("weight decay", ["train/weight_decay"]),
        Lines("gradient norm before clipping", ["train/gradient_norm"], log=True),
    ],
)
TERMS = (
    "train/cross_view_entropy",
    "train/cross_entropy_0",
    "train/cross_entropy_1",
    "train/info_nce",
    "train/contrast_1",
    "train/contrast_2",
    "train/nt_xent",
    "train/supervised_contrast",
    "train/cross_entropy",
)
"""Of every method; a run has those of its own."""

PRETRAINING = View(
    "pretraining health",
    ["pretrain"],
    [
        Section("loss", [Lines("loss", ["train/loss"]), Lines("its terms", TERMS)]),
        Section(
            "does it collapse?",
            [
                Lines("teacher entropy, below that of the mean while outputs tell images apart",
                      ["train/teacher_entropy", "train/entropy_of_mean", "train/uniform_entropy"]),
                Lines("effective rank of the features", ["train/effective_rank"]),
                Lines("deviation of the features: 1 spread evenly, 0 all the same", ["train/feature_std"]),
                Lines("the other view comes first", ["train/positive_first"]),
                Lines("probability of the own instance", ["train/own_probability"]),
                Lines("instances updated a step", ["train/rows_updated", "train/rows_never_updated"]),
                Lines("evenness of the updates", ["train/effective_rows"]),
            ],
        ),
        Section(
            "what the encoder knows",
            [
                Lines("k-NN accuracy", ["val/knn_accuracy"]),
                Bars("k-NN on test", "test/knn_accuracy"),
                Bars("k-NN on test before the first step", "untrained/test/knn_accuracy"),
                Bars("linear probe on test, all labels", "test/linear_accuracy@all"),
            ],
        ),
        SCHEDULES,
        Section("what the network sees", [Media("views", "media/views"), Media("attention", "media/attention")]),
    ],
    columns=["test/knn_accuracy", "test/linear_accuracy@all", "train/effective_rank", "cost/seconds"],
)  # fmt: skip
FINE_TUNING = View(
    "fine-tuning",
    ["guide", "finetune", "finetune_448"],
    [
        Section(
            "accuracy",
            [
                Lines("on validation images", ["val/accuracy"]),
                Lines("macro F1 on validation images", ["val/macro_f1"]),
                Lines("on training images, as mixed", ["train/accuracy"]),
                Bars("on test images", "test/accuracy"),
            ],
        ),
        Section(
            "loss",
            [
                Lines("loss", ["train/loss"]),
                Lines("cross-entropy", ["train/cross_entropy"]),
                Lines("relative locations", ["train/relative_locations_loss"]),
                Lines("weight of relative locations", ["train/relative_locations_weight"]),
            ],
        ),
        SCHEDULES,
        Section(
            "what it gets wrong",
            [
                Media("confusion matrix", "media/confusion"),
                Media("classes mixed up most", "media/mixed_up"),
                Media("the gravest mistakes", "media/mistakes"),
            ],
        ),
        Section("what the network sees", [Media("views", "media/views"), Media("attention", "media/attention")]),
    ],
    columns=["test/accuracy", "val/accuracy", "labels_per_class", "cost/seconds", "cost/total_seconds"],
)
GUIDANCE = View(
    "guidance",
    ["finetune", "finetune_448"],
    [
        Section(
            "the term",
            [
                Lines("β", ["train/guidance_weight"]),
                Lines("share of the loss", ["train/guidance_share"]),
                Lines("distance of the features", ["train/guidance_loss"]),
                Lines("the term beside cross-entropy", ["train/guidance", "train/cross_entropy"]),
                Lines("slope that the controller sees", ["train/guidance_slope"]),
                Lines("share of the steps that were guided", ["train/guidance_on"]),
            ],
        ),
        Section(
            "the guide's time",
            [
                Bars("seconds an epoch, guided", "train/guidance_seconds_per_epoch_on", "guidance"),
                Bars("seconds an epoch after its end", "train/guidance_seconds_per_epoch_off", "guidance"),
                Bars("seconds that it cost", "train/guidance_seconds_spent", "guidance"),
                Bars("seconds that its end saved", "train/guidance_seconds_saved", "guidance"),
                Lines("seconds a step", ["train/seconds_per_step"]),
            ],
        ),
        Section(
            "what it is worth",
            [
                Lines("accuracy on validation images", ["val/accuracy"]),
                Bars("accuracy on test images", "test/accuracy", "guidance"),
                Dots("accuracy on test images over all seconds", "cost/total_seconds", "test/accuracy"),
            ],
        ),
    ],
    group_by=["guidance", "dataset"],
    others_than={"guidance": "none"},
    columns=["test/accuracy", "train/guidance_seconds_spent", "train/guidance_seconds_saved", "cost/total_seconds"],
    labels=["guidance", "dataset", "arch", "seed"],
)
SPEEDS = View(
    "speed",
    ["guide", "pretrain", "finetune", "finetune_448"],
    [
        SPEED,
        MEMORY,
        Section(
            "cost",
            [
                Bars("seconds of training", "cost/seconds", "arch"),
                Bars("FLOPs", "cost/flops", "arch"),
                Bars("images seen", "cost/images", "arch"),
            ],
        ),
    ],
    columns=["train/images_per_second", "train/waiting", "cost/seconds", "cost/flops"],
    labels=["stage", "arch", "dataset", "experiment"],
)
COMPARISON = View(
    "comparison",
    ["finetune", "finetune_448"],
    [
        Section(
            "accuracy, mean and spread over seeds",
            [
                Bars("accuracy on test images", "test/accuracy"),
                Bars("macro F1 on test images", "test/macro_f1"),
                Lines("accuracy on validation images", ["val/accuracy"]),
            ],
        ),
        Section(
            "accuracy over cost, all stages counted",
            [
                Dots("over FLOPs", "cost/total_flops", "test/accuracy"),
                Dots("over seconds", "cost/total_seconds", "test/accuracy"),
                Dots("over images seen", "cost/total_images", "test/accuracy"),
            ],
        ),
    ],
    group_by=["method", "dataset"],
    finished=True,
    columns=["test/accuracy", "labels_per_class", "cost/total_flops", "cost/total_seconds"],
)
ALL = (PRETRAINING, FINE_TUNING, GUIDANCE, SPEEDS, COMPARISON)
