"""Comparisons of finished runs: real ones of a tiny encoder, through the functions and through notebook 05."""

import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import uuid
import zipfile

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from PIL import Image
from seqeval.metrics import f1_score

from nerlib import archive, evaluation, forest, paper, provenance, results, results_page, runs, statistics, training
from nerlib.comparison import Comparison, differing
from nerlib.highlight import code
from nerlib.params import Params
from nerlib.split import load

CELLS = {"none": {"pos": "none"}, "corpus": {}, "shape": {"word_shape": True, "pos": "none"}}
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def finish(tiny):
    """Finish a run as notebook 03 does; all names begin with `prefix`, and nothing is left behind."""
    prefix = f"test-{uuid.uuid4().hex[:8]}"
    few = {"encoder": str(tiny), "max_sentences": 300, "epochs": 4, "batch_size": 16, "precision": "fp32",
           "learning_rate": 5e-3, "head_learning_rate": 1e-2}

    def finish(name, **changes):
        params = Params(**few | {"run": f"{prefix}-{name}"} | changes)
        data, split = load(params, runs.ROOT)
        folder = runs.folder(params.run)
        result = training.train(params, data, split, folder)
        metrics = evaluation.metrics(result.predictions, pd.read_parquet(folder / "training.parquet"), result.record["labels"])
        metrics["intervals"] = {part: statistics.of_types(rows, metrics["types"])
                                for part, rows in result.predictions.groupby("part")}
        runs.write_json(folder / "metrics.json", metrics)
        runs.write_json(folder / "run.json", training.describe(params, data, split, result))
        return folder
    finish.prefix, finish.few = prefix, few
    yield finish
    for folder in (runs.ROOT / "reports").glob(f"{prefix}-*"):
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def nine(finish):
    """Three configurations with three seeds each; the pattern that finds them."""
    for (cell, changes), seed in itertools.product(CELLS.items(), SEEDS):
        finish(f"nine-{cell}-{seed}", seed=seed, score_test=False, **changes)
    return f"{finish.prefix}-nine-*"


def seqeval_f1(folder, part, column="predicted"):
    rows = pd.read_parquet(folder / "predictions.parquet").query("part == @part")
    return f1_score(*([group[name].tolist() for _, group in rows.groupby("sentence")] for name in ("gold", column)))


# --- which runs are one configuration, and which may be compared

def test_runs_are_grouped_by_name_without_seed_and_prefix(nine, finish):
    found = Comparison.of(nine)
    assert {name: sorted(seeds) for name, seeds in found.configurations.items()} == {cell: [1, 2, 3] for cell in CELLS}
    assert found.prefix == f"{finish.prefix}-nine-" and found.part == "validation"
    assert found.seeds(f"{found.prefix}none@viterbi") == found.seeds("none") == found.configurations["none"]


def test_a_single_configuration_keeps_its_name(nine, finish):
    assert list(Comparison.of(f"{finish.prefix}-nine-none-*").configurations) == [f"{finish.prefix}-nine-none"]


@pytest.mark.parametrize("names, message", [
    ("no-such-run", "no finished run is called 'no-such-run'"), ("", "name the finished runs")])
def test_runs_that_are_not_there_are_refused(nine, finish, names, message):
    with pytest.raises((FileNotFoundError, ValueError), match=re.escape(message)):
        Comparison.of(names.format(finish.prefix))


def test_runs_on_other_sentences_are_refused_and_named(nine, finish):
    finish("other-1", seed=1, split_seed=7, score_test=False)
    with pytest.raises(ValueError, match=rf"not scored on the same validation sentences.*leave out {finish.prefix}-other-1$"):
        Comparison.of(f"{nine} {finish.prefix}-other-1")


def test_other_training_sentences_are_allowed_and_lettered(finish):
    finish("part-a-1", seed=1)
    finish("part-b-1", seed=1, validation_size=0.3)
    found = Comparison.of(f"{finish.prefix}-part-*")
    assert found.part == "test"  # validation parts differ, test parts do not
    assert sorted(found.settings()["training part"]) == ["A", "B"] and found.settings().loc["a", "validation_size"] == 0.1


def test_a_configuration_is_one_in_all_but_the_seed(finish):
    finish("mixed-1", seed=1, score_test=False)
    finish("mixed-2", seed=2, score_test=False, dropout=0.3)
    with pytest.raises(ValueError, match=r"mixed' differ in more than the seed \(dropout\)"):
        Comparison.of(f"{finish.prefix}-mixed-*")


