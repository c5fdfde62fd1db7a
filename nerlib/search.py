"""A search of hyperparameters on validation F1, which can be interrupted and goes on where it was.

    python -m nerlib.search params/searches/gmb-search.yaml [--data PATH]

What it finds stands in reports/<name>/: the study (SQLite), index.html, and the best trial as a parameter file, best.yaml.
Its processes train in reports/<name>-worker-N/, one trial after the other.
"""

import argparse
import itertools
import multiprocessing
import os
import sys
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any, Self

import optuna
import pandas as pd
import torch
import yaml
from optuna.trial import TrialState
from pydantic import Field, model_validator

from nerlib import lock, plots, report, runs, training
from nerlib.params import Params
from nerlib.plan import Plan
from nerlib.provenance import git_state
from nerlib.split import load

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
WHOLE = 60  # a training's length in the study, a multiple of 1 to 6: trials meet where they have done equal shares of theirs


class Search(Plan):
    """What a file in params/searches/ holds; no trial scores the test part."""

    between: dict[str, tuple[float, float]] = Field({}, description="name → lowest and highest value")
    log_between: dict[str, tuple[float, float]] = Field({}, description="the same on a logarithmic scale")
    among: dict[str, list[Any]] = Field({}, description="name → values to choose from")
    trials: int = Field(ge=1, description="how many trials, pruned ones included")
    seed: int = Field(0, ge=0, description="seed of the sampler")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        ranges = self.between | self.log_between
        if not ranges | self.among:
            raise ValueError("between, log_between and among name no parameter to search")
        if len(ranges | self.among) < len(self.between) + len(self.log_between) + len(self.among):
            raise ValueError("between, log_between and among name a parameter twice")
        if self.common.get("score_test"):
            raise ValueError("common: score_test must stay false: a search that reads the test part spoils it")
        for values in itertools.product(*self.among.values()):
            chosen = dict(zip(self.among, values, strict=True))
            for end in (0, 1):
                self.params(chosen | {name: ends[end] for name, ends in ranges.items()}, "x")
        return self

    def params(self, values: dict[str, Any], run: str, data: str = "") -> Params:
        """The parameters of a trial with the given values."""
        whole = {name for name, field in Params.model_fields.items() if field.annotation is int}
        values = {name: round(value) if name in whole else value for name, value in values.items()}
        return super().params({"score_test": False} | values, run, data)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Values for one trial."""
        return ({name: trial.suggest_float(name, *ends) for name, ends in self.between.items()}
                | {name: trial.suggest_float(name, *ends, log=True) for name, ends in self.log_between.items()}
                | {name: trial.suggest_categorical(name, values) for name, values in self.among.items()})

    def study(self, worker: int = 0) -> optuna.Study:
        """The study as it stands: TPE (Bergstra et al. 2011); what is below the median of at least five trials at its share
        of training is pruned."""
        storage = f"sqlite:///{runs.folder(self.name) / 'study.db'}"
        study = optuna.create_study(
            study_name=self.name, storage=storage, load_if_exists=True, direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_min_trials=5))
        begun_at = self.seed * 10**6 + worker * 10**4 + len(study.get_trials())  # a resumed study draws new values
        study.sampler = optuna.samplers.TPESampler(seed=begun_at, constant_liar=True)
        return study


def _work(search: Search, data: str, worker: int, parent: int, missing: Semaphore) -> None:
    """Trials in one process and one thread, each of the missing ones in one of them, until the parent is gone."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = f"{search.name}-worker-{worker}"

    def objective(trial: optuna.Trial) -> float:
        params = search.params(search.suggest(trial), name, data)

        def watch(epoch: int, f1: float) -> None:
            if os.getppid() != parent:
                os._exit(1)  # killed with the parent, only later: the trial stays unfinished and is begun again
            if epoch < params.epochs:
                trial.report(f1, WHOLE * epoch // params.epochs)
                if trial.should_prune():
                    raise optuna.TrialPruned
        result = training.train(params, *load(params, runs.ROOT), runs.folder(name), watch)
        best = float(result.history["validation_f1"].max())
        trial.report(best, WHOLE)
        print(f"trial {trial.number}: {best:.4f}", flush=True)
        return best
    with lock.locked(runs.folder(name)):
        if os.getppid() != parent:
            return
        study = search.study(worker)
        while missing.acquire(block=False):
            study.optimize(objective, n_trials=1)


def run(search: Search, data: str = "", workers: int = 0) -> Path:
    """Make the trials that are missing, then the page and best.yaml; returns the page's path.

    `workers` processes of one thread (0: as many as there are cores). Trials that were under way when a process was
    killed are begun again with the same values. Raises ValueError where the study was begun with other parameters, data or
    code.
    """
    study, count = search.study(), workers or os.cpu_count() or 1
    fixed = search.params({name: values[0] for name, values in (search.between | search.log_between | search.among).items()},
                          search.name, data)
    begun = {"space": search.model_dump(mode="json", include={"between", "log_between", "among"}),
             "training": training.training_key(fixed, load(fixed, runs.ROOT)[1])}
    if study.user_attrs.setdefault("begun", begun) != begun:
        raise ValueError(f"reports/{search.name}/study.db was begun with other parameters, space or corpus, by another version "
                         "of this code or its libraries, or on other hardware; its trials cannot be compared with new ones. "
                         "Give the search another name, or remove that folder")
    study.set_user_attr("begun", begun)
    for worker in range(count):
        with lock.locked(runs.folder(f"{search.name}-worker-{worker}"), wait=True):
            pass  # a worker whose parent was killed ends after its epoch
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.system_attrs.get("fixed_params", {}) | trial.params)
    missing = search.trials - len(study.get_trials(states=FINISHED))
    if missing > 0:
        study.set_user_attr("git", git_state())
        context = multiprocessing.get_context("spawn")
        tickets = context.Semaphore(missing)
        processes = [context.Process(target=_work, args=(search, data, worker, os.getpid(), tickets))
                     for worker in range(min(count, missing))]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError(f"{search.name}: a worker failed; its own error stands above. Start the search again to go on")
    return write(search)


