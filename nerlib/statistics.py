"""Is a difference more than luck? Intervals for one run, over seeds, and between configurations, from tables alone.

Two kinds of luck are kept apart: that of the seed (weights, dropout, order of batches), which repeated runs show, and that
of the sentences that happen to be scored, which resampling shows. A claim has to survive both.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nerlib.evaluation import mentions
from nerlib.split import BLOCK

MARGIN = 0.003  # F1: two configurations that differ by less are the same for all practical purposes
ALPHA, RESAMPLES = 0.05, 10_000
Seeds = Mapping[int, np.ndarray]  # seed → counts (sentences, 3) of the run with that seed


def counts(table: pd.DataFrame, names: Sequence[str], slice_of: Callable[[pd.DataFrame], pd.Series] | None = None,
           column: str = "predicted") -> np.ndarray:
    """Correct, predicted and gold mentions of each sentence in each slice, (sentences, names, 3), in the table's order.

    `slice_of` maps mentions (a row each, as evaluation.mentions gives them) to names of slices, by default to their type;
    mentions of other slices are left out. A predicted mention is correct if span and type are those of a gold one.
    """
    number = (table["position"] == 0).cumsum().to_numpy() - 1  # of the sentence that a row belongs to
    result = np.zeros((number[-1] + 1 if len(number) else 0, len(names), 3), np.int64)
    gold, predicted = mentions(table, "gold"), mentions(table, column)
    right = predicted.merge(gold, on=["first", "last", "type"], suffixes=("", "_gold"))
    for which, found in enumerate((right, predicted, gold)):
        slices = pd.Index(names).get_indexer(found["type"] if slice_of is None else slice_of(found))
        inside = slices >= 0
        np.add.at(result, (number[found["first"]][inside], slices[inside], which), 1)
    return result


def f1(sums: np.ndarray) -> np.ndarray:
    """Micro F1 from (…, 3) sums of correct, predicted and gold mentions; 0 where there are none."""
    found = sums[..., 1] + sums[..., 2]
    return np.divide(2 * sums[..., 0], found, out=np.zeros(found.shape), where=found > 0)


def resampled(units: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Sums over as many units as there are, drawn with replacement: (units, …) → (resamples, …) float64.

    Bootstrap (Efron 1979). Each resample is a vector of how often each unit was drawn, so that all sums are one product.
    """
    random, size = np.random.default_rng(seed), len(units)
    flat, at_once = units.reshape(size, -1).astype(np.float64), max(1, 4_000_000 // size)
    sums = []
    for first in range(0, resamples, at_once):
        rows = min(at_once, resamples - first)
        drawn = random.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        sums.append(np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size) @ flat)
    return np.concatenate(sums).reshape(resamples, *units.shape[1:])


