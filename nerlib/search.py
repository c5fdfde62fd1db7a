"""A search of hyperparameters on validation F1, which can be interrupted and goes on where it was.

    python -m nerlib.search params/searches/gmb.yaml [--data PATH]

Everything stands in reports/<name>/: the study (SQLite), index.html, and the best trial as a parameter file, best.yaml.
"""

import argparse
import itertools
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any, Self

import optuna
import pandas as pd
import torch
import yaml
from optuna.trial import TrialState
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nerlib import plots, report, runs, training
from nerlib.params import Params
from nerlib.split import load

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Search(BaseModel):
    """What a file in params/searches/ holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the study and of its folder in reports/")
    question: str = Field(min_length=1, description="what the search is to answer")
    layers: list[str] = Field([], description="parameter files that all trials start from, a later one wins")
    common: dict[str, Any] = Field({}, description="parameters of all trials; score_test is false by itself")
    between: dict[str, tuple[float, float]] = Field({}, description="name → lowest and highest value")
    log_between: dict[str, tuple[float, float]] = Field({}, description="the same on a logarithmic scale")
    among: dict[str, list[Any]] = Field({}, description="name → values to choose from")
    trials: int = Field(ge=1, description="how many trials, pruned ones included")
    seed: int = Field(0, ge=0, description="seed of the sampler")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        spaces = [self.between, self.log_between, self.among]
        if not any(spaces):
            raise ValueError("between, log_between and among name no parameter to search")
        for one, other in itertools.combinations(spaces, 2):
            if twice := sorted(set(one) & set(other)):
                raise ValueError(f"{twice[0]} stands twice")
        if self.common.get("score_test"):
            raise ValueError("common: score_test must stay false: a search that reads the test part spoils it")
        for pick in (0, -1):  # the corners of the space
            self.params({name: values[pick] for space in spaces for name, values in space.items()}, "corner")
        return self

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """The search in a YAML file. Raises FileNotFoundError, ValueError with file and reason."""
        try:
            return cls(**yaml.safe_load(Path(file).read_text("utf-8")))
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc'])) or 'search'}: {e['msg']}" for e in error.errors()]
            raise ValueError(f"{file}: " + "; ".join(problems)) from None
        except (yaml.YAMLError, TypeError) as error:
            raise ValueError(f"{file}: not a mapping of names to values in YAML: {error}") from None

    def params(self, values: dict[str, Any], run: str, data: str = "") -> Params:
        """The parameters of a trial with the given values."""
        whole = {name for name, field in Params.model_fields.items() if field.annotation is int}
        values = {name: round(value) if name in whole else value for name, value in values.items()}
        values = {"score_test": False} | self.common | values | {"run": run} | ({"data": data} if data else {})
        return Params.from_yaml(*(runs.ROOT / layer for layer in self.layers), **values)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Values for one trial."""
        return ({name: trial.suggest_float(name, *ends) for name, ends in self.between.items()}
                | {name: trial.suggest_float(name, *ends, log=True) for name, ends in self.log_between.items()}
                | {name: trial.suggest_categorical(name, values) for name, values in self.among.items()})

    def study(self) -> optuna.Study:
        """The study as it stands: TPE (Bergstra et al. 2011); trials below the median of their epoch are pruned."""
        path = runs.folder(self.name) / "study.db"
        return optuna.create_study(
            study_name=self.name, storage=f"sqlite:///{path}", load_if_exists=True, direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=self.seed + os.getpid() % 1000, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0))


def _work(search: Search, data: str, worker: int) -> None:
    """Trials in one process and one thread, until there are enough."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = f"{search.name}-worker-{worker}"

    def objective(trial: optuna.Trial) -> float:
        params = search.params(search.suggest(trial), name, data)

        def watch(epoch: int, f1: float) -> None:
            trial.report(f1, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        result = training.train(params, *load(params, runs.ROOT), runs.folder(name), watch)
        print(f"trial {trial.number}: {result.history['validation_f1'].max():.4f}", flush=True)
        return float(result.history["validation_f1"].max())
    search.study().optimize(objective, callbacks=[optuna.study.MaxTrialsCallback(search.trials, FINISHED)])


def run(search: Search, data: str = "", workers: int = 0) -> Path:
    """Make the trials that are missing, then the page and best.yaml; returns the page's path.

    `workers` processes of one thread (0: as many as there are cores). Trials that were under way when a process was
    killed are begun again with the same values.
    """
    study = search.study()
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    missing = search.trials - len(study.get_trials(states=FINISHED))
    if missing > 0:
        context, count = multiprocessing.get_context("spawn"), min(workers or os.cpu_count() or 1, missing)
        processes = [context.Process(target=_work, args=(search, data, worker)) for worker in range(count)]
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
        columns=lambda name: name.removeprefix("params_"))
    trials = trials[trials["state"].isin([state.name for state in FINISHED])]
    complete = trials[trials["state"] == "COMPLETE"].drop(columns="state")
    runs.write_atomically(folder / "trials.csv", trials.to_csv(index=False))
    best = search.params(study.best_params, f"{search.name}-best")
    content = {name: value for name, value in best.changed().items() if name != "score_test"}
    head = f"# The best of {len(trials)} trials by validation micro F1, {study.best_value:.4f}. {search.question}\n"
    runs.write_atomically(folder / "best.yaml", head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    figures = {"search_trials": plots.parallel(complete.set_index("number"), "value", f"Trials of {search.name}")}
    if len(complete) > 1 and complete["value"].nunique() > 1:
        weights = pd.Series(optuna.importance.get_param_importances(study)).sort_values(ascending=False)
        figures["search_importances"] = plots.bars(weights, "What the score depended on",
                                                   "importance (share of variance, fANOVA)", "parameter", form="{:.2f}")
    for name, picture in figures.items():
        plots.save(picture, folder / "figures" / name)
    return report.write_search(folder, search.question, trials, study.best_trial.number)


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
    with runs.locked(search.name):
        print(run(search, arguments.data, arguments.workers))


if __name__ == "__main__":
    main()
