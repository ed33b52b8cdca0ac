"""What people type, and what Hydra is given instead."""

import re
from collections.abc import Iterable, Sequence

from smalldata_vit.schema import INHERITED, OWN, ROOT, STAGES

GROUPS = INHERITED + OWN + ROOT
_WORD = re.compile(r"(?P<sign>\+\+|\+|~)?(?P<key>[^=]*)(?P<rest>=.*)?", re.DOTALL)

ELSEWHERE = {
    "data": "dataset=<option> chooses the images, dataset.<key>= changes one of its facts",
    "datamodule": "dataset=<option> chooses the images, <stage>.batch_size= the batches",
    "model": "method=<option> is what is minimised, arch=<option> the network",
    "net": "arch=<option> is the network",
    "ckpt_path": "the same output_dir= resumes by itself, <stage>.start_from.file= starts a new stage from a file",
    "train": "stages=[…] says what runs, for example stages=[finetune]",
    "test": "every stage is judged at its end, <stage>.evaluator=[…] says how; "
    "stages=[evaluate] output_dir=<run> judges a finished run anew",
    "hparams_search": "-m seed=0,1,2 is a sweep, -m hydra/sweeper=optuna a search",
    "search": "-m hydra/sweeper=optuna hydra.sweeper.space=<name>",
    "callbacks": "<stage>.select=, <stage>.evaluate_every_epochs= and logger= replace them",
    "extras": "there is none",
    "paths": "output_dir= receives everything, dataset.root= is where images are",
    "task_name": "name=<text>",
    "optimized_metric": "results.json holds every metric",
    "local": "there is none",
    "epochs": "say of which stage: pretrain.epochs=, finetune.epochs=",
    "steps": "say of which stage: pretrain.steps=, finetune.steps=",
    "batch_size": "say of which stage: pretrain.batch_size=, finetune.batch_size=",
    "lr": "optimization.lr=, or that of one stage: finetune.optimization.lr=",
    "trainer.max_epochs": "<stage>.epochs=",
    "trainer.min_epochs": "<stage>.epochs=",
    "trainer.max_steps": "<stage>.steps=",
    "trainer.accumulate_grad_batches": "<stage>.pass_size= images go through one forward of a <stage>.batch_size=",
    "trainer.gradient_clip_val": "<stage>.optimization.clip_norm=",
    "trainer.gradient_clip_algorithm": "<stage>.optimization.clip=",
    "trainer.check_val_every_n_epoch": "<stage>.evaluate_every_epochs=",
    "trainer.val_check_interval": "<stage>.evaluate_every_epochs=",
    "trainer.fast_dev_run": "debug=true",
    "trainer.default_root_dir": "output_dir=",
    "trainer.strategy": "trainer=ddp, or trainer.devices=",
    "trainer.num_nodes": "trainer.nodes=",
    "trainer.callbacks": "<stage>.select=, <stage>.evaluate_every_epochs= and logger= replace them",
    "trainer.logger": "logger=[csv,wandb]",
}
"""Keys of other projects and ours that do the same."""

NOT_FOR_LIGHTNING = {
    "max_epochs": "<stage>.epochs=",
    "min_epochs": "<stage>.epochs=",
    "max_steps": "<stage>.steps=",
    "min_steps": "<stage>.steps=",
    "max_time": "nothing is needed: a stage that is stopped resumes",
    "accumulate_grad_batches": "<stage>.pass_size= images go through one forward of a <stage>.batch_size=",
    "gradient_clip_val": "<stage>.optimization.clip_norm=",
    "gradient_clip_algorithm": "<stage>.optimization.clip=",
    "callbacks": "<stage>.select=, <stage>.evaluate_every_epochs= and logger= replace them",
    "logger": "logger=[csv,wandb]",
    "plugins": "nothing: checkpoints are written by our own plugin",
    "enable_checkpointing": "<stage>.checkpoint_every_seconds=",
    "enable_progress_bar": "nothing: progress is shown by itself",
    "enable_model_summary": "nothing",
    "num_sanity_val_steps": "nothing: evaluators judge between steps",
    "check_val_every_n_epoch": "<stage>.evaluate_every_epochs=",
    "val_check_interval": "<stage>.evaluate_every_epochs=",
    "use_distributed_sampler": "nothing: each rank takes its slice of the global batch",
    "sync_batchnorm": "nothing: batch statistics are per pass",
    "overfit_batches": "dataset.fraction=",
    "limit_train_batches": "<stage>.steps=",
    "limit_val_batches": "nothing: evaluators see every image",
    "limit_test_batches": "nothing: evaluators see every image",
    "fast_dev_run": "debug=true",
    "default_root_dir": "output_dir=",
    "accelerator": "trainer.accelerator=",
    "devices": "trainer.devices=",
    "num_nodes": "trainer.nodes=",
    "strategy": "trainer=ddp, or trainer.devices=",
    "precision": "trainer.precision=",
    "deterministic": "trainer.deterministic=",
    "reload_dataloaders_every_n_epochs": "nothing: a stage is one long loop",
}
"""Arguments of Lightning's Trainer that would contradict a stage, and our key for the same."""


