"""Where every value of a composed experiment comes from: `--explain`."""
