"""Searches: their files, and a real study of a tiny encoder, interrupted and resumed."""

import multiprocessing
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

from nerlib import results, runs, training
from nerlib.params import Params
from nerlib.results_page import search as section
from nerlib.search import Search, run
from nerlib.study import FINISHED, ask, begin_again, opened

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


@pytest.mark.parametrize("changes, start", [
    ({}, {"learning_rate": 3e-4, "pos": "corpus", "epochs": 2}),
    ({"log_between": {"learning_rate": [4e-4, 1e-2]}}, {}), ({"among": {"pos": ["none", "constant"]}}, {}),
    ({"log_between": {}, "among": {"learning_rate": ["1e-5", "3e-4"]}}, {"learning_rate": 3e-4, "epochs": 2}),
    # layers and common parameters contradict each other without those of a trial
    ({"common": {"pos": "none", "pos_init": "pretrained"}, "among": {"pos": ["corpus", "shuffled"]}}, {})])
def test_a_search_starts_from_its_layers_where_they_lie_in_its_space(tmp_path, changes, start):
    layer = tmp_path / "layer.yaml"
    layer.write_text("learning_rate: 3.0e-4\n")
    assert Search.load(write(tmp_path, **{"layers": [str(layer)], "common": {"epochs": 2}} | changes)).start() == start


@pytest.mark.parametrize("changes, message", [
    ({"log_between": {}, "among": {}, "between": {}}, "name no parameter"), ({"among": {"epochs": [1]}}, "a parameter twice"),
    ({"among": {"pos": ["corpus", "none"], "pos_init": ["random", "pretrained"]}}, "pos = none has no embeddings"),
    ({"common": {"score_test": True}}, "score_test must stay false"), ({"among": {"poss": ["none"]}}, "did you mean 'pos'"),
    ({"between": {"dropout": [0.1, 1.2]}}, "dropout = 1.2"),
    ({"between": {"dropout": [0.5, 0.1]}}, "dropout = 0.5 to 0.1: the lower value comes first"),
    ({"log_between": {"weight_decay": [0, 0.1]}}, "above 0 on a logarithmic scale"),
    ({"between": {}, "among": {"epochs": ["three"]}}, "epochs = 'three'"),
    ({"among": {"max_sentences": [100, 200], "split_seed": [1, 2]}}, "max_sentences, split_seed would change more"),
    ({"among": {"seed": [1, 2]}}, "seed would change"), ({"between": {}, "among": {"epochs": [True, 2]}}, "epochs = True"),
    ({"between": {"word_shape": [0, 1]}}, "word_shape has no range"), ({"between": {"poss": [0, 1]}}, "did you mean 'pos'"),
    ({"trials": 0}, "trials"), ({"trails": 3}, "trails"), ({"seed": 4000}, "seed")])
def test_a_search_that_cannot_run_is_refused(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        Search.load(path)
    assert str(raised.value).startswith(str(path))


def test_every_seed_of_a_search_that_is_allowed_can_draw(tmp_path):
    opened(tmp_path / "study.db", "x", 3999, worker=99).ask().suggest_float("dropout", 0, 1)


@pytest.mark.parametrize("words, message", [
    (["--workers", "-1"], "--workers -1: 1 or more"), (["--data", "nowhere.csv"], "there is no file")])
def test_a_search_that_cannot_begin_says_why_in_one_line(search_file, words, message):
    done = subprocess.run([sys.executable, "-m", "nerlib.search", str(search_file), *words], cwd=runs.ROOT, text=True,
                          capture_output=True)
    assert done.returncode and message in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


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


def take(file, gate, taken, count):
    """Ask for `count` trials as soon as all processes do."""
    study = opened(file, "queue", 0)
    gate.wait()
    taken.put([ask(study, file).number for _ in range(count)])


def test_queued_trials_are_given_to_one_process_each(tmp_path):
    context, study = multiprocessing.get_context("spawn"), opened(tmp_path / "study.db", "queue", 0)
    for number in range(60):
        study.enqueue_trial({"x": number})
    gate, taken = context.Barrier(3), context.Queue()
    processes = [context.Process(target=take, args=(tmp_path / "study.db", gate, taken, 20)) for _ in range(3)]
    for process in processes:
        process.start()
    numbers = [number for _ in processes for number in taken.get(timeout=120)]
    for process in processes:
        process.join()
    assert sorted(numbers) == list(range(60))


@pytest.mark.slow
def test_a_search_killed_in_the_middle_goes_on_and_names_the_best(search_file, tmp_path, monkeypatch):
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
    content = runs.read_json(folder / "search.json")
    layers = {"learning_rate": 2e-4, "pos": "corpus", "epochs": 3}
    assert [trial.number for trial in finished if trial.params == layers] == [content["started_from"]]
    assert content["best"] == winner["trial"] and content["parameters"] == best.changed()
    assert (content["data"]["training"], content["data"]["validation"]) == (144, 16)
    assert sum(content["importances"].values()) == pytest.approx(1)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="not finished; start it again"):
        patch.setattr(results, "read_json", lambda path: content | {"trials": 9})
        results.publish(search.name, tmp_path / "results")
    assert not (tmp_path / "results").exists()
    results.publish(search.name, tmp_path / "results")
    assert all(str(tmp_path.parent) not in (tmp_path / "results" / name).read_text("utf-8") for name in (
        "README.md", f"{search.name}.json"))  # where the encoder lies
    published = (tmp_path / "results/README.md").read_text("utf-8")
    assert f"The best trial ({winner['trial']}) scores {winner['validation_f1']:.4f}" in published
    rows = re.findall(r"^\| (\d+) \| (\d\.\d{4}) \|", published, re.M)
    assert rows == [(str(row.trial), f"{row.validation_f1:.4f}") for row in complete.sort_values(
        "validation_f1", ascending=False, kind="stable").itertuples()]
    assert (" ended early, below" in published) == (len(complete) < len(trials))
    for target in re.findall(r"\]\(([^)]+)\)", published):
        assert (tmp_path / "results" / target).exists() or target == "test-ledger.jsonl"
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
    assert len(page.select("tbody tr")) == len(finished) and yaml.safe_load(page.find("pre").get_text()) == best.changed()


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


