"""What a command would do and cost: `--dry-run`."""
