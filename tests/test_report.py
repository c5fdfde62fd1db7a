"""The pages that readers see, made from notebooks that papermill really runs, read with a parser and a browser."""

import fcntl
import json
import re
import shutil
from datetime import UTC, datetime
from urllib.parse import unquote

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, PngImagePlugin

from nerlib import evaluation, plots, report
from nerlib.runs import ROOT, STAGES

ATTACK = "<script>alert(1)</script>"
ALT = 'The loss falls from 1.0 to 0.5; "steep" & early.'
FIGURE = f"""import base64, io, matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(2, 2))
axes.plot([1.0, 0.5])
buffer = io.BytesIO()
figure.savefig(buffer, format="png")
picture = base64.b64encode(buffer.getvalue()).decode()
display({{"image/png": picture, "text/plain": "a figure"}}, raw=True, metadata={{"image/png": {{"alt": {ALT!r}}}}})"""
TABLE = f"""import pandas as pd
pd.DataFrame({{"word": ["London", {ATTACK!r}], "count": [1204, 3]}})"""
CELLS = [
    new_markdown_cell("# How well does `it` learn?\n\nA question. ![no such file](figures/none.png)"),
    new_code_cell("epochs: int = 1  # passes", metadata={"tags": ["parameters"]}),
    new_markdown_cell("## The data\n\n### Words & tags\n\n| mode | F1 |\n|--|--|\n| strict | 0.831 |\n\n# Another top"),
    new_code_cell(TABLE),
    new_markdown_cell("## The data\n\nThe same heading again; back to [the words](#Words-&-tags)."),
    new_code_cell("import sys\nprint('\\repoch 1\\repoch 2', file=sys.stderr)\nprint('\\x1b[31mred\\x1b[0m <b>')"),
    new_code_cell(FIGURE),
    new_code_cell("from IPython.display import Markdown\nMarkdown('Easiest is <code>&#103;eo</code>, **hardest** `per`.')"),
    new_code_cell("from IPython.display import HTML, Javascript\ndisplay(Javascript('alert(1)'))\n"
                  "HTML('<h1>In an output</h1><script src=\"https://example.org/x.js\"></script>')"),
]


def score(base):
    """seqeval's output_dict, with numbers that are all different."""
    rows = ["geo", "per", "micro avg", "macro avg", "weighted avg"]
    return {row: {"precision": base + i / 100, "recall": base + i / 100 + 0.001, "f1-score": base + i / 100 + 0.002,
                  "support": 1000 + i} for i, row in enumerate(rows)}


METRICS = {"tags": ["O", "B-geo", "I-geo", "B-per", "I-per"], "types": ["geo", "per"],
           "definitions": {"default": "As conlleval counts.", "strict": "IOB2 only."},
           "validation": {"default": score(0.7), "strict": score(0.65)},
           "test": {"default": score(0.8), "strict": score(0.75)},
           "intervals": {part: {"geo": {"f1": 0.8, "low": 0.79 + i, "high": 0.81 + i},
                                "micro avg": {"f1": 0.822 + i, "low": 0.801 + i, "high": 0.843 + i}}
                         for part, i in (("test", 0.0), ("validation", -0.1))},
           "baseline": {"validation": {"default": score(0.3)}, "test": {"default": score(0.4)}}}
RECORD = {"run": "gmb", "completed": "2025-11-22T18:11:01+00:00",
          "parameters": {"epochs": 3, "data": ATTACK, "pos": ""},
          "changed": {"data": ATTACK}, "git": {"commit": "abc1234def5678", "clean": False},
          "versions": {"torch": "2.13.0"}, "hardware": {"cpu": "a cpu", "gpu": None, "threads": 2},
          "corpus": {"source": "data/ner.csv", "sentences": 47959}, "split": {"kind": "random", "fingerprint": "f00d"},
          "encoder": {"name": "minilm", "parameters": 22713216}, "training": {"best_epoch": 3, "seconds": 711.0}}


def run_notebook(path, cells):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    source = path.parent / "source.ipynb"
    nbformat.write(notebook, source)
    try:
        papermill.execute_notebook(source, path, parameters={"epochs": 3}, kernel_name="python3", progress_bar=False)
    finally:
        source.unlink()


