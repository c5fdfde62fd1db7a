"""Input that means harm: nothing that is read is run, no name leads out of reports/, no damaged weights are loaded."""

import ast
import hashlib
import json
import os
import re
import shutil
import tomllib
from importlib.metadata import distributions, version
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from safetensors.torch import load_file, save_file

from nerlib import __main__ as runner
from nerlib import comparison, encoder, model, report, results, runs, search, training
from nerlib.dataset import Vocabulary
from nerlib.params import Params
from nerlib.split import load
from nerlib.tagger import Tagger

# --- nothing is run

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
NAMES = {"eval", "exec", "compile", "__import__"}
CALLS = {"torch.load", "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load", "os.system",
         "os.popen", "yaml.unsafe_load_all", "pd.read_pickle", "pandas.read_pickle", "torch.hub.load", "runpy.run_path",
         "pd.eval"}
LOADERS = {"Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader", "CUnsafeLoader"}


def dangers(source: str) -> list[str]:
    """What in a source could run what is only to be read."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found += [node.module] if (node.module or "").split(".")[0] in MODULES else sorted(names & CALLS)
        if isinstance(node, ast.Attribute) and (node.attr in LOADERS or node.attr in ("read_pickle", "to_pickle")):
            found.append(node.attr)
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            if name in NAMES | CALLS:
                found.append(name)
            if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
                found.append(f"{name} without allow_pickle=False")
            if given.get("trust_remote_code", "False") != "False" or given.get("use_safetensors", "True") != "True":
                found.append("foreign code or weights")
            if given.get("shell", "False") != "False":
                found.append("shell")
    return found


SOURCES = {path.name: path.read_text("utf-8") for folder in ("nerlib", "benchmarks")
           for path in (runs.ROOT / folder).glob("*.py")} | {
    f"{path.name}, cell {number}": cell.source for path in (runs.ROOT / "notebooks").glob("*.ipynb")
    for number, cell in enumerate(nbformat.read(path, 4).cells) if cell.cell_type == "code"}


def test_no_source_can_run_what_it_reads():
    assert len(SOURCES) > 100 and {"model.py", "contest.py", "05_comparison.ipynb, cell 5"} <= set(SOURCES)
    assert {name: found for name, source in SOURCES.items() if (found := dangers(source))} == {}


@pytest.mark.parametrize("source", [
    "import pickle", "from pickle import loads", "import joblib.memory", "eval('1')", "exec(code)", "__import__('os')",
    "torch.load('x')", "torch.load('x', weights_only=True)", "np.load('x')", "np.load('x', allow_pickle=True)",
    "pd.read_pickle('x')", "table.to_pickle('x')", "yaml.load(text)", "yaml.load(text, Loader=yaml.SafeLoader)",
    "class A(yaml.Loader): pass",
    "yaml.unsafe_load(text)", "from torch import load", "AutoModel.from_pretrained('x', trust_remote_code=True)",
    "A.from_pretrained('x', trust_remote_code=params.trust)", "A.from_pretrained('x', use_safetensors=False)",
    "subprocess.run('ls', shell=True)", "def f():\n    return [eval(x) for x in y]", "os.system('ls')"])
def test_the_search_for_dangers_finds_them(source):
    assert dangers(source)


@pytest.mark.parametrize("source", ["net.eval()", "np.load('x', allow_pickle=False)", "re.compile('x')", "model.load(folder)",
                                    "yaml.safe_load(text)", "f(trust_remote_code=False)", "class A(yaml.SafeLoader): pass"])
def test_the_search_for_dangers_finds_no_others(source):
    assert dangers(source) == []


# --- no name leads out of reports/

NOT_NAMES = ["..", ".", "", "a/../../outside", "../outside", "a/b", "/etc", "//etc", "/", "~", ".hidden", "-p", "a b", "a\n",
             "a\0b",
             "a\\b", "*", "link", "%2e%2e", "ä", "a/", "$HOME"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A project with a folder beside its reports/ that looks like a run, and a link to it."""
    monkeypatch.setattr(runs, "ROOT", tmp_path / "project")
    outside, reports = tmp_path / "outside", tmp_path / "project/reports"
    reports.mkdir(parents=True)
    runs.write_json(outside / "run.json", {"run": "outside", "parameters": {"seed": 1}, "split": {"fingerprint": "f"}})
    for number in range(1, 6):
        runs.write_json(outside / f"stages/0{number}.json", {"status": "complete"})
    runs.write_json(outside / "metrics.json", {"test": {}, "types": ["geo"]})
    runs.write_json(outside / "comparison.json", {})
    (reports / "link").symlink_to(outside)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    yield tmp_path
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "project"]


