"""Figures of notebook 05, differences between configurations. As in plots.py, each returns the figure and its alternative
text."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from nerlib import plots
from nerlib.statistics import span


def _rows(names: Sequence[str], title: str, x: str, least: float = 0) -> tuple[Figure, plt.Axes, float]:
    """Figure and axes with a row for each comparison, to be drawn into at y = 0, 1, …, and how much of y an inch is, roughly.

    A name stands above its row, in as many lines as it needs: beside the axes, long ones would leave no room for them. The
    axes are at least `least` inches high."""
    texts = ["\n".join(textwrap.fill(part, 60, break_on_hyphens=False) for part in name.replace(") - (", ") -\n(").splitlines())
             for name in names]
    above, below = 0.25 + 0.17 * max(text.count("\n") + 1 for text in texts), 0.2  # inches
    figure, axes = plots.canvas(1.6 + max((above + below) * len(names), least), title, x, "comparison")
    for row, text in enumerate(texts):
        axes.annotate(text, (0, row), (5, 13), axes.get_yaxis_transform(), "offset points", va="bottom",
                      path_effects=[withStroke(linewidth=3, foreground="white")])  # lines pass behind it
    inch = 1 / (above + below)
    axes.set(yticks=[], ylim=(len(names) - 1 + below * inch, -above * inch))  # the first on top
    return figure, axes, inch


def intervals(verdicts: Mapping[str, Mapping[str, Any]], title: str) -> plots.Picture:
    """Differences of F1 with their 95 % intervals, a row a comparison; the margin of equivalence is shaded.

    `verdicts`: comparison → its row, as statistics.family gives it."""
    figure, axes, inch = _rows(list(verdicts), title, "difference of micro F1")
    margin, said, shown = next(iter(verdicts.values()))["margin"], [], {}
    axes.axvspan(-margin, margin, color="#eeeeee", zorder=0)
    axes.axvline(0, color="black", linewidth=0.8)
    for row, (name, verdict) in enumerate(verdicts.items()):
        for kind, label, colour, marker, shift in (
                ("t_interval", "seeds (t)", plots.BLUE, "o", -inch / 10), ("interval", "both", "black", "D", 0),
                ("bootstrap_interval", f"{verdict['unit']}s (bootstrap)", plots.ORANGE, "s", inch / 10)):
            if not pd.isna(verdict[kind][0]):  # one seed has no interval over seeds
                [shown[label]] = axes.plot(verdict[kind], [row + shift] * 2, color=colour, linewidth=2)
                axes.plot(verdict["difference"], row + shift, marker, color=colour, markersize=5)
        axes.annotate(verdict["verdict"], (1.01, row), xycoords=("axes fraction", "data"), va="center")
        both, seeds, drawn = (span(verdict[kind]) for kind in ("interval", "t_interval", "bootstrap_interval"))
        said.append(f"{name} {verdict['difference']:+.4f}, {both} (seeds {seeds}, bootstrap {drawn}): {verdict['verdict']}")
    figure.legend(shown.values(), shown.keys(), frameon=False, ncols=3, loc="outside lower center",
                  title="95 % interval over new")
    return figure, f"{title}, with 95 % intervals; equivalence margin ±{margin}. " + "; ".join(said)


def differences(table: pd.DataFrame, sizes: pd.DataFrame, title: str, x: str) -> plots.Picture:
    """Mean differences of F1: a row a comparison, a marker a slice (column of `table`); `sizes`: gold mentions of each."""
    count = {name: f"{low:,} to {high:,}" if low < high else f"{low:,}" for name, low, high in
             zip(sizes, sizes.min(), sizes.max(), strict=True)}
    table = table.rename(columns={name: f"{name} ({count[name]})" for name in table})
    figure, axes, _ = _rows(list(table.index), title, "difference of F1 (mean over seeds)", least=0.25 * len(table.columns))
    for column, colour, marker in zip(table.columns, plots.colours(table.columns), itertools.cycle("os^DvP*X"), strict=False):
        axes.plot(table[column], range(len(table)), marker, color=colour, markersize=8, label=column)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x", color="#dddddd")
    axes.legend(frameon=False, title=f"{x}\n(mentions)", loc="upper left", bbox_to_anchor=(1, 1))
    return figure, f"{title}. " + "; ".join(
        f"{name}: " + ", ".join(f"{column} " + ("–" if pd.isna(value) else f"{value:+.3f}") for column, value in row.items())
        for name, row in table.iterrows())
