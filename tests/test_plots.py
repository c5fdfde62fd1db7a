"""Figures say in their alternative text what they show; marked sentences keep every word and escape every sign."""

import inspect
import itertools
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib.colors import to_rgb
from PIL import Image

from nerlib import evaluation, forest, highlight, plots

MATRIX = pd.DataFrame([[90, 7, 3], [0, 40, 10], [2, 0, 0]], index=["geo", "per", "SPURIOUS"], columns=["geo", "per", "MISSED"])
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "training_loss": [0.9, 0.4, 0.25], "validation_loss": [0.5, 0.375, 0.411],
                        "validation_f1": [0.601, 0.712, 0.708]})
REPORTS = {name: {row: {"precision": 0.5, "recall": 0.5, "f1-score": f1 + add, "support": 10}
                  for row, f1 in (("geo", 0.61), ("per", 0.52), ("micro avg", 0.57), ("macro avg", 0.11))}
           for name, add in (("model", 0.2), ("lookup", 0.0))}


def table(*sentences):
    """A table; each sentence is words, gold tags and predicted tags, separated by blanks."""
    rows = [("test", number, position, *row) for number, columns in enumerate(sentences)
            for position, row in enumerate(zip(*map(str.split, columns), strict=True))]
    return pd.DataFrame(rows, columns=["part", "sentence", "position", "word", "gold", "predicted"])


ALIGNED = evaluation.align(table(
    ["a b c d e f", "B-geo O B-per O B-geo I-geo", "B-per O B-per I-per B-org O"], ["g h", "B-geo O", "O B-geo"]))
BINS = pd.DataFrame({"confidence": [0.31, 0.62, 0.94], "accuracy": [0.25, 0.55, 0.97], "mentions": [5, 5, 5]})
VERDICTS = {name: {"difference": at, "t_interval": [at - 0.004, at + 0.004], "bootstrap_interval": [at - 0.002, at + 0.002],
                   "interval": [at - 0.005, at + 0.005], "unit": "block", "margin": 0.003, "verdict": verdict}
            for name, at, verdict in (("a - b", 0.0102, "difference"), ("c - b", -0.0011, "undecided"))}