def write(search: Search) -> Path:
    """The page of a study, its trials as trials.csv, and the best as best.yaml."""
    study, folder = search.study(), runs.folder(search.name)
    trials = study.trials_dataframe(attrs=("number", "value", "params", "state")).rename(
        columns=lambda name: {"number": "trial", "value": "validation_f1"}.get(name, name.removeprefix("params_")))
    trials = trials[trials["state"].isin([state.name for state in FINISHED])]
    trials["state"] = trials["state"].str.lower()
    complete = trials[trials["state"] == "complete"].drop(columns="state")
    runs.write_csv(folder / "trials.csv", trials)
    best = search.params(study.best_params, f"{search.name}-best")
    said = [f"The best of {len(trials)} trials by validation micro F1, {study.best_value:.4f}.", *search.question.splitlines()]
    head = "".join(f"# {line}\n" for line in said)
    runs.write_atomically(folder / "best.yaml", head + yaml.safe_dump(best.changed(), sort_keys=False, allow_unicode=True))
    figures = {"search_trials": plots.parallel(complete.set_index("trial"), "validation_f1", f"Trials of {search.name}")}
    if complete["validation_f1"].nunique() > 1:
        weights = pd.Series(optuna.importance.get_param_importances(study)).sort_values(ascending=False)
        figures["search_importances"] = plots.bars(weights, "What the score depended on",
                                                   "importance (share of variance, fANOVA)", "parameter", form="{:.2f}")
    for name, picture in figures.items():
        plots.save(picture, folder / "figures" / name)
    return report.write_search(folder, search.question, trials, study.user_attrs.get("git", {}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nerlib.search", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="a file as in params/searches/")
    parser.add_argument("--data", default="", help="corpus, in place of the layers'")
    parser.add_argument("--workers", type=int, default=0, help="processes of one thread; 0: as many as there are cores")
    arguments = parser.parse_args()
    try:
        search = Search.load(arguments.file)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
    try:
        with lock.locked(runs.folder(search.name)):
            print(run(search, arguments.data, arguments.workers))
    except BlockingIOError as error:
        sys.exit(str(error))
    report.write_runs(runs.ROOT / "reports")


if __name__ == "__main__":
    main()
