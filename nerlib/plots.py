"""One function per figure. Each returns the figure and its alternative text, which says what the figure shows."""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Image, display
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from seaborn.utils import relative_luminance

from nerlib import pictures
from nerlib.evaluation import KINDS
from nerlib.runs import write_atomically

# Okabe and Ito's colours (2008), told apart in colour blindness; GMB's types keep theirs in every figure of every run.
BLUE, ORANGE, GREEN, RED, SKY, PINK, YELLOW, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442", "#8a8a8a")
TYPE_COLOURS = {"geo": BLUE, "gpe": SKY, "org": ORANGE, "per": GREEN, "tim": PINK, "art": RED, "eve": YELLOW, "nat": GREY}
STYLE = {"font.size": 10, "axes.titlesize": 12, "axes.titleweight": "bold", "axes.titlelocation": "left",
         "figure.titlesize": 12, "figure.titleweight": "bold",
         "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 96, "svg.hashsalt": "nerlib",
         "figure.constrained_layout.use": True, "text.parse_math": False}  # "$" in a name is a dollar, not a formula
Picture = tuple[Figure, str]
WIDTH, WIDEST = 7.2, 8.7  # inches; a page shows no more without shrinking it


def colours(types: Sequence[str]) -> list[str]:
    """A colour for each type, the same in every figure."""
    others = [colour for colour in TYPE_COLOURS.values() if colour not in {TYPE_COLOURS.get(t) for t in types}] or [GREY]
    unknown = [t for t in types if t not in TYPE_COLOURS]
    return [TYPE_COLOURS.get(t) or others[unknown.index(t) % len(others)] for t in types]


def show(picture: Picture, path: Path) -> None:
    """`save`, and display the figure with its alternative text."""
    save(picture, path)
    display(Image(filename=path.with_suffix(".png"), retina=True, alt=picture[1]))


def save(picture: Picture, path: Path) -> None:
    """Write `path`.png (2×) and `path`.svg, both with the alternative text inside, and close the figure."""
    figure, alt = picture
    for text in figure.findobj(Text):  # those that were made outside of STYLE
        text.set_parse_math(False)
    with plt.rc_context(STYLE):
        write_atomically(path.with_suffix(".png"), pictures.png(figure, alt))
        write_atomically(path.with_suffix(".svg"), pictures.svg(figure, alt))
    plt.close(figure)