DIFFERENCES = pd.DataFrame({"geo": [0.012, -0.003], "per": [0.0, np.nan]}, index=["a - b", "c - b"])
SIZES = pd.DataFrame({"geo": [1234, 1234], "per": [56, 7]}, index=["a - b", "c - b"])
TRIALS = pd.DataFrame({"rate": [1e-4, 3e-4], "pos": ["none", "corpus"], "shape": [True, False], "value": [0.81, 0.83]})
FIGURES = {  # function → its arguments, and what its alternative text must say
    "bars": ((pd.Series({"geo": 1234, "per": 56}), "Mentions", "mentions", "type"), ["geo 1,234", "per 56"]),
    "histogram": ((np.array([1, 2, 2, 3, 90]), "Lengths", "words", "sentences"),
                  ["5 values", "from 1 to 90", "median 2", "99th percentile 87"]),
    "matrix": ((MATRIX, "Confusion", "predicted", "gold"), ["per as MISSED 10", "geo as per 7", "SPURIOUS as geo 2"]),
    "learning_curves": ((HISTORY,), ["3 epochs", "0.900 to 0.250", "0.500 to 0.411", "0.601, 0.712, 0.708"]),
    "f1_by_type": ((REPORTS, "F1"),
                   ["model: geo 0.81, per 0.72, micro avg 0.77", "lookup: geo 0.61, per 0.52, micro avg 0.57"]),
    "error_kinds": ((ALIGNED, "Errors"),
                    ["geo: boundary 0, type 1, both 1, missed 1, spurious 1", "per: boundary 1, type 0"]),
    "intervals": ((VERDICTS, "Differences"), [
        "a - b +0.0102, +0.0052 to +0.0152 (seeds +0.0062 to +0.0142, bootstrap +0.0082 to +0.0122): difference",
        "c - b -0.0011", "margin ±0.003"]),
    "differences": ((DIFFERENCES, SIZES, "By type", "type"), [
        "a - b: geo (1,234) +0.012, per (7 to 56) +0.000", "c - b: geo (1,234) -0.003, per (7 to 56) –"]),
    "parallel": ((TRIALS, "value", "Trials"), ["2 rows", "the best, value 0.8300: rate 0.0003, pos corpus, shape False"]),
    "calibration": (({"as trained": (BINS, 0.1234), "tempered": (BINS, 0.2)}, "Calibration"),
                    ["as trained, Brier score 0.123: ", "tempered, Brier score 0.200: ",
                     "confidence 0.31: 0.25", "confidence 0.94: 0.97"]),
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def draw(name):
    arguments, said = FIGURES[name]
    module = forest if name in ("intervals", "differences") else plots
    return *getattr(module, name)(*arguments), said


def texts(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_every_public_figure_is_tested_here():
    public = {name for module in (plots, forest) for name, function in inspect.getmembers(module, inspect.isfunction)
              if function.__module__ == module.__name__ and not name.startswith("_")}
    assert public == set(FIGURES) | {"canvas", "colours", "save", "show"}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_has_title_and_axis_labels_and_its_alt_text_the_numbers(name):
    figure, alt, said = draw(name)
    for axes in figure.axes:
        if axes.get_label() != "<colorbar>":
            title = figure.get_suptitle() or axes.get_title("left") or axes.get_title()
            assert title and axes.get_xlabel() and axes.get_ylabel()
            assert title in alt or name == "learning_curves"
    for words in said:
        assert words in alt
    assert "\n" not in alt and alt == alt.strip()


@pytest.mark.parametrize("title, lines", [("Share of gold mentions found, by consistency of training, validation", 1),
                                          ("Trials of " + "a-search-with-quite-a-name " * 4, 2)])
@pytest.mark.parametrize("width", [6, plots.WIDTH])
def test_a_long_title_stays_within_its_figure_and_above_its_axes(title, lines, width):
    figure, axes = plots.canvas(3, title, "x", "y", width)
    figure.draw_without_rendering()
    [shown] = figure.texts
    box = shown.get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    assert box.y0 > axes.get_window_extent().y1
    assert shown.get_text().replace("\n", " ") == title.strip() and shown.get_text().count("\n") >= lines - 1


@pytest.mark.parametrize("name", FIGURES)
def test_shown_figure_is_written_with_its_alt_text_in_png_and_svg(name, tmp_path, capsys):
    figure, alt, _ = draw(name)
    alt += " Größer ≥ 5 % & <b>"
    with plt.rc_context(plots.STYLE):
        figure.savefig(tmp_path / "drawn.png", dpi=192)
    plots.show((figure, alt), tmp_path / "figures" / name)
    with Image.open(tmp_path / f"figures/{name}.png") as png, Image.open(tmp_path / "drawn.png") as drawn:
        assert png.text["Description"] == alt
        assert png.width == round(figure.get_figwidth() * 192) and png.info["dpi"] == pytest.approx((192, 192), abs=0.1)  # 2×
        most, mean = colours_apart(png, drawn)
        assert png.mode == "P" and most <= 12 and mean < 0.1
    svg = ElementTree.parse(tmp_path / f"figures/{name}.svg")
    assert svg.find(".//{http://purl.org/dc/elements/1.1/}description").text == alt
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [f"{name}.png", f"{name}.svg"]
    assert not plt.fignum_exists(figure.number)


def colours_apart(one, other):
    """How much two pictures differ in red, green or blue, of 255: at most, and in the mean."""
    one, other = (np.asarray(picture.convert("RGB"), int) for picture in (one, other))
    return np.abs(one - other).max(), np.abs(one - other).mean()


@pytest.mark.filterwarnings("ignore:Glyph")
def test_control_character_in_a_name_leaves_an_svg_that_can_be_read(tmp_path):
    values = pd.Series({"\x1b[31mred\x00": 1.0, "größer": 2.0})
    plots.save(plots.bars(values, "Mentions", "mentions", "type"), tmp_path / "figure")
    svg = ElementTree.parse(tmp_path / "figure.svg")
    said = svg.find(".//{http://purl.org/dc/elements/1.1/}description").text
    assert "\ufffd[31mred\ufffd 1" in said and "größer 2" in said


def test_shown_figures_are_the_same_bytes_each_time(tmp_path, capsys):
    for name in ("one", "two"):
        plots.show(draw("bars")[:2], tmp_path / name)
    for suffix in ("png", "svg"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_bars_are_as_long_as_their_values_and_carry_notes():
    values = pd.Series({"seen": 0.875, "unseen": 0.5})
    figure, alt = plots.bars(values, "Recall", "recall", "gold mention", form="{:.3f}", notes=["90 mentions", "8 mentions"])
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.875, 0.5]
    assert texts(axes) == ["0.875  (90 mentions)", "0.500  (8 mentions)"]
    assert "unseen 0.500  (8 mentions)" in alt
    assert axes.yaxis_inverted()  # the first row on top


@pytest.mark.parametrize("values", [[1.0, 0.0], [0.984, 0.3], [0.55, 0.2], [0.0], [1e-3], [1.0 - 1e-12]])
@pytest.mark.parametrize("notes", [True, False])
def test_axis_of_shares_has_no_number_above_1_and_none_that_no_bar_needs(values, notes):
    names = [f"{number} and more" for number in range(len(values))]
    figure, _ = plots.bars(pd.Series(values, names), "Recall", "recall", "mention", "{:.3f}",
                           notes=["1,234 mentions"] * len(values) if notes else None)
    axes = figure.axes[0]
    figure.canvas.draw()
    ticks = axes.get_xticks()
    assert ticks[0] == 0 and ticks[-1] <= 1 + 1e-9 and ticks[-2] < (max(values) or 1) <= ticks[-1] + 1e-9
    assert axes.spines["bottom"].get_bounds() == (0, ticks[-1])
    right = max(text.get_window_extent().x1 for text in axes.texts)
    assert right <= figure.bbox.x1, "the labels have room"
    for label, value in zip(axes.get_yticklabels(), axes.texts, strict=True):  # also where there is no bar between them
        assert value.get_window_extent().x0 - label.get_window_extent().x1 > 12 * figure.dpi / 72
    assert all(tick.tick1line.get_markersize() == 0 for tick in axes.yaxis.get_major_ticks()), "nor a line that joins them"


def test_calibration_of_a_sure_model_has_its_points_apart_and_its_line_where_it_is_perfect():
    bins = pd.DataFrame({"confidence": [0.66, 0.9, 0.954, 0.969, 0.977, 0.982, 0.986, 0.989, 0.992, 1.0],
                         "accuracy": [0.56, 0.82, 0.93, 0.96, 0.98, 0.96, 0.98, 0.98, 0.97, 1.0], "mentions": 20})
    figure, alt = plots.calibration({"as trained": (bins, 0.07)}, "Calibration")
    axes = figure.axes[0]
    figure.canvas.draw()
    points, even = axes.lines
    np.testing.assert_allclose(points.get_xdata(), bins["confidence"], atol=1e-6)
    assert points.get_ydata().tolist() == bins["accuracy"].tolist() and (even.get_xdata() == even.get_ydata()).all()
    where = axes.transData.transform(np.column_stack([points.get_xdata(), points.get_ydata()])) * 72 / figure.dpi
    assert np.hypot(*np.diff(where, axis=0).T).min() > 6, "as far apart as a marker is wide"
    inside = axes.get_window_extent()
    assert all(inside.x0 < x < inside.x1 and inside.y0 < y < inside.y1 for x, y in where * figure.dpi / 72)
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert [float(label) for label in shown] == pytest.approx(axes.get_xticks()) and {"0.9", "0.99"} <= set(shown)
    assert max(axes.get_yticks()[axes.get_yticks() <= axes.get_ylim()[1]]) <= 1
    assert "confidence 0.954: 0.93 correct" in alt and "confidence 0.989: 0.98 correct" in alt


@pytest.mark.parametrize("count", [1, len(VERDICTS)])
def test_forest_has_room_around_each_row_and_the_first_on_top(count):
    figure, _ = forest.intervals(dict(itertools.islice(VERDICTS.items(), count)), "Differences")
    [axes] = figure.axes
    bottom, top = axes.get_ylim()
    assert bottom - top == pytest.approx(count) and top < -0.5 and bottom > count - 1  # a name stands above each row


NAMES = ["a - b", "none-shape-true - none-shape-false",
         "(corpus-shape-false - none-shape-false) - (corpus-shape-true - none-shape-true)", f"{'x' * 90} - {'y' * 40}"]


@pytest.mark.parametrize("made", [
    lambda: forest.intervals({name: VERDICTS["a - b"] | {"verdict": "no difference"} for name in NAMES}, "Differences"),
    lambda: forest.differences(pd.DataFrame({"geo": [0.01, 0.02, -0.03, 0.1], "per": 0.0}, NAMES),
                               pd.DataFrame({"geo": [9] * 4, "per": 8}, NAMES), "Types", "type")])
def test_names_of_comparisons_take_no_room_from_their_differences(made):
    figure, _ = made()
    [axes] = figure.axes
    figure.draw_without_rendering()
    whole, inside = figure.bbox, axes.get_window_extent()
    assert inside.width > 0.75 * whole.width
    assert [re.sub(r"\s", "", text) for text in texts(axes)[:4]] == [name.replace(" ", "") for name in NAMES]
    shown = [text.get_window_extent() for text in axes.texts]
    rows = [axes.transData.transform((0, row))[1] for row in range(4)]
    for box, row, before in zip(shown[:4], rows, [inside.y1, *rows[:3]], strict=True):
        assert row < box.y0 < box.y1 < before and inside.x0 < box.x0 < box.x1 < inside.x1
    assert all(whole.x0 <= box.x0 < box.x1 <= whole.x1 for box in shown)
    ticks = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(ticks))


def test_forest_draws_the_three_intervals_of_each_comparison_and_its_verdict():
    figure, _ = forest.intervals(VERDICTS, "Differences")
    axes = figure.axes[0]
    drawn = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 2]
    spans = [tuple(np.round(ends, 4)) for ends in drawn]
    assert spans == [(0.0062, 0.0142), (0.0052, 0.0152), (0.0082, 0.0122),
                     (-0.0051, 0.0029), (-0.0061, 0.0039), (-0.0031, 0.0009)]
    assert [text.get_text() for text in figure.legends[0].texts] == ["seeds (t)", "both", "blocks (bootstrap)"]
    assert texts(axes) == ["a - b", "c - b", "difference", "undecided"] and axes.yaxis_inverted()
    assert [(text.xy[1], text.get_text()) for text in axes.texts[:2]] == [(0, "a - b"), (1, "c - b")]


