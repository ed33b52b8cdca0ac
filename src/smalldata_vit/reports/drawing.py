"""Plots by matplotlib as SVG inside a page, in the page's own colours and letters, in light and in dark.

matplotlib writes colours as numbers, so each role of ours (ink, rule, first series …) is drawn in a colour that nobody
would choose, and that colour is then replaced by the page's variable. A unit of the drawing is a CSS pixel.
"""

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

INK, MUTED, RULE = "#010203", "#020304", "#030405"
SERIES = ("#100101", "#100102", "#100103", "#100104", "#100105", "#100106")
ROLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)"}
ROLES |= {colour: f"var(--s{number})" for number, colour in enumerate(SERIES, start=1)}
WIDTH, HEIGHT = 320, 190
"""CSS pixels of an ordinary panel."""
POINTS_PER_INCH = 72
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "font.family": "sans-serif",
    "axes.unicode_minus": True,
    "axes.edgecolor": RULE,
    "axes.linewidth": 1,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
}


@dataclass(frozen=True)
class Key:
    """An entry of a panel's legend, which stands above it in HTML."""

    name: str
    role: str
    """A colour of ours."""
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """A drawn plot with what stands above and below it."""

    title: str
    svg: str
    keys: Sequence[Key] = field(default_factory=tuple)
    note: str = ""
    wide: bool = False


@contextmanager
def axes(width: float = WIDTH, height: float = HEIGHT, left: float = 44, bottom: float = 30) -> Iterator[Any]:
    """Axes to draw into; margins are CSS pixels. `svg_of(axes)` has to be called inside."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH))
        frame = (left / width, bottom / height, 1 - (left + 10) / width, 1 - (bottom + 8) / height)
        drawn = figure.add_axes(frame)
        drawn.spines[["top", "right", "left"]].set_visible(False)
        drawn.grid(axis="y", color=RULE, linewidth=1)
        drawn.set_axisbelow(True)
        drawn.tick_params(length=0, pad=5)
        drawn.patch.set_visible(False)
        figure.patch.set_visible(False)
        yield drawn


@contextmanager
def reused_axes() -> Iterator[Any]:
    """Axes of an ordinary panel with linear scales and the ticks of `finish`: half the time, for they are made once."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        drawn = _made_once()
        try:
            yield drawn
        finally:
            for artist in [*drawn.lines, *drawn.patches, *drawn.collections]:
                artist.remove()
            drawn.containers.clear()
            drawn.relim()
            drawn.autoscale()


@cache
def _made_once() -> Any:
    with axes() as drawn:
        return drawn


def svg_of(drawn: Any, said: str) -> str:
    """The figure as one <svg>, without header, metadata or fixed size; `said`: what a screen reader says of it."""
    text = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    drawn.figure.savefig(text, format="svg", metadata=nothing, transparent=True)
    whole = text.getvalue()
    body = whole[whole.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\n?", "", body, flags=re.DOTALL)
    body = re.sub(
        r' id="(?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick|[A-Z]\w*Collection|legend)[\w.]*"', "", body
    )
    width, height = (round(inches * POINTS_PER_INCH) for inches in drawn.figure.get_size_inches())
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{_escaped(said)}">'
    body = re.sub(r"<svg[^>]*>", head, body, count=1).replace("xlink:href", "href")
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r" font-family: [^;\"]*;?", "", body)
    for colour, role in ROLES.items():
        body = body.replace(colour, role)
    return _own_names(body).strip()


def _own_names(body: str) -> str:
    """The drawing with names that no other drawing on the page has: two that clip alike would share one."""
    import hashlib

    salt = hashlib.sha256(body.encode()).hexdigest()[:8]
    body = re.sub(r'id="([^"]+)"', rf'id="{salt}-\1"', body)
    return re.sub(r'(url\(|href=")#', rf"\1#{salt}-", body)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def short(value: float, _: int = 0) -> str:
    """A number for an axis: 0.0002 as 2e-4, 20000 as 20k."""
    size = abs(value)
    if size == 0 or not math.isfinite(size):
        return f"{value:g}"
    if size >= 1e15 or size < 1e-3:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            unit = 1e3 if letter == "k" else limit
            return f"{value / unit:g}{letter}".replace("-", "−")
    return f"{value:g}".replace("-", "−")


def percent(value: float, _: int = 0) -> str:
    """A fraction for an axis, in percent."""
    return f"{100 * value:g}".replace("-", "−")


def few_ticks(axis: Any, number: int, form: Any = short) -> None:
    """About so many round ticks on an axis (`axes.xaxis`, `axes.yaxis`)."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(number, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(form))


def lines(
    title: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    below: str,
    fractions: bool = False,
    dashed: Sequence[str] = (),
    note: str = "",
    muted: bool = False,
) -> Panel:
    """A panel of lines by name, each (x, y); `below` names the x axis, `fractions` are shown in percent.

    `dashed`: names that are a bound and no measurement; `muted`: all beyond the colours there are stay grey.
    """
    keys = []
    with reused_axes() as drawn:
        for place, (name, (x, y)) in enumerate(series.items()):
            colour = SERIES[place % len(SERIES)] if not muted or place < len(SERIES) else RULE
            bound = name in dashed
            single = {"marker": "o", "markersize": 4} if len(x) < 2 else {}
            style = "--" if bound else "-"
            drawn.plot(x, y, style, color=MUTED if bound else colour, linewidth=1 if bound else 1.6, **single)
            if colour != RULE:
                keys.append(Key(name, MUTED if bound else colour, bound))
        finish(drawn, below, percent if fractions else short)
        return Panel(title, svg_of(drawn, title), keys if len(keys) > 1 else (), note)


def finish(drawn: Any, below: str, form: Any = short) -> None:
    """Ticks and the name of the x axis."""
    few_ticks(drawn.yaxis, 4, form)
    if drawn.get_xscale() == "linear":
        few_ticks(drawn.xaxis, 5)
    drawn.margins(x=0.02, y=0.08)
    drawn.set_xlabel(below, labelpad=2, fontsize=10.5)