def write_stages(folder, statuses, error=None):
    (folder / "stages").mkdir(exist_ok=True)
    for stem, status in zip(STAGES, statuses, strict=False):
        stage = {"notebook": stem, "title": f"Title of {stem}", "started": "2025-11-22T17:58:01+00:00",
                 "seconds": 100.0, "status": status, "error": error if status == "failed" else None}
        (folder / "stages" / f"{stem[:2]}.json").write_text(json.dumps(stage))


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "gmb"
    (folder / "figures").mkdir(parents=True)
    for stem in ("01_eda", "03_training"):
        run_notebook(folder / f"{stem}.ipynb", CELLS)
    write_stages(folder, ["complete"] * 4)
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "run.json").write_text(json.dumps(RECORD))
    for name in ("tagger.json", "parts/weights"):
        (folder / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model" / name).write_bytes(bytes(1000))
    (folder / "history.csv").write_text("epoch,training_loss\n1,0.5\n")
    description = PngImagePlugin.PngInfo()
    description.add_text("Description", ALT)
    Image.new("RGB", (40, 40), "white").save(folder / "figures/03_confusion_mentions.png", pnginfo=description)
    Image.new("RGB", (40, 40), "white").save(folder / "figures/03_learning_curves.png")
    assert report.write_pages(folder) == folder / "index.html"
    return folder


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "early"
    folder.mkdir()
    bad_cell = new_code_cell(f"raise ValueError({ATTACK!r})")
    with pytest.raises(papermill.PapermillExecutionError):
        run_notebook(folder / "02_preprocessing.ipynb", [*CELLS[:3], bad_cell, *CELLS[4:]])
    write_stages(folder, ["complete", "failed"], error=f"ValueError: {ATTACK}")
    report.write_pages(folder)
    return folder


def soup(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def text(element):
    return " ".join(element.get_text().split())


def rows(table):
    return {text(row.th): [text(cell) for cell in row("td")] for row in table.select("tbody tr")}


@pytest.mark.parametrize(("run", "name"), [("complete", "index"), ("complete", "01_eda"), ("complete", "03_training"),
                                           ("failed", "index"), ("failed", "02_preprocessing")])
def test_every_page_is_one_file_without_script_or_request(run, name, request):
    path = request.getfixturevalue(run) / f"{name}.html"
    page = soup(path)
    policy = page.head.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and rules["style-src"] == "'unsafe-inline'"
    assert not {"script-src", "connect-src", "frame-src"} & set(rules)
    assert not page(["script", "link", "iframe", "object", "embed", "base"])
    assert all(element["src"].startswith("data:image/") for element in page.select("[src]"))
    assert not re.search(r"url\(|@import", "".join(style.get_text() for style in page("style")))
    assert all(not name.startswith("on") for element in page(True) for name in element.attrs)

    assert page.html["lang"] == "en" and path.parent.name in page.title.get_text()
    assert len(page("h1")) == 1 and page.h1.find_parent("header")
    assert len({element["id"] for element in page.select("[id]")}) == len(page.select("[id]")), "an id stands twice"
    for link in page.select('a[href^="#"]'):
        assert page.find(id=unquote(link["href"][1:])), link
    for link in page.select("header a, section a"):
        if not link["href"].startswith("#"):
            assert (path.parent / link["href"]).exists(), link
    assert all(picture.get("alt") for picture in page("img"))
    assert all(th["scope"] == ("col" if th.find_parent("thead") else "row") for th in page("th"))
    assert all("table" in table.parent["class"] and table.parent["tabindex"] == "0" for table in page("table"))
    assert len(re.sub(r"data:[^\"]*", "", path.read_text(encoding="utf-8"))) < 60_000
    assert not list(path.parent.glob("*.tmp"))


def test_notebook_page(complete):
    page = soup(complete / "03_training.html")
    assert text(page.h1) == "How well does it learn?" and text(page.title) == "How well does it learn? – gmb"
    assert text(page.select_one(".made")) == (
        "Run gmb Made 2025-11-22 17:58 UTC Took 1 min 40 s Commit abc1234def with uncommitted changes")
    assert [(link["href"], link.get("aria-current")) for link in page.select("header nav a")] == [
        ("index.html", None), ("01_eda.html", None), ("03_training.html", "page")]
    assert [text(link) for link in page.select(".contents a")] == [
        "The data", "Words & tags", "Another top", "The data"]
    assert not page.select(".banner, .error")

    summaries = [text(summary) for summary in page.select("details.source > summary")]
    assert summaries == ["Parameters and their defaults", "Parameters set for this run", "Code", "Code", "Code", "Code",
                         "Code"]
    assert page.select("details.source .highlight span") and not page.select("details.source[open]")
    assert text(page.select_one("details.log pre")) == "epoch 2"
    assert text(page.select_one(":not(details) > pre.stream")) == "red <b>"
    assert [picture["alt"] for picture in page("img")] == [ALT], "the missing picture leaves its description alone"
    assert "no such file" in text(page.main)

    frame = page.select_one("table.dataframe")
    assert rows(frame) == {"0": ["London", "1204"], "1": [ATTACK, "3"]}
    assert [("num" in cell.get("class", [])) for cell in frame.select("thead th")] == [True, False, True]
    assert not page.select("style[scoped]")


def test_inline_code_keeps_its_text(complete):
    found = {text(code) for code in soup(complete / "03_training.html").select(".output_area code, .rendered_html code")}
    assert {"geo", "per"} <= found and "" not in found


def test_failed_notebook_says_where(failed):
    page = soup(failed / "02_preprocessing.html")
    (banner,) = page.select(".banner")
    assert banner.find_parent("header") and text(banner) == f"This notebook failed in Code [3]. ValueError: {ATTACK}"
    cell = page.find(id=banner.a["href"][1:])
    assert cell.select_one("details.source")["open"] == "" and "raise ValueError" in text(cell.details)
    assert cell.details.summary["data-count"] == "[3]"
    assert "Traceback" in text(cell.select_one(".error pre")) and ATTACK in text(cell.select_one(".error pre"))
    assert "papermill-error" not in str(page) and "Exception was encountered" not in str(page)
    assert text(page.h1) == "How well does it learn?", "papermill's banner is no title"


def test_notebook_that_a_signal_ended(complete, tmp_path):
    notebook = nbformat.read(complete / "03_training.ipynb", as_version=4)
    notebook.metadata.papermill["end_time"] = None
    nbformat.write(notebook, tmp_path / "03_training.ipynb")
    page = soup(report.export_notebook(tmp_path / "03_training.ipynb"))
    assert text(page.select_one(".banner")) == "This notebook did not run to its end."
    write_stages(tmp_path, ["complete", "complete", "failed"], error="DeadKernelError: Kernel died")
    page = soup(report.export_notebook(tmp_path / "03_training.ipynb"))
    assert text(page.select_one(".banner")) == "This notebook failed. DeadKernelError: Kernel died"


def test_index_gives_the_answer_and_the_numbers_of_metrics_json(complete):
    page = soup(complete / "index.html")
    assert text(page.select_one(".lead")) == ("The model finds names with a micro F1 of 0.822 (0.801 to 0.843) on the test "
                                              "part; looking each word up in the training part reaches 0.422.")
    test, validation = page.select("section[aria-labelledby=scores] table")
    for table, part in ((test, "test"), (validation, "validation")):
        shown, values, lookup = rows(table), METRICS[part]["default"], METRICS["baseline"][part]["default"]
        assert list(shown) == ["geo", "per", "micro average", "macro average", "weighted average"]
        for name, cells in shown.items():
            row, base = (scores[name.replace("average", "avg")] for scores in (values, lookup))
            numbers = [row["precision"], row["recall"], row["f1-score"], base["f1-score"]]
            ends = METRICS["intervals"][part].get(name.replace("average", "avg"))
            interval = [f"{ends['low']:.3f} to {ends['high']:.3f}" if ends else "–"]
            shown_numbers = [f"{number:.3f}" for number in numbers]
            assert cells == [*shown_numbers[:3], *interval, shown_numbers[3], f"{row['support']:,}"]
    assert validation.find_parent("details") and not test.find_parent("details")
    assert "micro F1 of 0.772" in text(page.select_one(".note"))
    assert [picture["alt"] for picture in page("img")] == [ALT, "Learning curves"]

    assert rows(page.select_one("section[aria-labelledby=parameters] table")) == {
        "epochs": ["3", "default"], "data": [ATTACK, "set"], "pos": ['""', "default"]}
    notebooks = rows(page.select_one("section[aria-labelledby=notebooks] table"))
    assert notebooks["03 Title of 03_training"] == ["complete", "1 min 40 s"]
    provenance = text(page.select_one("section[aria-labelledby=provenance]"))
    for fact in ("commit abc1234def5678", "clean no", "torch 2.13.0", "gpu –", "sentences 47,959",
                 "parameters 22,713,216", "fingerprint f00d", "time 11 min 51 s"):
        assert fact in provenance
    files = {link["href"]: text(link.parent.span) for link in page.select(".files a")}
    assert set(files) == {"01_eda.ipynb", "03_training.ipynb", "history.csv", "metrics.json", "run.json", "figures/", "model/"}
    assert files["model/"] == "2.0 kB", "all that lies in it"
    assert not page.select(".banner")


def test_index_says_first_that_a_model_has_learnt_too_little(complete, tmp_path):
    shutil.copytree(complete, tmp_path / "weak")
    record = json.loads((complete / "run.json").read_text())
    (tmp_path / "weak/run.json").write_text(json.dumps(record | {"training": record["training"] | {"steps": 6}}))
    assert "This model" not in text(soup(report.write_index(tmp_path / "weak")).main)
    metrics = json.loads((complete / "metrics.json").read_text())
    metrics["test"]["default"]["micro avg"]["f1-score"] = 0.25
    (tmp_path / "weak/metrics.json").write_text(json.dumps(metrics))
    first = soup(report.write_index(tmp_path / "weak")).select_one(".lead").find_next_sibling("p")
    assert text(first).startswith("This model is worse than looking each word up in the training part. It was trained in 6 ")


def test_index_without_a_scored_test_part(complete, tmp_path):
    metrics = {key: value for key, value in METRICS.items() if key not in ("test", "baseline")}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    write_stages(tmp_path, ["complete"] * 4)
    page = soup(report.write_index(tmp_path))
    assert text(page.select_one(".lead")) == \
        "The model finds names with a micro F1 of 0.722 (0.701 to 0.743) on the validation part."
    assert "The test part was not scored" in text(page.main) and "Lookup" not in text(page.main)


def test_index_of_a_failed_run_does_not_show_the_scores_of_an_earlier_one(tmp_path):
    for name, content in (("metrics.json", METRICS), ("run.json", RECORD)):
        (tmp_path / name).write_text(json.dumps(content))
    write_stages(tmp_path, ["failed"], error="ValueError: no such file")
    page = soup(report.write_index(tmp_path))
    assert "No scores yet" in text(page.select_one(".lead")) and not page.select("section[aria-labelledby=parameters]")


@pytest.mark.parametrize(("statuses", "banner"), [
    ([], "This run is unfinished: still to complete are 01 eda, 02 preprocessing, 03 training, 04 error analysis."),
    (["complete"] * 2, "This run is unfinished: still to complete are 03 training, 04 error analysis."),
    (["complete"] * 4, "This run is unfinished: its record, run.json, is missing."),
    (["complete", "failed"], f"This run failed in 02 preprocessing. ValueError: {ATTACK}")])
def test_index_of_an_unfinished_run(statuses, banner, tmp_path):
    write_stages(tmp_path, statuses, error=f"ValueError: {ATTACK}")
    page = soup(report.write_pages(tmp_path))
    assert text(page.select_one("header .banner")) == banner
    assert text(page.select_one(".lead")).startswith("No scores yet") and text(page.h1) == tmp_path.name
    assert not page("script")


@pytest.mark.parametrize("without", [lambda record, key: {k: v for k, v in record.items() if k != key},
                                     lambda record, key: record | {key: None} if key in record else record])
@pytest.mark.parametrize("key", [*METRICS, *RECORD])
def test_index_stands_any_missing_key_and_shows_the_rest(key, without, tmp_path):
    write_stages(tmp_path, ["complete"] * 4)
    for name, record in (("metrics", METRICS), ("run", RECORD)):
        (tmp_path / f"{name}.json").write_text(json.dumps(without(record, key)))
    page = soup(report.write_index(tmp_path))
    sections = {part["aria-labelledby"] for part in page("section")}
    assert sections == {"scores", "notebooks", "parameters", "provenance", "files"} - {key}
    assert text(page.select_one(".lead")).startswith(
        f"The model finds names with a micro F1 of {'0.722' if key == 'test' else '0.822'}")
    folded, defined = page.select("section[aria-labelledby=scores] details"), page.select("section[aria-labelledby=scores] dl")
    assert bool(folded) == (key not in ("test", "validation")) and bool(defined) == (key != "definitions")
    facts = text(page.select_one("section[aria-labelledby=provenance]"))
    for name, fact in (("versions", "torch 2.13.0"), ("corpus", "sentences 47,959"), ("git", "commit abc1234def5678"),
                       ("split", "kind random"), ("encoder", "name minilm"), ("hardware", "threads 2"),
                       ("training", "best epoch 3")):
        assert (fact in facts) == (key != name), name
    assert not page.select(".banner") and "Made 2025-11-22" in text(page.select_one(".made"))


def test_damaged_files_do_not_hide_the_rest(complete, tmp_path):
    write_stages(tmp_path, ["complete"] * 4)
    (tmp_path / "01_eda.ipynb").write_text('{"cells": [')
    (tmp_path / "run.json").write_text("{")
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    shutil.copy(complete / "03_training.ipynb", tmp_path)
    with pytest.warns(UserWarning, match="01_eda.ipynb, its file is damaged"):
        page = soup(report.write_pages(tmp_path))
    assert text(page.select_one(".banner")) == "This run is unfinished: its record, run.json, is missing."
    assert "0.822" in text(page.select_one(".lead")) and not (tmp_path / "01_eda.html").exists()
    assert text(soup(tmp_path / "03_training.html").h1) == "How well does it learn?"


def test_index_shows_the_source_only_beside_its_own_test_set(complete, tmp_path):
    rows_of = {name: row[3] for name, row in evaluation.SOURCE.items()}
    for shift, shown in ((0, True), (1, False)):
        scores = {name: score(0.8)["geo"] | {"support": count + shift} for name, count in rows_of.items()}
        types = [name for name in rows_of if " " not in name]
        (tmp_path / "metrics.json").write_text(json.dumps({"types": types, "test": {"default": scores, "strict": scores}}))
        write_stages(tmp_path, ["complete"] * 4)
        page = soup(report.write_index(tmp_path))
        assert ("the source reached 0.85" in text(page.select_one(".lead"))) == shown
        assert (rows(page.select_one("section[aria-labelledby=scores] table"))["org"][3] == "0.72") == shown


def test_index_shows_three_errors_that_stand_for_many(complete, tmp_path):
    words = ["Ada", "saw", "<b>Bern</b>", "and", "Oslo", "."]
    gold, predicted = ["B-per", "O", "B-geo", "O", "B-geo", "O"], ["B-per", "O", "B-org", "B-tim", "O", "O"]
    pd.DataFrame({"part": "test", "sentence": 7, "position": range(6), "word": words, "pos": None, "gold": gold,
                  "predicted": predicted, "confidence": 0.5, "loss": 1.0}).to_parquet(tmp_path / "predictions.parquet")
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    write_stages(tmp_path, ["complete"] * 4)
    section = soup(report.write_index(tmp_path)).select_one("section[aria-labelledby=errors]")
    notes = {text(note) for note in section.select("p[dir] small")}
    assert notes == {"(type, 1 error, as '<b>Bern</b>': geo in the corpus, org by the model)",
                     "(missed, 1 error, as 'Oslo': geo in the corpus, no mention by the model)",
                     "(spurious, 1 error, as 'and': no mention in the corpus, tim by the model)"}
    assert not section("b") and text(section).count("<b>Bern</b>") == 4


def test_index_says_how_many_sentences_of_the_corpus_were_used(tmp_path):
    write_stages(tmp_path, ["complete"] * 4)
    whole = ["sentences 47,959", "words 9"]
    for parts, said in (({"training": 720, "validation": 80, "test": 200},
                         ["sentences 47,959, of which 1,000 are used", "words 9 in all sentences"]),
                        ({"training": 40000, "validation": 0, "test": 7959}, whole), ({}, whole)):
        corpus = {"sentences": 47959, "words": 9}
        (tmp_path / "run.json").write_text(json.dumps(RECORD | {"corpus": corpus, "split": RECORD["split"] | parts}))
        page = soup(report.write_index(tmp_path))
        facts = [text(fact) for fact in page.select("section[aria-labelledby=provenance] .fact")]
        assert [fact for fact in facts if fact.startswith(("sentences", "words"))] == said


def test_page_of_a_comparison_names_the_commit_that_made_it_or_none(tmp_path):
    (tmp_path / "stages").mkdir()
    nbformat.write(new_notebook(cells=[CELLS[0]]), tmp_path / "05_comparison.ipynb")
    for git, said in (({"commit": "0123456789ab", "clean": False}, "Commit 0123456789 with uncommitted changes"), (None, None),
                      ({"commit": None, "clean": None}, None)):
        (tmp_path / "stages/05.json").write_text(json.dumps({"status": "complete", "git": git}))
        report.write_pages(tmp_path)
        for name in ("05_comparison", "index"):
            made = text(soup(tmp_path / f"{name}.html").select_one(".made"))
            assert said in made if said else "Commit" not in made and "recorded" not in made


@pytest.fixture(scope="module")
def widest(tmp_path_factory):
    """A run of eight types, every cell of its matrices filled; its folder, and its figures' smallest letters in points."""
    draw, folder, shown = np.random.default_rng(0), tmp_path_factory.mktemp("runs") / "wide", []
    tags = ["O", *(f"{prefix}-{kind}" for kind in plots.TYPE_COLOURS for prefix in "BI")]
    counts = pd.DataFrame(draw.integers(1, 60, (17, 17)) + np.diag(draw.integers(0, 7000, 17)), tags, tags)
    trials = pd.DataFrame(draw.random((9, 8)), columns=[f"parameter_{number}" for number in range(8)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "display", shown.append)
        for name, figure in (("03_confusion_tags", plots.matrix(counts, "Confusion", "predicted", "gold")),
                             ("03_confusion_mentions", plots.matrix(counts.iloc[:11, :11], "Some", "predicted", "gold")),
                             ("03_learning_curves", plots.parallel(trials, "parameter_7", "Trials"))):
            plots.show(figure, folder / "figures" / name)
    notebook = nbformat.read(ROOT / "notebooks/03_training.ipynb", 4)
    outputs = [new_output("display_data", data, metadata=metadata)
               for data, metadata in (picture._repr_mimebundle_() for picture in shown)]
    notebook.cells[-1].outputs = [outputs[0], outputs[0], *outputs]  # three of tags, as notebook 03 has them
    nbformat.write(notebook, folder / "03_training.ipynb")
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    write_stages(folder, ["complete"] * 4)
    report.write_pages(folder)
    return folder, {Image.open(path.with_suffix(".png")).text["Description"]: 100 * min(  # a glyph has 100 units a point
        float(scale) for scale in re.findall(r"scale\(([\d.]+) -", path.read_text())) for path in folder.glob("figures/*.svg")}


def test_page_of_matrices_of_eight_types_has_at_most_a_megabyte_and_a_half(widest):
    assert len(soup(widest[0] / "03_training.html")("img")) == 5
    assert (widest[0] / "03_training.html").stat().st_size <= 1_500_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1440])
def test_letters_in_figures_are_shown_at_9_points_or_more(widest, chromium, width, scheme):
    folder, points = widest
    assert len(points) == 3 and set(points.values()) <= {9.0, 10.0}
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    for name, count in (("03_training", 5), ("index", 2)):
        page.goto((folder / f"{name}.html").as_uri())
        found = page.evaluate("""[...document.querySelectorAll('main img')].map(each => [each, getComputedStyle(each)]).map(
            ([each, style]) => [each.alt, (each.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight))
                                          / each.naturalWidth])""")
        assert len(found) == count
        assert [alt for alt, scale in found if points[alt] * scale * 2 < 8.99] == [], found  # natural: at 2×
    page.close()


VERDICT = {"difference": -0.00087, "t_interval": [-0.003, 0.0013], "verdict": "undecided"}
COMPARED = {"question": f"Which {ATTACK}?", "limits": "One toy corpus.", "part": "validation", "comparisons": {
    "a - b": VERDICT, "c - <b>": VERDICT | {"difference": 0.0102, "interval": [0.0062, 0.01425], "verdict": "difference"},
    "one seed": VERDICT | {"interval": [None, None], "t_interval": [None, None]}},
    "made": {"completed": "2025-11-23T13:11:46+00:00"}}


def compared(folder, stage, content=COMPARED):
    """The front page of a comparison with that record and those results."""
    (folder / "stages").mkdir()
    nbformat.write(new_notebook(cells=[CELLS[0]]), folder / "05_comparison.ipynb")
    if stage:
        (folder / "stages/05.json").write_text(json.dumps({"started": "2025-11-22T17:58:01+00:00"} | stage))
    (folder / "comparison.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return soup(report.write_pages(folder))


def test_front_page_of_a_comparison_gives_its_verdicts(tmp_path):
    page = compared(tmp_path, {"status": "complete", "seconds": 14.1})
    assert text(page.select_one(".lead")) == f"Which {ATTACK}?" and not page.select(".banner, main script, main b")
    assert rows(page.table) == {"a - b": ["-0.0009", "-0.0030 to +0.0013", "undecided"],
                                "c - <b>": ["+0.0102", "+0.0062 to +0.0143", "difference"],
                                "one seed": ["-0.0009", "–", "undecided"]}
    assert "One toy corpus." in text(page.main) and "validation part" in text(page.caption)
    assert page.main.a["href"] == "05_comparison.html" and (tmp_path / "05_comparison.html").is_file()
    assert text(page.select_one(".made")) == "Made 2025-11-23 13:11 UTC Took 14.1 s" and text(page.h1) == tmp_path.name


@pytest.mark.parametrize(("stage", "banner"), [
    ({"status": "failed", "error": f"ValueError: {ATTACK}"}, f"This comparison failed in 05 comparison. ValueError: {ATTACK}"),
    ({"status": "running"}, "This comparison is unfinished."), ({}, "This comparison is unfinished.")])
def test_front_page_of_a_comparison_that_did_not_end_shows_no_earlier_verdicts(tmp_path, stage, banner):
    page = compared(tmp_path, stage)
    assert text(page.select_one("header .banner")) == banner and not page.table and "undecided" not in text(page.main)
    assert "No verdicts yet" in text(page.select_one(".lead"))


@pytest.mark.parametrize("content", ["{", "[]", {"comparisons": 3}, {"comparisons": {}}, {}])
def test_front_page_of_a_comparison_stands_results_that_cannot_be_read(tmp_path, content):
    page = compared(tmp_path, {"status": "complete"}, content)
    assert "No verdicts yet" in text(page.select_one(".lead")) and text(page.h1) == tmp_path.name


def test_front_page_of_a_comparison_has_a_dash_for_each_number_that_is_missing(tmp_path):
    page = compared(tmp_path, {"status": "complete"}, {"comparisons": {"a": {}}})
    assert rows(page.table) == {"a": ["–", "–", "–"]} and text(page.select_one(".lead")) == "No question was given."


def test_run_that_a_comparison_stands_beside_keeps_its_front_page(tmp_path):
    write_stages(tmp_path, ["complete"] * 4)
    (tmp_path / "stages/05.json").write_text('{"status": "complete"}')
    for name, content in (("metrics", METRICS), ("run", RECORD), ("comparison", COMPARED)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert "0.822" in text(soup(report.write_index(tmp_path)).select_one(".lead"))


def test_page_of_a_search_says_when_and_by_which_commit(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    (tmp_path / "best.yaml").write_text("epochs: 2\n")
    trials = pd.DataFrame({"trial": [0, 1], "validation_f1": [0.7, 0.8], "epochs": [1, 2], "state": "complete"})
    page = soup(report.write_search(tmp_path, "Which?", "Few trials.", trials, None, {"commit": "abc1234def5678"}))
    assert before <= datetime.fromisoformat(page.select_one(".made time")["datetime"]) <= datetime.now(UTC)
    assert text(page.select_one(".made")).endswith("Commit abc1234def") and "started from" not in text(page)
    assert "The best of 2 trials has" in text(page.main) and "Few trials." in text(page.main)
    page = soup(report.write_search(tmp_path, "Which?", "", trials[:1], None, {}))
    assert "The best of 1 trial has" in text(page.main)
    page = soup(report.write_search(tmp_path, "Which?", "Few trials.", trials, 0, {}))
    assert "Trial 0 is the setting that the search started from: 0.700." in text(page)
    page = soup(report.write_search(tmp_path, "Which?", "Few trials.", trials.assign(state=["pruned", "complete"]), 0, {}))
    assert "Trial 0 is the setting that the search started from: it was ended early." in text(page)


def test_intervals_are_not_broken_and_long_names_of_rows_may_be():
    name = "(corpus-shape - none-shape) - (corpus - none)"
    frame = pd.DataFrame({"interval": ["+0.0071 to +0.0211", "–"], "verdict": ["1 to a", "2"]}, index=[name, "short"])
    [first, second] = BeautifulSoup(report._refine(frame.to_html())[2], "html.parser").select("tbody tr")
    assert first.th["class"] == ["long"] and "long" not in second.th["class"]
    assert ["num" in cell["class"] for cell in first("td")] == [True, False]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_table_that_is_cut_on_a_phone_has_a_shadow_at_that_side_alone(complete, chromium, tmp_path, scheme):
    page = chromium.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page.goto((complete / "index.html").as_uri())
    table = page.locator(".table").first
    table.evaluate("each => { each.querySelector('table').style.visibility = 'hidden'; each.scrollIntoView() }")
    wide = table.evaluate("each => each.scrollWidth - each.clientWidth")

    def ends(left):
        table.evaluate(f"each => {{ each.scrollLeft = {left} }}")
        table.screenshot(path=tmp_path / "table.png")
        row = Image.open(tmp_path / "table.png").convert("L")
        values = [row.getpixel((x, row.height // 2)) for x in range(row.width)]
        differ = [abs(value - values[row.width // 2]) for value in values]
        assert max(differ[40:-40]) <= 1
        return [max(differ[:40]), max(differ[-40:])]
    assert wide > 80
    for left, there in ((0, (False, True)), (wide / 2, (True, True)), (wide, (True, False))):
        shades = ends(left)
        assert [most > 15 if shadow else most <= 2 for most, shadow in zip(shades, there, strict=True)] == [True, True], shades
    columns = page.evaluate("""[...document.querySelectorAll('.contents li a')].map(each => each.getBoundingClientRect()).map(
        box => [box.left, Math.round(box.top)])""")
    left, right = ([top for x, top in columns if (x < 150) == first] for first in (True, False))
    assert len(right) > 1 and left[:len(right)] == right, "entries of both columns stand on the same lines"
    page.close()


# --- all runs

def made(reports, name, changed=None, statuses=("complete",) * 4, started="2025-11-22T17:58:01+00:00", fingerprint="f00d",
         **extra):
    """A run's folder with its records, as a run leaves it."""
    folder = reports / name
    folder.mkdir()
    write_stages(folder, statuses, error=f"ValueError: {ATTACK}")
    for path in (folder / "stages").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"started": started}))
    parameters = {"epochs": 3, "seed": 1, "pos": "corpus", "data": "x"} | (changed or {})
    record = RECORD | {"run": name, "completed": started, "changed": changed or {}, "parameters": parameters, "split": {
        "kind": "random", "fingerprint": fingerprint, "test": 9592}}
    for file, content in (("run.json", record), ("metrics.json", METRICS | extra), ("index.html", None)):
        (folder / file).write_text(json.dumps(content))
    return folder


def test_all_runs_stand_newest_first_by_split_with_what_distinguishes_them(tmp_path):
    made(tmp_path, "old", {"seed": 7}, started="2025-11-20T10:00:00+00:00")
    made(tmp_path, "new", {"seed": 7, "pos": "none", "data": "y"}, started="2025-11-21T10:00:00+00:00", test=None)
    made(tmp_path, "apart", {"epochs": 5}, started="2025-11-19T10:00:00+00:00", fingerprint="beef")
    made(tmp_path, "broken", statuses=["complete", "failed"])
    made(tmp_path, "going", statuses=["complete", "complete", "running"])
    (tmp_path / "results").mkdir()
    (tmp_path / "compared/stages").mkdir(parents=True)
    (tmp_path / "compared/stages/05.json").write_text('{"status": "failed"}')
    (tmp_path / "compared/index.html").write_text("")
    page = soup(report.write_runs(tmp_path))
    first, second, rest = page("table")
    assert list(rows(first)) == ["new", "old"] and list(rows(second)) == ["apart"]
    assert rows(first)["new"] == ["–", "0.722 0.701 to 0.743", "pos: none", "2025-11-21 10:00 UTC", "6 min 40 s"]
    assert rows(first)["old"][0] == "0.822 0.801 to 0.843" and rows(first)["old"][2] == "pos: corpus"
    assert text(page.select_one("section[aria-labelledby=comparisons] li")) == "compared failed"
    assert rows(second)["apart"][2] == "epochs: 5"
    assert rows(rest) == {"broken": ["failed", f"02 preprocessing: ValueError: {ATTACK}", "2025-11-22 17:58 UTC"],
                          "going": ["unfinished", "03 training", "2025-11-22 17:58 UTC"]}
    assert {link["href"] for link in page.select("main a")} == {
        f"{name}/index.html" for name in ("old", "new", "apart", "broken", "going", "compared")}
    assert text(page.select("h2")[0]) == "ner.csv: random split, 9,592 test sentences" and not page("script")


@pytest.mark.parametrize(("kinds", "scored", "label"), [
    (["among", "apart", "apart"], [], "ner.csv: among and apart splits, test part not scored"),
    (["apart", "apart", "among"], [1], "ner.csv: among and apart splits, 9,592 test sentences"),
    (["apart", "apart", "apart"], [], "ner.csv: apart split, test part not scored")])
def test_label_of_a_group_of_runs_says_what_is_true_of_all(tmp_path, kinds, scored, label):
    for number, kind in enumerate(kinds):
        folder = made(tmp_path, f"run-{number}", **({} if number in scored else {"test": None}))
        record = json.loads((folder / "run.json").read_text())
        record["split"]["kind"] = kind
        (folder / "run.json").write_text(json.dumps(record))
    page = soup(report.write_runs(tmp_path))
    [heading] = page("h2")
    assert text(heading) == page.select_one(".table")["aria-label"] == label


def test_a_run_that_a_process_is_at_work_on_is_running(tmp_path):
    folder = made(tmp_path, "going", statuses=["complete", "running"])
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert rows(soup(report.write_runs(tmp_path))("table")[0])["going"][0] == "running"
    assert rows(soup(report.write_runs(tmp_path))("table")[0])["going"][0] == "unfinished"


def test_runs_of_other_types_stand_apart_and_another_validation_part_is_named(tmp_path):
    made(tmp_path, "five")
    made(tmp_path, "eight", types=["art", "geo", "per"])
    record = json.loads((made(tmp_path, "other", started="2025-11-20T10:00:00+00:00") / "run.json").read_text())
    record["split"]["validation_fingerprint"] = "else"
    record["parameters"] |= {"lexicon": False, "word_shape": True}  # one at its default, which older records lack
    (tmp_path / "other/run.json").write_text(json.dumps(record))
    tables = [rows(table) for table in soup(report.write_runs(tmp_path))("table")]
    assert sorted(map(list, tables)) == [["eight"], ["five", "other"]]
    both = tables[[list(table) for table in tables].index(["five", "other"])]
    assert both["other"][1] == "0.722 0.701 to 0.743 (another part)" and both["five"][1] == "0.722 0.701 to 0.743"
    assert (both["five"][2], both["other"][2]) == ("word_shape: false", "word_shape: true")


@pytest.mark.parametrize("damage", [
    {"split": None}, {"split": {"kind": "random"}}, {"split": {"fingerprint": None}}, {"corpus": None}, {"corpus": {}},
    {"parameters": 3}, {"changed": None}])
def test_odd_record_makes_a_run_unfinished_and_harms_no_other(tmp_path, damage):
    made(tmp_path, "good")
    folder = made(tmp_path, "odd")
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | damage))
    first, rest = soup(report.write_runs(tmp_path))("table")
    assert list(rows(first)) == ["good"] and rows(rest)["odd"][0] == "unfinished"


@pytest.mark.parametrize("content", ["[]", "3", "{", "null", '{"status": "complete", "started": 5, "seconds": "x"}'])
def test_odd_stage_harms_no_other_run(tmp_path, content):
    made(tmp_path, "good")
    folder = made(tmp_path, "odd")
    for path in (folder / "stages").glob("*.json"):
        path.write_text(content)
    assert any("good" in rows(table) for table in soup(report.write_runs(tmp_path))("table"))


@pytest.mark.parametrize("content", [b"", b"PAR1 cut off", None, ["part"], ["part", "sentence", "word"]])
def test_front_page_stands_a_table_that_cannot_be_read(tmp_path, content):
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    write_stages(tmp_path, ["complete"] * 4)
    path = tmp_path / "predictions.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        pd.DataFrame({name: ["test"] for name in content}).to_parquet(path)
    page = soup(report.write_index(tmp_path))
    assert "0.822" in text(page.select_one(".lead")) and not page.select("section[aria-labelledby=errors]")


def test_run_of_notebook_03_alone_is_complete_on_its_page_too(tmp_path):
    folder = made(tmp_path, "swept", statuses=())
    (folder / "stages/03.json").write_text(json.dumps({"status": "complete", "started": "2025-11-22T17:58:01+00:00"}))
    assert not soup(report.write_index(folder)).select(".banner")
    assert list(rows(soup(report.write_runs(tmp_path)).table)) == ["swept"]


def test_all_runs_of_none_say_so_and_pages_link_back(complete, tmp_path):
    assert "There are no runs yet" in text(soup(report.write_runs(tmp_path)).main)
    folder = shutil.copytree(complete, tmp_path / "reports/gmb")
    page = soup(report.write_index(folder))
    assert page.select_one('header a[href="../index.html"]') and not soup(complete / "index.html").select_one('a[href^=".."]')


def test_module_writes_the_index_and_named_runs_again_and_refuses_unknown_ones(monkeypatch, tmp_path, capsys):
    (tmp_path / "reports").mkdir()
    made(tmp_path / "reports", "one")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr("nerlib.runs.ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["report", "one"])
    report.main()
    assert capsys.readouterr().out.split() == [str(tmp_path / "reports" / path) for path in ("one/index.html", "index.html")]
    monkeypatch.setattr("sys.argv", ["report", "two"])
    with pytest.raises(SystemExit, match="reports/two: no run of this name"):
        report.main()
