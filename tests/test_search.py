"""Searches: their files, and a real study of a tiny encoder, interrupted and resumed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid

import optuna
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from optuna.trial import TrialState
from PIL import Image

from nerlib import runs, training
from nerlib.params import Params
from nerlib.search import FINISHED, Search, run

FEW = {"name": "few", "question": "which?", "trials": 6, "log_between": {"learning_rate": [1e-4, 1e-2]},
       "among": {"pos": ["none", "corpus"]}, "between": {"epochs": [1, 3]}, "common": {"max_sentences": 200, "batch_size": 16}}


def write(folder, **changes):
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(FEW | changes), "utf-8")
    return path


@pytest.mark.parametrize("file", sorted((runs.ROOT / "params/searches").glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_searches_load_and_never_read_the_test_part(file):
    search = Search.load(file)
    assert search.name == file.stem and search.params({}, "x").score_test is False


def test_parameters_of_a_trial_are_layers_common_and_values(tmp_path):
    layer = tmp_path / "layer.yaml"
    layer.write_text("dropout: 0.4\nbatch_size: 8\n")
    search = Search.load(write(tmp_path, layers=[str(layer)]))
    params = search.params({"learning_rate": 2e-3, "pos": "none", "epochs": 2.6}, "mine", "other.csv")
    assert params == Params(run="mine", data="other.csv", dropout=0.4, batch_size=16, max_sentences=200, learning_rate=2e-3,
                            pos="none", epochs=3, score_test=False)


@pytest.mark.parametrize("changes, message", [
    ({"log_between": {}, "among": {}, "between": {}}, "name no parameter"), ({"among": {"epochs": [1]}}, "a parameter twice"),
    ({"among": {"pos": ["corpus", "none"], "pos_init": ["random", "pretrained"]}}, "pos = none has no embeddings"),
    ({"common": {"score_test": True}}, "score_test must stay false"), ({"among": {"poss": ["none"]}}, "did you mean 'pos'"),
    ({"between": {"dropout": [0.1, 1.2]}}, "dropout = 1.2"), ({"trials": 0}, "trials"), ({"trails": 3}, "trails")])
def test_a_search_that_cannot_run_is_refused(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        Search.load(path)
    assert str(raised.value).startswith(str(path))


@pytest.fixture
def search_file(tmp_path, tiny):
    """A search with a small untrained BERT; what it makes is removed."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield write(tmp_path, name=name, trials=8, common=FEW["common"] | {"encoder": str(tiny)})
    for folder in (runs.ROOT / "reports").glob(f"{name}*"):
        shutil.rmtree(folder)


