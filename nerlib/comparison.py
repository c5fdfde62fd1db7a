"""Many finished runs side by side, from their folders alone: configurations, scores over seeds, tests, costs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from nerlib import decoding, evaluation, runs, statistics
from nerlib.runs import Run

# What may differ between the seeds of one configuration.
NAMES = {"run", "seed"}


@dataclass(eq=False)
class Comparison:
    """Runs that may be compared: same test sentences (or validation sentences, where not all scored the test part)."""

    configurations: dict[str, dict[int, Run]]  # name → seed → run
    prefix: str  # with which all their names begin; left out
    part: str
    types: list[str]  # that all runs were to find

    @classmethod
    def of(cls, names: str) -> "Comparison":
        """The runs with these names or patterns (separated by spaces). Raises FileNotFoundError, ValueError.

        Runs whose names end in -SEED and that have the same parameters but for it are one configuration, called by what the
        name has before that; a beginning in whole words that all share is left out.
        """
        found: dict[str, Run] = {}
        for name in names.split():
            matching = sorted((runs.ROOT / "reports").glob(f"{name}/run.json"))
            if not matching:
                raise FileNotFoundError(f"no finished run is called {name!r}: there is no reports/{name}/run.json")
            found |= {path.parent.name: Run(path.parent) for path in matching}
        if len(found) < 2:
            raise ValueError(f"runs = {names!r} names {len(found)} finished run(s); a comparison needs two at least")
        configurations: dict[str, dict[int, Run]] = {}
        for name, run in found.items():
            seed = run.record["parameters"]["seed"]
            seeds = configurations.setdefault(name.removesuffix(f"-{seed}"), {})
            if seed in seeds:
                raise ValueError(f"{seeds[seed].path.name} and {name} are the same configuration with the same seed {seed}")
            seeds[seed] = run
        for name, seeds in configurations.items():
            if unlike := differing([run.record["parameters"] for run in seeds.values()]) - NAMES:
                raise ValueError(f"runs of {name!r} differ in more than the seed ({', '.join(sorted(unlike))}): rename them")
        part = "test" if all("test" in run.metrics for run in found.values()) else "validation"
        key = "fingerprint" if part == "test" else "validation_fingerprint"
        groups: dict[str, list[str]] = {}
        for name, run in found.items():
            if part not in run.metrics:
                raise ValueError(f"reports/{name} has no scores of the {part} part, in which alone all runs could be compared")
            groups.setdefault(run.record["split"][key], []).append(name)
        if len(groups) > 1:
            examples = " but ".join(f"{members[0]} {print_[:8]}" for print_, members in groups.items())
            raise ValueError(f"these runs were not scored on the same {part} sentences (fingerprints: {examples}); "
                             f"leave out {' '.join(min(groups.values(), key=len))}")
        types = sorted(set.intersection(*(set(run.metrics["types"]) for run in found.values())))
        prefix = os.path.commonprefix(list(configurations)) if len(configurations) > 1 else ""
        prefix = prefix[:prefix.rfind("-") + 1]
        return cls({name.removeprefix(prefix): seeds for name, seeds in configurations.items()}, prefix, part, types)

    @property
    def first(self) -> Run:
        """One of the runs, for what all have in common."""
        return next(iter(next(iter(self.configurations.values())).values()))

    def table(self, run: Run, decoder: str = "") -> pd.DataFrame:
        """The part's rows of one run's predictions; with `decoder` ("argmax", "viterbi") decoded that way instead."""
        mine = (run.predictions["part"] == self.part).to_numpy()
        table = run.predictions[mine].reset_index(drop=True)
        if decoder == "argmax":
            return table.assign(predicted=table["argmax"])
        if decoder == "viterbi":
            offsets = np.append(np.flatnonzero(table["position"] == 0), len(table))
            ids = decoding.viterbi(run.scores[mine], offsets, run.metrics["tags"])
            return table.assign(predicted=np.array(run.metrics["tags"], object)[ids])
        return table

    def seeds(self, name: str) -> dict[int, Run]:
        """The runs of a configuration; `name` may end in @argmax or @viterbi. Raises ValueError for an unknown one."""
        plain, _, decoder = name.removeprefix(self.prefix).partition("@")
        if plain not in self.configurations or decoder not in ("", "argmax", "viterbi"):
            raise ValueError(f"there is no configuration {name!r}; there are {', '.join(self.configurations)}, and each with "
                             "@argmax or @viterbi")
        return self.configurations[plain]

    def title(self, a: str, b: str) -> str:
        """What a comparison is called: "a - b", or "a: viterbi - argmax" for two decoders of one configuration."""
        a, b = (name.removeprefix(self.prefix) for name in (a, b))
        (plain_a, _, how_a), (plain_b, _, how_b) = a.partition("@"), b.partition("@")
        return f"{plain_a}: {how_a} - {how_b}" if plain_a == plain_b else f"{a} - {b}"

    @cache  # noqa: B019 – a comparison lives as long as its notebook
    def counts(self, name: str, seed: int, by: str = "type") -> tuple[np.ndarray, tuple[str, ...]]:
        """Counts of one run (sentences, slices, 3), and the slices' names: by "type", "novelty" or "length" of mentions."""
        run = self.seeds(name)[seed]
        table = self.table(run, name.partition("@")[2])
        if by == "novelty":
            names = ("seen", "other type", "unseen")
            return statistics.counts(table, names, lambda found: evaluation.novelty(found, run.training)), names
        if by == "length":
            names = ("1 word", "2 words", "3 words", "4 and more")
            return statistics.counts(table, names, lambda found: np.array(names)[found["words"].clip(upper=4) - 1]), names
        return statistics.counts(table, self.types), tuple(self.types)

    def f1(self, name: str) -> dict[int, float]:
        """Micro F1 over the shared types, seed by seed."""
        return {seed: float(statistics.f1(self.counts(name, seed)[0].sum((0, 1)))) for seed in self.seeds(name)}

    def scores(self) -> pd.DataFrame:
        """A row a configuration: mean over seeds, sd, t interval; the bootstrap interval of its first seed's sentences."""
        rows = {}
        for name, seeds in self.configurations.items():
            one = statistics.of_one_run(self.counts(name, min(seeds))[0].sum(1))
            rows[name] = statistics.over_seeds(list(self.f1(name).values())) | {
                "one run low": one["low"], "one run high": one["high"]}
        return pd.DataFrame(rows).T.astype({"seeds": int})

    def tested(self, pairs: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
        """Verdicts on the declared pairs, a family: {"a - b": as statistics.family says}."""
        block = statistics.blocks(self.table(self.first)["sentence"].unique())
        results = {}
        for a, b in pairs:
            both = ({seed: self.counts(name, seed)[0].sum(1) for seed in self.seeds(name)} for name in (a, b))
            results[self.title(a, b)] = statistics.pair(*both, block) | {"a": a, "b": b}
        return statistics.family(results)

    def where(self, pairs: Sequence[tuple[str, str]], by: str) -> pd.DataFrame:
        """Mean difference of F1 over common seeds in each slice (columns) for each pair (rows)."""
        rows = {}
        for a, b in pairs:
            common = sorted(set(self.seeds(a)) & set(self.seeds(b)))
            of = {name: np.array([statistics.f1(self.counts(name, seed, by)[0].sum(0)) for seed in common]) for name in (a, b)}
            rows[self.title(a, b)] = dict(zip(self.counts(a, common[0], by)[1], (of[a] - of[b]).mean(0), strict=True))
        return pd.DataFrame(rows).T

    def settings(self) -> pd.DataFrame:
        """A row a configuration: number of seeds, the parameters in which configurations differ, training part, seconds."""
        first = {name: next(iter(seeds.values())).record for name, seeds in self.configurations.items()}
        columns = sorted(differing([record["parameters"] for record in first.values()]) - NAMES)
        parts = sorted({record["split"]["training_fingerprint"] for record in first.values()})
        return pd.DataFrame({name: {
            "seeds": len(self.configurations[name]), **{column: record["parameters"].get(column) for column in columns},
            "training part": chr(ord("A") + parts.index(record["split"]["training_fingerprint"])),
            "training sentences": record["split"]["training"],
            "training seconds": float(np.median([run.record["training"]["seconds"]["training"]
                                                 for run in self.configurations[name].values()])),
            "word pieces a second": float(np.median([run.record["training"]["pieces_per_second"]
                                                     for run in self.configurations[name].values()]))}
            for name, record in first.items()}).T

    def methods(self, tests: int) -> str:
        """The paragraph on methods that a paper would need, from the runs' records."""
        record = self.first.record
        seeds = sorted({seed for seeds in self.configurations.values() for seed in seeds})
        commits = sorted({run.record["git"]["commit"] or "unknown" for seeds in self.configurations.values()
                          for run in seeds.values()})
        corpus = record["corpus"]
        return (
            f"We fine-tuned {record['encoder']['name']} (torch {record['versions']['torch']}, transformers "
            f"{record['versions']['transformers']}) on {record['split']['training']:,} sentences of a corpus of "
            f"{corpus['sentences']:,} (SHA-256 {corpus['sha256'][:12]}…) in {len(self.configurations)} configurations with "
            f"{len(seeds)} seeds each at most. Scores are micro F1 of exact mentions of {', '.join(self.types)} (seqeval "
            f"{record['versions']['seqeval']}, default mode) on {record['split'][self.part]:,} {self.part} sentences; the "
            "epoch was chosen on validation data. Differences are paired by seed and given with 95 % t intervals over seeds "
            f"and with 95 % percentile intervals of {statistics.RESAMPLES:,} bootstrap resamples over blocks of neighbouring "
            f"sentences. We tested {tests} comparisons, declared in advance, and call a difference one only if the t test and "
            "the bootstrap both reject its absence at 5 % after Holm's correction; “no difference” means that both "
            f"bound it within ±{statistics.MARGIN} F1 (two one-sided tests). Code: commit "
            f"{', '.join(commit[:10] for commit in commits)}.")


def differing(records: Sequence[dict[str, Any]]) -> set[str]:
    """The names whose values are not the same in all records."""
    return {name for name in set().union(*records) if len({repr(record.get(name)) for record in records}) > 1}


def pairs_of(comparisons: str, baseline: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs that 'a:b c:d' names, or else each configuration against the baseline. Raises ValueError."""
    if not comparisons:
        return [(name, baseline) for name in names if name != baseline]
    pairs = [tuple(pair.split(":")) for pair in comparisons.split()]
    if wrong := [pair for pair in pairs if len(pair) != 2]:
        raise ValueError(f"comparisons: {':'.join(wrong[0])!r} is no pair; write two configurations as a:b")
    return pairs
