"""Is a difference more than luck? Intervals for one run, over seeds, and between configurations, from tables alone.

Two kinds of luck are told apart: that of the seed (weights, dropout, order of batches), which repeated runs show, and that
of the sentences that happen to be scored, which resampling shows. A claim has to survive each of them, and both together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nerlib.evaluation import mentions
from nerlib.split import BLOCK

MARGIN = 0.003  # F1: two configurations that differ by less are the same for all practical purposes
ALPHA, RESAMPLES, FEWEST = 0.05, 10_000, 20  # FEWEST: blocks that a bootstrap over blocks needs
Seeds = Mapping[int, np.ndarray]  # seed → counts (sentences, 3) of the run with that seed


def counts(table: pd.DataFrame, names: Sequence[str],
           slice_of: Callable[[pd.DataFrame], pd.Series] | None = None) -> np.ndarray:
    """Correct, predicted and gold mentions of each sentence in each slice, (sentences, names, 3), in the table's order.

    `slice_of` maps mentions (a row each, as evaluation.mentions gives them) to names of slices, by default to their type;
    mentions of other slices are left out. A predicted mention is correct if span and type are those of a gold one.
    """
    number = (table["position"] == 0).cumsum().to_numpy() - 1  # of the sentence that a row belongs to
    result = np.zeros((number[-1] + 1 if len(number) else 0, len(names), 3), np.int64)
    gold, predicted = mentions(table, "gold"), mentions(table, "predicted")
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
    """Micro F1 of a run's (sentences, 3) counts, with a bootstrap interval over sentences, as if they were independent: that
    neighbours share names is left to `contrast`."""
    low, high = interval(f1(resampled(units, resamples)))
    return {"f1": float(f1(units.sum(0))), "low": low, "high": high}


def of_types(table: pd.DataFrame, types: Sequence[str]) -> dict[str, dict[str, float]]:
    """`of_one_run` for each type and for all of them ("micro avg"), from one part's table."""
    units = counts(table, types)
    sums, drawn = units.sum(0), resampled(units)
    chosen = {name: [i] for i, name in enumerate(types)} | {"micro avg": slice(None)}
    ends = {name: interval(f1(drawn[:, which].sum(1))) for name, which in chosen.items()}
    return {name: {"f1": float(f1(sums[which].sum(0))), "low": ends[name][0], "high": ends[name][1]}
            for name, which in chosen.items()}


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation and 95 % t interval of the mean; of one value, only the value."""
    if len(values) < 2:
        return {"mean": float(values[0]), "sd": float("nan"), "low": float("nan"), "high": float("nan"), "seeds": 1}
    low, high = stats.ttest_1samp(values, 0).confidence_interval(1 - ALPHA)
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "low": float(low), "high": float(high),
            "seeds": len(values)}


def span(ends: Sequence[float | None]) -> str:
    """Both ends of an interval of differences, as text; a dash where one seed gives none."""
    return "–" if any(end is None or np.isnan(end) for end in ends) else "{:+.4f} to {:+.4f}".format(*ends)


def blocks(sentences: np.ndarray) -> np.ndarray:
    """Which block of neighbours in the file each sentence belongs to, numbered from 0: names recur next door."""
    return np.unique(sentences // BLOCK, return_inverse=True)[1]


def units(sentences: np.ndarray) -> tuple[np.ndarray, str]:
    """What the bootstrap draws: which unit each sentence belongs to, and what a unit is.

    Blocks of neighbours, since names recur next door; where there are fewer than FEWEST, single sentences, since a handful
    of blocks says nothing of their spread.
    """
    block = blocks(sentences)
    return (block, "block") if block.max(initial=-1) + 1 >= FEWEST else (np.arange(len(sentences)), "sentence")


def contrast(terms: Sequence[tuple[int, Seeds]], unit: np.ndarray, resamples: int = RESAMPLES) -> dict[str, Any]:
    """What can be said of a sum of F1 with weights, such as F1(a) - F1(b), paired by the seeds that all terms have.

    `terms`: (weight, runs); `unit` (sentences,): what is drawn together. Luck of the seed: t interval and test of the
    per-seed sums. Luck of the sentences: bootstrap over units of the mean over seeds. Each holds the other fixed; for new
    seeds and new sentences there is a t interval and test with both errors (`interval`; degrees of freedom by Welch and
    Satterthwaite). `p` is the largest p of the three tests, `p_equal` that of the two one-sided tests against ±MARGIN
    (Schuirmann 1987), again of the three. With one seed only there is no t test, and both are 1; so they are
    where all resamples are the same, as of models that find nothing: the luck of the sentences is unknown then, not 0. Raises
    ValueError where the terms have no seed in common.
    """
    seeds = sorted(set.intersection(*(set(runs) for _, runs in terms)))
    if not seeds:
        raise ValueError("they have no seed in common")
    weights = np.array([weight for weight, _ in terms])
    counted = np.stack([np.stack([runs[seed] for _, runs in terms], 1) for seed in seeds], 1)  # (sentences, seeds, terms, 3)
    values = f1(counted.sum(0)) @ weights
    summed = np.zeros((unit.max() + 1, *counted.shape[1:]))
    np.add.at(summed, unit, counted)
    samples = (f1(resampled(summed, resamples)) @ weights).mean(1)
    mean, sentence_error = float(values.mean()), float(samples.std(ddof=1))
    result = {"seeds": seeds, "differences": values.tolist(), "difference": mean, "units": len(summed),
              "t_interval": [np.nan, np.nan], "bootstrap_interval": list(interval(samples)), "interval": [np.nan, np.nan],
              "p": 1.0, "p_equal": 1.0, "seed_error": np.nan, "sentence_error": sentence_error}
    if len(seeds) < 2:
        return result

    def tail(condition: np.ndarray) -> float:
        return float((condition.sum() + 1) / (len(samples) + 1))
    seed_error = float(stats.sem(values))
    over_seeds_alone, p_seeds, equal_seeds = _t_tests(mean, seed_error, len(seeds) - 1)
    over_both, p_both, equal_both = _t_tests(mean, *_together(seed_error, sentence_error, len(seeds), len(summed)))
    result |= {"t_interval": over_seeds_alone, "interval": over_both, "seed_error": seed_error}
    if sentence_error < 1e-12:  # rounding
        return result
    return result | {
        "p": max(p_seeds, p_both, min(1.0, 2 * min(tail(samples <= 0), tail(samples >= 0)))),
        "p_equal": max(equal_seeds, equal_both, tail(samples <= -MARGIN), tail(samples >= MARGIN))}


def _t_tests(mean: float, error: float, freedom: float) -> tuple[list[float], float, float]:
    """From a mean, its standard error and degrees of freedom: t interval, p of no difference, p of one beyond ±MARGIN."""
    half = float(stats.t.ppf(1 - ALPHA / 2, freedom) * error)
    with np.errstate(divide="ignore", invalid="ignore"):  # differences that are exactly the same: t is infinite, or 0 / 0
        beyond, p_equal = np.nan_to_num(stats.t.sf(np.array([abs(mean), MARGIN - abs(mean)]) / error, freedom), nan=1.0)
    return [mean - half, mean + half], float(min(1.0, 2 * beyond)), float(p_equal)


def _together(seed_error: Any, sentence_error: float, seeds: int, units: int) -> tuple[Any, Any]:
    """The standard error of both kinds of luck, which are independent, and its degrees of freedom (Satterthwaite 1946)."""
    error = np.hypot(seed_error, sentence_error)
    with np.errstate(invalid="ignore"):
        freedom = error**4 / (seed_error**4 / (seeds - 1) + sentence_error**4 / max(units - 1, 1))
    return error, np.where(error > 0, freedom, seeds - 1)


def family(contrasts: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The verdict on each of the comparisons that are tested together.

    p and p_equal are adjusted for their number (Holm 1979), each kind by itself: below ALPHA, "difference" or "no
    difference" (within ±MARGIN); else "undecided". A difference that is shown to be one, and to be within the margin, is
    called the former. `smallest_detectable` estimates from the observed spread which true difference four of five such
    experiments would find.
    """
    differ, equal = (holm([row[key] for row in contrasts.values()]) for key in ("p", "p_equal"))
    result = {}
    for (name, row), p, p_equal in zip(contrasts.items(), differ, equal, strict=True):
        verdict = "difference" if p < ALPHA else "no difference" if p_equal < ALPHA else "undecided"
        result[name] = {**row, "p_holm": p, "p_equal_holm": p_equal, "margin": MARGIN, "verdict": verdict,
                        "smallest_detectable": detectable(row, ALPHA / len(contrasts))}
    return result