def canvas(height: float, title: str, x: str, y: str, width: float = WIDTH) -> tuple[Figure, plt.Axes]:
    """A figure of so many inches with one pair of axes; the title begins at its left edge and has the lines that it needs."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height))
        axes.set(xlabel=x, ylabel=y)
        lines = textwrap.fill(title, round(10 * width), break_on_hyphens=False)  # 10 bold letters to an inch
        figure.suptitle(lines, x=0.01, ha="left")
    return figure, axes


def bars(values: pd.Series, title: str, x: str, y: str, form: str = "{:,.0f}", colour: Sequence[str] | str = BLUE,
         notes: Sequence[str] | None = None) -> Picture:
    """Horizontal bars, one a row of `values`, each labelled with its value (`form`) and, if given, its note."""
    figure, axes = canvas(max(2.6, 1.2 + 0.36 * len(values)), title, x, y)
    labels = [form.format(value) + (f"  ({note})" if note else "")
              for value, note in zip(values, notes if notes is not None else [""] * len(values), strict=True)]
    axes.bar_label(axes.barh([str(name) for name in values.index], values, color=colour), labels, padding=6)
    axes.tick_params(axis="y", length=0, pad=7)
    axes.invert_yaxis()
    ticks = plt.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(0, max(values, default=0) or 1)  # no share is above 1
    axes.set(xticks=ticks, xlim=(0, ticks[-1] * (1.5 if notes is not None else 1.15)))  # room for the labels
    axes.spines["bottom"].set_bounds(0, ticks[-1])
    return figure, f"{title}. Bars, {x}: " + "; ".join(f"{n} {label}" for n, label in zip(values.index, labels, strict=True))


def histogram(values: np.ndarray, title: str, x: str, y: str, limit: int | None = None) -> Picture:
    """Distribution of whole numbers, with median, 99th percentile and, if given, a limit marked."""
    figure, axes = canvas(3.2, title, x, y)
    step = max(1, (top := int(max(values.max(), limit or 0))) // 80)
    axes.hist(values, bins=np.arange(0.5, top + 0.5 + step, step), color=BLUE)
    marks = {"median": np.median(values), "99th percentile": np.percentile(values, 99)} | ({"limit": limit} if limit else {})
    for row, (name, value) in enumerate(marks.items()):
        axes.axvline(value, color="black", linestyle="--" if name != "limit" else "-", linewidth=1)
        left = value > 0.85 * top
        axes.annotate(f"{name} {value:.0f}", (value, 1), xycoords=("data", "axes fraction"), textcoords="offset points",
                      xytext=(-4 if left else 4, -10 - 14 * row), ha="right" if left else "left")
    return figure, (f"{title}. Histogram of {len(values):,} values from {values.min()} to {values.max()}; "
                    + ", ".join(f"{name} {value:.0f}" for name, value in marks.items()))


def matrix(counts: pd.DataFrame, title: str, x: str, y: str, blank: Sequence[tuple[str, str]] = ()) -> Picture:
    """Counts with their share of the row, shaded by share; cells in `blank` (row, column) are left out of both."""
    counts = counts.astype(float)
    for row, column in blank:
        counts.loc[row, column] = np.nan
    share = counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0)
    wide = counts.shape[1] > 11  # then the room of a colour bar, which repeats what the cells say, is better given to these
    width = min(WIDEST, max(WIDTH, 1.6 + 0.62 * counts.shape[1]))
    figure, axes = canvas(1.6 + 0.5 * counts.shape[0], title, x, y, width)
    words = counts.map(lambda n: "" if np.isnan(n) or n == 0 else f"{n:,.0f}") \
        + share.map(lambda s: "" if np.isnan(s) or s == 0 else f"\n{s:.0%}" if s >= 0.005 else "\n<1%")
    sns.heatmap(share.fillna(0), ax=axes, annot=words, fmt="", cmap="Blues", vmin=0, vmax=1, annot_kws={"size": 9},
                linewidths=0.5, linecolor="#dddddd", cbar=not wide, cbar_kws={"label": "share of the row", "shrink": 0.7})
    for text, cell in zip(axes.texts, axes.collections[0].get_facecolors(), strict=True):
        text.set_color("black" if relative_luminance(cell) > 0.179 else "white")  # there both contrast alike
    axes.set(xlabel=x, ylabel=y)
    axes.tick_params(axis="x", rotation=45 if counts.shape[1] > 7 or max(map(len, map(str, counts.columns))) > 9 else 0)
    axes.tick_params(axis="y", rotation=0)
    largest = counts.stack().sort_values(ascending=False)
    off = [f"{row} as {column} {n:,.0f}" for (row, column), n in largest.items() if row != column and n > 0][:5]
    return figure, f"{title}. Matrix of {y} (rows) by {x} (columns). Largest cells off the diagonal: {'; '.join(off) or 'none'}"


def learning_curves(history: pd.DataFrame) -> Picture:
    """Loss and validation micro F1 by epoch."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1))
    epochs, said = history["epoch"], []
    for column, colour, marker in (("training_loss", ORANGE, "s"), ("validation_loss", BLUE, "o")):
        if column in history:
            left.plot(epochs, history[column], color=colour, marker=marker, label=column.replace("_", " "))
            said.append(f"{column.replace('_', ' ')} {history[column].iloc[0]:.3f} to {history[column].iloc[-1]:.3f}")
    left.set(title="Loss", xlabel="epoch", ylabel="cross entropy (nats a word)",
             ylim=(0, 1.1 * history.filter(like="loss").max(axis=None)))
    left.legend(frameon=False)
    if "validation_f1" in history:
        right.plot(epochs, history["validation_f1"], color=BLUE, marker="o")
        named = history if len(history) < 7 else history.loc[[history["validation_f1"].idxmax()]]
        for row, epoch, value in zip(named.index, named["epoch"], named["validation_f1"], strict=True):
            beside = history["validation_f1"].reindex([row - 1, row + 1]).mean()  # the line's side of the point
            right.annotate(f"{value:.3f}", (epoch, value), xytext=(0, -15 if beside > value else 7),
                           textcoords="offset points", ha="center")
        said.append("validation micro F1 " + ", ".join(f"{value:.3f}" for value in history["validation_f1"]))
    right.set(title="Validation micro F1", xlabel="epoch", ylabel="micro F1 (seqeval default)")
    right.margins(x=0.15, y=0.25)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    return figure, f"Learning curves over {len(history)} epochs: " + "; ".join(said)


def f1_by_type(reports: Mapping[str, Mapping[str, Any]], title: str) -> Picture:
    """F1 of each type and the micro average, a marker a scored system; `reports`: system → seqeval's output_dict."""
    rows = [row for row in next(iter(reports.values())) if row not in ("macro avg", "weighted avg")]
    figure, axes = canvas(1.3 + 0.4 * len(rows), title, "F1 (seqeval default)", "entity type")
    said = []
    for (name, report), colour, marker in zip(reports.items(), (BLUE, ORANGE, GREEN, PINK), "os^D", strict=False):
        points = [(report[row]["f1-score"], row) for row in rows if row in report]
        axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=8, label=name)
        said.append(f"{name}: " + ", ".join(f"{row} {value:.2f}" for value, row in points))
    axes.invert_yaxis()
    axes.grid(axis="x", color="#dddddd")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure, f"{title}. " + "; ".join(said)


