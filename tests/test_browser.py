"""Pages and notebooks in a real Chromium: what readers and explorers see, also of a corpus that means harm."""

import csv
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from importlib.resources import files
from urllib.parse import urlparse
from xml.etree import ElementTree

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import expect

from nerlib import plots, repeat, report, results, runs, search

pytestmark = pytest.mark.slow
NAMES = {  # entity type → its names; each is someone else's program somewhere: in HTML, Markdown, LaTeX, Jinja, a spreadsheet
    "<img/src=x/onerror=alert(2)>": ["<script>alert(1)</script>", '"><img/src=x/onerror=alert(1)>', "</style><b>bold",
                                     "\x1b[31mred\x1b[0m"],
    "=1+1": ["=cmd|'/c_calc'!A1", "+1+1", "@SUM(A1)", "-2+3"],
    "$t$": ["{{7*7}}", "$x^2$", "{%raw%}", "[x](javascript:alert(1))"],
    "`per`": ["`code`", "![i](http://example.org/a.png)", "</details>", "&lt;", "**b**"]}
OTHERS = ["_u_", "#", "|", "مرحبا", "😀", "e\u0301", "<!--", "in", "said"]
PAGES = ["index", *runs.STAGES]


@pytest.fixture(scope="module")
def hostile(tiny, tmp_path_factory):
    """A finished run on a corpus whose words, POS tags and entity types all mean harm: its folder."""
    draw, rows = random.Random(3), [("Sentence #", "Word", "POS", "Tag")]
    for number in range(200):
        for position in range(draw.randrange(4, 12)):
            name = draw.random() < 0.4 and draw.choice(list(NAMES))
            word = draw.choice(NAMES[name if draw.random() < 0.9 else draw.choice(list(NAMES))] if name else OTHERS)
            rows.append((f"Sentence: {number + 1}" if position == 0 else "", word, draw.choice(["<i>", "=2+2", "$P$", "NNP"]),
                         f"B-{name}" if name else "O"))
    path = tmp_path_factory.mktemp("corpus") / "hostile.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    run = f"test-{uuid.uuid4().hex[:12]}"
    values = {"run": run, "data": path, "entity_types": "all", "encoder": tiny, "epochs": 8, "learning_rate": 5e-3,
              "pos": "none", "head_learning_rate": 1e-2, "precision": "bf16", "batch_size": 8}
    done = subprocess.run([sys.executable, "-m", "nerlib", *(word for name, value in values.items()
                                                             for word in ("-p", name, str(value)))],
                          cwd=runs.ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    done = subprocess.run([sys.executable, "-m", "nerlib", "-p", "run", f"{run}-compared", "-p", "runs", run,
                           "-p", "comparisons", f"{run}@viterbi:{run}@argmax", "--only", "05"], cwd=runs.ROOT, text=True,
                          capture_output=True, timeout=900,
                          env=os.environ | {"JPY_SESSION_NAME": "papermill is not live, wherever it was started"})
    assert done.returncode == 0, done.stderr[-3000:]
    yield runs.ROOT / "reports" / run
    for name in (run, f"{run}-compared", f"{run}-lab"):
        shutil.rmtree(runs.ROOT / "reports" / name, ignore_errors=True)
    report.write_runs(runs.ROOT / "reports")


@pytest.fixture(scope="module")
def searched(hostile):
    """The page of a search: of a real study, with trials that were told to it."""
    plan = search.Search(name=f"{hostile.name}-searched", question="<script>alert(1)</script> or {{7*7}}?", trials=8,
                         log_between={"learning_rate": (1e-4, 1e-2)}, between={"dropout": (0, 0.5)},
                         among={"pos": ["none", "corpus"]})
    study = plan.study()
    for name, value in (("git", {"commit": "0123456789ab", "clean": True}), ("commits", []), ("data", {})):
        study.set_user_attr(name, value)
    for number in range(plan.trials):
        trial = study.ask()
        plan.suggest(trial)
        study.tell(trial, 0.7 + number / 100)
    yield search.write(plan)
    shutil.rmtree(runs.ROOT / "reports" / plan.name)


@pytest.fixture(scope="module")
def pages(hostile, searched):
    """The run's pages, those of a comparison and a search, and the index of all runs, by name."""
    report.write_runs(hostile.parent)
    compared = hostile.with_name(f"{hostile.name}-compared")
    return {name: hostile / f"{name}.html" for name in PAGES} | {
        "runs": hostile.parent / "index.html", "05_comparison": compared / "05_comparison.html",
        "comparison": compared / "index.html", "search": searched}


def opened(chromium, path, **options):
    """The page in a new window, what it asked the network for, and what it complained of."""
    context = chromium.new_context(**options)
    page, requests, complaints = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    return page, [url for url in requests if not url.startswith(("file:", "data:"))], complaints


@pytest.mark.parametrize("name", [*PAGES, "05_comparison", "comparison", "search", "runs"])
def test_page_is_quiet_accessible_and_fits_a_phone(chromium, pages, name):
    page, requests, complaints = opened(chromium, pages[name], viewport={"width": 360, "height": 800},
                                        bypass_csp=True)  # without the page's own guard: nothing in it may need guarding
    assert page.evaluate("document.documentElement.scrollWidth") <= 360 and pages[name].stat().st_size <= 1_500_000
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    page.evaluate(axe)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})")
        assert len(found["passes"]) > 15
        assert [(row["id"], [node["html"] for node in row["nodes"]][:3]) for row in found["violations"]] == []
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    if name == "05_comparison":  # all have the same colours of code, of which a page has thousands of pieces
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("axe.run(document, {runOnly: ['color-contrast']})")["violations"] == []
    assert requests == [] and complaints == []
    page.context.close()