def test_forest_of_one_seed_draws_the_interval_over_sentences_alone():
    nothing = {"t_interval": [np.nan] * 2, "interval": [np.nan] * 2}
    figure, alt = forest.intervals({name: row | nothing for name, row in VERDICTS.items()}, "Differences")
    drawn = [tuple(np.round(line.get_xdata(), 4)) for line in figure.axes[0].lines if line.get_linewidth() == 2]
    assert drawn == [(0.0082, 0.0122), (-0.0031, 0.0009)] and "seeds –, bootstrap +0.0082" in alt
    assert [text.get_text() for text in figure.legends[0].texts] == ["blocks (bootstrap)"]


def test_differences_of_one_comparison_leave_room_for_the_legend_of_many_types():
    many = pd.DataFrame({name: [0.01] for name in "abcdefghijklmnop"}, index=["a - b"])
    figure, _ = forest.differences(many, many.notna() * 1000, "Types", "type")
    figure.draw_without_rendering()
    box = figure.axes[0].get_legend().get_window_extent()
    assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1


def test_differences_are_drawn_in_the_row_of_their_comparison():
    figure, _ = forest.differences(DIFFERENCES, SIZES, "By type", "type")
    points = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines
              if not line.get_label().startswith("_")}
    assert points == {"geo (1,234)": ([0.012, -0.003], [0, 1]),
                      "per (7 to 56)": (pytest.approx([0.0, np.nan], nan_ok=True), [0, 1])}