@pytest.mark.parametrize(("file", "kind"), [
    ("run.json", "run"), ("stages/01.json", "run"), ("stages/04.json", "run"), ("comparison.json", "comparison"),
    ("stages/05.json", "comparison"), ("study.db", "search")])
def test_what_is_kept_under_a_name_is_not_overwritten_by_another_kind(place, monkeypatch, file, kind):
    path = runs.folder("mine") / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    for other in runs.KINDS:
        if other == kind:
            assert runs.folder("mine", other) == runs.folder("mine")
        else:
            with pytest.raises(ValueError, match=f"reports/mine holds a {kind}: give this {other} another name"):
                runs.folder("mine", other)

    def refused(main, *words):
        monkeypatch.setattr("sys.argv", ["x", *words])
        with pytest.raises(SystemExit, match=f"reports/mine holds a {kind}: give this"):
            main()
    if kind != "run":
        refused(runner.main, "-p", "run", "mine")
        with pytest.raises(ValueError, match="give this run another name"):
            runs.mark("mine", "03_training", "running")
    if kind != "comparison":
        refused(runner.main, "-p", "run", "mine", "-p", "runs", "a b", "--only", "05")
        with pytest.raises(ValueError, match="give this comparison another name"):
            runs.mark("mine", "05_comparison", "running")
    if kind != "search":
        (place / "project/search.yaml").write_text("name: mine\nquestion: which?\ntrials: 1\namong: {epochs: [1]}")
        refused(search.main, str(place / "project/search.yaml"))
    assert path.read_text() == "{}" and not (runs.place("mine") / "index.html").exists()


def repeat(name, monkeypatch):
    monkeypatch.setattr("sys.argv", ["nerlib.runs", "repeat", "--", name])
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(SystemExit) as ended:
        runs.main()
    raise ValueError(ended.value.code)


def pages(name, monkeypatch):
    monkeypatch.setattr("sys.argv", ["nerlib.report", name])
    with pytest.raises(SystemExit) as ended:
        report.main()
    raise ValueError(ended.value.code)


@pytest.mark.parametrize("name", NOT_NAMES)
@pytest.mark.parametrize("use", [
    runs.place, runs.folder, runs.Run.load, runs.enter_in_ledger, lambda name: runs.mark(name, "01_eda", "running"),
    lambda name: results.publish(name, runs.ROOT / "reports/results")], ids=[
        "place", "folder", "load", "ledger", "mark", "publish"])
def test_what_is_no_name_of_a_run_leads_nowhere(place, use, name):
    with pytest.raises(ValueError, match="cannot be a run|is not the name of a folder in"):
        use(name)


@pytest.mark.parametrize("name", [name for name in NOT_NAMES if not name.startswith("-")])  # those are options
def test_no_page_is_written_outside_of_reports(place, monkeypatch, name):
    with pytest.raises(ValueError, match="cannot be a run|is not the name of a folder in"):
        pages(name, monkeypatch)


@pytest.mark.parametrize("name", ["/etc", "..", "../outside", "/", "a/b", "link", "reports/../../outside", "OUTSIDE",
                                  "REPORTS/link", "REPORTS/..", "REPORTS/a/.."])
def test_nothing_outside_of_reports_is_made_again(place, monkeypatch, name):
    monkeypatch.chdir(place / "project")
    given = name.replace("OUTSIDE", str(place / "outside")).replace("REPORTS", str(place / "project/reports"))
    with pytest.raises(ValueError, match="not a folder in|cannot be a run|is not the name of a folder in"):
        repeat(given, monkeypatch)


@pytest.mark.parametrize("patterns", ["../*", "../outside", "/etc", "*", "**", "link", "l?nk", "[l]ink", "../../*/outside",
                                      "results/../*"])
def test_no_pattern_of_a_comparison_leads_out_of_reports(place, patterns):
    with pytest.raises((ValueError, FileNotFoundError), match="no finished run is called|is not the name of a folder in"):
        comparison.Comparison.of(patterns)