def detectable(row: Mapping[str, Any], alpha: float, power: float = 0.8) -> float:
    """The difference that all tests of a contrast find with this power at level `alpha`, from its standard errors; nan where
    there is one seed or no error at all.

    Simulated: the difference is drawn with both errors, the seeds' spread, which the tests have to estimate, with its own.
    The bootstrap, taken for a normal test, never needs more than the t test with both errors.
    """
    seeds, draws, random = len(row["seeds"]), 20_000, np.random.default_rng(0)
    if seeds < 2 or row["seed_error"] + row["sentence_error"] < 1e-12:  # differences that are all the same, but for rounding
        return float("nan")
    luck = random.normal(size=draws) * np.hypot(row["seed_error"], row["sentence_error"])
    seen = row["seed_error"] * np.sqrt(random.chisquare(seeds - 1, draws) / (seeds - 1))
    error, freedom = _together(seen, row["sentence_error"], seeds, row["units"])
    high = 1 - alpha / 2
    needed = np.maximum(stats.t.ppf(high, seeds - 1) * seen, stats.t.ppf(high, freedom) * error)
    return float(np.quantile(needed - luck, power))


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted for their number, in their order (Holm 1979, A simple sequentially rejective procedure)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p, float)[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return stepped[np.argsort(order)].tolist()


def error_overlap(tables: Mapping[str, Mapping[int, pd.DataFrame]], types: Sequence[str]) -> pd.DataFrame:
    """How far runs make the same errors in mentions of `types`: those that both miss or both invent, as a share of those that
    either does.

    `tables`: configuration → seed → table. Mean over pairs of runs with different seeds; on the diagonal, of one
    configuration, which is what luck alone leaves in common (nan with one seed). Two configurations that have but one and
    the same seed are compared with that."""
    wrong: dict[str, dict[int, set]] = {}
    for name, seeds in tables.items():
        for seed, table in seeds.items():
            spans = {side: {span for span in mentions(table, side)[["first", "last", "type"]].itertuples(index=False, name=None)
                            if span[2] in types} for side in ("gold", "predicted")}
            wrong.setdefault(name, {})[seed] = spans["gold"] ^ spans["predicted"]

    def overlap(a: str, b: str) -> float:
        pairs = [(i, j) for i in wrong[a] for j in wrong[b] if i != j] or [(i, i) for i in wrong[a] if a != b]
        shares = [len(wrong[a][i] & wrong[b][j]) / len(wrong[a][i] | wrong[b][j]) if wrong[a][i] | wrong[b][j] else 1.0
                  for i, j in pairs]
        return float(np.mean(shares)) if shares else float("nan")
    return pd.DataFrame({a: {b: overlap(a, b) for b in wrong} for a in wrong})