@pytest.mark.parametrize("values", [{}, {"seen": 0.0}, {"seen": 0.0, "unseen": 0.0}])
@pytest.mark.filterwarnings("error")
def test_bars_of_nothing_can_be_drawn(tmp_path, capsys, values):
    plots.show(plots.bars(pd.Series(values, dtype=float), "Recall", "recall", "mention", notes=["0"] * len(values)),
               tmp_path / "none")
    assert (tmp_path / "none.png").exists()


@pytest.mark.parametrize("largest", [3, 60, 154, 161, 250, 1000])
@pytest.mark.parametrize("limit", [None, 160])
def test_histogram_counts_every_value_once(largest, limit):
    values = np.arange(1, largest + 1)
    figure, alt = plots.histogram(values, "Lengths", "pieces", "sentences", limit)
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == len(values)
    assert f"to {largest}" in alt and ("limit 160" in alt) == bool(limit)


def test_matrix_shows_counts_with_their_share_of_the_row():
    figure, _ = plots.matrix(MATRIX, "Confusion", "predicted", "gold")
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "90\n90%", "7\n7%", "3\n3%", "", "40\n80%", "10\n20%", "2\n100%", "", ""]


def luminance(colour):  # WCAG 2.2
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_numbers_of_a_matrix_are_readable_on_every_shade():
    shares = np.arange(129)  # both columns together: every shade that there is
    figure, _ = plots.matrix(pd.DataFrame({"a": shares, "b": 256 - shares}), "Confusion", "predicted", "gold")
    axes, _ = figure.axes
    cells = plt.get_cmap("Blues")(np.column_stack([shares, 256 - shares]).ravel() / 256)
    pairs = [sorted((luminance(text.get_color()), luminance(cell))) for text, cell in zip(axes.texts, cells, strict=True)]
    contrasts = [(light + 0.05) / (dark + 0.05) for dark, light in pairs]
    assert len(contrasts) == 258 and min(contrasts) >= 4.5
    assert {to_rgb(text.get_color()) for text in axes.texts} == {(0, 0, 0), (1, 1, 1)}


