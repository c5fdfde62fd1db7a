"""Trainings that are killed at every kind of moment and started again, beside one that never was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from nerlib import checkpoint, parallel

EPOCHS, SAME = 3, ["predictions.parquet", "scores.npy", "training.parquet", "model/model.safetensors", "model/ner.json"]
TRAINER = """
import json, os, signal, sys, torch
from pathlib import Path
from nerlib import checkpoint, model, prediction, runs, training
from nerlib.params import Params
from nerlib.split import load

torch.set_num_threads(1)

def fatal(module, name, call, before=False):  # the process dies in the so-many-th call of a function
    real, calls = getattr(module, name), []
    def wrapper(*arguments, **options):
        calls.append(1)
        if len(calls) == call and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(module, name, wrapper)

for line in sys.stdin:  # a process for each training, forked: it need not import everything again
    order = json.loads(line)
    if not (child := os.fork()):
        os.dup2(os.open(order["said"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        exec(order["fatal"])
        training.train(params := Params(**order["params"]), *load(params, runs.ROOT), Path(order["folder"]))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def trainer(tiny):
    """Begin a training in a process of its own: its id, and a function that waits and returns exit code and output."""
    server = subprocess.Popen([sys.executable, "-c", TRAINER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              env=os.environ | {"OMP_NUM_THREADS": "1"})

    def begin(folder, fatal="", minutes=1e-9, precision="fp32"):
        folder.mkdir(exist_ok=True)
        params = {"encoder": str(tiny), "max_sentences": 200, "epochs": EPOCHS, "batch_size": 8, "learning_rate": 5e-3,
                  "head_learning_rate": 1e-2, "encoder_dropout": 0.1, "pos": "predicted", "word_shape": True,
                  "precision": precision, "checkpoint_minutes": minutes}
        said = folder.with_suffix(".txt")
        order = {"folder": str(folder), "fatal": fatal, "params": params, "said": str(said)}
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline()), lambda: (int(server.stdout.readline()), said.read_text().strip())
    yield begin
    server.stdin.close()
    server.wait(60)


@pytest.fixture
def train(trainer):
    """The same, waited for."""
    return lambda *arguments, **options: trainer(*arguments, **options)[1]()


def assert_same(one, other):
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    history = [pd.read_csv(folder / "history.csv").filter(regex="^(?!.*seconds)") for folder in (one, other)]
    pd.testing.assert_frame_equal(*history)
    assert not (other / "checkpoints").exists()


@pytest.fixture(scope="module")
def whole(trainer, tmp_path_factory):
    """A training that ran from beginning to end, without checkpoints."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert trainer(folder, minutes=0)[1]() == (0, "") and not (folder / "checkpoints").exists()
    assert json.loads((folder / "model/training.json").read_text())["resumed_at"] == []
    return folder


@pytest.mark.parametrize(("fatal", "resumed"), [
    ("fatal(torch.optim.AdamW, 'step', 1, before=True)", None),  # nothing was saved yet
    ("fatal(torch.optim.AdamW, 'step', 7)", "epoch 1, step 6"),
    ("fatal(torch.optim.AdamW, 'step', 25)", "epoch 2, step 6"),
    ("fatal(checkpoint, 'save_file', 5, before=True)", "epoch 1, step 4"),
    ("fatal(checkpoint, 'save_file', 5)", "epoch 1, step 4"),  # tensors without their state
    ("fatal(checkpoint, 'write_json', 5)", "epoch 1, step 4"),  # both, not yet under their name
    ("fatal(checkpoint.shutil, 'rmtree', 6, before=True)", "epoch 1, step 3"),  # with the old one still there
    ("fatal(prediction, 'predict', 1, before=True); training.predict = prediction.predict", "epoch 1, step 18"),
    ("fatal(training, 'predict', 2)", "epoch 2, step 18"),  # while the second epoch is evaluated
    ("fatal(training, 'predict', 4)", "epoch 4, step 0"),  # while the test part is predicted
    ("fatal(training, '_write', 1, before=True)", "epoch 4, step 0"), ("fatal(training, '_write', 1)", "epoch 4, step 0"),
    ("fatal(model, 'save_file', 1, before=True)", "epoch 4, step 0"), ("fatal(model, 'save', 1)", "epoch 4, step 0")])
def test_training_that_was_killed_ends_as_one_that_was_not(whole, train, tmp_path, fatal, resumed):
    folder = tmp_path / "run"
    assert train(folder, fatal)[0] == -signal.SIGKILL
    assert train(folder) == (0, f"going on after {resumed}" if resumed else "")
    assert json.loads((folder / "model/training.json").read_text())["resumed_at"] == ([resumed] if resumed else [])
    assert_same(whole, folder)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_that_is_killed_again_and_again_by_chance(trainer, train, tmp_path, precision):
    whole, folder, draw, points = tmp_path / "whole", tmp_path / "run", random.Random(4), set()
    assert train(whole, precision=precision, minutes=0)[0] == 0
    for _ in range(8):
        before, (process, wait) = newest(folder), trainer(folder, precision=precision)
        steps = draw.randrange(1, 9)
        while newest(folder) < before + steps:
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
        assert wait()[0] == -signal.SIGKILL
        points.add(newest(folder))
    assert len(points) == 8 and train(folder, precision=precision)[0] == 0
    assert_same(whole, folder)


def newest(folder: Path) -> int:
    return max((int(path.name) for path in (folder / "checkpoints").glob("[0-9]*")), default=0)


@pytest.fixture
def killed(train, tmp_path):
    """The two checkpoints of an unfinished training."""
    assert train(tmp_path / "run", "fatal(torch.optim.AdamW, 'step', 7)")[0] == -signal.SIGKILL
    found = sorted((tmp_path / "run/checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    assert [path.name for path in found] == ["5", "6"] and checkpoint.KEPT == 2
    return found


@pytest.mark.parametrize("damage", [
    lambda path: (path / "tensors.safetensors").write_bytes(b""),
    lambda path: (path / "tensors.safetensors").write_bytes((path / "tensors.safetensors").read_bytes()[:-100]),
    lambda path: (path / "state.json").write_text('{"key": '), lambda path: (path / "state.json").unlink()])
def test_damaged_checkpoint_is_passed_over_for_the_one_before(whole, killed, train, tmp_path, damage):
    damage(killed[-1])
    assert train(tmp_path / "run") == (0, "going on after epoch 1, step 5")
    assert_same(whole, tmp_path / "run")


def test_checkpoints_of_another_training_are_removed_and_not_read(whole, killed, train, tmp_path):
    for path in killed:
        state = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(json.dumps(state | {"key": "another"}))
    assert train(tmp_path / "run") == (0, "")
    assert_same(whole, tmp_path / "run")


@pytest.mark.parametrize("rank", [0, 1])
def test_after_a_checkpoint_no_process_wants_the_next_one_at_once(monkeypatch, tmp_path, rank):
    class Moment:
        def tensors(self):
            return {}

        def numbers(self):
            return {}
    monkeypatch.setattr(parallel, "rank", lambda: rank)
    kept = checkpoint.Checkpoints(tmp_path, "key", 60)
    kept.last -= 61
    assert kept.due()
    kept.save(Moment())
    assert not kept.due() and len(list(tmp_path.iterdir())) == (rank == 0), "one process writes for all"