class ConfigError(Exception):
    """A config or command line that cannot be right, in words for the person who typed it."""


def parts(word: str) -> tuple[str, str, str | None]:
    """Sign (`+`, `++`, `~` or nothing), key and value of one override; the value is None without `=`."""
    match = _WORD.fullmatch(word)
    assert match is not None, word
    rest = match["rest"]
    return match["sign"] or "", match["key"], None if rest is None else rest[1:]


def group_of(key: str) -> str | None:
    """The group whose option a key chooses (`dataset`, `dataset@pretrain.dataset`), None for any other key."""
    group = key.split("@", 1)[0]
    return group if group in GROUPS else None


def rewrite(words: Iterable[str]) -> list[str]:
    """Overrides as Hydra takes them, in the same order; ConfigError for what can mean nothing here.

    `pretrain.dataset=flowers102` becomes `dataset@pretrain.dataset=flowers102`: as it stands, Hydra would put the text
    where the subtree was. Values stay untouched, so that those of a sweep survive.
    """
    return [_rewritten(word) for word in words]


def _rewritten(word: str) -> str:
    sign, key, value = parts(word)
    if word.startswith("-"):
        raise ConfigError(f"{word}: there is no such flag; python run.py --help lists what there is")
    if not key or (value is None and sign != "~"):
        raise ConfigError(f"{word}: an override is key=value, for example seed=1")
    _refuse_foreign(word, key, value)
    stage, _, group = key.partition(".")
    if stage in STAGES and group in INHERITED + OWN:
        return f"{group}@{stage}.{group}" + ("=null" if value is None else f"={value}")
    if stage in STAGES and group in ROOT:
        raise ConfigError(f"{word}: {group} holds for the whole experiment: {group}={value}")
    if value in ("None", "NULL") or (value is not None and value.strip() == ""):
        raise ConfigError(f"{word}: this is a text; nothing at all is written {key}=null")
    if group_of(key) is not None and sign in ("+", "++"):
        return word.lstrip("+")
    return word


def _refuse_foreign(word: str, key: str, value: str | None) -> None:
    if key == "debug" and value is not None and value.lower() not in ("true", "false"):
        raise ConfigError(f"{word}: debug is true or false; debug=true makes two steps a stage")
    if key.startswith(("hydra.", "hydra/")):
        raise ConfigError(f"{word}: hydra's settings mean something with -m alone")
    if key == "chosen" or key.startswith("chosen."):
        raise ConfigError(f"{word}: chosen is written by composition; choose with <group>=<option>")
    for foreign, ours in ELSEWHERE.items():
        if key == foreign or key.startswith((f"{foreign}.", f"{foreign}@")):
            raise ConfigError(f"{word}: there is no {foreign} here. Ours: {ours}")
    lightning, _, argument = key.partition("trainer.lightning.")
    if lightning == "" and argument in NOT_FOR_LIGHTNING:
        raise ConfigError(f"{word}: {argument} would contradict the stages. Ours: {NOT_FOR_LIGHTNING[argument]}")


def hold_at_root(words: Sequence[str], stage: str) -> list[str]:
    """`views= optimization= evaluator=` and their keys at the root mean those of the method's own stage."""
    held = []
    for word in words:
        sign, key, value = parts(word)
        first, dot, rest = key.partition(".")
        if first in OWN:
            key = f"{stage}.{first}.{rest}" if dot else f"{first}@{stage}.{first}"
            word = f"{sign}{key}" + ("" if value is None else f"={value}")
        held.append(word)
    return held


def quoted(text: str) -> str:
    """A text as the value of an override, quoted where Hydra's grammar would read more into it."""
    if re.fullmatch(r"[A-Za-z0-9_./~@-]+", text) and not re.fullmatch(r"(?i)null|true|false|nan|inf|[\d.e+-]+", text):
        return text
    escaped = re.sub(r"(\\*)'", lambda m: m[1] * 2 + r"\'", text)
    return "'" + re.sub(r"(\\+)$", lambda m: m[1] * 2, escaped) + "'"