def test_reports_itself_may_lie_on_another_disk(tmp_path, monkeypatch):
    (tmp_path / "disk/a").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    (tmp_path / "project/reports").symlink_to(tmp_path / "disk")
    monkeypatch.setattr(runs, "ROOT", tmp_path / "project")
    assert runs.folder("a").samefile(tmp_path / "disk/a") and runs.folder("b").samefile(tmp_path / "disk/b")


# --- weights

VOCABULARY = Vocabulary(["O", "B-geo", "I-geo"], [])
LOADED = Params(pos="none", max_length=32)


@pytest.fixture
def saved(tiny, tmp_path):
    """The folder of a saved model."""
    params = LOADED.model_copy(update={"encoder": str(tiny)})
    net, tokenizer = model.build(params, VOCABULARY)
    model.save(net, tokenizer, VOCABULARY, None, params, tmp_path / "model")
    assert Tagger.load(tmp_path / "model")("Ada slept.") is not None
    return tmp_path / "model"


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path, left=1000):
    path.write_bytes(path.read_bytes()[:left])


def others(path):
    tensors = load_file(path)
    save_file(tensors | {"classifier.bias": tensors["classifier.bias"].repeat(2)}, path)


@pytest.mark.parametrize(("damage", "checked"), [(flip, True)] + [(damage, checked) for checked in (True, False) for damage in (
    cut, lambda path: cut(path, 0), lambda path: cut(path, -1), others)])
def test_damaged_weights_of_a_model_are_refused_by_name(saved, damage, checked):
    if not checked:  # as a model of an earlier version, which has no checksum
        about = runs.read_json(saved / "ner.json")
        about.pop("sha256")
        runs.write_json(saved / "ner.json", about)
    damage(saved / "model.safetensors")
    with pytest.raises(ValueError) as error:
        Tagger.load(saved)
    assert str(error.value).startswith(f"{saved / 'model.safetensors'} is damaged or ") and "train again" in str(error.value)


@pytest.mark.parametrize("content", ["", '{"labels": ["O"', "\xff"])
def test_a_damaged_description_of_a_model_is_refused_by_name(saved, content):
    (saved / "ner.json").write_text(content, "latin-1")
    with pytest.raises(ValueError, match="ner.json is damaged.*train again"):
        Tagger.load(saved)


