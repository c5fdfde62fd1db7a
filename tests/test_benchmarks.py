"""The benchmarks: whether they measure what they say. That they run at all is shown on a few sentences of the sample."""

import json
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import determinism, levers, loading, scaling, tagging, training
from benchmarks.__main__ import table
from benchmarks.contest import contest, ours_vs
from nerlib import corpus, model, runs, sample
from nerlib.params import Params

RESULTS = runs.ROOT / "reports" / "results"


def noting(name, log, megabytes=0):
    """A contender of 7 units that writes its name down each time, and holds some memory."""
    held = np.ones(megabytes * 2**17)

    def work():
        with Path(log).open("a") as file:
            file.write(name)
        return 7 + 0 * len(held)
    return work


def failing(log):
    raise ValueError("no such encoder")


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """The sample corpus as a file in the Kaggle layout."""
    path = tmp_path_factory.mktemp("csv") / "sample.csv"
    path.write_bytes(sample.gmb_csv())
    return str(path)


# --- the contest

def test_contenders_work_in_turns_after_a_warm_up_each_and_memory_is_their_own(tmp_path):
    log = tmp_path / "log"
    result = contest({"a": partial(noting, "a"), "b": partial(noting, "b", megabytes=300)}, (str(log),), repeats=3)
    assert log.read_text() == "ab" + "ab" * 3
    for row in result.values():
        assert len(row["rates"]) == 3 and row["median_rate"] == statistics.median(row["rates"])
        assert 7 / row["median_rate"] == pytest.approx(row["median_seconds"])
    assert result["a"]["peak_memory_above_imports_mib"] < 100
    assert 300 <= result["b"]["peak_memory_above_imports_mib"] < 400
    assert contest({"a": partial(noting, "c")}, (str(log),), repeats=1, warm_up=False)["a"]["rates"]
    assert log.read_text() == "ab" * 4 + "c"


def test_a_failing_contender_ends_the_contest_with_its_own_error(tmp_path):
    with pytest.raises(RuntimeError, match="(?s)second failed.*ValueError: no such encoder"):
        contest({"first": partial(noting, "a"), "second": failing}, (str(tmp_path / "log"),), repeats=1)


def test_ours_vs_is_how_many_times_as_fast_ours_is():
    assert ours_vs({"ours": {"median_rate": 50}, "theirs": {"median_rate": 20}}, "ours") == {"theirs": 2.5}


# --- what is counted

def test_flops_per_piece_are_those_that_torch_counts():
    net, _ = model.build(Params(), training.Vocabulary(["O", "B-geo", "I-geo"], ["[PAD]", "[IGNORE]", "NN"]))
    ids = torch.full((2, 24), 2000)
    with FlopCounterMode(display=False) as counter:
        logits, _ = net(ids, torch.ones_like(ids), torch.zeros_like(ids), torch.zeros_like(ids))
        model.loss(logits, torch.zeros_like(ids)).backward()
    assert training.flops_per_piece(net, 24) == pytest.approx(counter.get_total_flops() / ids.numel(), rel=0.01)


def test_growth_is_the_exponent_of_the_two_largest_sizes():
    result = {"10": {"median_seconds": 9.0}, "100": {"median_seconds": 2.0}, "400": {"median_seconds": 32.0}}
    assert scaling.growth(result) == pytest.approx(2)


def test_repeated_sentences_begin_again_at_the_first(csv):
    full = corpus.read(csv)
    longer = scaling._repeated(full, len(full) + 2)
    assert len(longer) == len(full) + 2 and longer.sentence(len(full) + 1) == full.sentence(1)
    assert scaling._repeated(full, 3).texts() == full.texts()[:3]


def test_the_sources_way_and_datasets_encode_as_we_do(csv):
    sentences, labels, tags = loading._grouped(csv)
    full = corpus.read(csv)
    assert sentences["Word"].map(" ".join).tolist() == full.texts()
    assert sorted(labels) == sorted(set(full.tags)) and sorted(tags) == sorted(set(full.pos))
    assert loading._heads([None, 0, 1, 1, 1, 2, None]) == [None, 0, 1, None, None, 2, None]


# --- the paired comparison

def trainings(off, values):
    return [{"off": off, "seed": seed, "f1": f1} for seed, f1 in enumerate(values, 1)]


@pytest.mark.parametrize("without, verdict", [
    ([0.800, 0.801, 0.802, 0.799, 0.800], "costs nothing"),
    ([0.790, 0.812, 0.801, 0.795, 0.806], "undecided"),
    ([0.830, 0.831, 0.832, 0.829, 0.831], "costs F1")])
def test_comparison_is_a_paired_t_interval_of_on_minus_off(without, verdict):
    on = [0.801, 0.800, 0.803, 0.800, 0.801]
    row = levers.compare(trainings(levers.ON, on) + trainings("bf16", without))["bf16"]
    differences = np.subtract(on, without)
    half = 2.776445 * differences.std(ddof=1) / 5**0.5  # the t quantile for 4 degrees of freedom, from a table
    assert row["differences"] == pytest.approx(differences) and row["mean"] == pytest.approx(differences.mean())
    assert row["interval"] == pytest.approx([differences.mean() - half, differences.mean() + half], rel=1e-5)
    assert row["verdict"] == verdict and row["seeds"] == [1, 2, 3, 4, 5]