def test_matrix_without_a_blank_cell_leaves_it_out_of_the_shares_too():
    counts = pd.DataFrame([[9000, 30, 10], [5, 60, 35]], index=["O", "B-geo"], columns=["O", "B-geo", "I-geo"])
    figure, alt = plots.matrix(counts, "Confusion", "predicted", "gold", blank=[("O", "O")])
    assert [text.get_text() for text in figure.axes[0].texts] == ["", "30\n75%", "10\n25%", "5\n5%", "60\n60%", "35\n35%"]
    assert "9,000" not in alt and counts.loc["O", "O"] == 9000


def test_matrix_of_a_model_without_errors_says_so():
    assert "none" in plots.matrix(pd.DataFrame(np.eye(2), ["a", "b"], ["a", "b"]), "Confusion", "predicted", "gold")[1]


def test_learning_curves_without_validation_show_the_training_loss():
    figure, alt = plots.learning_curves(HISTORY[["epoch", "training_loss"]])
    assert "0.900 to 0.250" in alt and "validation" not in alt
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[0.9, 0.4, 0.25]]


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_learning_curves_mark_whole_epochs_that_can_be_read_and_keep_their_numbers_off_the_line(count):
    f1 = [0.5 + 0.3 * (1 - 0.9 ** epoch) for epoch in range(count)]
    figure, _ = plots.learning_curves(pd.DataFrame({
        "epoch": range(1, count + 1), "training_loss": [1 / (epoch + 1) for epoch in range(count)], "validation_f1": f1}))
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert 1 <= len(ticks) <= 10 and all(tick == int(tick) for tick in ticks)
        boxes = [label.get_window_extent() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    below = [text.get_position()[1] < 0 for text in figure.axes[1].texts]
    assert below == ([True] + [False] * (count - 1) if 1 < count < 7 else [False])


def test_f1_stands_at_its_value_in_the_row_of_its_type():
    axes = plots.f1_by_type(REPORTS, "F1")[0].axes[0]
    assert [line.get_xdata() for line in axes.lines] == [pytest.approx([0.81, 0.72, 0.77]), pytest.approx([0.61, 0.52, 0.57])]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["geo", "per", "micro avg"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["model", "lookup"]


def test_error_kinds_stack_to_the_number_of_errors():
    axes = plots.error_kinds(ALIGNED, "Errors")[0].axes[0]
    assert sum(bar.get_width() for bar in axes.patches) == (ALIGNED["kind"] != "correct").sum() == 5
    ends = {}
    for bar in axes.patches:  # each bar begins where the one before it in its row ends
        row = round(bar.get_y() + bar.get_height() / 2)
        assert bar.get_x() == ends.get(row, 0)
        ends[row] = bar.get_x() + bar.get_width()


def test_error_kinds_of_a_model_without_errors_can_be_drawn(tmp_path, capsys):
    plots.show(plots.error_kinds(evaluation.align(table(["a", "B-geo", "B-geo"])), "Errors"), tmp_path / "none")
    assert (tmp_path / "none.png").exists()


@pytest.mark.filterwarnings("error")
def test_calibration_of_a_model_that_predicts_nothing_can_be_drawn(tmp_path, capsys):
    nothing = evaluation.calibration(np.array([]), np.array([]))
    plots.show(plots.calibration({"as trained": nothing}, "Calibration"), tmp_path / "none")
    assert (tmp_path / "none.png").exists()


def test_colours_are_distinct_and_a_gmb_types_colour_is_the_same_in_every_figure():
    gmb = ["art", "eve", "geo", "gpe", "nat", "org", "per", "tim"]
    assert len(set(plots.colours(gmb))) == 8
    assert plots.colours(["per", "geo"]) == [plots.colours(gmb)[6], plots.colours(gmb)[2]]
    conll = ["LOC", "MISC", "ORG", "PER"]
    assert len(set(plots.colours(conll))) == 4 and len(set(plots.colours([*conll, "geo"]))) == 5
    assert len(plots.colours([*gmb, "LOC"])) == 9


# --- marked sentences

def html(rows, which=None, notes=None):
    result = highlight.sentences(rows, which or [("test", number) for number in rows["sentence"].unique()], notes)
    return BeautifulSoup(result.data, "html.parser")


def plain(paragraph):
    """The sentence as it is read: without the labels of the mentions and the note behind it."""
    for element in paragraph(["sub", "sup", "i", "small"]):
        element.decompose()
    return paragraph.get_text().strip()


@pytest.mark.parametrize("gold, predicted", [
    ("B-geo I-geo O O", "O B-geo I-geo O"), ("B-geo I-geo I-geo I-geo", "O B-per O B-org"),
    ("O B-per O B-org", "B-geo I-geo I-geo I-geo"), ("B-geo B-geo I-geo O", "B-geo I-geo B-geo I-geo"),
    ("B-geo I-geo O B-per", "B-geo I-geo O B-per"), ("B-geo I-geo O O", "B-per I-per O O"), ("O O O O", "O O O O"),
    ("I-geo I-org O I-org", "B-geo I-org I-org O")])
def test_marks_overlap_in_any_way_and_drop_no_word(gold, predicted):
    rows = table(["Alpha & < 🌍", gold, predicted])
    paragraph = html(rows)("p")[1]
    corpus, models = ([(m.first, m.last, m.type) for m in evaluation.mentions(rows, column).itertuples()]
                      for column in ("gold", "predicted"))
    both, missed, invented = ([m for m in corpus if m in models], [m for m in corpus if m not in models],
                              [m for m in models if m not in corpus])
    for mark, label, found in (("a", "i", both), ("g", "sub", missed), ("p", "sup", invented)):
        assert [element.get_text() for element in paragraph(label)] == [kind for _, _, kind in found]
        marked = "".join(element.get_text() for element in paragraph.select(f"span.{mark}"))
        expected = ["".join(rows["word"][first:last + 1]) for first, last, _ in found]
        assert marked.replace(" ", "") == "".join(expected)
        assert marked.count(" ") == sum(last - first for first, last, _ in found)  # the blanks within, and no others
    assert plain(paragraph) == "Alpha & < 🌍"


def test_label_stands_behind_the_last_word_of_its_mention():
    paragraph = html(table(["in New York today", "O B-geo I-geo O", "O O B-org O"]))("p")[1]
    assert re.sub(r"</?span[^>]*>", "", paragraph.decode_contents()) == "in New York<sup>org</sup><sub>geo</sub> today"


@pytest.mark.parametrize("attack", ["<script>alert(1)</script>", "<img/src=x/onerror=alert(1)>", "\"'&amp;"])
def test_words_labels_and_notes_are_escaped(attack):
    rows = table([f"{attack} x y", f"B-{attack} O B-{attack}", f"O B-{attack} B-{attack}"])
    result = html(rows, notes=[attack])
    assert not result(["script", "img"])
    paragraph = result("p")[1]
    assert paragraph.sub.get_text() == paragraph.sup.get_text() == paragraph.i.get_text() == attack
    assert paragraph.small.get_text() == f"({attack})" and plain(paragraph) == f"{attack} x y"


def test_sentences_come_in_the_order_asked_for_from_their_own_part():
    rows = pd.concat([table(["one", "O", "O"], ["two", "O", "O"]), table(["three", "O", "O"]).assign(part="validation")])
    paragraphs = html(rows, [("test", 1), ("validation", 0), ("test", 0)], ["a", "b", "c"])("p")[1:]
    assert [paragraph.small.get_text() for paragraph in paragraphs] == ["(a)", "(b)", "(c)"]
    assert [plain(paragraph) for paragraph in paragraphs] == ["two", "three", "one"]


def test_marks_can_be_told_apart_without_colour():
    style = html(table(["a", "O", "O"])).style.get_text()
    borders = [re.search(rf"\.ner \.{name} {{border-(\w+): \S+ (\w+)", style).groups() for name in "agp"]
    assert borders == [("bottom", "dotted"), ("bottom", "solid"), ("top", "double")]


@pytest.fixture
def styled(chromium):
    """Opens a marked sentence in a narrow window, and returns the page."""
    def of(rows, **options):
        page = chromium.new_page(**{"viewport": {"width": 330, "height": 800}} | options)
        page.set_content(highlight.sentences(rows, [("test", 0)], ["a note"]).data)
        return page
    return of


LONG = "Governor Carlos Marsh of the United Republic of Tanzania and the Islands said on Monday the 3rd of June 2002 nothing ."


def crowded():
    words = LONG.split()
    gold = ["B-geo"] + ["I-geo"] * (len(words) - 2) + ["O"]
    predicted = [f"{'B' if number % 4 == 0 else 'I'}-per" for number in range(len(words) - 1)] + ["O"]
    return table([LONG, " ".join(gold), " ".join(predicted)])


@pytest.mark.parametrize(("scheme", "above", "below"), [("light", "rgb(213, 94, 0)", "rgb(0, 114, 178)"),
                                                        ("dark", "rgb(255, 154, 92)", "rgb(107, 184, 232)")])
def test_lines_of_corpus_and_model_keep_their_own_colour_where_they_meet(styled, scheme, above, below):
    page = styled(crowded(), color_scheme=scheme)
    found = page.evaluate("""[...document.querySelectorAll('p[dir] .p.g')].map(each => getComputedStyle(each)).map(
        style => [style.borderTopColor, style.borderBottomColor])""")
    assert len(found) > 10 and {tuple(pair) for pair in found} == {(above, below)}
    page.close()


MARKS = """[...document.querySelectorAll('p[dir] :is(.p, .g, sub, sup, i)')].map(
    each => [each.tagName, getComputedStyle(each)]).map(([tag, style]) => [tag, style.color, style.borderTopColor,
    style.borderBottomColor, style.fontFamily, style.fontSize])"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_in_jupyterlab_have_the_colours_of_its_own_theme(chromium, theme):
    rows, found = table(["a b c", "B-geo B-per O", "B-geo O B-per"]), []
    marked = highlight.sentences(rows, [("test", 0)]).data
    for system in ("light", "dark"):
        for attribute in ("", f' data-jp-theme-light="{str(theme == "light").lower()}"'):
            page = chromium.new_page(color_scheme=system)
            page.set_content(f"<body style='color: #888'{attribute}>{marked}</body>")
            found.append(page.evaluate(MARKS))
            page.close()
    light, in_light, dark, in_dark = found
    assert in_light == in_dark == {"light": light, "dark": dark}[theme] and light != dark


def test_labels_of_all_marks_have_the_same_letters(styled):
    page = styled(table(["a b c", "B-geo B-per O", "B-geo O B-per"]))
    letters = {tag: font for tag, *_, family, size in page.evaluate(MARKS) for font in [(family, size)]}
    assert set(letters) == {"SPAN", "SUB", "SUP", "I"}
    assert letters["SUB"] == letters["SUP"] == letters["I"] and letters["I"][0] == "sans-serif"
    page.close()


def test_mention_that_is_broken_leaves_no_line_behind_and_its_sentence_is_evenly_spaced(styled):
    page = styled(crowded())
    boxes = page.evaluate("""[...document.querySelectorAll('p[dir] span')].map(
        each => [each.textContent, each.getBoundingClientRect()]).map(([text, box]) => [text, box.top, box.width])""")
    blanks, words = ([box for box in boxes if (box[0] == " ") == blank] for blank in (True, False))
    broken = sum(after[1] > word[1] for word, after in zip(words, words[1:], strict=False))
    assert 2 < broken == sum(width == 0 for _, _, width in blanks) < len(blanks)
    steps = np.diff(sorted({top for _, top, _ in words}))
    assert steps.max() - steps.min() < 1 and steps.max() < 2.6 * 16, "labels do not push lines apart"
    note, last = (page.locator(f"p[dir] {name}").last.bounding_box() for name in ("small", "span"))
    assert last["y"] < note["y"] < last["y"] + 2.6 * 16 and note["x"] < 20, "the note is the line below"
    page.close()


@pytest.mark.parametrize("width", [330, 700, 1100])
def test_entries_of_the_legend_are_not_broken(styled, width):
    page = styled(crowded(), viewport={"width": width, "height": 800})
    heights = page.evaluate("[...document.querySelectorAll('.legend span')].map(each => each.getClientRects().length == 1 "
                            "&& each.getBoundingClientRect().height)")
    assert len(heights) == 3 and all(0 < height < 30 for height in heights)
    page.close()


def test_copied_sentence_keeps_the_blanks_at_which_its_lines_end(styled):
    page = styled(crowded())
    copied = page.evaluate("(getSelection().selectAllChildren(document.querySelector('p[dir]')), getSelection().toString())")
    assert copied.strip() == LONG
    page.close()


def test_parallel_coordinates_stand_where_their_values_are():
    trials = pd.DataFrame({"rate": [1e-4, 1e-3, 1e-2], "dropout": [0.0, 0.1, 0.4], "value": [0.5, 0.8, 0.6]})
    figure, _ = plots.parallel(trials, "value", "Trials", {"rate"})
    [axes] = figure.axes
    heights = sorted(tuple(np.round(line.get_ydata(), 6)) for line in axes.lines)
    assert all(1.05 / (luminance(line.get_color()) + 0.05) > 3 for line in axes.lines), "lines stand out from white"
    assert heights == [(0, 0, 0), (0.5, 0.25, 1), (1, 1, round(1 / 3, 6))]
    assert [line.get_linewidth() for line in axes.lines if line.get_ydata()[-1] == 1] == [3]  # the best
    assert [label.get_text() for label in axes.get_xticklabels()] == ["rate\n(log)", "dropout", "value"]
    assert texts(axes) == ["0.0001", "0.01", "0", "0.4", "0.5", "0.8"]
