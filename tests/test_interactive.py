"""What notebooks show, by hand-made tables; the widgets themselves are driven in test_browser.py."""

import re
from html import unescape

import ipywidgets as widgets
import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from nerlib import evaluation, highlight, interactive, prediction, runs

ATTACKS = ["<script>alert(1)</script>", "`code`", "**b** _i_", "[x](javascript:alert(1))", "$x$", "&lt;", "a\nb",
           "\\[y\\]", "~~s~~"]


def table(*sentences):
    rows = [("test", number, position, *row) for number, columns in enumerate(sentences)
            for position, row in enumerate(zip(*map(str.split, columns), strict=True))]
    return pd.DataFrame(rows, columns=["part", "sentence", "position", "word", "gold", "predicted"]).assign(
        confidence=[0.9, 0.5, 0.8, 0.6, 0.7, 0.4, 0.3, 0.2][:len(rows)], loss=range(len(rows)))


ROWS = table(["Ada in Rome", "B-per O B-geo", "O O B-org"], ["Rome fell", "B-geo O", "B-geo B-tim"],
             ["New York here", "B-geo I-geo O", "B-geo O O"])
TRAINING = ROWS[ROWS["sentence"] == 1]


@pytest.fixture
def shown(monkeypatch):
    """What a call displays: HTML of each display, outside of JupyterLab."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)

    def of(call, *arguments, **options):
        displayed = []
        monkeypatch.setattr(interactive, "display", displayed.append)
        call(*arguments, **options)
        return [html.data for html in displayed]
    return of


@pytest.mark.parametrize("attack", ATTACKS)
def test_code_is_text_for_markdown_and_html(attack):
    made = highlight.code(attack)
    assert unescape(made) == f"<code>{attack}</code>"
    inside = made.removeprefix("<code>").removesuffix("</code>")
    assert not re.search(r"[<>*_`\\$\[\](){}~\n]", inside)


@pytest.mark.parametrize("attack", ATTACKS)
def test_table_shows_cells_and_headers_as_text(shown, attack):
    frame = pd.DataFrame({attack: [attack, "x"]}, index=pd.Index([attack, "y"], name=attack))
    frame.columns.name = attack
    [html] = shown(interactive.table, frame)
    page = BeautifulSoup(html, "html.parser")
    cells = [cell.get_text() for cell in page(["th", "td"])]
    assert cells.count(attack) == 5 and not page(["script", "b", "i"])
    assert "mathjax_ignore" in page.table["class"]


def test_table_formats_as_told_and_takes_a_series(shown):
    [html] = shown(interactive.table, pd.Series({"a": 1234.5, "b": float("nan")}, name="n"), "{:,.0f}", na_rep="–")
    assert [cell.get_text() for cell in BeautifulSoup(html, "html.parser")("td")] == ["1,234", "–"]


def test_errors_by_hand():
    found = interactive.errors(ROWS, evaluation.align(ROWS), TRAINING)
    assert found["loss"].tolist() == sorted(found["loss"], reverse=True)
    columns = ["kind", "type", "surface", "novelty", "text"]
    assert sorted(found[columns].itertuples(index=False, name=None)) == [
        ("boundary", "geo", "New York", "unseen", "New York here"), ("missed", "per", "Ada", "unseen", "Ada in Rome"),
        ("spurious", "tim", "fell", "unseen", "Rome fell"), ("type", "geo", "Rome", "seen", "Ada in Rome")]
    assert found.set_index("kind")["confidence"].to_dict() == pytest.approx(
        {"boundary": 0.4 * 0.3, "missed": 0.9, "spurious": 0.7, "type": 0.8})


@pytest.mark.parametrize(("wanted", "surfaces"), [
    ({}, {"Ada", "Rome", "fell", "New York"}), ({"type": "geo"}, {"Rome", "New York"}), ({"kind": "missed"}, {"Ada"}),
    ({"novelty": "seen"}, {"Rome"}), ({"confidence": (0.75, 1)}, {"Ada", "Rome"}),
    ({"search": "rome"}, {"Ada", "Rome", "fell"}),
    ({"search": "in Rome", "type": "per"}, {"Ada"}), ({"search": "(.*"}, set())])
def test_matching_filters_by_each_property(wanted, surfaces):
    found = interactive.errors(ROWS, evaluation.align(ROWS), TRAINING)
    assert set(interactive.matching(found, **wanted)["surface"]) == surfaces


def test_outside_of_jupyterlab_two_errors_of_each_kind_are_shown_also_where_another_kind_has_their_sentence(shown):
    [html] = shown(interactive.error_browser, ROWS, evaluation.align(ROWS), TRAINING)
    notes = [note.get_text() for note in BeautifulSoup(html, "html.parser").select("p[dir] small")]
    assert notes == ["(boundary: New York)", "(missed: Ada)", "(spurious: fell)", "(type: Rome)"]
    twice = pd.concat([ROWS, ROWS.assign(sentence=ROWS["sentence"] + 100)], ignore_index=True)
    [html] = shown(interactive.error_browser, twice, evaluation.align(twice), TRAINING)
    assert notes == [note.get_text() for note in BeautifulSoup(html, "html.parser").select("p[dir] small")], "none twice"
    right = ROWS.assign(predicted=ROWS["gold"])
    [html] = shown(interactive.error_browser, right, evaluation.align(right), TRAINING)
    page = BeautifulSoup(html, "html.parser")
    assert page.select(".legend") and not page.select("p[dir]"), "without errors, no sentence"


def test_in_jupyterlab_there_are_widgets(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    displayed = []
    monkeypatch.setattr(interactive, "display", displayed.append)
    interactive.error_browser(ROWS, evaluation.align(ROWS), TRAINING)
    assert [type(each) for each in displayed] == [widgets.VBox]


def test_papermill_started_from_jupyterlab_is_not_live(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    assert interactive.live()
    shell = type("Shell", (), {"user_ns": {"In": ["", "# Parameters and their defaults: …\nrun = 'a'"]}})
    monkeypatch.setattr(interactive, "get_ipython", lambda: shell)
    assert interactive.live()
    shell.user_ns["In"].append("# Parameters\nrun = 'b'")
    assert not interactive.live()


def test_cells_of_several_values_are_text_too(shown):
    [html] = shown(interactive.table, pd.DataFrame({"a": [("<b>x</b>",), ["<i>"]]}))
    assert not BeautifulSoup(html, "html.parser")(["b", "i"])


def test_without_a_model_the_sentence_box_says_so(shown, tmp_path):
    [html] = shown(interactive.tagger_box, tmp_path)
    assert html.startswith("<p>There is no model to try: ") and "ner.json is missing" in html


@pytest.fixture
def clock(monkeypatch):
    """The time that progress bars see, in seconds: one passes with each item."""
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])

    def items(count):
        for number in range(count):
            now[0] += 1
            yield number
    return items


@pytest.mark.parametrize(("session", "between"), [(None, 30), ("x", 1)])
def test_progress_writes_each_second_for_a_reader_and_each_half_minute_to_a_log_file(monkeypatch, tmp_path, clock, session,
                                                                                     between):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if session:
        monkeypatch.setenv("JPY_SESSION_NAME", session)
    with (tmp_path / "log").open("w+", encoding="utf-8") as log:
        monkeypatch.setattr("sys.stderr", log)
        assert list(prediction.progress(clock(600), "epoch 1 of 3")) == list(range(600))
        log.seek(0)
        lines = re.split(r"[\r\n]+", log.read().strip())
    counts = [int(re.search(r"(\d+)batch", line)[1]) for line in lines]
    assert counts[0] == 0 and counts[-1] == 600 and all(line.startswith("epoch 1 of 3: ") for line in lines)
    assert set(np.diff(counts[:-1])) == {between} and len(lines) == 600 // between + 2


def test_progress_of_a_training_that_goes_on_counts_what_was_done_and_says_what_is_left(monkeypatch, tmp_path, clock):
    with (tmp_path / "log").open("w+", encoding="utf-8") as log:
        monkeypatch.setattr("sys.stderr", log)
        bar = prediction.progress(range(60), "epoch 2 of 3", done=40)
        bar.close()
        log.seek(0)
        assert "epoch 2 of 3:  40%|" in (said := log.read()) and "| 40/100 [" in said


def test_table_of_scores_counts_mentions_in_whole_numbers_also_where_a_type_has_none(shown):
    [cell] = [cell for cell in nbformat.read(runs.ROOT / "notebooks/03_training.ipynb", 4).cells
              if 'tables["mentions"]' in cell.source]
    row = dict.fromkeys(("precision", "recall", "f1-score"), 0.5)
    report = {"geo": row | {"support": 1163}, "micro avg": row | {"support": 1163}}
    interval = {"f1": 0.5, "low": 0.4, "high": 0.6}
    names = {"evaluation": evaluation, "interactive": interactive, "pd": pd, "display": lambda _: None, "Markdown": str,
             "part": "test", "systems": {"model": report, "lookup": {"micro avg": report["micro avg"]}}, "report": report,
             "metrics": {"test": {"strict": report},
                         "intervals": {"test": dict.fromkeys(("geo", "nat", "micro avg"), interval)}}}
    [html] = shown(exec, cell.source, names)
    last = [[cell.get_text() for cell in line(["th", "td"])][::len(line(["th", "td"])) - 1]
            for line in BeautifulSoup(html, "html.parser").select("tbody tr")]
    assert last == [["geo", "1,163"], ["micro avg", "1,163"]]