def parallel(table: pd.DataFrame, score: str, title: str, logarithmic: Collection[str] = ()) -> Picture:
    """Parallel coordinates: an axis a column, of `logarithmic` ones on that scale, a line a row, darker the higher its `score`;
    the best is drawn thick."""
    names = [name for name in table.columns if name != score] + [score]
    numbers = table[names].apply(lambda column: column if pd.api.types.is_numeric_dtype(column) and column.dtype != bool
                                 else pd.Series(pd.factorize(column, sort=True)[0], column.index))
    numbers = numbers.apply(lambda column: np.log(column) if column.name in logarithmic else column)
    spread = (numbers.max() - numbers.min()).replace(0, 1)
    heights, shade = (numbers - numbers.min()) / spread, plt.get_cmap("cividis_r")
    figure, axes = canvas(3.8, title, "parameter", "lowest to highest value", width=min(WIDEST, max(WIDTH, 1.4 * len(names))))
    best, texts = table[score].idxmax(), table.map(lambda value: f"{value:.3g}" if isinstance(value, float) else str(value))
    for row in table[score].sort_values().index:
        axes.plot(range(len(names)), heights.loc[row], linewidth=3 if row == best else 1,
                  color=shade(0.4 + 0.6 * heights.loc[row, score]))  # the lightest colours are hard to see on white
    for at, name in enumerate(names):
        axes.vlines(at, 0, 1, color=GREY, linewidth=0.8, zorder=0)
        for end, row, where in ((0, heights[name].idxmin(), "top"), (1, heights[name].idxmax(), "bottom")):
            axes.annotate(texts.loc[row, name], (at, end), ha="center", va=where, textcoords="offset points",
                          xytext=(0, -3 if end == 0 else 3))
    axes.set(xlim=(-0.4, len(names) - 0.6), ylim=(-0.1, 1.1), yticks=[], xticks=range(len(names)),
             xticklabels=[f"{name}\n(log)" if name in logarithmic else name for name in names])
    axes.tick_params(axis="x", rotation=20 if len(names) > 6 else 0)
    axes.spines["left"].set_visible(False)
    said = ", ".join(f"{name} {texts.loc[best, name]}" for name in names[:-1])
    return figure, f"{title}. Parallel coordinates of {len(table)} rows; the best, {score} {table.loc[best, score]:.4f}: {said}"


def error_kinds(aligned: pd.DataFrame, title: str) -> Picture:
    """Errors by kind, stacked, for each entity type (of the gold mention; for spurious ones, of the predicted)."""
    kinds = [kind for kind in KINDS if kind != "correct"]
    wrong = aligned[aligned["kind"] != "correct"]
    types = wrong["gold"].where(wrong["kind"] != "spurious", wrong["predicted"])
    counts = pd.crosstab(types, wrong["kind"]).reindex(columns=kinds, fill_value=0)
    figure, axes = canvas(1.7 + 0.42 * len(counts), title, "mentions", "entity type")
    left = np.zeros(len(counts))
    for kind, colour, hatch in zip(kinds, (SKY, ORANGE, PINK, BLUE, GREY), ("", "//", "xx", "..", ""), strict=True):
        axes.barh(counts.index, counts[kind], left=left, color=colour, hatch=hatch, edgecolor="white", label=kind)
        left += counts[kind].to_numpy()
    axes.invert_yaxis()
    figure.legend(frameon=False, ncols=5, loc="outside lower center")
    return figure, f"{title}. " + "; ".join(
        f"{name}: " + ", ".join(f"{kind} {row[kind]}" for kind in kinds) for name, row in counts.iterrows())


def calibration(curves: Mapping[str, tuple[pd.DataFrame, float]], title: str) -> Picture:
    """Share of correct mentions against the model's confidence (log odds, since most are close to 1), in bins of equally many
    mentions; `curves`: name → bins and Brier score, as evaluation.calibration gives them."""
    figure, axes = canvas(4, title, "confidence (mean of the bin; scale of log odds)", "share of correct mentions", width=6)
    said, ends = [], [0.9]
    for (name, (bins, brier)), colour, marker in zip(curves.items(), (BLUE, ORANGE), "os", strict=False):
        ends += (at := bins["confidence"].astype(float).clip(1e-6, 1 - 1e-6)).tolist()  # 1 itself has no place on this scale
        axes.plot(at, bins["accuracy"], color=colour, marker=marker, label=f"{name}, Brier score {brier:.3f}")
        said.append(f"{name}, Brier score {brier:.3f}: " + "; ".join(
            f"confidence {row.confidence:.4g}: {row.accuracy:.3g} correct" for row in bins.itertuples()))
    even = np.linspace(min(ends), max(ends), 500)
    axes.plot(even, even, color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated", zorder=1)
    ticks = [at for at in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.999, 0.9999, 0.99999) if even[0] <= at <= even[-1]]
    axes.set(xscale="logit", xticks=ticks, xticklabels=[f"{tick:.6g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(frameon=False)
    return figure, f"{title}. " + ". ".join(said)
