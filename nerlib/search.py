"""A search of hyperparameters on validation F1, which can be interrupted and goes on where it was.

    python -m nerlib.search params/searches/gmb-search.yaml [--data PATH]

What it finds stands in reports/<name>/: the study (SQLite), index.html, search.json, and the best trial as a parameter file,
best.yaml. The first trial is the setting that the search starts from, if it lies in the space.
Its processes train in reports/<name>-worker-N/, one trial after the other.
"""

import argparse
import contextlib
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
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from nerlib import lock, plots, report, runs, training
from nerlib.params import Params
from nerlib.plan import Plan
from nerlib.provenance import commit, git_state
from nerlib.split import READ, load
from nerlib.study import FINISHED, RANDOM, ask, begin_again, opened

FIXED = READ | {"run", "seed", "score_test"}  # trials that differ in what is scored, or by luck, cannot be compared
WHOLE_NUMBERS = {name for name, field in Params.model_fields.items() if field.annotation is int}
FRACTIONS = {name for name, field in Params.model_fields.items() if field.annotation is float}
LENGTH = 60  # of each training in the study, a multiple of 1 to 6: trials meet where they have done equal shares of theirs


class Search(Plan):
    """What a file in params/searches/ holds; no trial scores the test part."""

    between: dict[str, tuple[float, float]] = Field({}, description="name → lowest and highest value")
    log_between: dict[str, tuple[float, float]] = Field({}, description="the same on a logarithmic scale")
    among: dict[str, list[Any]] = Field({}, description="name → values to choose from")
    trials: int = Field(ge=1, description="how many trials, pruned ones included")
    seed: int = Field(0, ge=0, lt=4000, description="seed of the sampler")

    @field_validator("among")
    @classmethod
    def _as_parameters(cls, among: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Values as parameters have them: YAML takes 1e-5 for a text."""
        def typed(name: str, value: Any) -> Any:
            try:
                return value if isinstance(value, bool) else TypeAdapter(
                    Params.model_fields[name].annotation).validate_python(value)
            except (KeyError, ValidationError):
                return value  # `params` says what is wrong with it
        return {name: [typed(name, value) for value in values] for name, values in among.items()}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        ranges = self.between | self.log_between
        if not ranges | self.among:
            raise ValueError("between, log_between and among name no parameter to search")
        if len(ranges | self.among) < len(self.between) + len(self.log_between) + len(self.among):
            raise ValueError("between, log_between and among name a parameter twice")
        if fixed := FIXED & set(ranges | self.among):
            raise ValueError(f"{', '.join(sorted(fixed))} would change more than the model: such trials cannot be compared")
        if other := [name for name in ranges if name in Params.model_fields and name not in WHOLE_NUMBERS | FRACTIONS]:
            raise ValueError(f"{other[0]} has no range: it is no number; name its values in among")
        for name, (low, high) in ranges.items():
            if not low <= high or (name in self.log_between and low <= 0):
                raise ValueError(f"{name} = {low} to {high}: the lower value comes first"
                                 + ", above 0 on a logarithmic scale" * (name in self.log_between))
        if self.common.get("score_test"):
            raise ValueError("common: score_test must stay false: a search that reads the test part spoils it")
        for values in itertools.product(*self.among.values()):
            chosen = dict(zip(self.among, values, strict=True))
            for end in (0, 1):
                self.params(chosen | {name: ends[end] for name, ends in ranges.items()}, "x")
        return self

    def params(self, values: dict[str, Any], run: str, data: str = "") -> Params:
        """The parameters of a trial with the given values."""
        values = {name: round(value) if name in WHOLE_NUMBERS and isinstance(value, float) else value
                  for name, value in values.items()}
        return super().params({"score_test": False} | values, run, data)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Values for one trial."""
        return ({name: trial.suggest_float(name, *ends) for name, ends in self.between.items()}
                | {name: trial.suggest_float(name, *ends, log=True) for name, ends in self.log_between.items()}
                | {name: trial.suggest_categorical(name, values) for name, values in self.among.items()})

    def start(self) -> dict[str, Any]:
        """The values that layers and common parameters have themselves; {} where one lies outside of the space, or where they
        do not fit together without those of a trial."""
        try:
            given = self.params({}, self.name).model_dump()
        except ValueError:
            return {}
        inside = {name: low <= given[name] <= high for name, (low, high) in (self.between | self.log_between).items()}
        inside |= {name: given[name] in values for name, values in self.among.items()}
        return {name: given[name] for name in inside} if all(inside.values()) else {}

    def study(self, worker: int = 0) -> optuna.Study:
        """Its trials as they stand."""
        return opened(runs.folder(self.name) / "study.db", self.name, self.seed, worker)


def _work(search: Search, data: str, worker: int, parent: int, missing: Semaphore) -> None:
    """Trials in one process and one thread, each of the missing ones in one of them, until the parent is gone."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what fails is raised
    name = f"{search.name}-worker-{worker}"

    def objective(trial: optuna.Trial) -> float:
        params = search.params(search.suggest(trial), name, data)

        def watch(epoch: int, f1: float) -> None:
            if os.getppid() != parent:
                os._exit(1)  # killed with the parent, only later: the trial stays unfinished and is begun again
            if epoch < params.epochs:
                trial.report(f1, LENGTH * epoch // params.epochs)
                if trial.should_prune():
                    raise optuna.TrialPruned
        result = training.train(params, *load(params, runs.ROOT), runs.folder(name), watch)
        best = float(result.history["validation_f1"].max())
        trial.report(best, LENGTH)
        print(f"trial {trial.number}: {best:.4f}", flush=True)
        return best
    with lock.locked(runs.folder(name)):
        if os.getppid() != parent:
            return
        study = search.study(worker)
        with contextlib.suppress(KeyboardInterrupt):  # the parent tells of it
            while missing.acquire(block=False):
                trial = ask(study, runs.folder(search.name) / "study.db")
                try:
                    study.tell(trial, objective(trial))
                except optuna.TrialPruned:
                    study.tell(trial, state=TrialState.PRUNED)


def run(search: Search, data: str = "", workers: int = 0) -> Path:
    """Make the trials that are missing, then the page and best.yaml; returns the page's path.

    `workers` processes of one thread (0: as many as there are cores). Trials that were under way when a process was killed
    or interrupted, or that failed, are begun again with the same values. Raises ValueError where the study was begun with
    other parameters, data or code.
    """
    study, count = search.study(), workers or os.cpu_count() or 1
    fixed = search.params({name: values[0] for name, values in (search.between | search.log_between | search.among).items()},
                          search.name, data)
    corpus, split = load(fixed, runs.ROOT)
    begun = {"space": search.model_dump(mode="json", include={"between", "log_between", "among"}),
             "training": training.training_key(fixed, split)}
    if study.user_attrs.setdefault("begun", begun) != begun:
        raise ValueError(f"reports/{search.name}/study.db was begun with other parameters, space or corpus, by another version "
                         "of this code or its libraries, or on other hardware; its trials cannot be compared with new ones. "
                         "Give the search another name, or remove that folder")
    study.set_user_attr("begun", begun)
    study.set_user_attr("data", {"corpus": {"sha256": corpus.sha256, "sentences": len(corpus)},
                                 **{part: len(index) for part, index in split.parts().items()}})
    if (start := search.start()) and not study.get_trials():
        study.enqueue_trial(start, user_attrs={"start": True})
    for worker in range(count):
        with lock.locked(runs.folder(f"{search.name}-worker-{worker}"), wait=True):
            pass  # a worker whose parent was killed ends after its epoch
    begin_again(study)
    missing = search.trials - len(study.get_trials(states=FINISHED))
    if missing > 0:
        study.set_user_attr("git", git := git_state())
        study.set_user_attr("commits", sorted({*study.user_attrs.get("commits", []), commit(git)}))
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
    """The page of a study, its trials as trials.csv, the best as best.yaml, and what is published of it, search.json."""
    study, folder = search.study(), runs.folder(search.name)
    trials = study.trials_dataframe(attrs=("number", "value", "params", "state")).rename(
        columns=lambda name: {"number": "trial", "value": "validation_f1"}.get(name, name.removeprefix("params_")))
    trials = trials[trials["state"].isin([state.name for state in FINISHED])]
    trials["state"] = trials["state"].str.lower()
    for name in WHOLE_NUMBERS & set(trials):
        trials[name] = trials[name].round().astype(int)
    complete = trials[trials["state"] == "complete"].drop(columns="state")
    runs.write_csv(folder / "trials.csv", trials)
    best = search.params(study.best_params, f"{search.name}-best")
    said = [f"The best of {len(trials)} trials by validation micro F1, {study.best_value:.4f}.", *search.question.splitlines()]
    head = "".join(f"# {line}\n" for line in said)
    runs.write_atomically(folder / "best.yaml", head + yaml.safe_dump(best.changed(), sort_keys=False, allow_unicode=True))
    figures = {"search_trials": plots.parallel(complete.set_index("trial"), "validation_f1", f"Trials of {search.name}",
                                               search.log_between)}
    weights = pd.Series(dtype=float)
    if complete["validation_f1"].nunique() > 1:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=search.seed)
        weights = pd.Series(optuna.importance.get_param_importances(study, evaluator=evaluator)).sort_values(ascending=False)
        figures["search_importances"] = plots.bars(weights, "What the score depended on",
                                                   "relative importance (fANOVA), sum 1", "parameter", form="{:.2f}")
    for name, picture in figures.items():
        plots.save(picture, folder / "figures" / name)
    start = next((trial.number for trial in study.get_trials(states=FINISHED) if trial.user_attrs.get("start")), None)
    runs.write_json(folder / "search.json", {
        **search.model_dump(mode="json"), "data": study.user_attrs["data"], "commits": study.user_attrs["commits"],
        "random": RANDOM, "started_from": start, "best": study.best_trial.number,
        "parameters": best.changed(), "importances": weights.to_dict(), "results": trials.to_dict("records")})
    return report.write_search(folder, search.question, search.limits, trials, start, study.user_attrs["git"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nerlib.search", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="a file as in params/searches/")
    parser.add_argument("--data", default="", help="corpus, in place of the layers'")
    parser.add_argument("--workers", type=int, default=0, help="processes of one thread; 0: as many as there are cores")
    arguments = parser.parse_args()
    if arguments.workers < 0:
        parser.error(f"--workers {arguments.workers}: 1 or more, or 0 for as many as there are cores")
    try:
        search = Search.load(arguments.file)
        runs.folder(search.name, "search")
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
    try:
        with lock.locked(runs.folder(search.name)):
            print(run(search, arguments.data, arguments.workers))
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(f"{search.name}: interrupted; start the search again, and it goes on")
    report.write_runs(runs.ROOT / "reports")


if __name__ == "__main__":
    main()