def test_page_is_readable_in_light_dark_and_on_paper(chromium, pages):
    colours = {}
    for scheme in ("light", "dark"):
        page, *_ = opened(chromium, pages["03_training"], color_scheme=scheme)
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colours == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}
    page.emulate_media(media="print")
    assert not page.is_visible("header nav") and page.is_visible("h1") and page.is_visible("main img")
    page.emulate_media(media="screen")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_index_of_all_runs_leads_to_this_one(chromium, pages):
    page, *_ = opened(chromium, pages["runs"])
    page.get_by_role("link", name=pages["index"].parent.name, exact=True).click()
    assert page.url == pages["index"].as_uri()
    page.get_by_role("link", name="All runs").click()
    assert page.url == pages["runs"].as_uri()


def test_script_that_slipped_into_a_page_is_dead(chromium, pages, tmp_path):
    source = pages["03_training"].read_text("utf-8")
    (tmp_path / "x.html").write_text(source.replace("</body>", "<script>document.querySelector('h1').remove()</script></body>"))
    page, _, complaints = opened(chromium, tmp_path / "x.html")
    assert page.locator("h1").count() == 1 and "Content Security Policy" in complaints[0]


def test_whatever_the_corpus_says_is_text_in_pages(chromium, pages):
    seen = ""
    for path in pages.values():
        page, _, complaints = opened(chromium, path, bypass_csp=True)
        assert complaints == []
        assert page.evaluate("document.querySelectorAll('script, img:not([src^=\"data:\"]), [onerror]').length") == 0
        assert page.evaluate("[...document.links].filter(a => !/^(file|#)/.test(a.protocol)).length") == 0
        seen += page.evaluate("document.body.textContent")
    words = [word for name, found in NAMES.items() for word in (name, *found)]
    assert [word for word in words if re.sub("\x1b", "", word) not in re.sub("[\x1b\ufffd]", "", seen)] == []


