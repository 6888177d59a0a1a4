"""Ratios with their spread, drawn: a panel per figure, a row per peer, Throng at 1.

matplotlib is the one thing here that Python does not bring; without it there are tables alone.
"""

import io
import math
from dataclasses import dataclass

try:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
except ImportError:
    pyplot = None

from peers import BASE
from summary import is_doubtful, number, own_spread, ratios

IS_THERE = pyplot is not None
COLUMNS = 3
INK, GREY, BLUE, GREEN = "#1f2933", "#7b8794", "#2f6fb0", "#e6f4ea"
TICKS = [[step * 10.0**power for power in range(-4, 6) for step in steps]
         for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))]  # from coarse to fine
TICKS_MIN = 3
STYLE = {
    "svg.hashsalt": "throng",  # the same figures make the same file
    "font.family": "sans-serif", "font.size": 9, "text.color": INK, "axes.edgecolor": GREY,
    "axes.titlesize": 10, "axes.titleweight": "bold", "xtick.color": GREY, "ytick.color": INK,
}


@dataclass(frozen=True)
class Panel:
    """A figure of a workload, ready to be drawn."""

    title: str
    more: bool  # more is better
    rows: list  # (name, Spread, doubtful)


def panel(workload, figure, runs, with_workload):
    """What is to be drawn of a figure; `None` if nothing is."""
    found = []
    for name, own in runs.items():
        measured = own_spread(runs, figure.key) if name == BASE else ratios(runs, name, figure.key)
        if measured:
            found.append((name, measured, is_doubtful(own)))
    if len(found) < 2:
        return None
    title = f"{figure.title}\n{workload.name}" if with_workload else figure.title
    return Panel(title, figure.more, found)


def draw(panels):
    """The panels as one SVG; `None` without matplotlib or panels."""
    if not IS_THERE or not panels:
        return None
    lines = math.ceil(len(panels) / COLUMNS)
    height = 1.05 + 0.25 * max(len(it.rows) for it in panels)
    with pyplot.rc_context(STYLE):
        picture, grid = pyplot.subplots(lines, COLUMNS, squeeze=False, layout="constrained",
                                        figsize=(3.9 * COLUMNS, height * lines))
        picture.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
        axes = [axis for line in grid for axis in line]
        for axis, drawn in zip(axes, panels):
            draw_panel(axis, drawn)
        for axis in axes[len(panels):]:
            axis.set_axis_off()
        svg = io.StringIO()
        picture.savefig(svg, format="svg", metadata={"Date": None})
        pyplot.close(picture)
    return svg.getvalue()


def draw_panel(axis, drawn):
    """One panel: points at medians, lines from least to most, the better side tinted."""
    low = min(it.low for _, it, _ in drawn.rows)
    high = max(it.high for _, it, _ in drawn.rows)
    low, high = min(low / 1.25, 0.8), max(high * 1.25, 1.25)
    axis.set_xscale("log")
    axis.set_xlim(low, high)
    axis.axvspan(*((1, high) if drawn.more else (low, 1)), color=GREEN, linewidth=0)
    axis.axvline(1, color=INK, linewidth=0.8)
    for row, (name, measured, doubtful) in enumerate(drawn.rows):
        colour = INK if name == BASE else BLUE
        axis.plot([measured.low, measured.high], [row, row], color=colour, linewidth=2,
                  alpha=0.55, solid_capstyle="butt")
        axis.plot(measured.median, row, "o", markersize=6, markeredgecolor=colour,
                  markerfacecolor="white" if doubtful else colour)
        if name != BASE:
            axis.annotate(f"{number(measured.median)}×", (1.03, row), va="center",
                          xycoords=axis.get_yaxis_transform(), annotation_clip=False)
    axis.set_ylim(len(drawn.rows) - 0.4, -0.6)
    axis.set_yticks(range(len(drawn.rows)), [name for name, _, _ in drawn.rows])
    axis.tick_params(axis="y", length=0)
    seen = [[tick for tick in ticks if low <= tick <= high] for ticks in TICKS]
    ticks = next((ticks for ticks in seen if len(ticks) >= TICKS_MIN), seen[-1])
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}×"))
    axis.set_title(drawn.title, loc="left")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
