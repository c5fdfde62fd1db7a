"""Statistics of comparisons, against seqeval, scipy, naive versions and simulated experiments whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from seqeval.metrics import classification_report

from nerlib import statistics

TYPES = ["geo", "org", "per"]


def random_table(seed, sentences=60, right=0.7):
    """Sentences of random tags; each word's prediction is gold's with probability `right`, else random."""
    random = np.random.default_rng(seed)
    labels = np.array(["O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI")])
    lengths = random.integers(1, 12, sentences)
    gold = random.choice(labels, lengths.sum())
    kept = random.random(len(gold)) < right
    return pd.DataFrame({
        "part": "test", "sentence": np.repeat(3 * np.arange(sentences), lengths),
        "position": np.concatenate([np.arange(n) for n in lengths]), "word": "w", "gold": gold,
        "predicted": np.where(kept, gold, random.choice(labels, len(gold)))})


def pair(a, b, block, resamples):
    return statistics.contrast([(1, a), (-1, b)], block, resamples)


def lists(table, column):
    return [rows[column].tolist() for _, rows in table.groupby("sentence")]


# --- counts and F1

@pytest.mark.parametrize("seed", range(5))
def test_counts_give_seqevals_report(seed):
    table = random_table(seed)
    counts = statistics.counts(table, TYPES)
    report = classification_report(lists(table, "gold"), lists(table, "predicted"), output_dict=True, zero_division=0)
    assert counts.shape == (60, 3, 3)
    for kind, sums in zip(TYPES, counts.sum(0), strict=True):
        assert statistics.f1(sums) == pytest.approx(report[kind]["f1-score"]) and sums[2] == report[kind]["support"]
    assert statistics.f1(counts.sum((0, 1))) == pytest.approx(report["micro avg"]["f1-score"])


def test_counts_stand_in_the_row_of_their_sentence():
    table = random_table(1)
    for row, (_, sentence) in zip(statistics.counts(table, TYPES), table.groupby("sentence"), strict=True):
        assert (row == statistics.counts(sentence.reset_index(drop=True), TYPES)[0]).all()


def test_counts_of_slices_leave_out_other_mentions():
    table = random_table(2)
    by_length = statistics.counts(table, ["1", "2"], lambda found: found["words"].astype(str))
    both, everything = by_length.sum((0, 1)), statistics.counts(table, TYPES).sum((0, 1))
    long = statistics.counts(table, ["long"], lambda found: pd.Series(np.where(found["words"] > 2, "long", "short")))
    assert (both + long.sum((0, 1)) == everything).all() and long.sum() > 0
    assert statistics.counts(table, ["geo"]).sum() == statistics.counts(table, TYPES)[:, 0].sum()


def test_f1_of_nothing_is_zero():
    assert statistics.f1(np.array([[0, 0, 0], [1, 1, 1], [0, 2, 0]])).tolist() == [0, 1, 0]


# --- one run

def test_resampling_is_drawing_units_one_by_one():
    units = np.random.default_rng(0).integers(0, 9, (40, 2, 3))
    fast = statistics.resampled(units, 3000, seed=1)
    random = np.random.default_rng(2)
    naive = np.array([sum(units[i] for i in random.integers(40, size=40)) for _ in range(3000)])
    assert fast.shape == naive.shape == (3000, 2, 3)
    np.testing.assert_allclose(fast.mean(0), naive.mean(0), rtol=0.02)
    covariances = [np.cov(sums.reshape(3000, -1).T) for sums in (fast, naive)]
    np.testing.assert_allclose(*covariances, atol=0.12 * naive.var(0).max())
    assert (fast % 1 == 0).all() and fast.min() >= 40 * units.min() and fast.max() <= 40 * units.max()


def test_resampling_in_pieces_draws_anew_each_time():
    units = np.arange(5000)[:, None]  # more than one piece of work
    sums = statistics.resampled(units, 2000, seed=3)[:, 0]
    assert len(np.unique(sums)) > 1900 and sums.mean() == pytest.approx(units.sum(), rel=0.001)
    assert sums.std() == pytest.approx(units.std() * np.sqrt(5000), rel=0.06)


def test_interval_of_one_run_is_that_of_scipy():
    units = statistics.counts(random_table(4, sentences=300), TYPES).sum(1)
    mine = statistics.of_one_run(units, 5000)
    theirs = stats.bootstrap(tuple(units.T), lambda c, p, g: 2 * c.sum() / (p.sum() + g.sum()), paired=True, vectorized=False,
                             n_resamples=3000, method="percentile", rng=np.random.default_rng(0))
    assert mine["f1"] == pytest.approx(2 * units[:, 0].sum() / units[:, 1:].sum())
    assert [mine["low"], mine["high"]] == pytest.approx(list(theirs.confidence_interval), abs=0.003)
    assert mine["low"] < mine["f1"] < mine["high"]


def test_interval_of_one_run_covers_the_truth_as_often_as_it_says():
    random, hits = np.random.default_rng(5), 0
    for _ in range(200):
        gold = random.integers(1, 5, 150)
        found = random.binomial(gold, 0.8)
        row = statistics.of_one_run(np.stack([found, gold, gold], 1), 400)
        hits += row["low"] <= 0.8 <= row["high"]
    assert 0.90 <= hits / 200 <= 0.985


def test_intervals_of_types_are_those_of_one_run_each():
    rows = random_table(4, sentences=300)
    mine = statistics.of_types(rows, TYPES)
    units = statistics.counts(rows, TYPES)
    assert list(mine) == [*TYPES, "micro avg"]
    for name, found in mine.items():
        alone = units.sum(1) if name == "micro avg" else units[:, TYPES.index(name)]
        wanted = statistics.of_one_run(alone)
        assert found["f1"] == pytest.approx(wanted["f1"])
        assert [found["low"], found["high"]] == pytest.approx([wanted["low"], wanted["high"]], abs=0.004)
        assert found["low"] < found["f1"] < found["high"]


# --- over seeds

def test_t_interval_is_the_textbooks():
    row = statistics.over_seeds([0.80, 0.82, 0.81, 0.83])
    half = 3.1824463 * np.std([0.80, 0.82, 0.81, 0.83], ddof=1) / 2  # t(0.975, 3) from a table
    assert (row["mean"], row["seeds"]) == (pytest.approx(0.815), 4) and row["sd"] == pytest.approx(0.0129099, abs=1e-6)
    assert [row["low"], row["high"]] == pytest.approx([0.815 - half, 0.815 + half])


def test_one_seed_has_no_interval():
    row = statistics.over_seeds([0.8])
    assert row["mean"] == 0.8 and np.isnan([row["sd"], row["low"], row["high"]]).all()


# --- pairs

def experiment(effect, seed, seeds=5, sentences=2000, spread=0.004, favours=0.0):
    """Counts of two configurations over some seeds whose F1 differs by `effect` over all sentences that there could be; some
    blocks of these favour the one, some the other."""
    random, other = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    gold, hard = random.integers(1, 4, sentences), random.normal(0, 0.08, sentences)
    result = []
    for shift in (effect, 0.0):
        runs, hard = {}, hard + np.repeat(other.normal(0, favours, sentences // 20), 20)
        for number in range(1, seeds + 1):
            chance = np.clip(0.8 + shift + hard + random.normal(0, spread), 0, 1)
            runs[number] = np.stack([random.binomial(gold, chance), gold, gold], 1)
        result.append(runs)
    return *result, np.arange(sentences) // 20


def test_difference_is_the_mean_over_common_seeds_and_its_interval_scipys():
    a, b, block = experiment(0.01, 1)
    del a[5], b[1]
    row = pair(a, b, block, 500)
    expected = [2 * x[:, 0].sum() / x[:, 1:].sum() - 2 * y[:, 0].sum() / y[:, 1:].sum() for x, y in
                ((a[seed], b[seed]) for seed in (2, 3, 4))]
    assert row["seeds"] == [2, 3, 4] and row["differences"] == pytest.approx(expected)
    assert row["difference"] == pytest.approx(np.mean(expected))
    test = stats.ttest_rel(*([statistics.f1(runs[seed].sum(0)) for seed in (2, 3, 4)] for runs in (a, b)))
    assert row["t_interval"] == pytest.approx(list(test.confidence_interval(0.95))) and row["p"] >= test.pvalue


@pytest.mark.parametrize("effect, seed", [(0.01, 1), (0.0, 3)])  # one beyond the margin, one within it
def test_both_kinds_of_luck_together_are_welchs_test(effect, seed):
    row = pair(*experiment(effect, seed, seeds=4), 2000)
    # Welch's test of two samples has the same error: of 4 values, and of as many as there are blocks.
    samples = [np.array([-1, 1, -1, 1]) * row["seed_error"] * np.sqrt(3) + row["difference"],
               np.array([-1, 1] * 50) * row["sentence_error"] * np.sqrt(99)]
    theirs = stats.ttest_ind(*samples, equal_var=False)
    assert row["units"] == 100 and row["interval"] == pytest.approx(list(theirs.confidence_interval(0.95)))
    assert row["p"] == pytest.approx(theirs.pvalue)  # the largest of the three here
    equal = max(stats.ttest_ind(samples[0] + shift, samples[1], equal_var=False, alternative=way).pvalue
                for shift, way in ((statistics.MARGIN, "greater"), (-statistics.MARGIN, "less")))
    assert row["p_equal"] >= equal - 1e-12 and (effect or row["p_equal"] == pytest.approx(equal, abs=0.02))


def test_block_bootstrap_is_drawing_blocks_one_by_one():
    a, b, block = experiment(0.004, 2, seeds=3, sentences=400)
    row = pair(a, b, block, 4000)
    random, samples = np.random.default_rng(0), []
    members = [np.flatnonzero(block == i) for i in range(block.max() + 1)]
    for _ in range(1500):
        drawn = np.concatenate([members[i] for i in random.integers(len(members), size=len(members))])
        samples.append(np.mean([statistics.f1(a[s][drawn].sum(0)) - statistics.f1(b[s][drawn].sum(0)) for s in a]))
    assert row["bootstrap_interval"] == pytest.approx(np.quantile(samples, [0.025, 0.975]).tolist(), abs=0.0012)


def test_a_difference_needs_both_kinds_of_luck_excluded():
    a, b, block = experiment(0.02, 3)
    assert pair(a, b, block, 2000)["p"] < 0.01
    # The same advantage at every seed, but from one block alone: only the t test would be sure.
    alike = {seed: b[seed].copy() for seed in b}
    for runs in alike.values():
        runs[block == 0, 0] = runs[block == 0, 2]
    row = pair(alike, b, block, 2000)
    assert stats.ttest_1samp(row["differences"], 0).pvalue < 0.01 and row["p"] > 0.05
    # Sentences all alike, but seeds that contradict each other: only the bootstrap would be sure.
    gold = np.full(2000, 4)
    base = {seed: np.stack([gold - 1, gold, gold], 1) for seed in range(1, 4)}
    better = {1: 20, 2: 1, 3: 0}  # of 20 sentences
    other = {seed: np.stack([gold - 1 + (np.arange(2000) % 20 < few), gold, gold], 1) for seed, few in better.items()}
    row = pair(other, base, np.arange(2000) // 20, 2000)
    assert row["bootstrap_interval"][0] > 0 and row["p"] > 0.05 and row["t_interval"][0] < 0


def test_equal_runs_are_equal_and_opposite_ones_opposite():
    a, b, block = experiment(0.01, 4)
    same = statistics.family({"x": pair(a, a, block, 500)})["x"]
    assert same["difference"] == 0 and same["p"] == same["p_equal"] == 1 and same["verdict"] == "undecided"
    forth, back = pair(a, b, block, 500), pair(b, a, block, 500)
    assert forth["difference"] == -back["difference"]
    assert forth["t_interval"] == pytest.approx([-x for x in back["t_interval"][::-1]])
    assert forth["p"] == pytest.approx(back["p"])


def test_a_single_unit_and_differences_without_any_spread_have_verdicts_too():
    runs = {seed: np.array([[found, 4, 4]]) for seed, found in ((1, 2), (2, 3))}
    row = pair(runs, {1: runs[1], 2: runs[1]}, np.zeros(1, int), 50)
    assert row["units"] == 1 and row["sentence_error"] == 0 and row["t_interval"] == pytest.approx(row["interval"])
    counted = {seed: np.array([[3, 4, 4]] * 40) for seed in (1, 2, 3)}
    better = {seed: np.array([[4, 4, 4]] * 40) for seed in (1, 2, 3)}
    row = statistics.family({"x": pair(better, counted, np.arange(40), 50)})["x"]
    assert row["difference"] == 0.25 and np.isnan(row["smallest_detectable"])  # no spread tells nothing of what was missed
    assert row["verdict"] == "undecided"


def test_models_that_find_nothing_are_not_shown_to_be_equal():
    nothing = {seed: np.array([[0, 0, 2]] * 40) for seed in (1, 2)}
    row = statistics.family({"x": pair(nothing, nothing, np.arange(40), 50)})["x"]
    assert row["difference"] == row["sentence_error"] == 0 and row["verdict"] == "undecided"


def test_no_common_seed_is_refused_and_one_claims_nothing():
    a, b, block = experiment(0.2, 4)
    with pytest.raises(ValueError, match="no seed in common"):
        pair({3: a[3], 1: a[1]}, {2: b[2]}, block, 10)
    row = statistics.family({"x": pair({3: a[3], 1: a[1]}, {3: b[3], 2: b[2]}, block, 300)})["x"]
    assert row["seeds"] == [3] and row["bootstrap_interval"][0] > 0.1 and row["verdict"] == "undecided"
    assert np.isnan([*row["t_interval"], row["smallest_detectable"]]).all()


def test_interaction_is_the_difference_of_differences():
    a, b, block = experiment(0.02, 5)
    c, d, _ = experiment(0.005, 6)
    row = statistics.contrast([(1, a), (-1, b), (-1, c), (1, d)], block, 2000)
    score = {name: {seed: 2 * x[:, 0].sum() / x[:, 1:].sum() for seed, x in runs.items()} for name, runs in
             {"a": a, "b": b, "c": c, "d": d}.items()}
    expected = [score["a"][s] - score["b"][s] - score["c"][s] + score["d"][s] for s in range(1, 6)]
    assert row["differences"] == pytest.approx(expected)
    parts = [pair(a, b, block, 2000), pair(c, d, block, 2000)]
    assert row["difference"] == pytest.approx(parts[0]["difference"] - parts[1]["difference"])
    assert row["sentence_error"] > max(part["sentence_error"] for part in parts)


def test_few_blocks_give_way_to_sentences():
    unit, kind = statistics.units(np.arange(0, 2000, 2))
    assert kind == "block" and unit.tolist() == [i // 50 for i in range(1000)]
    unit, kind = statistics.units(np.arange(0, 1900, 2))
    assert kind == "sentence" and unit.tolist() == list(range(950))


def test_false_claims_are_as_rare_as_promised_and_true_ones_found():
    claims = {effect: [statistics.family({"x": pair(*experiment(effect, seed, sentences=400), 300)})["x"]["verdict"]
                       for seed in range(100)] for effect in (0.0, 0.035)}
    assert claims[0.0].count("difference") <= 8 and claims[0.035].count("difference") >= 60
    assert claims[0.035].count("no difference") == 0


def test_false_claims_are_rare_where_seeds_and_sentences_both_err():
    rows = [pair(*experiment(0, seed, seeds=30, sentences=400, spread=0.028, favours=0.03), 200) for seed in range(150)]
    errors = [np.median([row[kind] for row in rows]) for kind in ("seed_error", "sentence_error")]
    assert errors[0] == pytest.approx(errors[1], rel=0.5)  # each test alone would see about half of the luck
    assert sum(row["p"] < 0.05 for row in rows) <= 13
    assert sum(row["interval"][0] <= 0 <= row["interval"][1] for row in rows) >= 137


@pytest.mark.parametrize("seeds, comparisons, seed_error, sentence_error", [
    (5, 1, 0.002, 1e-6), (5, 10, 0.002, 1e-6), (3, 4, 1e-6, 0.002), (5, 1, 0.002, 0.002), (10, 4, 0.001, 0.001),
    (3, 1, 0.001, 0.002)])
def test_smallest_detectable_difference_is_found_four_times_in_five(seeds, comparisons, seed_error, sentence_error):
    row = {"seeds": list(range(seeds)), "p": 0.5, "p_equal": 0.5, "seed_error": seed_error, "sentence_error": sentence_error,
           "units": 100}
    needed = statistics.family({str(i): row for i in range(comparisons)})["0"]["smallest_detectable"]
    random, alpha = np.random.default_rng(7), 0.05 / comparisons
    others = random.normal(0, sentence_error, 20000)  # other sentences, the same for all seeds
    values = needed + others[:, None] + random.normal(0, seed_error * np.sqrt(seeds), (20000, seeds))
    mean, seen = values.mean(1), stats.sem(values, axis=1)
    error = np.sqrt(seen**2 + sentence_error**2)
    freedom = error**4 / (seen**4 / (seeds - 1) + sentence_error**4 / 99)
    p = np.max([stats.ttest_1samp(values, 0, axis=1).pvalue, 2 * stats.norm.sf(np.abs(mean) / sentence_error),
                2 * stats.t.sf(np.abs(mean) / error, freedom)], 0)
    assert (p < alpha).mean() == pytest.approx(0.8, abs=0.02)


# --- families

def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.5]) == [1, 1] and statistics.holm([0.04]) == [0.04]


@pytest.mark.parametrize("seed", range(10))
def test_holm_rejects_as_its_definition_does(seed):
    p = np.random.default_rng(seed).beta(0.5, 5, 12)
    rejected, adjusted = set(), statistics.holm(p)
    for step, index in enumerate(np.argsort(p)):  # step down until the first that is not small enough
        if p[index] > 0.05 / (12 - step):
            break
        rejected.add(index)
    assert rejected == {i for i, value in enumerate(adjusted) if value <= 0.05}


@pytest.mark.parametrize("p, p_equal, verdict", [(0.01, 0.9, "difference"), (0.9, 0.01, "no difference"),
                                                 (0.3, 0.3, "undecided"), (0.01, 0.01, "difference")])
def test_verdicts(p, p_equal, verdict):
    row = {"seeds": [1, 2, 3], "p": p, "p_equal": p_equal, "seed_error": 0.001, "sentence_error": 0.001, "units": 50}
    assert statistics.family({"x": row})["x"]["verdict"] == verdict
    many = {"x": row} | {str(i): {**row, "p": 1.0, "p_equal": 1.0} for i in range(9)}
    assert statistics.family(many)["x"]["verdict"] == "undecided"  # 10 comparisons: 0.01 is not small any more


# --- errors in common

def test_error_overlap_by_hand():
    base = pd.DataFrame({"sentence": 0, "position": range(4), "word": "w", "gold": ["B-geo", "O", "B-per", "O"]})
    none, half, all_ = (base.assign(predicted=tags) for tags in (["O"] * 4, ["B-geo", "O", "O", "B-org"], base["gold"]))
    # none misses geo and per; half misses per and invents org; all_ makes no error.
    types = ["geo", "per", "org"]
    overlap = statistics.error_overlap({"none": {1: none}, "half": {1: half}, "all": {1: all_}}, types)
    assert overlap.loc["none", "half"] == overlap.loc["half", "none"] == pytest.approx(1 / 3)
    assert overlap.loc["none", "all"] == 0
    assert np.isnan(np.diag(overlap)).all()  # a run shares all errors with itself, which says nothing
    assert statistics.error_overlap({"a": {1: none}, "b": {1: half}}, ["per", "tim"]).loc["a", "b"] == 1  # both miss per
    several = statistics.error_overlap({"a": {1: none, 2: half}, "b": {1: none, 2: none, 3: all_}}, types)
    assert several.loc["a", "a"] == pytest.approx(1 / 3)  # seeds 1 and 2
    assert several.loc["b", "b"] == pytest.approx((1 + 0 + 0) / 3)
    assert several.loc["a", "b"] == several.loc["b", "a"] == pytest.approx((1 + 0 + 1 / 3 + 0) / 4)  # 12, 13, 21, 23


def test_blocks_are_neighbours_in_the_file():
    assert statistics.blocks(np.array([0, 5, 99, 100, 1250, 1299, 4000])).tolist() == [0, 0, 0, 1, 2, 2, 3]


@pytest.mark.parametrize("ends, text", [((-0.00123, 0.5), "-0.0012 to +0.5000"), ((None, None), "–"), ((np.nan, 1.0), "–")])
def test_an_interval_as_text(ends, text):
    assert statistics.span(ends) == text