def start(file):
    return subprocess.Popen([sys.executable, "-m", "nerlib.search", str(file), "--workers", "2"], cwd=runs.ROOT, text=True,
                            start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_a_search_killed_in_the_middle_goes_on_and_names_the_best(search_file, monkeypatch):
    search = Search.load(search_file)
    first, end = start(search_file), time.monotonic() + 300
    done = 0
    while done < 2 and first.poll() is None and time.monotonic() < end:
        time.sleep(0.3)
        if (runs.ROOT / "reports" / search.name / "study.db").exists():
            done = len(search.study().get_trials(states=FINISHED))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = {trial.number: trial.value for trial in search.study().get_trials(states=FINISHED)}
    left = [trial.params for trial in search.study().get_trials(states=[TrialState.RUNNING])]
    assert 2 <= len(before) < 8 and left
    again = start(search_file)
    output, _ = again.communicate(timeout=500)
    assert again.returncode == 0, output[-3000:]

    folder, study = runs.ROOT / "reports" / search.name, search.study()
    finished = study.get_trials(states=FINISHED)
    assert {trial.number: trial.value for trial in finished if trial.number in before} == before  # none was repeated
    for params in left:  # none was lost; one that was killed while it was drawn has only some of its values
        assert any(params.items() <= trial.params.items() for trial in finished)
    assert len(finished) == 8 and not study.get_trials(states=[TrialState.RUNNING])
    trials = pd.read_csv(folder / "trials.csv")
    complete = trials[trials["state"] == "complete"]
    assert complete["validation_f1"].max() == pytest.approx(study.best_value) and len(trials) == len(finished)
    best = Params.from_yaml(folder / "best.yaml")
    winner = complete.loc[complete["validation_f1"].idxmax()]
    assert (best.learning_rate, best.pos, best.epochs) == (
        pytest.approx(winner["learning_rate"]), winner["pos"], round(winner["epochs"]))
    assert not best.score_test and best.max_sentences == 200 and best.run == f"{search.name}-best"
    with pytest.raises(ValueError, match="begun with other parameters"):
        run(search.model_copy(update={"common": search.common | {"dropout": 0.4}}))
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="another version of this code"):
        patch.setattr(training, "SOURCES", training.SOURCES[1:])
        run(search)
    page = BeautifulSoup((folder / "index.html").read_text("utf-8"), "html.parser")
    alts = {Image.open(path).text["Description"] for path in (folder / "figures").glob("*.png")}
    assert {image["alt"] for image in page("img")} == alts and len(alts) == 2
    assert study.user_attrs["git"]["commit"][:10] in page.find(class_="made").get_text()
    first = page.select("tbody tr")[0].get_text()
    assert f"{study.best_value:.4f}" in first and f"of {study.best_value:.3f}." in page.get_text()
    assert len(page.select("tbody tr")) == len(finished) and "learning_rate" in page.find("pre").get_text()


@pytest.mark.slow
def test_workers_end_with_their_parent_and_the_search_waits_for_them(search_file):
    search = Search.load(search_file)
    first, end = start(search_file), time.monotonic() + 300
    while not (runs.ROOT / "reports" / f"{search.name}-worker-1" / ".lock").exists() and time.monotonic() < end:
        time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)  # the parent alone
    again = start(search_file)
    output, _ = again.communicate(timeout=500)
    assert again.returncode == 0, output[-3000:]
    finished = search.study().get_trials(states=FINISHED)
    assert len(finished) == 8 and not search.study().get_trials(states=[TrialState.RUNNING])


def test_a_poor_trial_is_pruned_by_epoch_if_five_have_come_as_far(search_file):
    search = Search.load(search_file)
    study = search.study()

    def trials(*values):
        for value in values:
            study.add_trial(optuna.create_trial(value=value, params={}, intermediate_values={30: value}))

    def pruned(value, step):
        trial = study.ask()
        trial.report(value, step)
        return trial.should_prune()
    trials(0.5, 0.6, 0.7, 0.65)
    study.add_trial(optuna.create_trial(value=0.9, params={}, intermediate_values={20: 0.9}))
    assert not pruned(0.1, 30)  # of five trials one has not come as far
    trials(0.66)
    assert pruned(0.1, 30) and not pruned(0.9, 30) and not pruned(0.1, 20)


@pytest.mark.slow
def test_a_training_ends_where_its_trial_is_pruned(search_file):
    content = yaml.safe_load(search_file.read_text("utf-8")) | {"trials": 6, "between": {}}
    content["common"] |= {"epochs": 2, "max_sentences": 100}
    search_file.write_text(yaml.safe_dump(content), "utf-8")
    search = Search.load(search_file)
    space = {"learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
             "pos": optuna.distributions.CategoricalDistribution(["none", "corpus"])}
    for _ in range(5):  # as good as none can be after one of two epochs
        search.study().add_trial(optuna.create_trial(value=1.0, params={"learning_rate": 1e-3, "pos": "none"},
                                                     distributions=space, intermediate_values={30: 1.0}))
    run(search, workers=1)
    last = search.study().get_trials()[-1]
    assert last.state == TrialState.PRUNED and list(last.intermediate_values) == [30]
    assert not (runs.ROOT / "reports" / f"{search.name}-worker-0" / "model/training.json").exists()