def test_whatever_the_corpus_says_is_text_in_notebooks_figures_and_tables(hostile):
    compared = hostile.with_name(f"{hostile.name}-compared") / "05_comparison.ipynb"
    for path in [*(hostile / f"{stem}.ipynb" for stem in runs.STAGES), compared]:
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                for kind in ("text/html", "text/markdown"):
                    html = BeautifulSoup(output.get("data", {}).get(kind, ""), "html.parser")
                    assert not html(["script", "img", "b", "details"]) and not html.select("[onerror]")
                    if kind == "text/markdown":  # numeric references are no Markdown, and no formula within code
                        assert not re.search(r"\]\(|\$", output.get("data", {}).get(kind, "")), output
                assert not any("widget" in kind or "javascript" in kind for kind in output.get("data", {}))
    figures = {path.name: path.read_text("utf-8") for folder in (hostile, compared.parent)
               for path in folder.glob("figures/*.svg")}
    assert len(figures) > 12 and "&lt;img/src=x/onerror=alert(2)&gt;" in figures["03_f1.svg"]
    for name, svg in figures.items():
        elements = list(ElementTree.fromstring(svg).iter())
        tags = {element.tag.rpartition("}")[2].lower() for element in elements}
        assert "path" in tags and not tags & {"script", "img", "b", "foreignobject"}, name
        assert not [key for element in elements for key in element.attrib if key.startswith("on")], name
        assert "<img" not in svg and "<script" not in svg, name
    for path in hostile.glob("*.csv"):
        cells = [str(cell) for row in csv.reader(path.open(encoding="utf-8")) for cell in row]
        assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@")) and not re.fullmatch(r"-?[\d.e-]+", cell)] == []
    assert "'=1+1" in pd.read_csv(hostile / "classification_report.csv")["type"].tolist()