def interval(samples: np.ndarray, level: float = 1 - ALPHA) -> tuple[float, float]:
    """The percentile interval of bootstrap samples (samples,)."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def of_one_run(units: np.ndarray, resamples: int = RESAMPLES) -> dict[str, float]:
    """Micro F1 of a run's (sentences, 3) counts, with a bootstrap interval over sentences."""
    low, high = interval(f1(resampled(units, resamples)))
    return {"f1": float(f1(units.sum(0))), "low": low, "high": high}


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation and 95 % t interval of the mean; of one value, only the value."""
    if len(values) < 2:
        return {"mean": float(values[0]), "sd": float("nan"), "low": float("nan"), "high": float("nan"), "seeds": 1}
    low, high = stats.ttest_1samp(values, 0).confidence_interval(1 - ALPHA)
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "low": float(low), "high": float(high),
            "seeds": len(values)}


def blocks(sentences: np.ndarray) -> np.ndarray:
    """Which block of neighbours in the file each sentence belongs to, numbered from 0: names recur next door."""
    return np.unique(sentences // BLOCK, return_inverse=True)[1]


def pair(a: Seeds, b: Seeds, block: np.ndarray, resamples: int = RESAMPLES, margin: float = MARGIN) -> dict[str, Any]:
    """What can be said of F1(a) - F1(b), paired by the seeds that both have (two at least), `block` (sentences,).

    Luck of the seed: t interval and test of the per-seed differences. Luck of the sentences: bootstrap over blocks of the
    difference of the means over seeds. `p` is the larger of the two tests' p, `p_equal` the larger p of the two one-sided
    tests against ±margin (Schuirmann 1987), again of both kinds. Raises ValueError where there are no two common seeds.
    """
    seeds = sorted(set(a) & set(b))
    if len(seeds) < 2:
        raise ValueError(f"a paired comparison needs two common seeds at least; common are {seeds}")
    differences = np.array([float(f1(a[seed].sum(0)) - f1(b[seed].sum(0))) for seed in seeds])
    both = np.stack([np.stack([a[seed], b[seed]], 1) for seed in seeds], 1)  # (sentences, seeds, 2, 3)
    units = np.zeros((block.max() + 1, *both.shape[1:]))
    np.add.at(units, block, both)
    scores = f1(resampled(units, resamples))  # (resamples, seeds, 2)
    samples = (scores[..., 0] - scores[..., 1]).mean(1)

    def tail(condition: np.ndarray) -> float:
        return float((condition.sum() + 1) / (len(samples) + 1))

    with np.errstate(divide="ignore", invalid="ignore"):  # seeds that differ by exactly the same: t is infinite, or 0 / 0
        test = stats.ttest_1samp(differences, 0)
        above, below = (stats.ttest_1samp(differences, at, alternative=way).pvalue
                        for at, way in ((-margin, "greater"), (margin, "less")))
    low, high = test.confidence_interval(1 - ALPHA)
    p = max(float(np.nan_to_num(test.pvalue, nan=1.0)), min(1.0, 2 * min(tail(samples <= 0), tail(samples >= 0))))
    p_equal = max(float(np.nan_to_num(max(above, below), nan=1.0)), tail(samples <= -margin), tail(samples >= margin))
    error = max(float(stats.sem(differences)), float(samples.std(ddof=1)))
    return {"seeds": seeds, "differences": differences.tolist(), "difference": float(differences.mean()),
            "t_interval": [float(low), float(high)], "bootstrap_interval": list(interval(samples)), "p": p, "p_equal": p_equal,
            "standard_error": error}


def family(pairs: Mapping[str, dict[str, Any]], margin: float = MARGIN) -> dict[str, dict[str, Any]]:
    """The verdict on each of the comparisons that were declared to be tested, all of them together.

    p and p_equal are adjusted for their number (Holm 1979): below ALPHA, "difference" or "no difference" (beyond
    ±margin); else "undecided", with the smallest difference that would have been found in four of five such experiments.
    """
    differ, equal = (holm([row[key] for row in pairs.values()]) for key in ("p", "p_equal"))
    result = {}
    for (name, row), p, p_equal in zip(pairs.items(), differ, equal, strict=True):
        verdict = "difference" if p < ALPHA else "no difference" if p_equal < ALPHA else "undecided"
        freedom = len(row["seeds"]) - 1
        needed = stats.t.ppf(1 - ALPHA / 2 / len(pairs), freedom) + stats.t.ppf(0.8, freedom)
        result[name] = {**row, "p_holm": p, "p_equal_holm": p_equal, "margin": margin, "verdict": verdict,
                        "smallest_detectable": float(needed * row["standard_error"])}
    return result


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted for their number, in their order (Holm 1979, A simple sequentially rejective procedure)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p, float)[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return stepped[np.argsort(order)].tolist()


def error_overlap(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How far two runs make the same errors: mentions that both miss or both invent, as a share of those that either does."""
    wrong = {}
    for name, table in tables.items():
        spans = {side: set(mentions(table, side)[["first", "last", "type"]].itertuples(index=False, name=None))
                 for side in ("gold", "predicted")}
        wrong[name] = spans["gold"] ^ spans["predicted"]
    return pd.DataFrame({a: {b: len(wrong[a] & wrong[b]) / len(wrong[a] | wrong[b]) if wrong[a] | wrong[b] else 1.0
                             for b in wrong} for a in wrong})