def test_comparison_pairs_by_seed_and_wants_two():
    rows = trainings(levers.ON, [0.8, 0.7, 0.6])
    assert levers.compare(rows + trainings("bf16", [0.5])) == {}
    reversed_rows = [*trainings(levers.ON, [0.8, 0.7])[::-1], *trainings("bf16", [0.75, 0.6])]
    assert levers.compare(reversed_rows)["bf16"]["differences"] == pytest.approx([0.05, 0.1])


def test_each_lever_is_switched_off_by_one_parameter_from_what_is_on():
    on = Params(**levers.COMMON, run="x", data="y")
    for changes in levers.OFF.values():
        (name, value), = changes.items()
        assert getattr(on, name) != value == getattr(Params(**levers.COMMON | changes, run="x", data="y"), name)
        # On is the default, but for what the hardware decides, and for what may cost F1.
        assert name in ("precision", "freeze_embeddings") or getattr(Params(), name) == getattr(on, name)


# --- what determinism costs

def test_the_cost_of_determinism_is_a_median_over_pairs_of_steps(csv):
    modes = []
    hook = register_optimizer_step_post_hook(lambda *_: modes.append(torch.are_deterministic_algorithms_enabled()))
    try:
        record = determinism.measure(csv, pairs=3, sentences=32)
    finally:
        hook.remove()
    assert modes == [False, False, True, False, True, False, False, False, True], "by turns, after one to warm up"
    assert len(record["with"]) == len(record["without"]) == 3 and min(record["with"] + record["without"]) > 0
    assert determinism.cost([1.1, 2.4, 3.0], [1.0, 2.0, 3.0]) == pytest.approx({"low": 0.05, "median": 0.1, "high": 0.15})


def test_committed_cost_of_determinism_follows_from_the_committed_steps():
    record = json.loads((RESULTS / "determinism.json").read_text("utf-8"))
    cost = record["cost"]
    shares = sorted(one / other - 1 for one, other in zip(record["with"], record["without"], strict=True))
    assert len(shares) >= 48 and cost["median"] == pytest.approx(statistics.median(shares)) and record["git"]["commit"]
    assert cost["low"] <= cost["median"] <= cost["high"]
    said = (runs.ROOT / "benchmarks/README.md").read_text("utf-8")
    assert "{median:+.1%} of a step (quartiles {low:+.1%} and {high:+.1%})".format(**cost) in " ".join(said.split())


# --- the whole, on a few sentences

@pytest.mark.slow
def test_each_benchmark_runs_and_its_record_holds_the_ratios(csv):
    records = {"training": training.run(csv, sentences=24, repeats=1), "loading": loading.run(csv, repeats=1),
               "tagging": tagging.run(csv, sentences=24, repeats=1),
               "scaling": scaling.run(csv, sentences=(20, 40), lengths=(8, 16), words=160, repeats=1)}
    json.dumps(records)
    check_ratios(records)
    assert set(records["tagging"]["ours_vs"]) == {"pipeline", "pipeline_best", "tagger_words", "tagger_text"}
    for record in records.values():
        assert len(table(record)) >= 3
    figures = training.figure(records["training"]), scaling.figure(records["scaling"])
    assert all("word" in alt for _, alt in figures)


def check_ratios(records):
    rate = {name: {letter: row["median_rate"] for letter, row in records[name]["contenders"].items()}
            for name in ("training", "loading", "tagging")}
    t, limit = rate["training"], records["training"]["e"]
    assert list(t) == ["a", "b", "c", "d"]
    for letter in "abc":
        assert records["training"]["ours_vs"][letter] == pytest.approx(t["d"] / t[letter], abs=0.006)
    assert limit["median_rate"] == pytest.approx(max(limit["flops_per_second"].values()) / limit["flops_per_piece"])
    assert records["training"]["share_of_limit"] == pytest.approx(t["d"] / limit["median_rate"], abs=6e-4)
    for name in ("source", "datasets"):
        assert records["loading"]["ours_vs"][name] == pytest.approx(rate["loading"]["ours"] / rate["loading"][name], abs=0.006)
    best = max(rate["tagging"][name] for name in rate["tagging"] if name.startswith("pipeline_"))
    others = {name: one for name, one in rate["tagging"].items() if name == "pipeline" or name.startswith("tagger_")}
    others["pipeline_best"] = best
    assert records["tagging"]["ours_vs"] == {
        name: pytest.approx(rate["tagging"]["ours"] / other, abs=0.006) for name, other in others.items()}


def test_committed_ratios_follow_from_the_committed_rates():
    records = json.loads((RESULTS / "benchmarks.json").read_text("utf-8"))
    check_ratios(records)
    for name in ("training", "loading", "tagging"):
        for row in records[name]["contenders"].values():
            assert len(row["rates"]) >= 5 and row["median_rate"] == statistics.median(row["rates"])
    assert all(record["git"]["commit"] for record in records.values())


def test_committed_comparison_follows_from_the_committed_trainings():
    record = json.loads((RESULTS / "levers.json").read_text("utf-8"))
    assert record["levers"] == levers.compare(record["trainings"])
    assert all(row["f1"] == max(row["epochs"]) for row in record["trainings"])
