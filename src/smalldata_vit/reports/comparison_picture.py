"""The comparison as a picture: accuracy over labels per class, a line an arm."""

from pathlib import Path

from smalldata_vit.reports.comparison import NAMES, Arms, counts_of, spread

STYLES = {
    "dino_probe": ("#0b6e4f", "o", "-"),
    "dino_finetuned": ("#08a045", "s", "-"),
    "scratch_equal_steps": ("#c1666b", "^", "--"),
    "scratch_equal_compute": ("#8f2d56", "v", "--"),
    "pixels": ("#586f7c", "D", ":"),
    "untrained_probe": ("#b8b8b8", "x", ":"),
}


def draw(arms: Arms, file: Path) -> None:
    """Write a PNG; error bars are standard deviations over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    counts = counts_of(arms)
    figure, axes = plt.subplots(figsize=(7.5, 4.6), dpi=160, layout="constrained")
    for arm, (colour, marker, line) in STYLES.items():
        found = {place: spread(arms[arm][c]) for place, c in enumerate(counts) if arms.get(arm, {}).get(c)}
        if not found:
            continue
        means, errors = [m for m, _, _ in found.values()], [s for _, s, _ in found.values()]
        axes.errorbar(
            list(found), means, errors, label=NAMES[arm], color=colour, marker=marker, linestyle=line, capsize=3
        )
    axes.set_xticks(range(len(counts)), counts)
    axes.set_xlabel("labelled images per class")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(file)
    plt.close(figure)
