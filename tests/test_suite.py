"""The whole: environment files, the notebooks' form, and real runs through papermill and `python -m nerlib`."""

import ast
import json
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
import uuid

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from nerlib import repeat, report, results, runs, training
from nerlib.params import Params
from nerlib.split import load

NOTEBOOKS = sorted((runs.ROOT / "notebooks").glob("*.ipynb"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "seaborn": "seaborn-base",
               "huggingface-hub": "huggingface_hub"}


# --- environment files

def test_environment_yml_and_pyproject_hold_the_same_dependencies_and_bounds():
    project = tomllib.loads((runs.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pip = dict(re.fullmatch(r"([\w.-]+)(.*)", line).groups() for line in project["dependencies"])
    conda_file = yaml.safe_load((runs.ROOT / "environment.yml").read_text("utf-8"))
    lines = [line for line in conda_file["dependencies"] if isinstance(line, str)]
    conda = dict(re.fullmatch(r"([\w.-]+)(.*)", line).groups() for line in lines)
    assert conda.pop("python") == project["requires-python"] and conda.pop("pip") == ""
    [section] = [entry["pip"] for entry in conda_file["dependencies"] if isinstance(entry, dict)]
    assert section[-1] == "-e ."
    by_pip = dict(re.fullmatch(r"([\w.-]+)(.*)", line).groups() for line in section[:-1])
    assert not set(by_pip) & set(conda)
    assert conda | by_pip == {name if name in by_pip else CONDA_NAMES.get(name, name): bound for name, bound in pip.items()}
    assert len(lines) + len(section) - 3 == len(project["dependencies"])  # none stands twice
    assert conda_file["channels"] == ["conda-forge", "nodefaults"]


def test_every_imported_package_is_a_declared_dependency():
    project = tomllib.loads((runs.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = ("sweep", "parallel", "kaggle")  # which one module each imports, where it is asked to
    lines = sum((project["optional-dependencies"][name] for name in extras), project["dependencies"])
    declared = {re.match(r"[\w-]+", line)[0].lower() for line in lines}
    names = {"sklearn": "scikit-learn", "yaml": "pyyaml", "IPython": "ipykernel", "PIL": "pillow", "nbformat": "nbconvert",
             "bs4": "nbconvert", "markupsafe": "jinja2",
             "huggingface_hub": "huggingface-hub", "psutil": "ipykernel"}  # nbformat, bs4, markupsafe, psutil come with those
    sources = [path.read_text("utf-8") for path in (runs.ROOT / "nerlib").glob("*.py")]
    sources += [cell.source for path in NOTEBOOKS for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    imported = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            imported |= {module.split(".")[0] for module in modules}
    foreign = imported - set(sys.stdlib_module_names) - {"nerlib"}
    assert {names.get(name, name) for name in foreign} <= declared


# --- the notebooks' form

def test_there_are_the_four_notebooks_of_a_run():
    assert {path.stem for path in NOTEBOOKS} >= set(runs.STAGES) and len(runs.STAGES) == 4


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_notebook_is_committed_clean_and_with_kernel_python3(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert "widgets" not in notebook.metadata and not any("papermill" in cell.metadata for cell in notebook.cells)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1


def test_notebook_calls_and_explains_more_than_it_computes(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert 10 <= len(code) <= 25 and len(prose) >= len(code)
    lengths = [len(cell.source.splitlines()) for cell in code if "parameters" not in cell.metadata.get("tags", [])]
    assert statistics.median(lengths) <= 5
    for node in (node for cell in code for node in ast.walk(ast.parse(cell.source))):
        assert not isinstance(node, ast.ClassDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 3, node.name


def test_notebook_asks_a_question_answers_it_and_gives_three_exercises(notebook):
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert notebook.cells[0].cell_type == "markdown" and prose[0].startswith("# ") and "**Question.**" in prose[0]
    assert sum(source.startswith("## Answer") for source in prose) == 1
    assert prose[-1].startswith("## Exercises") and re.findall(r"^(\d)\. ", prose[-1], re.M) == ["1", "2", "3"]
    assert prose[-2].startswith("## Answer")


def test_notebook_marks_its_stage_first_and_last(notebook, request):
    stem = request.node.callspec.params["notebook"].stem
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    marks = r'^stage = (?:runs\.)?mark\(params\.run, "(\w+)", "(\w+)"\)$'
    assert [re.findall(marks, source, re.M) for source in code] == [
        [], [(stem, "running")], *[[]] * (len(code) - 3), [(stem, "complete")]]
    assert re.fullmatch(marks, code[-1]) and notebook.cells[-1].cell_type == "code"


def test_a_run_is_of_a_clean_tree_if_all_but_parameter_files_and_results_is_committed(tmp_path):
    def git(*words):
        named = ["-c", "user.name=x", "-c", "user.email=x@y"]
        subprocess.run(["git", *named, *words], cwd=tmp_path, check=True, capture_output=True)

    def state():
        code = "import json, provenance; print(json.dumps(provenance.git_state()))"
        return json.loads(subprocess.run([sys.executable, "-c", code],
                                         cwd=tmp_path / "nerlib", check=True, capture_output=True, text=True).stdout)
    (tmp_path / "nerlib").mkdir()
    shutil.copy(runs.ROOT / "nerlib/provenance.py", tmp_path / "nerlib")
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    assert state() == {"commit": None, "clean": None}
    for words in (("init",), ("add", "."), ("commit", "-m", "all")):
        git(*words)
    assert state()["clean"] is True and len(state()["commit"]) == 40
    for folder in ("params", "reports/results"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "new").touch()
    assert state()["clean"] is True
    (tmp_path / "other.py").touch()
    assert state()["clean"] is False


# --- the runner

@pytest.fixture(scope="module")
def slot():
    """Names of runs that leave nothing behind."""
    names = []

    def new():
        names.append(f"test-{uuid.uuid4().hex[:12]}")
        return names[-1]
    yield new
    for name in names:
        shutil.rmtree(runs.ROOT / "reports" / name, ignore_errors=True)
    report.write_runs(runs.ROOT / "reports")


@pytest.fixture(scope="module")
def write_yaml(tmp_path_factory):
    def write(**values):
        path = tmp_path_factory.mktemp("params") / "few.yaml"
        path.write_text(yaml.safe_dump(values), "utf-8")
        return path
    return write


def nerlib(*arguments, timeout=900):
    return subprocess.run([sys.executable, "-m", "nerlib", *map(str, arguments)], cwd=runs.ROOT, capture_output=True, text=True,
                          timeout=timeout)


def papermill(notebook, output, *arguments, cwd=runs.ROOT):
    return subprocess.run([sys.executable, "-m", "papermill", str(notebook), str(output), "-k", "python3",
                           *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=900)


def statuses(folder):
    return {path.stem: runs.read_json(path)["status"] for path in sorted((folder / "stages").glob("*.json"))}


def seqeval_of(rows, **mode):
    tags = [[part[column].tolist() for _, part in rows.groupby("sentence", sort=False)] for column in ("gold", "predicted")]
    return classification_report(*tags, output_dict=True, zero_division=0, **mode)


def assert_metrics_are_seqevals(folder):
    metrics, rows = runs.read_json(folder / "metrics.json"), pd.read_parquet(folder / "predictions.parquet")
    assert set(rows["part"]) == {"validation", "test"}
    for part, group in rows.groupby("part"):
        assert metrics[part]["default"] == seqeval_of(group)
        assert metrics[part]["strict"] == seqeval_of(group, mode="strict", scheme=IOB2)
    return metrics, rows


@pytest.fixture(scope="module")
def finished(slot, write_yaml):
    """A whole run of 150 sentences: its folder, and what the runner printed."""
    run = slot()
    done = nerlib(write_yaml(run=run, max_sentences=150, epochs=1, learning_rate=5e-4, head_learning_rate=1e-2),
                  "-p", "batch_size", "8", "-p", "precision", "fp32")
    assert done.returncode == 0, done.stderr[-3000:]
    return runs.ROOT / "reports" / run, done


@pytest.mark.slow
def test_runner_makes_all_files_and_completes_all_stages(finished):
    folder, done = finished
    assert "unknown parameter" not in done.stdout + done.stderr, "no notebook is given what it does not take"
    expected = {f"{stem}.{suffix}" for stem in runs.STAGES for suffix in ("ipynb", "html")} | {
        "index.html", "metrics.json", "classification_report.txt", "classification_report.csv", "predictions.parquet",
        "scores.npy", "training.parquet", "history.csv", "figures", "model", "run.json", "stages", "adjudicate.csv",
        "adjudicate-key.json"}
    assert {path.name for path in folder.iterdir()} == expected | {".lock"}
    assert {path.name for path in (folder / "model").iterdir()} >= {"config.json", "model.safetensors", "ner.json",
                                                                    "tokenizer.json"}
    assert statuses(folder) == dict.fromkeys(["01", "02", "03", "04"], "complete")
    for stage in (runs.read_json(path) for path in (folder / "stages").glob("*.json")):
        assert stage["error"] is None and stage["seconds"] > 0 and runs.STAGES[stage["notebook"]] == stage["title"]
    for picture in (folder / "figures").glob("*.png"):
        assert picture.with_suffix(".svg").exists()
    assert {path.name[:2] for path in (folder / "figures").iterdir()} == {"01", "02", "03", "04"}


@pytest.mark.slow
def test_runner_prints_scores_and_the_path_of_the_page(finished):
    folder, done = finished
    metrics, _ = assert_metrics_are_seqevals(folder)
    assert done.stdout.strip().split("\n")[-1] == str(folder / "index.html")
    [micro] = re.findall(r"^micro avg +([\d.]+) +([\d.]+) +([\d.]+) +(\d+)", done.stdout, re.M)
    assert [float(value) for value in micro] == [
        pytest.approx(value, abs=1e-4) for value in metrics["test"]["default"]["micro avg"].values()]
    f1 = metrics["test"]["default"]["micro avg"]["f1-score"]
    assert f"{f1:.4f}" in (folder / "classification_report.txt").read_text()
    assert f"{f1:.4f}" in "".join(cell.source if cell.cell_type == "markdown" else json.dumps(cell.outputs)
                                  for cell in nbformat.read(folder / "03_training.ipynb", 4).cells)


@pytest.mark.slow
def test_runs_files_agree_with_each_other_and_with_its_parameters(finished):
    folder, _ = finished
    record, scores = runs.read_json(folder / "run.json"), np.load(folder / "scores.npy")
    assert record["run"] == folder.name and record["changed"] == {
        "run": folder.name, "max_sentences": 150, "epochs": 1, "batch_size": 8, "learning_rate": 5e-4,
        "head_learning_rate": 1e-2, "precision": "fp32"}
    metrics, rows = assert_metrics_are_seqevals(folder)
    assert [metrics["tags"][i] for i in scores.argmax(1)] == rows["predicted"].tolist()
    assert rows.groupby("part")["sentence"].nunique().to_dict() == {"validation": 12, "test": 30}
    assert pd.read_parquet(folder / "training.parquet")["sentence"].nunique() == 108
    report = pd.read_csv(folder / "classification_report.csv", index_col="type")
    assert report.loc["micro avg", "f1-score"] == pytest.approx(metrics["test"]["default"]["micro avg"]["f1-score"])
    assert len(pd.read_csv(folder / "history.csv")) == 1


@pytest.mark.slow
def test_every_figure_of_a_run_carries_its_alt_text_in_file_notebook_and_page(finished):
    folder, _ = finished
    alts = {Image.open(path).text["Description"] for path in (folder / "figures").glob("*.png")}
    cells = [cell for stem in runs.STAGES for cell in nbformat.read(folder / f"{stem}.ipynb", 4).cells]
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    assert {output.metadata["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})} == alts
    pages = [BeautifulSoup((folder / f"{stem}.html").read_text("utf-8"), "html.parser") for stem in runs.STAGES]
    assert {image["alt"] for page in pages for image in page("img")} == alts and len(alts) >= 10
    assert [output.text for output in outputs if output.get("name") == "stderr" and "Warning" in output.text] == []


@pytest.mark.slow
def test_model_has_a_card_with_its_scores_that_the_hub_can_read(finished):
    folder, _ = finished
    card, micro = ModelCard.load(folder / "model/README.md"), seqeval_of(
        pd.read_parquet(folder / "predictions.parquet").query("part == 'test'"))["micro avg"]
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == {
        "precision": micro["precision"], "recall": micro["recall"], "f1": micro["f1-score"]}
    assert card.data.base_model == "sentence-transformers/all-MiniLM-L6-v2" and "news" not in card.text
    ends = runs.read_json(folder / "metrics.json")["intervals"]["test"]["micro avg"]
    assert f"| {micro['f1-score']:.3f} | {ends['low']:.3f} to {ends['high']:.3f} | {micro['support']:,} |" in card.text
    assert "`learning_rate: 0.0005`" in card.text and "upper case alike" in card.text and "reads no plain text" in card.text


@pytest.mark.slow
def test_published_run_holds_scores_and_figures_but_neither_sentences_nor_paths(finished, tmp_path):
    folder, _ = finished
    results.publish(folder.name, tmp_path)
    content = runs.read_json(tmp_path / f"{folder.name}.json")
    assert content["test"] == runs.read_json(folder / "metrics.json")["test"] and len(content["stages"]) == 4
    assert content["run"]["parameters"] == runs.read_json(folder / "run.json")["parameters"]
    pictures = {path.name for path in (folder / "figures").glob("*.png")}
    assert {path.name for path in (tmp_path / folder.name).iterdir()} == pictures
    text = (tmp_path / f"{folder.name}.json").read_text("utf-8")
    assert str(runs.ROOT) not in text and "\"word\"" not in text


@pytest.mark.slow
def test_run_made_again_is_the_same_byte_by_byte_and_another_seed_is_not(finished, slot, tmp_path):
    folder, _ = finished
    done = subprocess.run([sys.executable, "-m", "nerlib.runs", "repeat", str(folder)], cwd=tmp_path, text=True,
                          capture_output=True)
    again = folder.with_name(f"{folder.name}-repeat")
    try:
        assert done.returncode == 0 and done.stdout.strip().split("\n")[-1] == "equal, byte by byte", done.stderr[-2000:]
        assert runs.read_json(again / "run.json")["parameters"]["learning_rate"] == 5e-4
        weights = again / "model/model.safetensors"
        tensors = load_file(weights)
        tensors["classifier.bias"] += 0.25
        save_file(tensors, weights)
        rows = pd.read_parquet(again / "predictions.parquet")
        rows.loc[:2, "predicted"] = "B-new"
        rows.to_parquet(again / "predictions.parquet", index=False)
        assert repeat.compare(folder, again) == [
            f"predictions.parquet differs: 3 of {len(rows):,} words have another tag",
            "model/model.safetensors differs: the largest difference of two numbers is 0.25"]
    finally:
        shutil.rmtree(again, ignore_errors=True)
    params = Params(**runs.read_json(folder / "run.json")["parameters"])
    for seed, same in ((params.seed, True), (params.seed + 1, False)):  # in this process, without notebook and papermill
        here = tmp_path / str(seed)
        training.train(params.model_copy(update={"seed": seed}), *load(params, runs.ROOT), here)
        assert (not repeat.compare(folder, here)) == same


@pytest.mark.slow
def test_a_repeat_trains_again_whatever_an_earlier_one_left_in_bf16_too(tiny, slot):
    def stop(epoch, f1):
        raise InterruptedError
    params = Params(run=slot(), encoder=str(tiny), max_sentences=60, epochs=1, max_length=32, precision="bf16")
    given, folder = load(params, runs.ROOT), runs.folder(params.run)
    again = folder.with_name(f"{folder.name}-repeat")
    try:
        with pytest.raises(InterruptedError):  # one that was killed after its last step
            training.train(params, *given, again, watch=stop)
        assert list((again / "checkpoints").iterdir())
        made = training.train(params, *given, folder)
        runs.write_json(folder / "run.json", training.describe(params, *given, made))
        shutil.copytree(folder / "model", again / "model")  # one that was finished
        for name in ("predictions.parquet", "scores.npy", "history.csv", "training.parquet"):
            shutil.copy(folder / name, again)
        assert repeat.repeat(folder) == []  # through papermill what was made here without it
        record = runs.read_json(again / "model/training.json")
        assert record["made"]["completed"] > made.record["made"]["completed"] and record["resumed_at"] == []
    finally:
        shutil.rmtree(again, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["none", str(runs.ROOT / "reports/none")])
def test_repeat_of_nothing_says_what_is_missing(given):
    done = subprocess.run([sys.executable, "-m", "nerlib.runs", "repeat", given], text=True, capture_output=True)
    assert done.returncode == 1 and "reports/none/run.json: no finished training under this name" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("model", ["nothing", "everything"])
def test_notebook_04_reads_a_model_that_finds(finished, slot, tmp_path, model):
    run = slot()
    folder = shutil.copytree(finished[0], runs.ROOT / "reports" / run, ignore=shutil.ignore_patterns("model", "0*.*"))
    rows = pd.read_parquet(folder / "predictions.parquet")
    rows["predicted"] = rows["gold"] if model == "everything" else "O"
    rows.to_parquet(folder / "predictions.parquet", index=False)
    done = papermill("notebooks/04_error_analysis.ipynb", tmp_path / "out.ipynb", "-p", "run", run)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [output.data["text/markdown"] for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells
            if cell.cell_type == "code" for output in cell.outputs if "text/markdown" in output.get("data", {})]
    assert ("The model makes no error." if model == "everything" else "**missed** is the most frequent kind (100%)") in said[-1]
    assert not [text for text in said if "nan" in text]


@pytest.fixture(scope="module")
def failed(finished, write_yaml, tmp_path_factory):
    """The same slot again, with parameters that notebook 03 alone cannot do: what the first run left is there."""
    alike = tmp_path_factory.mktemp("corpus") / "alike.conll"
    alike.write_text("Bern X B-geo\nslept X O\n\n" * 60)
    folder, _ = finished
    before = runs.read_json(folder / "metrics.json")["test"]["default"]["micro avg"]["f1-score"]
    done = nerlib(write_yaml(run=folder.name, data=str(alike), entity_types="geo", pos_init="pretrained"))
    return folder, done, before


@pytest.mark.slow
def test_runner_names_the_failing_cells_own_error_last_and_exits_with_1(failed):
    _, done, _ = failed
    assert done.returncode == 1
    assert done.stderr.strip().split("\n")[-1].endswith(
        "ValueError: pos_init = pretrained: the training part's POS sequences say nothing, all of its tags are alike")


@pytest.mark.slow
def test_failed_stage_is_recorded_and_its_page_made(failed):
    folder, done, _ = failed
    assert statuses(folder) == {"01": "complete", "02": "complete", "03": "failed"}
    stage = runs.read_json(folder / "stages/03.json")
    assert stage["error"].startswith("ValueError: pos_init = pretrained") and stage["seconds"] > 0
    assert "say nothing" in (folder / "03_training.html").read_text("utf-8")
    assert "failed" in BeautifulSoup((folder / "index.html").read_text("utf-8"), "html.parser").get_text().lower()
    assert not (folder / "04_error_analysis.ipynb").exists() and not (folder / "04_error_analysis.html").exists()
    assert str(folder / "index.html") in done.stderr


@pytest.mark.slow
def test_failed_run_does_not_show_the_scores_of_the_run_before_it_as_its_own(failed):
    folder, _, before = failed
    page = BeautifulSoup((folder / "index.html").read_text("utf-8"), "html.parser")
    assert f"{before:.3f}" not in page.get_text() and not page("img")


@pytest.mark.slow
def test_failed_run_leaves_the_results_of_the_run_before_it(failed):
    folder, _, before = failed
    kept = runs.read_json(folder / "before/metrics.json")["test"]["default"]["micro avg"]["f1-score"]
    assert kept == before and runs.Run(folder / "before").record["run"] == folder.name
    pages = {path.stem for path in (folder / "before").glob("*.html")}
    assert pages == {*runs.STAGES, "index"}


@pytest.mark.slow
def test_broken_corpus_is_refused_in_one_line_before_anything_runs(slot, tmp_path, write_yaml):
    broken = tmp_path / "broken.csv"
    broken.write_text("Sentence #,Word,POS,Tag\nSentence: 1,Bern,NNP,B-geo\n,slept,VBD,XX\n")
    run = slot()
    done = nerlib(write_yaml(run=run, data=str(broken)))
    assert done.returncode == 1
    [said] = done.stderr.strip().split("\n")
    assert said.startswith(f"{broken}, line 3: tag 'XX' is not in BIO form")
    assert not (runs.ROOT / "reports" / run).exists() and done.stdout == ""


@pytest.mark.parametrize("values, arguments, message", [
    ({"epohs": 1}, [], "epochs"), ({}, ["missing.yaml", "-p", "epochs", "0"], "missing.yaml")])
def test_runner_refuses_wrong_parameters_before_anything_runs(slot, write_yaml, values, arguments, message):
    run = slot()
    done = nerlib(write_yaml(run=run, **values), *arguments)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and not (runs.ROOT / "reports" / run).exists()


@pytest.mark.slow
@pytest.mark.parametrize("cwd", ["", "notebooks"])
def test_papermill_works_from_the_root_and_from_notebooks(slot, tmp_path, cwd):
    run, here = slot(), runs.ROOT / cwd
    name, few = ("03_training.ipynb", "../params/quickstart.yaml") if cwd else ("notebooks/03_training.ipynb",
                                                                              "params/quickstart.yaml")
    done = papermill(name, tmp_path / "out.ipynb", "-f", few, "-p", "run", run, "-p", "epochs", 1, "-p", "max_sentences", 60,
                     cwd=here)
    assert done.returncode == 0, done.stderr[-3000:]
    assert Params(**runs.Run.load(run).record["parameters"]) == Params(run=run, epochs=1, max_sentences=60)
    assert not (here / "reports" / run / "run.json").exists() or not cwd


@pytest.mark.slow
@pytest.mark.parametrize("inputs", [{"pos": "predicted", "word_shape": "true", "lexicon": "true", "decoder": "viterbi"},
                                    {"pos": "auxiliary"},
                                    {"pos": "shuffled", "pos_init": "pretrained", "validation_size": "0"}])
def test_notebooks_explain_and_train_every_kind_of_input(slot, inputs):
    run = slot()
    given = {"run": run, "max_sentences": 80, "epochs": 1} | inputs
    for number in ("02", "03", "04"):
        done = nerlib(*(word for pair in given.items() for word in ("-p", *pair)), "--only", number)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    rows = pd.read_parquet(runs.ROOT / "reports" / run / "predictions.parquet")
    assert rows["pos_predicted"].notna().all() == (inputs["pos"] in ("predicted", "auxiliary"))
    assert statuses(runs.ROOT / "reports" / run) == {"02": "complete", "03": "complete", "04": "complete"}


@pytest.mark.slow
@pytest.mark.corpus
def test_real_corpus_through_notebook_03_scores_as_seqeval_does(slot, gmb, tmp_path):
    run = slot()
    done = papermill("notebooks/03_training.ipynb", tmp_path / "out.ipynb", "-f", "params/gmb.yaml", "-p", "run", run,
                     "-p", "data", gmb, "-p", "max_sentences", 1500, "-p", "epochs", 1)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = runs.ROOT / "reports" / run
    metrics, rows = assert_metrics_are_seqevals(folder)
    assert rows.groupby("part")["sentence"].nunique().to_dict() == {"validation": 120, "test": 300}
    assert metrics["test"]["default"]["micro avg"]["f1-score"] > 0.4
    assert statuses(folder) == {"03": "complete"}


@pytest.mark.slow
@pytest.mark.corpus
def test_notebook_01_shows_the_sources_test_set(slot, gmb, tmp_path):
    done = papermill("notebooks/01_eda.ipynb", tmp_path / "out.ipynb", "-f", "params/gmb.yaml", "-p", "run", slot(),
                     "-p", "data", gmb)
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [output for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells if cell.cell_type == "code"
               for output in cell.outputs if "text/html" in output.get("data", {})]
    tables = [re.sub(r"<[^>]+>|\s+", " ", output.data["text/html"]) for output in outputs]
    [split] = [text for text in tables if "validation" in text and "sentences" in text]
    assert "34,530 3,837 9,592" in " ".join(split.split())
    for kind, support in {"geo": "7,664", "gpe": "3,175", "org": "3,913", "per": "3,389", "tim": "4,049"}.items():
        assert re.search(rf"{kind} \S+ \S+ {support} ", " ".join(split.split()))
