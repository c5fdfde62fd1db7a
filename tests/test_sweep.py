"""Sweeps: their files, and Snakemake itself, killed in the middle and started again."""

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import yaml

from nerlib import hardware, runs
from nerlib.params import Params
from nerlib.sweep import Sweep

FEW = {"name": "few", "question": "which?", "common": {"epochs": 1, "max_sentences": 150, "score_test": False}, "seeds": [1, 2],
       "grid": {"pos": ["none", "corpus"], "word_shape": [False, True]}, "cell": "{pos}-{word_shape}"}


def write(folder, **changes):
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(FEW | changes), "utf-8")
    return path


@pytest.mark.parametrize("file", sorted((runs.ROOT / "params/sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_sweeps_load_and_are_named_like_their_files(file):
    sweep = Sweep.load(file)
    assert sweep.name == file.stem and len(sweep.runs()) == len(sweep.configurations()) * len(sweep.seeds)
    assert sweep.limits and (sweep.finals or len(sweep.seeds) >= 3 and sweep.comparisons)
    params = [Params.from_yaml(*sweep.files(), **values) for values in sweep.runs().values()]
    assert sum(one.score_test for one in params) <= len(sweep.finals) * len(sweep.seeds)  # choosing reads no test part


def test_grid_makes_each_combination_with_each_seed(tmp_path):
    sweep = Sweep.load(write(tmp_path, cells={"wide": {"pos_dim": 9}}))
    assert list(sweep.configurations()) == ["wide", "none-false", "none-true", "corpus-false", "corpus-true"]
    assert len(sweep.runs()) == 10
    assert sweep.runs()["few-none-true-2"] == {
        "epochs": 1, "max_sentences": 150, "score_test": False, "pos": "none", "word_shape": True, "seed": 2,
        "run": "few-none-true-2"}


def test_arguments_give_the_runner_the_parameters_of_the_run(tmp_path):
    layer = tmp_path / "layer.yaml"
    layer.write_text("epochs: 5\ndropout: 0.5\n")
    sweep = Sweep.load(write(tmp_path, layers=[str(layer)]))
    words = sweep.arguments("few-none-true-2", data="other.csv")
    given = dict(zip(words[2:-2:3], words[3:-2:3], strict=True))
    assert words[0] == str(layer) and words[-2:] == ["--only", "03"] and set(words[1:-2:3]) == {"-p"}
    assert Params.from_yaml(layer, **given) == Params(run="few-none-true-2", seed=2, epochs=1, max_sentences=150, pos="none",
                                                      word_shape=True, dropout=0.5, data="other.csv", score_test=False)


@pytest.mark.parametrize("changes, message", [
    ({"seed": [1]}, "seed: Extra inputs"), ({"seeds": []}, "seeds"), ({"seeds": [1, 1]}, "names one twice"),
    ({"grid": {}}, "neither cells nor grid"), ({"cell": "{pos}"}, "makes the name 'none' twice"),
    ({"comparisons": [["none-true", "none-maybe"]]}, "no configuration is called 'none-maybe'"),
    ({"comparisons": [["none-true", "none-false@vitrbi"]]}, "no configuration is called 'none-false@vitrbi'"),
    ({"comparisons": [["none-true", "none-true"]]}, "names one twice"), ({"comparisons": [["none-true"]]}, "neither a pair"),
    ({"comparisons": [["none-true", "none-false"] for _ in "12"]}, "stands twice"), ({"cell": "{poss}"}, "names 'poss'"),
    ({"comparisons": [["none-true", "none-false"]], "seeds": [1]}, "two seeds"),
    ({"common": {"epohs": 1}}, "did you mean 'epochs'"), ({"grid": {"pos": ["nun"], "word_shape": [True]}}, "'nun'"),
    ({"name": "a b"}, "name"), ({"common": {"epochs": 1}}, "none-false would score the test part"),
    ({"finals": ["none-maybe"]}, "finals: no configuration is called 'none-maybe'")])
def test_a_sweep_that_cannot_run_is_refused_before_anything_runs(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        Sweep.load(path)
    assert str(raised.value).startswith(str(path))


def test_check_wants_all_runs_as_the_file_says(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    sweep = Sweep.load(write(tmp_path))

    def finish(run, **changes):
        runs.write_json(tmp_path / "reports" / run / "run.json", {
            "parameters": Params(**sweep.runs()[run] | {"data": "elsewhere.csv"} | changes).model_dump()})
    for run in sweep.runs():
        with pytest.raises(FileNotFoundError, match=run):
            sweep.check()
        finish(run)
    sweep.check()
    finish("few-none-true-2", dropout=0.7)
    with pytest.raises(ValueError, match=r"few-none-true-2 was made with dropout = 0.7, not 0.2"):
        sweep.check()


def test_comparisons_are_declared_if_the_file_stood_so_in_the_commit_of_each_run(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x"]
    subprocess.run([*git, "init", "-q"], check=True)

    def committed(*comparisons):
        path = write(tmp_path, comparisons=[list(pair) for pair in comparisons])
        subprocess.run([*git, "add", path], check=True)
        subprocess.run([*git, "commit", "-qm", "sweep", "--allow-empty"], check=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    first, second = ("none-true", "none-false"), ("corpus-true", "corpus-false@viterbi")
    one, both = committed(first), committed(first, second)

    def declared(commits, *comparisons, **changes):
        path = write(tmp_path, comparisons=[list(pair) for pair in comparisons], **changes)
        sweep = Sweep.load(path)
        for number, run in enumerate(sweep.runs()):
            runs.write_json(tmp_path / "reports" / run / "run.json", {"git": {"commit": commits[number % len(commits)]}})
        return sweep.declared(path)
    assert declared([both], first, second) and declared([both], second, first) and declared([one], first)
    assert declared([both], first, second, question="Said better?", limits="And what not.")
    assert not declared([one], first, second) and not declared([both, one], first, second)  # added when runs had been seen
    assert not declared([both], first) and not declared([one, both], first)  # left out when runs had been seen
    for changes in ({"seeds": [1, 2, 3]}, {"common": {"epochs": 1, "score_test": False}}, {"layers": ["params/gmb-fast.yaml"]}):
        assert not declared([both], first, second, **changes)
    assert not declared([one, None], first) and not declared(["0" * 40], first) and not declared([both])


def test_only_finals_enter_the_ledger(tmp_path):
    sweep = Sweep.load(write(tmp_path, cells={"best": {"score_test": True}}, finals=["best"]))
    assert [run for run in sweep.runs() if "--final" in sweep.arguments(run)] == ["few-best-1", "few-best-2"]


def test_ledger_has_a_line_for_each_scoring_of_a_test_part(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)

    def finish(run, seed, commit="abc", part="test", **changes):
        folder = tmp_path / "reports" / run
        folder.mkdir(parents=True, exist_ok=True)
        runs.write_json(folder / "metrics.json", {part: {}})
        params = Params(run=run, seed=seed, data=f"/home/{run}.csv", **changes)
        later = {"gradient_accumulation"} if seed == 2 else set()  # a parameter that came to exist after this run
        runs.write_json(folder / "run.json", {
            "parameters": params.model_dump(exclude=later), "changed": params.changed(), "completed": "today",
            "split": {"fingerprint": "f" * 64}, "git": {"commit": commit}})
        runs.enter_in_ledger(run, tmp_path / "ledger.jsonl")
    finish("a-1", 1)
    finish("a-2", 2)
    finish("a-1", 1)  # the same once more
    finish("b-1", 1, dropout=0.3)
    finish("c-1", 1, part="validation")
    finish("a-1", 1, commit="def")
    finish("a-7", 1, split_seed=7)
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text("utf-8").splitlines()]
    assert [line["run"] for line in lines] == ["a-1", "a-2", "b-1", "a-1", "a-7"]
    assert [line["commit"] for line in lines] == ["abc", "abc", "abc", "def", "abc"]
    assert {line["fingerprint"] for line in lines} == {"f" * 16}
    hashes = [line["parameters"] for line in lines]
    assert hashes[0] == hashes[1] == hashes[3] == hashes[4] != hashes[2]  # neither seeds nor where the corpus lay


def test_a_file_without_a_mapping_is_refused(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(ValueError, match="not a mapping"):
        Sweep.load(path)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("1: x\n")
    with pytest.raises(ValueError, match="1: Keys should be strings"):
        Sweep.load(path)


@pytest.fixture
def sweep_file(tmp_path):
    """A sweep of six small runs, on the real corpus where it is; what it makes is removed."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    real = {"data": str(Path(path).resolve())} if (path := os.environ.get("NERLIB_CORPUS")) else {}
    yield write(tmp_path, name=name, grid={}, common=FEW["common"] | real,
                cells={"none": {"pos": "none"}, "corpus": {}, "shape": {"word_shape": True}},
                comparisons=[["corpus", "none"], ["shape", "corpus"]])
    for folder in (runs.ROOT / "reports").glob(f"{name}*"):
        shutil.rmtree(folder)


def snakemake(file):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.Popen(["snakemake", "--cores", "2", "--rerun-incomplete", "--nolock", "--show-failed-logs", "--config",
                             f"sweep={file}"],
                            cwd=runs.ROOT, env=environment, start_new_session=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_a_sweep_killed_in_the_middle_finishes_what_was_missing(sweep_file):
    sweep = Sweep.load(sweep_file)
    records = {run: runs.ROOT / "reports" / run / "run.json" for run in sweep.runs()}
    first, end = snakemake(sweep_file), time.monotonic() + 600
    while not any(path.exists() for path in records.values()) and first.poll() is None and time.monotonic() < end:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    finished = {run: path.stat().st_mtime_ns for run, path in records.items() if path.exists()}
    assert 0 < len(finished) < len(records)
    again = snakemake(sweep_file)
    output, _ = again.communicate(timeout=900)
    assert again.returncode == 0, output[-3000:]
    for run, path in records.items():
        record = runs.read_json(path)
        assert Params(**record["parameters"]) == Params(**sweep.runs()[run])
    comparison = runs.read_json(runs.ROOT / "reports" / sweep.name / "comparison.json")
    assert list(comparison["comparisons"]) == ["corpus - none", "shape - corpus"]
    assert set(comparison["f1"]) == {"corpus", "none", "shape"}
    assert runs.read_json(runs.ROOT / "reports" / sweep.name / "stages/05.json")["status"] == "complete"
    assert comparison["declared"] == "" and "declared" not in comparison["methods"]  # its file is in no commit
    third = snakemake(sweep_file)
    assert "Nothing to be done" in third.communicate(timeout=300)[0]


STAND_IN = """#!{python}
import os, sys, time
from pathlib import Path
words = sys.argv[1:]
folder = Path("reports") / words[words.index("run") + 1]
began = time.time()
time.sleep(1.5)
(folder / "device.json").write_text(f'["{{os.environ["CUDA_VISIBLE_DEVICES"]}}", {{began}}, {{time.time()}}]')
(folder / "run.json").touch()
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [["--resources", "gpu=2"], []], ids=["told how many GPUs there are", "not told"])
def test_no_two_runs_are_on_one_gpu_at_a_time_and_none_is_idle(tmp_path, limit):
    """There is no GPU here: what stands in for the trainings says which one it was given, and when."""
    (tmp_path / "python").write_text(STAND_IN.format(python=sys.executable))
    (tmp_path / "python").chmod(0o755)
    name = f"test-{uuid.uuid4().hex[:8]}"
    file, gpus = write(tmp_path, name=name, grid={}, cells={"none": {"pos": "none"}, "corpus": {}, "big": {"pos_dim": 9}}), (
        f"{name}-a", f"{name}-b")
    try:
        done = subprocess.run([sys.executable, "-m", "snakemake", "--cores", "6", *limit, "--nolock", "--config",
                               f"sweep={file}", "gpus=1", f"devices={' '.join(gpus)}"], cwd=runs.ROOT, text=True,
                              env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}, capture_output=True,
                              timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        used = sorted(runs.read_json(path) for path in (runs.ROOT / "reports").glob(f"{name}-*/device.json"))
    finally:
        for folder in [*(runs.ROOT / "reports").glob(f"{name}*")]:
            shutil.rmtree(folder)
        for path in Path("/tmp").glob(f"nerlib-{os.getuid()}-gpu-{name}-*"):
            path.unlink()
    assert len(used) == 6 and {device for device, *_ in used} == set(gpus)
    for (device, _, end), (other, begin, _) in itertools.pairwise(used):
        assert device != other or begin >= end


@pytest.mark.parametrize("given, count, found", [(None, 0, []), (None, 3, ["0", "1", "2"]), ("2,5", 2, ["2", "5"]),
                                                 ("", 0, []), ("GPU-7f,GPU-8a,-1,4", 2, ["GPU-7f", "GPU-8a"])])
def test_gpus_are_named_as_cuda_names_them(monkeypatch, given, count, found):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)  # which heeds the variable, too
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert hardware.gpus() == found


@pytest.mark.parametrize("gpus, threads, said", [
    ("0 1", "", {"gpu=2", "gpus=1", "devices=0 1"}), ("", "3", {"threads=3"}), ("", "", set())])
def test_make_sweep_says_what_a_run_may_have(gpus, threads, said):
    done = subprocess.run(["make", "-n", "sweep", "SWEEP=few.yaml", "MEMORY=9", f"GPUS={gpus}", f"THREADS={threads}"],
                          cwd=runs.ROOT, capture_output=True, text=True)
    words = shlex.split(done.stdout[done.stdout.index("snakemake --cores all"):])
    assert {"sweep=few.yaml", "mem_mb=9"} | said <= set(words)
    assert {word for word in words if word.split("=")[0] in ("gpu", "gpus", "devices", "threads")} == said


def test_on_a_cluster_each_run_asks_for_its_own_threads_memory_time_and_gpu(sweep_file):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra slurm is not installed")
    given = ["threads=8", "gpus=1", "mem_mb=9000", "minutes=45"]
    done = subprocess.run([sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--dry-run", "--config",
                           f"sweep={sweep_file}", *given], cwd=runs.ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    jobs = re.findall(r"rule run:\n(.*?)resources: ([^\n]*)", done.stdout + done.stderr, re.S)
    assert len(jobs) == 6
    for head, asked in jobs:
        assert "threads: 8" in head and {"mem_mb=9000", "runtime=45", "gpu=1"} <= set(asked.split(", "))
