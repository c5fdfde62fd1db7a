"""The trials of a search, in a file (Optuna's SQLite): opened by each of its processes, resumed where it was killed."""

import fcntl
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
RANDOM = 10  # trials before the sampler learns from them


def opened(file: Path, name: str, seed: int, worker: int = 0) -> optuna.Study:
    """The study as it stands: TPE (Bergstra et al. 2011); what is below the median of at least five complete trials at its
    share of training is pruned."""
    study = optuna.create_study(
        study_name=name, storage=f"sqlite:///{file}", load_if_exists=True, direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_min_trials=5))
    begun_at = seed * 10**6 + worker * 10**4 + len(study.get_trials())  # a resumed study draws new values
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM, seed=begun_at, constant_liar=True)
    return study


def ask(study: optuna.Study, file: Path) -> optuna.Trial:
    """The next trial, a queued one or a new one. SQLite locks no row: two processes that ask at once could be given the same
    queued trial."""
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return study.ask()


def begin_again(study: optuna.Study) -> None:
    """Queue the trials that came to no end, with the same values: those that were killed or interrupted, or that failed. No
    process may be at work on the study."""
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
    for trial in study.get_trials(states=[TrialState.FAIL]):
        others = study.get_trials(states=(*FINISHED, TrialState.WAITING))
        # Killed while it was drawn, it has only some of its values, or none.
        if (values := _values(trial)) and not any(values.items() <= _values(other).items() for other in others):
            study.enqueue_trial(values, user_attrs=trial.user_attrs)


def _values(trial: FrozenTrial) -> dict[str, Any]:
    return trial.system_attrs.get("fixed_params", {}) | trial.params