def test_trials_that_came_to_no_end_are_begun_again_once(search_file):
    study = Search.load(search_file).study()
    space = {"learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2),
             "pos": optuna.distributions.CategoricalDistribution(["none", "corpus"])}

    def add(state, rate, pos=None, **attributes):
        params = {"learning_rate": rate} | ({"pos": pos} if pos else {})
        study.add_trial(optuna.create_trial(state=state, params=params, distributions={name: space[name] for name in params},
                                            value=0.5 if state == TrialState.COMPLETE else None, **attributes))
    add(TrialState.COMPLETE, 1e-3, "none")
    add(TrialState.FAIL, 1e-3, "none")  # interrupted, and made again since
    add(TrialState.FAIL, 2e-3, "corpus", user_attrs={"start": True})  # interrupted
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))  # before it had a value
    running = study.ask(fixed_distributions={"learning_rate": space["learning_rate"]})  # killed while it was drawn
    for _ in range(2):
        begin_again(study)
        waiting = study.get_trials(states=[TrialState.WAITING])
        assert [(trial.system_attrs["fixed_params"], trial.user_attrs) for trial in waiting] == [
            ({"learning_rate": 2e-3, "pos": "corpus"}, {"start": True}), (running.params, {})]
    assert not study.get_trials(states=[TrialState.RUNNING])


TRIALS = [{"trial": number, "validation_f1": f1, "learning_rate": rate, "epochs": epochs, "word_shape": shape, "state": state}
          for number, f1, rate, epochs, shape, state in (
              (0, 0.81234, 2e-4, 3, False, "complete"), (1, 0.5, 4e-4, 2, True, "pruned"),
              (2, 0.82, 3.14159e-4, 2, True, "complete"))]
SEARCHED = {"question": "Which?", "limits": "One seed.", "layers": ["params/gmb.yaml"], "common": {"entity_types": "a|b *c*"},
            "between": {"epochs": [2, 3]}, "log_between": {"learning_rate": [1e-4, 1e-3]},
            "among": {"word_shape": [False, True]},
            "data": {"training": 12000, "validation": 1334, "corpus": {"sentences": 47959}}, "commits": ["abc", "def"],
            "random": 10, "started_from": 0, "best": 2, "importances": {"learning_rate": 0.7, "word_shape": 0.2, "epochs": 0.1},
            "results": TRIALS}


@pytest.mark.parametrize("changes, wanted, unwanted", [
    ({}, ["3 trials, all with the same seed: first the setting of `params/gmb.yaml`, `entity_types`: <code>",
          "12,000 sentences",
          "`epochs` from 2 to 3; `learning_rate` from 0.0001 to 0.001 (logarithmic); `word_shape` among false, true",
          "after 10 trials by Optuna's TPE",
          "1 trial ended early", "1,334 validation", "Code: commit abc, def.", "(2) scores 0.8200; the setting that the search "
          "started from (trial 0) 0.8123", "| trial | micro F1 | learning_rate | word_shape | epochs |",
          "| 2 | 0.8200 | 0.000314 | true | 2 |\n| 0 | 0.8123 | 0.0002 | false | 3 |",
          "learning_rate 0.70, word_shape 0.20, epochs 0.10.", "One seed."], ["a|b", "*c*", "| 1 |"]),
    ({"started_from": 2}, ["(2) scores 0.8200, the setting that the search started from. The best 2 of"], ["(trial 2)"]),
    ({"started_from": 1}, ["the setting that the search started from (trial 1) was ended early"], ["0.5000"]),
    ({"started_from": None}, ["scores 0.8200. The best"], ["started from"]),
    ({"results": TRIALS[2:], "started_from": None, "layers": [], "common": {}, "importances": {}},
     ["1 trial, all", "first the setting of the defaults", "The best 1 of"], ["fANOVA", "early, below"]),
    ({"results": [TRIALS[2] | {"trial": number} for number in range(2, 20)]}, ["| 2 |", "| 11 |", "The best 10"], ["| 12 |"])])
def test_a_search_on_the_results_page(changes, wanted, unwanted):
    text = section("name", SEARCHED | changes)
    assert [words for words in wanted if words not in text] == [] and [words for words in unwanted if words in text] == []


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