def test_runs_of_other_types_are_scored_on_the_shared_ones(finish):
    folders = [finish("types-five-1", seed=1), finish("types-two-1", seed=1, entity_types="geo per")]
    found = Comparison.of(f"{finish.prefix}-types-*")
    assert found.types == ["geo", "per"] and found.part == "test"
    rows = pd.read_parquet(folders[0] / "predictions.parquet").query("part == 'test'")
    kept = {name: [[tag if tag[2:] in ("geo", "per") else "O" for tag in group[name]] for _, group in rows.groupby("sentence")]
            for name in ("gold", "predicted")}
    assert found.f1("five")[1] == pytest.approx(f1_score(kept["gold"], kept["predicted"]))
    assert found.f1("two")[1] == pytest.approx(seqeval_f1(folders[1], "test"))
    by_type = found.by_type()
    assert set(by_type.columns) == {"geo", "gpe", "org", "per", "tim"} and by_type.loc["two"].isna().sum() == 3
    assert by_type.loc["five", "org"] == runs.read_json(folders[0] / "metrics.json")["test"]["default"]["org"]["f1-score"]


# --- scores and tests

def test_scores_are_seqevals_seed_by_seed(nine, finish):
    found = Comparison.of(nine)
    for cell in CELLS:
        folders = {seed: runs.ROOT / "reports" / f"{finish.prefix}-nine-{cell}-{seed}" for seed in SEEDS}
        expected = {seed: seqeval_f1(folder, "validation") for seed, folder in folders.items()}
        assert found.f1(cell) == pytest.approx(expected)
        row = found.scores().loc[cell]
        assert row["mean"] == pytest.approx(np.mean(list(expected.values()))) and row["seeds"] == 3
        assert row["one run low"] <= expected[1] <= row["one run high"]


def test_another_decoder_needs_no_other_run(nine):
    found = Comparison.of(nine)
    illegal = 0
    for seed, run in found.seeds("corpus").items():
        table = found.table(run, "viterbi")
        illegal += evaluation.illegal(table, "argmax")
        assert evaluation.illegal(table, "predicted") == 0
        assert found.f1("corpus@argmax")[seed] == found.f1("corpus")[seed]  # as trained
    assert illegal > 0
    with pytest.raises(ValueError, match="no configuration 'corpus@beam'"):
        found.f1("corpus@beam")


def test_verdicts_are_those_of_the_statistics(nine):
    found = Comparison.of(nine)
    verdicts = found.tested(found.contrasts("corpus:none corpus@viterbi:corpus@argmax shape:none:corpus:none@argmax"))
    assert list(verdicts) == ["corpus - none", "corpus: viterbi - argmax", "(shape - none) - (corpus - none@argmax)"]
    row, f1 = verdicts["corpus - none"], {name: found.f1(name) for name in ("corpus", "none")}
    assert row["differences"] == pytest.approx([f1["corpus"][seed] - f1["none"][seed] for seed in SEEDS])
    holm = statistics.holm([one["p"] for one in verdicts.values()])
    assert [one["p_holm"] for one in verdicts.values()] == holm  # one family
    last, shape = verdicts["(shape - none) - (corpus - none@argmax)"], found.f1("shape")
    assert last["differences"] == pytest.approx([shape[seed] - f1["corpus"][seed] for seed in SEEDS])


def test_slices_add_up_to_the_whole(nine):
    found = Comparison.of(nine)
    whole = found.counts("corpus", 1)[0].sum((0, 1))
    for by in ("novelty", "length"):
        assert (found.counts("corpus", 1, by, found.all[0])[0].sum((0, 1)) == whole).all()
    where, sizes = found.where(found.contrasts("corpus:none"), "type")
    gold = evaluation.mentions(found.table(found.all[0]), "gold")["type"].value_counts()
    assert sizes.loc["corpus - none"].to_dict() == gold.to_dict()
    geo = [np.mean([statistics.f1(found.counts(name, seed)[0].sum(0)[0]) for seed in SEEDS]) for name in ("corpus", "none")]
    assert where.loc["corpus - none", "geo"] == pytest.approx(geo[0] - geo[1])


def test_slices_leave_out_types_that_are_not_shared(finish):
    finish("slices-five-1", seed=1)
    finish("slices-two-1", seed=1, entity_types="geo per")
    found = Comparison.of(f"{finish.prefix}-slices-*")
    for name, by in itertools.product(("five", "two"), ("novelty", "length")):
        assert (found.counts(name, 1, by, found.all[0])[0].sum((0, 1)) == found.counts(name, 1)[0].sum((0, 1))).all()


def test_one_list_of_known_names_judges_both_sides(finish):
    finish("known-a-1", seed=1)
    finish("known-b-1", seed=1, validation_size=0.7)
    found = Comparison.of(f"{finish.prefix}-known-*")
    for name in ("a", "b"):
        few = found.counts(name, 1, "novelty", found.seeds("b")[1])[0].sum(0)
        assert few[0, 2] < found.counts(name, 1, "novelty", found.seeds("a")[1])[0].sum(0)[0, 2]  # fewer gold mentions are seen
        expected = statistics.f1(few)
        if name == "a":
            first = expected
    where, sizes = found.where(found.contrasts("a:b"), "novelty")
    assert where.loc["a - b"].tolist() == pytest.approx(list(first - expected))
    assert sizes.loc["a - b"].tolist() == list(few[:, 2])


