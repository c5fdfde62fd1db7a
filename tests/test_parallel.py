"""One training in two processes beside the same in one: step by step, killed and started again."""

import json
import os
import shutil
import subprocess
import sys
import uuid

import numpy as np
import pandas as pd
import pytest
import yaml

from nerlib import runs

pytestmark = pytest.mark.slow
pytest.importorskip("accelerate", reason="the extra parallel is not installed")
TRAINER = """
import json, os, signal, sys
from pathlib import Path
import torch
from nerlib import parallel

steps, real = [], torch.optim.AdamW.step
def step(optimizer, *arguments, **options):
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    gradients = [float(weight.grad.double().norm()) for weight in weights]
    result = real(optimizer, *arguments, **options)
    steps.append([*gradients, *(float(weight.double().norm()) for weight in weights)])
    if len(steps) == int(os.environ.get("DIES_AFTER", 0)) and parallel.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
torch.optim.AdamW.step = step
parallel.main()
Path(f"{os.environ['STEPS']}.{parallel.rank()}").write_text(json.dumps(steps))
"""


@pytest.fixture(scope="module")
def train(tiny, tmp_path_factory):
    """Train in so many processes, each batch in so many parts: exit code, what it said, the run's folder, the norms of
    gradients and weights at each step of each process. 43 windows in batches of 7: the last one has a window for one only."""
    folder, names = tmp_path_factory.mktemp("parallel"), []
    (folder / "trainer.py").write_text(TRAINER)

    def train(processes, name, parts=1, **environment):
        if name not in names:
            names.append(name)
        dropout = {"dropout": 0.0, "max_grad_norm": 0.0} if "still" in name else {"dropout": 0.3, "encoder_dropout": 0.1}
        values = {"run": name, "encoder": str(tiny), "epochs": 3,
                  "max_sentences": 60, "batch_size": 7, "gradient_accumulation": parts,
                  "precision": "fp32", "pos": "predicted", "learning_rate": 5e-3, "head_learning_rate": 1e-2,
                  "checkpoint_minutes": 1e-9, "lexicon": True, **dropout}
        (folder / "params.yaml").write_text(yaml.safe_dump(values))
        launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
        done = subprocess.run([sys.executable, *launch, str(folder / "trainer.py"), str(folder / "params.yaml")], cwd=runs.ROOT,
                              env=os.environ | {"OMP_NUM_THREADS": "1", "STEPS": str(folder / name)} | environment,
                              capture_output=True, text=True, timeout=600)
        steps = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}.*"))]
        return done, runs.ROOT / "reports" / name, steps
    yield train
    for name in names:
        shutil.rmtree(runs.ROOT / "reports" / name, ignore_errors=True)


@pytest.fixture(scope="module")
def prefix():
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def alone(train, prefix):
    return train(1, f"{prefix}-still-1")


@pytest.mark.parametrize("processes, parts", [(2, 1), (1, 3), (2, 2)])
def test_several_processes_and_parts_take_the_steps_that_one_takes(train, prefix, alone, processes, parts):
    (one, alone, [steps]), (other, shared, taken) = alone, train(processes, f"{prefix}-still-{processes}-{parts}", parts)
    assert one.returncode == other.returncode == 0, one.stderr[-2000:] + other.stderr[-3000:]
    assert f"trained in {processes} process" in other.stdout and other.stdout.count("trained in") == 1
    assert len(steps) == 21 and len(taken) == processes, "a step for each batch"
    assert all(own == taken[0] for own in taken), "all processes have the same weights after each step"
    np.testing.assert_allclose(taken[0], steps, rtol=1e-4, atol=1e-4)  # atol: attention's key bias has a gradient of noise
    records = [runs.read_json(folder / "model/training.json") for folder in (alone, shared)]
    assert [record["processes"] for record in records] == [1, processes] and records[0]["windows"]["training"] % 7 == 1
    assert (records[0]["key"] == records[1]["key"]) is (parts == 1), "in how many processes is no matter"
    tables = [pd.read_parquet(folder / "predictions.parquet") for folder in (alone, shared)]
    assert tables[0][["sentence", "position", "word"]].equals(tables[1][["sentence", "position", "word"]])
    scores = [np.load(folder / "scores.npy") for folder in (alone, shared)]
    np.testing.assert_allclose(*scores, atol=1e-3)
    assert np.abs(np.exp(scores[1]).sum(1) - 1).max() < 1e-5, "each word was predicted once"
    histories = [pd.read_csv(folder / "history.csv").filter(regex="loss|f1") for folder in (alone, shared)]
    np.testing.assert_allclose(*histories, rtol=1e-3)


def test_a_process_that_dies_ends_all_and_the_same_command_goes_on_to_the_same_bytes(train, prefix):
    whole, folder, _ = train(2, f"{prefix}-whole", 2)
    killed, other, _ = train(2, f"{prefix}-killed", 2, DIES_AFTER="10")
    assert whole.returncode == 0 and killed.returncode != 0, killed.stderr[-2000:]
    assert (other / "checkpoints").is_dir() and not (other / "model").exists()
    again, other, _ = train(2, f"{prefix}-killed", 2)
    assert again.returncode == 0 and "going on after epoch 2, step " in again.stdout, again.stdout + again.stderr[-2000:]
    for name in ("predictions.parquet", "scores.npy", "model/model.safetensors"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def test_notebook_03_finds_finished_what_a_launcher_trained_in_two_processes(tiny, tmp_path, prefix):
    folder, file = runs.ROOT / "reports" / f"{prefix}-launched", tmp_path / "few.yaml"
    file.write_text(yaml.safe_dump({"run": folder.name, "encoder": str(tiny), "epochs": 1, "max_sentences": 60}))

    def launch(*words):
        done = subprocess.run([sys.executable, "-m", *words, str(file)], cwd=runs.ROOT, capture_output=True, text=True,
                              timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        return done.stdout
    try:
        said = launch("torch.distributed.run", "--nproc-per-node", "2", "-m", "nerlib.training")
        assert said.startswith(f"trained in 2 processes: {folder}/model")
        made = (folder / "model/training.json").read_bytes()
        launch("nerlib", "--only", "03")
        assert (folder / "model/training.json").read_bytes() == made, "no step was trained"
        record = runs.Run.load(folder.name).record
        assert record["training"]["processes"] == 2 and record["training"]["steps"] == 2
        shutil.rmtree(folder)
        said = launch("accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "nerlib.training")
        assert said.endswith(f"trained in 1 process: {folder}/model; python -m nerlib, with the same parameters, "
                             "writes the rest\n"), "as docs/scaling.md says, where there is no MPI"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("content, words, said", [
    ("epohs: 3\n", (), "did you mean 'epochs'"), ("run: x\n", ("-p", "seed", "1", "-p", "seed", "2"), "-p seed stands twice"),
    ("run: {run}\nmax_length: 600\nmax_sentences: 60\n", (), "512 positions"),
    ("run: {run}\nmax_length: 8\nmax_sentences: 60\n", (), "max_length must be at least")])
def test_what_is_wrong_is_named_before_a_finished_training_is_touched(prefix, tmp_path, content, words, said):
    folder = runs.folder(f"{prefix}-refused")
    (folder / "predictions.parquet").write_text("an earlier training's")
    (tmp_path / "wrong.yaml").write_text(content.replace("{run}", folder.name))
    done = subprocess.run([sys.executable, "-m", "nerlib.training", str(tmp_path / "wrong.yaml"), *words], cwd=runs.ROOT,
                          capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    kept = (folder / "predictions.parquet").exists()
    shutil.rmtree(folder)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr and kept, done.stderr