def test_dollars_in_a_figure_are_dollars(tmp_path):
    plots.save(plots.bars(pd.Series({"$x^2$": 1.0, "US$": 2.0}), "$t$", "$a$", "b", notes=["$n$", ""]), tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text("utf-8")
    drawn = re.findall(r'<use xlink:href="#DejaVuSans(?:-Bold)?-7"', svg)  # glyph 7: a dollar, which no formula draws
    assert len(drawn) == 2 + 1 + 2 + 2 + 2


def test_sentence_is_copied_as_plain_text_in_its_own_direction(chromium, pages):
    page, *_ = opened(chromium, pages["04_error_analysis"])
    found = page.evaluate("""[...document.querySelectorAll('.ner p[dir=auto]')].map(p => {
        getSelection().selectAllChildren(p); return [p.dir, getComputedStyle(p).direction, getSelection().toString()]})""")
    rows = pd.read_parquet(pages["index"].parent / "predictions.parquet")
    sentences = set(rows.groupby(["part", "sentence"])["word"].agg(" ".join))
    tagged = [text for _, _, text in found if "Lovelace" not in text]
    assert len(tagged) > 3 and {text.strip() for text in tagged} <= sentences
    assert any("مرحبا" in text or "😀" in text for text in tagged)
    first = {text.strip()[0]: direction for _, direction, text in found}
    assert all(direction == ("rtl" if "\u0600" < letter < "\u06ff" else "ltr") for letter, direction in first.items()
               if letter.isalpha())


# --- JupyterLab

@pytest.fixture(scope="module")
def lab(hostile, tmp_path_factory):
    """A JupyterLab with notebooks 03 and 04; opens one, edits its parameters, runs it all, and returns the page."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    settings = {"ServerApp.token": "t", "ServerApp.port": port, "ServerApp.root_dir": folder, "LabApp.news_url": "",
                "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate"}
    log = (folder / "log").open("w")
    server = subprocess.Popen([sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root",
                               *(f"--{name}={value}" for name, value in settings.items())], stdout=log, stderr=log)
    for _ in range(120):
        with socket.socket() as probe:
            if not probe.connect_ex(("localhost", port)):
                break
        assert server.poll() is None, (folder / "log").read_text()
        time.sleep(1)

    def run_all(page, stem, **values):
        record = runs.ROOT / "reports" / values["run"] / f"stages/{stem[:2]}.json"
        before = runs.read_json(record)["started"] if record.exists() else ""
        notebook = nbformat.read(runs.ROOT / f"notebooks/{stem}.ipynb", 4)
        [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in values.items())
        nbformat.write(notebook, folder / f"{stem}.ipynb")
        page.goto(f"http://localhost:{port}/lab/tree/{stem}.ipynb?token=t&reset")
        expect(page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=120_000)
        expect(page.get_by_text("| Idle")).to_be_visible(timeout=120_000)  # before it has a kernel, Run would ask for one
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        for _ in range(240):
            stage = runs.read_json(record) if record.exists() else {"started": before}
            if stage["started"] != before and stage["status"] == "complete":
                return
            page.wait_for_timeout(500)
        raise AssertionError(f"{stem} did not end: {stage}")
    yield run_all
    server.terminate()
    server.wait(30)


def test_error_browser_and_tagger_in_jupyterlab(chromium, lab, hostile):
    page = chromium.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    hosts, dialogs = set(), []
    page.on("request", lambda request: hosts.add(urlparse(request.url).hostname))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    lab(page, "04_error_analysis", run=hostile.name)

    def control(name):
        return page.get_by_label(name, exact=True)

    def wait_for(text):
        expect(page.locator(".widget-label").filter(has_text="sentences, page")).to_contain_text(text, timeout=60_000)

    rows = pd.read_parquet(hostile / "predictions.parquet").query("part == 'test'")
    wrong = rows[rows["gold"] != rows["predicted"]]  # each mention has one word here
    expect(control("kind")).to_be_attached(timeout=60_000)
    control("kind").scroll_into_view_if_needed()
    wait_for(f"{wrong['sentence'].nunique()} sentences, page 1 of")
    control("kind").select_option("missed")
    missed = wrong[wrong["predicted"] == "O"]
    wait_for(f"{missed['sentence'].nunique()} sentences, page 1 of")
    control("kind").select_option("all")
    control("search").fill("SUM(a1)")
    control("search").press("Enter")
    having = rows[rows["word"] == "@SUM(A1)"]["sentence"]
    wait_for(f"{wrong[wrong['sentence'].isin(having)]['sentence'].nunique()} sentences, page 1 of")
    control("search").fill("")
    control("search").press("Enter")
    page.get_by_role("button", name="next").click()
    wait_for("page 2 of")
    shown = page.locator(".jupyter-widgets .ner p[dir=auto]")
    assert 1 < shown.count() <= 8 + 1, "a page of them, and the sentence in the box"

    box = control("sentence")
    box.scroll_into_view_if_needed()
    box.fill("said **b** in <img src=x onerror=alert(3)> @SUM(A1)")
    box.press("Enter")
    page.wait_for_function("""() => {
        const shown = [...document.querySelectorAll('.jupyter-widgets .ner p')].at(-1).cloneNode(true)
        shown.querySelectorAll('sup').forEach(label => label.remove())
        return shown.textContent == 'said **b** in <img src=x onerror=alert(3)> @SUM(A1)'}""")

    table = page.locator("table.dataTable", has=page.get_by_text("precision", exact=True)).first
    table.scroll_into_view_if_needed()
    header = table.locator("thead th").nth(1)
    for _ in range(4):  # as it stands, upwards, downwards, as it stands again
        if header.get_attribute("aria-sort") == "descending":
            break
        header.get_by_role("button").click()
        page.wait_for_timeout(500)
    ordered = [float(cell) for cell in table.locator("tbody td:first-of-type").all_text_contents()]
    assert len(set(ordered)) > 1 and ordered == sorted(ordered, reverse=True)
    assert dialogs == [] and page.locator(".jp-OutputArea img:not([src^='data:'])").count() == 0
    assert hosts <= {"localhost", None}
    page.context.close()


def test_training_in_jupyterlab_gives_the_bytes_that_papermill_gives(chromium, lab, hostile):
    parameters = runs.read_json(hostile / "run.json")["changed"]
    page = chromium.new_page()
    lab(page, "03_training", **parameters | {"run": f"{hostile.name}-lab"})
    assert repeat.compare(hostile, hostile.with_name(f"{hostile.name}-lab")) == []
    page.close()


def test_published_json_of_a_hostile_run_is_read_again(hostile, tmp_path):
    results.publish(hostile.name, tmp_path)
    assert set(NAMES) <= set(json.loads((tmp_path / f"{hostile.name}.json").read_text("utf-8"))["test"]["default"])