def test_a_slice_without_a_gold_mention_has_no_difference(nine, monkeypatch):
    found = Comparison.of(nine)
    monkeypatch.setattr(found, "types", [*found.types, "art"])
    where, sizes = found.where(found.contrasts("corpus:none"), "type")
    assert sizes.loc["corpus - none", "art"] == 0 and np.isnan(where.loc["corpus - none", "art"])
    assert where.loc["corpus - none"].notna().sum() == 5
    _, alt = forest.differences(where, sizes, "Types", "type")
    assert alt.endswith("art (0) –")


@pytest.mark.parametrize("text, expected", [
    ("", ["corpus - none", "shape - none"]), ("shape:corpus", ["shape - corpus"]),
    ("shape:none  corpus@viterbi:corpus", ["shape - none", "corpus: viterbi - as trained"])])
def test_contrasts(nine, finish, text, expected):
    found = Comparison.of(nine)
    assert list(found.contrasts(text, "none")) == expected
    full = " ".join(":".join(f"{found.prefix}{name}" for name in entry.split(":")) for entry in text.split())
    assert list(found.contrasts(full, f"{found.prefix}none")) == expected
    assert found.contrasts("shape:corpus")["shape - corpus"] == ((1, "shape"), (-1, "corpus"))


@pytest.mark.parametrize("text, message", [
    ("corpus:none corpus", "'corpus'; write a:b"), ("corpus:corpus", "'corpus:corpus'; write a:b"),
    ("corpus:none corpus:none", "stands twice"), ("corpus:nun", "no configuration 'nun'")])
def test_wrong_contrasts_are_refused(nine, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Comparison.of(nine).contrasts(text)


def test_one_configuration_can_only_be_compared_with_itself(nine, finish):
    found = Comparison.of(f"{finish.prefix}-nine-none-*")
    with pytest.raises(ValueError, match="one configuration only"):
        found.contrasts("")
    name = next(iter(found.configurations))
    assert list(found.contrasts(f"{name}@viterbi:{name}@argmax")) == [f"{name}: viterbi - argmax"]


def test_a_name_that_begins_like_the_prefix_is_found(finish):
    finish("pre-pre-none-1", seed=1, score_test=False)
    finish("pre-base-1", seed=1, score_test=False)
    found = Comparison.of(f"{finish.prefix}-pre-*")
    assert set(found.configurations) == {"pre-none", "base"}
    assert found.seeds("pre-none") == found.seeds(f"{found.prefix}pre-none")
    verdict = found.tested(found.contrasts("pre-none:base"))["pre-none - base"]
    assert verdict["verdict"] == "undecided" and verdict["unit"] == "sentence"  # one seed, few sentences


# --- archives

@pytest.fixture
def archived(nine, tmp_path, monkeypatch):
    """The nine runs' archives in tmp_path, made by the command line, and their folders out of the way."""
    monkeypatch.setattr(archive, "ARCHIVES", tmp_path / "archives")
    monkeypatch.setattr(archive, "RESULTS", tmp_path)
    call(monkeypatch, "keep", nine)
    folders = [run.path for run in Comparison.of(nine).all]
    for folder in folders:
        folder.rename(tmp_path / folder.name)
    yield [tmp_path / folder.name for folder in folders]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        (tmp_path / folder.name).rename(folder)


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["nerlib.archive", *words])
    archive.main()


def test_restored_runs_are_compared_as_the_runs_were(archived, nine, monkeypatch, capsys):
    call(monkeypatch, "restore", nine, "-p", "data", "sample")
    assert capsys.readouterr().out.count("reports/") == 9
    for before in archived:
        after = runs.ROOT / "reports" / before.name
        for name in ("training.parquet", "predictions.parquet"):
            made = pd.read_parquet(after / name)
            pd.testing.assert_frame_equal(made, pd.read_parquet(before / name)[list(made)])
        assert {*made} >= {"part", "sentence", "position", "word", "gold", "predicted", "argmax", "viterbi"}
        assert (after / "metrics.json").read_bytes() == (before / "metrics.json").read_bytes()
        assert runs.read_json(after / "run.json") == results.record(runs.Run(before))
    found = Comparison.of(nine)
    by_seqeval = [seqeval_f1(path, "validation", "viterbi") for path in archived if "-corpus-" in path.name]
    assert list(found.f1("corpus@viterbi").values()) == pytest.approx(by_seqeval)
    with pytest.raises(FileNotFoundError, match="restored from its archive, which has no scores; remove"):
        runs.Run.load(archived[0].name, whole=True)
    call(monkeypatch, "restore", nine, "-p", "data", "sample")
    assert capsys.readouterr().out.count("is there already, and left as it is\n") == 9


@pytest.mark.parametrize("name, changes, parts", [
    ("tested", {"decoder": "viterbi", "validation_size": 0}, ["test"]), ("both", {"pos": "predicted"}, ["validation", "test"])])