@pytest.mark.parametrize("name", ["ner.json", "model.safetensors"])
def test_a_model_without_one_of_its_files_says_which(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no model here, {name} is missing"):
        Tagger.load(saved)


@pytest.mark.parametrize("damage", [cut, lambda path: cut(path, -1), lambda path: cut(path, 0)])
def test_damaged_weights_of_an_encoder_are_refused_by_name(tiny, tmp_path, damage):
    folder = shutil.copytree(tiny, tmp_path / "encoder")
    damage(folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"the weights in {folder} are damaged or incomplete"):
        model.load_encoder(LOADED.model_copy(update={"encoder": str(folder)}))


def test_code_that_comes_with_an_encoder_or_a_model_is_not_run(tiny, saved, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "encoder")
    for path in (folder, saved):
        (path / "mine.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\nclass A: pass\n")
        maps = {"AutoConfig": "mine.A", "AutoModel": "mine.A", "AutoTokenizer": ["mine.A", "mine.A"]}
        for name in ("config.json", "tokenizer_config.json"):
            runs.write_json(path / name, runs.read_json(path / name) | {"auto_map": maps})
    model.load_encoder(LOADED.model_copy(update={"encoder": str(folder)}))
    Tagger.load(saved)
    assert not (tmp_path / "pwned").exists()


# --- encoders of the hub: a cache as the hub's own client leaves it, and no network

COMMITS = ["1" * 40, "2" * 40]


@pytest.fixture
def hub(tiny, tmp_path, monkeypatch):
    """A cache with two commits of me/tiny: branch main is at the second, the tag v1 at the first."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    encoder._from_hub.cache_clear()
    repository = tmp_path / "hub/models--me--tiny"
    for commit in COMMITS:
        shutil.copytree(tiny, repository / "snapshots" / commit)
    weights = repository / "snapshots" / COMMITS[0] / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMITS[1])
    (repository / "refs/v1").write_text(COMMITS[0])
    yield repository
    encoder._from_hub.cache_clear()


@pytest.mark.parametrize(("revision", "number"), [("main", 1), ("v1", 0), (COMMITS[0], 0), (COMMITS[1], 1)])
def test_a_revision_is_pinned_and_its_commit_recorded(hub, tiny, tmp_path, revision, number):
    params = Params(encoder="me/tiny", encoder_revision=revision, pos="none", max_sentences=60, epochs=1, max_length=32)
    bert, _ = model.load_encoder(params)
    expected = load_file(hub / "snapshots" / COMMITS[number] / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert bert.embeddings.word_embeddings.weight.equal(expected)
    path, sha256 = encoder.locate(params)
    assert Path(path) == hub / "snapshots" / COMMITS[number]
    assert sha256 == hashlib.sha256((Path(path) / "model.safetensors").read_bytes()).hexdigest()
    origin = encoder.origin(params)
    assert len(origin.pop("config_and_tokenizer_sha256")) == 64
    assert origin == {"name": "me/tiny", "sha256": sha256, "revision": revision, "commit": COMMITS[number]}


def test_a_run_records_the_commit_and_is_trained_again_when_the_branch_has_moved(hub, tmp_path):
    params = Params(encoder="me/tiny", pos="none", max_sentences=60, epochs=1, max_length=32)
    data, split = load(params, runs.ROOT)
    result = training.train(params, data, split, tmp_path / "run")
    recorded = training.describe(params, data, split, result)["encoder"]
    assert (recorded["revision"], recorded["commit"]) == ("main", COMMITS[1])
    assert training.train(params, data, split, tmp_path / "run").record == result.record  # loaded
    (hub / "refs/main").write_text(COMMITS[0])
    encoder._from_hub.cache_clear()
    assert training.train(params, data, split, tmp_path / "run").record["key"] != result.record["key"]


@pytest.mark.parametrize(("name", "revision"), [
    ("me/tiny", "v9"), ("me/tiny", "3" * 40), ("me/other", "main"), ("me/ti ny", "main"), ("a/b/c", "main"),
    ("../no-such-folder", "main"), ("me/tiny", "../../x")])
def test_an_encoder_that_cannot_be_had_says_what_to_do(hub, name, revision):
    with pytest.raises(OSError) as error:
        model.load_encoder(Params(encoder=name, encoder_revision=revision, max_length=32))
    said = str(error.value)
    assert f"encoder {name!r} (revision {revision!r})" in said and "HF_HOME" in said and "minilm" in said


# --- dependencies

PROJECT = tomllib.loads((runs.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DIRECT = [Requirement(line) for line in sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])]
LOCK = (runs.ROOT / "requirements.lock").read_text("utf-8")
LOCKED = dict(line.split("==") for line in LOCK.splitlines() if not line.startswith("#"))
UNBOUND = {"pyarrow", "pillow", "ruff"}  # new majors every few months, which break little


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_installed_versions_are_those_that_the_project_declares(wanted):
    assert wanted.specifier.contains(version(wanted.name)), "run make test, which updates it"


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_the_lock_names_each_dependency_inside_its_bounds(wanted):
    assert wanted.specifier.contains(LOCKED[wanted.name.lower()]), "run make lock"


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_each_dependency_has_a_lower_bound_and_an_upper_one_where_majors_break(wanted):
    signs = {one.operator for one in wanted.specifier}
    assert signs & {">=", "=="} and (signs & {"<", "=="} or wanted.name in UNBOUND)


@pytest.mark.skipif("PIP_CONSTRAINT" not in os.environ, reason="not installed from the lock: PIP_CONSTRAINT is not set")
def test_a_clean_install_from_the_lock_has_its_versions_and_nothing_else():
    installed = {re.sub(r"[-_.]+", "-", found.name).lower(): Version(found.version).public for found in distributions()}
    assert {name: installed.get(name) for name in LOCKED} == LOCKED
    assert installed.keys() - LOCKED <= {"nerlib", "pip", "uv"}


def test_the_lock_holds_exact_public_versions_and_no_address():
    assert len(LOCKED) > 100 and all(str(Version(number)) == number and "+" not in number for number in LOCKED.values())
    assert "://" not in LOCK and "--" not in "".join(line for line in LOCK.splitlines() if not line.startswith("#"))
    assert not [name for name in LOCKED if name.startswith(("nvidia-", "cuda-", "triton"))]
    assert json.dumps(sorted(LOCKED)) == json.dumps(list(LOCKED))
