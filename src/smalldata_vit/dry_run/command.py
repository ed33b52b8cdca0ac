"""`--dry-run`: what a command would do, and about how long it would take, without doing it."""

from collections.abc import Sequence

from smalldata_vit import config
from smalldata_vit.dry_run.sweep import dry_sweep
from smalldata_vit.words import ConfigError

FLAG = "--dry-run"
SWEEP = ("-m", "--multirun")


def dry_run(words: Sequence[str]) -> int:
    """Print what the words without `--dry-run` would do; returns the exit status.

    ConfigError: words that cannot be right. Any other error is the one that the command itself would end with.
    """
    typed = [word for word in words if word not in (FLAG, *SWEEP)]
    flags = [word for word in typed if word.startswith("-")]
    if flags:
        raise ConfigError(f"{flags[0]}: {FLAG} goes with -m and with no other flag")
    if set(SWEEP) & set(words):
        return dry_sweep(typed)
    cfg = config.compose(typed)
    config.check(cfg)
    from smalldata_vit.dry_run.outlook import outlook, told  # brings torch

    print("\n".join(told(outlook(cfg))))
    return 0