def test_a_restored_run_has_the_parts_and_the_decoder_that_it_had(finish, tmp_path, name, changes, parts):
    folder = finish(f"{name}-1", seed=1, **changes)
    path, before = archive.keep(runs.Run(folder), tmp_path), pd.read_parquet(folder / "predictions.parquet")
    shutil.rmtree(folder)
    archive.restore(path, {})
    after = runs.Run.load(folder.name).predictions
    pd.testing.assert_frame_equal(after, before[list(after)])
    assert after["part"].unique().tolist() == parts and (before["argmax"] != before["viterbi"]).any()


def test_an_archive_is_the_same_twice_and_names_no_word_and_no_place(archived, monkeypatch):
    shutil.copytree(archived[0], again := runs.ROOT / "reports" / archived[0].name)
    record = runs.read_json(again / "run.json")
    record["parameters"]["data"] = record["changed"]["data"] = record["corpus"]["source"] = "/home/me/some.csv"
    runs.write_json(again / "run.json", record)
    [kept] = archive.ARCHIVES.glob(f"{again.name}.zip")
    first = archive.keep(runs.Run.load(again.name), archive.ARCHIVES).read_bytes()
    assert archive.keep(runs.Run.load(again.name), archive.ARCHIVES).read_bytes() == first
    shutil.rmtree(again)
    with zipfile.ZipFile(kept) as opened:
        texts = [opened.read(name) for name in opened.namelist()]
        assert opened.namelist() == ["run.json", "metrics.json", "history.csv", "tags.parquet"]
        assert {info.date_time for info in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    tags = pd.read_parquet(io.BytesIO(texts[3]))
    types = {"geo", "gpe", "org", "per", "tim"}
    assert {*tags.to_numpy().ravel()} <= {"O", *(f"{way}-{name}" for way in "BI" for name in types)}
    assert b"/home/me" not in b"".join(texts[:3]) and b'"data": "some.csv"' in texts[0]
    rows = pd.concat(pd.read_parquet(archived[0] / f"{name}.parquet") for name in ("training", "predictions"))
    names = set(evaluation.mentions(rows.reset_index(drop=True), "gold")["surface"])
    assert len(names) > 100 and not [one for one in names if " " in one and any(one.encode() in text for text in texts)]


@pytest.mark.parametrize("words, message", [
    (["-p", "data", "CORPUS"], "not from the sentences of .*other.csv: the run's corpus had the SHA-256 [0-9a-f]{12}"),
    (["-p", "epochs", "3"], "-p epochs: a run is kept and restored as it was made; restore takes data, data_test, data_val"),
    (["-p", "data", "nowhere.csv"], "there is no file .*nowhere.csv")])
def test_a_restore_from_another_corpus_is_refused(archived, nine, monkeypatch, tmp_path, words, message):
    types = ("geo", "gpe", "org", "per", "tim")
    lines = [f"{n},{word},NNP,{tag}" for n in range(400) for word, tag in (("Ida", f"B-{types[n % 5]}"), ("ran", "O"))]
    (tmp_path / "other.csv").write_text("Sentence #,Word,POS,Tag\n" + "\n".join(lines) + "\n", "utf-8")
    with pytest.raises(SystemExit, match=message):
        call(monkeypatch, "restore", nine, *[word.replace("CORPUS", str(tmp_path / "other.csv")) for word in words])
    assert not list((runs.ROOT / "reports").glob(f"{nine}/run.json"))


def changed(path, name, content):
    with zipfile.ZipFile(path) as opened:
        files = {one: opened.read(one) for one in opened.namelist()} | {name: content}
    with zipfile.ZipFile(path, "w") as made:
        for one, data in files.items():
            if data is not None:
                made.writestr(one, data)


def parquet(**columns):
    return pd.DataFrame(columns).to_parquet(index=False)


@pytest.mark.parametrize("spoil, message", [
    (lambda path: path.write_bytes(path.read_bytes()[:-30]), "not the archive of a run: File is not a zip file"),
    (lambda path: path.write_bytes(path.read_bytes().replace(b"PK\x03\x04", b"PK\x03\x05")), "not the archive of a run: "),
    (lambda path: changed(path, "history.csv", None), "not the archive of a run: .*history.csv"),
    (lambda path: changed(path, "run.json", b"[]"), "not the archive of a run: "),
    (lambda path: changed(path, "run.json", b"[" * 100_000), "not the archive of a run: "),
    (lambda path: changed(path, "metrics.json", b"{"), "not the archive of a run: "),
    (lambda path: changed(path, "tags.parquet", b"{"), "not the archive of a run: "),
    (lambda path: changed(path, "tags.parquet", parquet(argmax=["O"])), "not the archive of a run: .*viterbi"),
    (lambda path: changed(path, "tags.parquet", parquet(argmax=["O"], viterbi=["B-x"])), "'B-x' is none of the run's tags"),
    (lambda path: changed(path, "tags.parquet", parquet(argmax=["O"], viterbi=["O"])), r"tags of 1 words, and its .* have \d"),
    (lambda path: path.rename(path.with_name("results.zip")), "is the archive of the run .*corpus-1'; give it that name")])
def test_a_broken_archive_is_refused_and_leaves_nothing(archived, monkeypatch, spoil, message):
    before = sorted((runs.ROOT / "reports").iterdir())
    path = archive.ARCHIVES / f"{archived[0].name}.zip"
    spoil(path)
    [path] = [path] if path.exists() else archive.ARCHIVES.glob("results.zip")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*{message}"):
        archive.restore(path, {"data": "sample"})
    assert sorted((runs.ROOT / "reports").iterdir()) == before


def test_more_words_in_an_archive_than_tags_are_not_taken(archived, monkeypatch):
    path = archive.ARCHIVES / f"{archived[0].name}.zip"
    with zipfile.ZipFile(path) as opened:
        tags = pd.read_parquet(io.BytesIO(opened.read("tags.parquet")))
    changed(path, "tags.parquet", tags.assign(gold="O", word="x").to_parquet(index=False))
    made = pd.read_parquet(archive.restore(path, {"data": "sample"}) / "predictions.parquet")
    pd.testing.assert_frame_equal(made, pd.read_parquet(archived[0] / "predictions.parquet")[list(made)])


@pytest.mark.parametrize("words, message", [
    (["restore", "none-such"], "no archive is called 'none-such'"), (["keep", "none-such"], "no finished run is called"),
    (["keep", "x", "-p", "data", "y"], "-p data: a run is kept and restored as it was made"),
    (["restore", "x", "-p", "data", "y", "-p", "data", "z"], "-p data stands twice")])
def test_a_wrong_command_is_refused(monkeypatch, tmp_path, words, message):
    monkeypatch.setattr(archive, "ARCHIVES", tmp_path)
    with pytest.raises(SystemExit, match=message):
        call(monkeypatch, *words)


def test_runs_of_an_earlier_version_are_refused(finish, tmp_path):
    folder = finish("early-1", seed=1)
    pd.read_parquet(folder / "predictions.parquet").drop(columns="viterbi").to_parquet(folder / "predictions.parquet")
    for use in (lambda run: archive.keep(run, tmp_path), lambda run: Comparison.of(folder.name).table(run)):
        with pytest.raises(ValueError, match="early-1/predictions.parquet was made by an earlier version, without .* viterbi"):
            use(runs.Run(folder))


# --- notebook 05

@pytest.fixture(scope="module")
def compared(nine, finish):
    """Notebook 05 on the nine runs, through the runner."""
    name = f"{finish.prefix}-comparison"
    given = {"run": name, "runs": nine, "baseline": "none", "question": "Which, and why?", "limits": "One toy corpus.",
             "comparisons": "corpus:none shape:none corpus@viterbi:corpus@argmax"}
    done = subprocess.run([sys.executable, "-m", "nerlib", *(word for pair in given.items() for word in ("-p", *pair)),
                           "--only", "05"], cwd=runs.ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return runs.ROOT / "reports" / name


@pytest.mark.slow
def test_notebook_05_keeps_what_it_found(compared, nine):
    kept, found = json.loads((compared / "comparison.json").read_text("utf-8")), Comparison.of(nine)
    assert kept["part"] == "validation" and list(kept["comparisons"]) == [
        "corpus - none", "shape - none", "corpus: viterbi - argmax"]
    assert kept["f1"] == {name: {str(seed): value for seed, value in found.f1(name).items()} for name in CELLS}
    assert runs.read_json(compared / "stages/05.json")["status"] == "complete"


@pytest.mark.slow
def test_published_comparison_has_a_page_with_its_numbers_and_no_sentence(compared, tmp_path):
    results.publish(compared.name, tmp_path)
    content = runs.read_json(tmp_path / f"{compared.name}.json")
    page = (tmp_path / "README.md").read_text("utf-8")
    assert "**Question.** Which, and why?" in page and "**Limits.** One toy corpus." in page and content["methods"] in page
    for cell, row in content["scores"].items():
        assert (f"| {cell} | {row['mean']:.4f} | {row['sd']:.4f} | {row['low']:.4f} to {row['high']:.4f} | 3 | "
                f"{row['illegal tags']:,.1f} | {content['types_f1'][cell]['geo']:.4f} |") in page
    for title, row in content["comparisons"].items():
        [line] = [line for line in page.split("\n") if line.startswith(f"| {title} | {row['difference']:+.4f} |")]
        assert row["verdict"] in line
    for target in re.findall(r"\]\(([^)]+)\)", page):
        assert (tmp_path / target).exists() or target == "test-ledger.jsonl"
    words = " ".join(pd.read_parquet(runs.ROOT / "reports" / content["runs"][0] / "predictions.parquet")["word"][:12])
    assert all(words not in path.read_text("utf-8") for path in (*tmp_path.glob("*.json"), *tmp_path.glob("*.md")))


@pytest.mark.slow
def test_an_unfinished_comparison_is_not_published(compared, tmp_path):
    stage = runs.read_json(compared / "stages/05.json")
    runs.write_json(compared / "stages/05.json", stage | {"status": "running"})
    with pytest.raises(ValueError, match="notebook 05 is not complete"):
        results.publish(compared.name, tmp_path)
    runs.write_json(compared / "stages/05.json", stage)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f"{compared.name}.json").write_text('{"measured": 1}')
    with pytest.raises(ValueError, match=r"\.json holds something else; choose another name"):
        results.publish(compared.name, tmp_path)
    assert (tmp_path / f"{compared.name}.json").read_text() == '{"measured": 1}'


@pytest.mark.slow
def test_page_05_shows_tables_figures_with_alt_texts_methods_and_latex(compared):
    page = BeautifulSoup((compared / "05_comparison.html").read_text("utf-8"), "html.parser")
    alts = {Image.open(path).text["Description"] for path in (compared / "figures").glob("*.png")}
    assert {image["alt"] for image in page("img")} == alts and len(alts) == 4
    text = " ".join(page.get_text().split())
    assert "We fine-tuned" in text and "Holm" in text
    content = runs.read_json(compared / "comparison.json")
    for title, row in content["comparisons"].items():  # in LaTeX
        assert row["seeds"] == [1, 2, 3]
        spans = " & ".join(statistics.span(row[name]) for name in ("interval", "t_interval", "bootstrap_interval"))
        assert (f"{title} & {row['difference']:+.4f} & 3 & {spans} & {row['p_holm']:.4f} & {row['verdict']} & "
                f"{row['smallest_detectable']:.4f} \\\\") in text
    for cell, row in content["scores"].items():
        assert f"{cell} & {row['mean']:.4f} & {row['sd']:.4f} & {row['low']:.4f} & {row['high']:.4f} & 3 &" in text
    outputs = [output for cell in nbformat.read(compared / "05_comparison.ipynb", 4).cells if cell.cell_type == "code"
               for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr" and "Warning" in output.text] == []


@pytest.mark.slow
def test_notebook_05_finds_the_same_by_hand(compared, nine, finish, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "05_comparison.ipynb")  # as JupyterLab sets it
    notebook = nbformat.read(runs.ROOT / "notebooks/05_comparison.ipynb", 4)
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    by_hand = {"run": f"{finish.prefix}-by-hand", "runs": nine, "baseline": "none",
               "comparisons": "corpus:none shape:none corpus@viterbi:corpus@argmax"}
    for name, value in by_hand.items():
        cell.source = re.sub(rf"^{name}: str = '.*?'", f"{name}: str = {value!r}", cell.source, flags=re.M)
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": runs.ROOT / "notebooks"}}).execute()
    mine, theirs = (runs.read_json(runs.ROOT / "reports" / name / "comparison.json")
                    for name in (by_hand["run"], compared.name))
    assert mine["comparisons"] == theirs["comparisons"] and mine["f1"] == theirs["f1"]
    assert "itables" in str(notebook.cells)  # tables sort here


def test_a_parameter_that_an_older_run_does_not_know_had_its_default_there():
    old = {"dropout": 0.2, "seed": 1}
    assert differing([old, old | {"gradient_accumulation": 1}]) == set()
    assert differing([old, old | {"gradient_accumulation": 2}, {"dropout": 0.3, "seed": 1}]) == {
        "dropout", "gradient_accumulation"}


def test_latex_is_escaped_and_each_column_has_its_form():
    table = pd.DataFrame({"p_holm": [0.0123456, 1.0], "verdict": ["a & b", "100 %"],
                          "interval": [[-0.001, 0.002], [None, None]]}, index=["x_1 - y_2", "$"]).astype({"p_holm": object})
    lines = paper.latex(table, {"interval": statistics.span}).splitlines()
    assert lines[0] == r"\begin{tabular}{lrrr}" and lines[2] == r" & p holm & verdict & interval \\"
    assert lines[4:6] == [r"x\_1 - y\_2 & 0.0123 & a \& b & -0.0010 to +0.0020 \\", r"\$ & 1.0000 & 100 \% & – \\"]


@pytest.mark.parametrize("verdicts, wanted, unwanted", [
    ({"a - b": {"seeds": [1]}}, ["We tested 1 comparison.", "Of one seed alone nothing more can be said"], ["t intervals"]),
    ({"a - b": {"seeds": [1, 2, 3]}, "c - b": {"seeds": [1, 2]}},
     ["We tested 2 comparisons, declared in the plan before the runs.", "t intervals over 2 or 3 seeds"], ["one seed alone"]),
    ({"a - b": {"seeds": [1, 2, 3]}, "c - b": {"seeds": [1]}},
     ["t intervals over 3 seeds", "Of one seed alone nothing more can be said"], [])])
def test_methods_say_what_was_done(nine, verdicts, wanted, unwanted):
    rows = {title: row | {"unit": "block", "units": 96} for title, row in verdicts.items()}
    text = paper.methods(Comparison.of(nine), rows, "the plan" if len(rows) == 2 else "")
    assert all(part in text for part in [*wanted, "over 96 blocks (the scored ones of each 100 neighbours", "the split is one",
                                         f"3 configurations, which differ in <code>pos</code>, {code('word_shape')};"])
    assert not any(part in text for part in unwanted)


def test_methods_tell_of_several_training_parts(finish):
    finish("parts-a-1", seed=1)
    finish("parts-b-1", seed=1, validation_size=0.3)
    text = paper.methods(Comparison.of(f"{finish.prefix}-parts-*"), {"a - b": {"seeds": [1], "unit": "sentence", "units": 60}})
    assert "There are 2 training parts, and one that is scored." in text and "the split is one" not in text
    assert f"2 configurations, which differ in {code('validation_size')};" in text


def test_a_comparison_on_the_results_page_tells_of_rare_types_pos_accuracy_and_one_seed():
    score = {"mean": 0.8, "sd": 0.01, "low": 0.78, "high": 0.82, "seeds": 3, "illegal tags": 0.4, "POS accuracy": None}
    test = {"difference": 0.01, "interval": [0.001, 0.019], "t_interval": [None, None], "bootstrap_interval": [0.002, 0.018],
            "seeds": [2], "p_holm": 0.01234, "verdict": "undecided", "smallest_detectable": None}
    text = results_page.comparison("name", {
        "question": "Which?", "methods": "So.", "limits": "One.", "part": "test", "comparisons": {"b - a": test},
        "settings": {"a": {"seeds": 3, "pos": "none", "dropout": 0.1, "training part": "A", "training seconds": 9.1},
                     "b": {"seeds": 1, "pos": "corpus", "dropout": None, "training part": "B", "training seconds": 9.2}},
        "types_f1": {"a": {"per": 0.7}, "b": {"per": 0.71, "a|b": 0.0}},
        "scores": {"a": score, "b": score | {"POS accuracy": 0.98, "sd": None, "low": None, "high": None, "seeds": 1}}})
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert rows == [
        "| configuration | pos | dropout | training part |", "| --- | --- | --- | --- |",
        "| a | <code>none</code> | 0.1 | <code>A</code> |", "| b | <code>corpus</code> | – | <code>B</code> |",
        "| configuration | micro F1 | sd | t interval of the mean | seeds | illegal tags | POS accuracy | "
        "<code>a&#124;b</code> | <code>per</code> |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| a | 0.8000 | 0.0100 | 0.7800 to 0.8200 | 3 | 0.4 | – | – | 0.7000 |",
        "| b | 0.8000 | – | – | 1 | 0.4 | 0.9800 | 0.0000 | 0.7100 |",
        "| comparison | difference | seeds | interval | over seeds (t) | over sentences (bootstrap) | p (Holm) | verdict | "
        "smallest detectable |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| b - a | +0.0100 | 1 | +0.0010 to +0.0190 | – | +0.0020 to +0.0180 | 0.0123 | undecided | – |"]
    assert "- **undecided**\n    - b - a: +0.0100" in text and "the accuracy of the model’s own POS tags" in text


def test_the_answer_names_every_verdict_with_its_difference():
    rows = {"a - b": ("undecided", 0.00123), "c - b": ("difference", -0.02), "d - b": ("undecided", 0.0)}
    verdicts = {title: {"verdict": verdict, "difference": value} for title, (verdict, value) in rows.items()}
    assert paper.answer(verdicts, "test") == (
        "Differences of micro F1 on the test part, by verdict:\n\n"
        "- **difference**\n    - c - b: -0.0200\n- **undecided**\n    - a - b: +0.0012\n    - d - b: +0.0000")


@pytest.mark.parametrize("git, said", [
    ({"commit": "a" * 40, "clean": True}, "a" * 10), ({"commit": None, "clean": None}, "unknown"),
    ({"commit": "a" * 40, "clean": False}, "aaaaaaaaaa with uncommitted changes")])
def test_a_commit_in_short(git, said):
    assert provenance.commit(git) == said


@pytest.fixture(scope="module")
def finals(finish, tmp_path_factory):
    """One configuration on two splits, with three seeds and with one; a function that writes the files of the two sweeps."""
    folder = tmp_path_factory.mktemp("sweeps")
    common = finish.few | {"validation_size": 0, "epochs": 1}
    for name, seed, split in (("final-all-1", 1, 42), ("final-all-2", 2, 42), ("final-all-3", 3, 42), ("splits-7-1", 1, 7)):
        finish(name, seed=seed, split_seed=split, **common)

    def write(name, cells, seeds, **changes):
        path = folder / f"{uuid.uuid4().hex}.yaml"
        path.write_text(yaml.safe_dump({"name": f"{finish.prefix}-{name}", "question": f"How good is {name}?", "common": common,
                                        "limits": f"Limits of {name}.", "cells": cells, "seeds": seeds, "finals": [*cells]}
                                       | changes), "utf-8")
        return path
    write.common = common
    return write


def test_finals_are_the_test_scores_over_seeds_and_splits(finals, finish, tmp_path, monkeypatch):
    first = runs.read_json(runs.ROOT / "reports" / f"{finish.prefix}-final-all-1" / "metrics.json")["test"]["default"]
    (tmp_path / "tried.md").write_text("## Tried in vain\n\nMuch.\n")
    name = f"{finish.prefix}-final"
    runs.write_atomically(tmp_path / name / "03_f1.png", b"a picture, of which these runs, like restored ones, have none")
    files = [finals("final", {"all": {}}, [1, 2, 3]), finals("splits", {"7": {"split_seed": 7}}, [1])]
    assert results.finals(files, tmp_path) == tmp_path / f"{name}.json"
    content = runs.read_json(tmp_path / f"{name}.json")
    assert (tmp_path / name / "03_f1.png").is_file()
    by_hand = [seqeval_f1(runs.ROOT / "reports" / f"{name}-all-{seed}", "test") for seed in (1, 2, 3)]
    assert content["mean_over_seeds"] == pytest.approx(sum(by_hand) / 3)
    assert content["sd_over_seeds"] == pytest.approx(np.std(by_hand, ddof=1))
    assert [row["f1"] for row in content["runs_over_seeds"]] == pytest.approx(by_hand)
    assert content["report"]["micro avg"]["f1-score"] == pytest.approx(sum(by_hand) / 3)
    assert content["lookup"]["micro avg"]["support"] == first["micro avg"]["support"]
    [other] = content["runs_over_splits"]
    assert other["split_seed"] == 7 and other["f1"] == pytest.approx(
        seqeval_f1(runs.ROOT / "reports" / f"{finish.prefix}-splits-7-1", "test"))
    page = (tmp_path / "README.md").read_text("utf-8")
    assert page.endswith("\n\n## Tried in vain\n\nMuch.\n")
    assert "**Question.** How good is final?" in page and "**Limits.** Limits of final. Limits of splits." in page
    assert f"Test micro F1 {content['mean_over_seeds']:.4f} over 3 seeds on the test part (" in page
    assert f"on 1 other split {other['f1']:.4f}." in page and "source" not in page
    low, high = other["interval"]
    assert low < other["f1"] < high and f"| 7 | 1 | {other['f1']:.4f} | {low:.4f} to {high:.4f} |" in page
    supports = {name: (0, 0, 0, row["support"]) for name, row in first.items()}
    monkeypatch.setattr(evaluation, "SOURCE", supports)  # as if this corpus were the source's
    results.finals(files[:1], tmp_path)
    page = (tmp_path / "README.md").read_text("utf-8")
    assert "over 3 seeds on the source’s test part (" in page and "The source has 0.8454 on its test part." in page
    assert f"| the source’s | 1 | {by_hand[0]:.4f} |" in page and "**Limits.** Limits of final.\n" in page


def test_finals_that_are_no_such_are_refused(finals, finish, tmp_path):
    def refused(message, *files, error=ValueError):
        with pytest.raises(error, match=message):
            results.finals(files, tmp_path)
    unscored = {"score_test": False, "validation_size": 0.1}
    good = finals("final", {"all": {}}, [1, 2, 3])
    split = finals("splits", {"7": {"split_seed": 7}}, [1])
    refused("splits-8-1", good, finals("splits", {"8": {"split_seed": 8}}, [1]), error=FileNotFoundError)
    refused("declares no finals", finals("final", {"all": unscored}, [1, 2], finals=[]))
    refused("needed are two finals at least", finals("final", {"all": {}}, [1]))
    refused("needed are two finals at least", split, good)
    refused("final-all-1 was made with dropout = 0.2, not 0.3", finals("final", {"all": {"dropout": 0.3}}, [1, 2, 3]))
    finish("wide-all-1", seed=1, **finals.common | {"word_shape": True, "split_seed": 9})
    refused("differ in word_shape: finals are of one configuration", good,
            finals("wide", {"all": {"word_shape": True, "split_seed": 9}}, [1]))
    for seed in (1, 2):
        finish(f"untested-all-{seed}", seed=seed, **finals.common | unscored)
    refused("untested-all-1 did not score the test part", finals("untested", {"all": unscored}, [1, 2]))
    finish("again-7-2", seed=2, **finals.common | {"split_seed": 7})
    refused("splits-7-1 scored a test part that another run", good, split, finals("again", {"7": {"split_seed": 7}}, [2]))
    finish("same-all-4", seed=4, **finals.common)
    refused("same-all-4 scored a test part that another run", good, finals("same", {"all": {}}, [4]))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f"{finish.prefix}-final.json").write_text('{"run": {}}')
    refused("final.json holds something else; choose another name", good)
    assert (tmp_path / f"{finish.prefix}-final.json").read_text() == '{"run": {}}'
