"""Many finished runs side by side, from their folders alone: configurations, scores over seeds, tests, costs."""

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from nerlib import evaluation, runs, statistics
from nerlib.params import NAME, Params
from nerlib.runs import Run

# What may differ between the seeds of one configuration; the corpus itself is in the fingerprints.
NAMES = {"run", "seed", "data", "data_validation", "data_test"}
OTHER = "another type"  # no slice: of mentions that not all runs were to find


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
        found = named(names)
        if not found:
            raise ValueError("runs: name the finished runs to be compared, for example runs = 'pos-shape-*'")
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
            if key not in run.record["split"]:
                raise ValueError(f"reports/{name} was made by an earlier version, without the {part} fingerprint: repeat it")
            groups.setdefault(run.record["split"][key], []).append(name)
        if len(groups) > 1:
            examples = " but ".join(f"{members[0]} {print_[:8]}" for print_, members in groups.items())
            raise ValueError(f"these runs were not scored on the same {part} sentences (fingerprints: {examples}); "
                             f"leave out {' '.join(min(groups.values(), key=len))}")
        types = sorted(set.intersection(*(set(run.metrics["types"]) for run in found.values())))
        if not types:
            raise ValueError(f"these runs have no entity type in common: {names}")
        prefix = os.path.commonprefix(list(configurations)) if len(configurations) > 1 else ""
        prefix = prefix[:prefix.rfind("-") + 1]
        return cls({name.removeprefix(prefix): seeds for name, seeds in configurations.items()}, prefix, part, types)

    @property
    def all(self) -> list[Run]:
        """Every run."""
        return [run for seeds in self.configurations.values() for run in seeds.values()]

    def plain(self, name: str) -> str:
        """A configuration's name as it is here, without prefix; it may end in @argmax or @viterbi. Raises ValueError."""
        _, at, decoder = name.partition("@")
        for given in (name, name.removeprefix(self.prefix)):
            if given.partition("@")[0] in self.configurations and decoder in (["argmax", "viterbi"] if at else [""]):
                return given
        raise ValueError(f"there is no configuration {name!r}; there are {', '.join(self.configurations)}, and each with "
                         "@argmax or @viterbi")

    def seeds(self, name: str) -> dict[int, Run]:
        """The runs of a configuration."""
        return self.configurations[self.plain(name).partition("@")[0]]

    def table(self, run: Run, decoder: str = "") -> pd.DataFrame:
        """The part's rows of one run's predictions; with `decoder` ("argmax", "viterbi") decoded that way instead."""
        table = run.predictions[run.predictions["part"] == self.part].reset_index(drop=True)
        return table.assign(predicted=table[decoder]) if decoder else table

    @cache  # noqa: B019 – a comparison lives as long as its notebook
    def counts(self, name: str, seed: int, by: str = "type",
               reference: Run | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
        """Counts of one run (sentences, slices, 3) over mentions of the shared types, and the slices' names.

        Slices are by "type", by "length", or by "novelty", for which the training part of `reference` decides.
        """
        table = self.table(self.seeds(name)[seed], self.plain(name).partition("@")[2])
        if by == "type":
            return statistics.counts(table, self.types), tuple(self.types)
        if by == "length":
            names, slice_of = ("1 word", "2 words", "3 words", "4 and more"), self._length
        else:
            names = ("seen", "other type", "unseen")

            def slice_of(found: pd.DataFrame) -> pd.Series:
                return evaluation.novelty(found, reference.training)
        def shared(found: pd.DataFrame) -> pd.Series:
            return slice_of(found).where(found["type"].isin(self.types), OTHER)
        return statistics.counts(table, names, shared), names

    @staticmethod
    def _length(found: pd.DataFrame) -> pd.Series:
        return found["words"].map(lambda n: "1 word" if n == 1 else f"{n} words" if n < 4 else "4 and more")

    def f1(self, name: str) -> dict[int, float]:
        """Micro F1 over the shared types, seed by seed."""
        return {seed: float(statistics.f1(self.counts(name, seed)[0].sum((0, 1)))) for seed in self.seeds(name)}

    def scores(self) -> pd.DataFrame:
        """A row a configuration: mean over seeds, sd, t interval; the bootstrap interval of its first seed's sentences; mean
        number of tags that IOB2 does not allow; mean accuracy of the POS head, where there is one."""
        rows = {}
        for name, seeds in self.configurations.items():
            one = statistics.of_one_run(self.counts(name, min(seeds))[0].sum(1))
            metrics = [run.metrics for run in seeds.values()]
            accuracy = [row["pos_accuracy"][self.part] for row in metrics if self.part in row["pos_accuracy"]]
            rows[name] = statistics.over_seeds(list(self.f1(name).values())) | {
                "one run low": one["low"], "one run high": one["high"],
                "illegal tags": np.mean([row["illegal_tags"][self.part]["predicted"] for row in metrics]),
                "POS accuracy": np.mean(accuracy) if accuracy else np.nan}
        return pd.DataFrame(rows).T.astype({"seeds": int})

    def by_type(self) -> pd.DataFrame:
        """Mean F1 over seeds of each entity type that a configuration was to find, shared or not, nan where there was nothing
        to find: a row a configuration."""
        return pd.DataFrame({name: {kind: np.mean([run.metrics[self.part]["default"].get(kind, {"f1-score": np.nan})["f1-score"]
                                                   for run in seeds.values()])
                                    for kind in next(iter(seeds.values())).metrics["types"]}
                             for name, seeds in self.configurations.items()}).T

    def contrasts(self, comparisons: str, baseline: str = "") -> dict[str, tuple[tuple[int, str], ...]]:
        """Title → (weight, configuration) of each comparison. Raises ValueError.

        `comparisons`: "a:b" is F1(a) - F1(b), "a:b:c:d" the interaction (a - b) - (c - d); "" is each configuration
        against the baseline ("": the first).
        """
        names = list(self.configurations)
        against = self.plain(baseline) if baseline else names[0]
        wanted = [entry.split(":") for entry in comparisons.split()] or [[name, against] for name in names if name != against]
        if not wanted:
            raise ValueError(f"there is one configuration only, {against}: name runs of another, or comparisons such as "
                             f"{against}@viterbi:{against}@argmax")
        result: dict[str, tuple[tuple[int, str], ...]] = {}
        for entry in wanted:
            if len(entry) not in (2, 4) or len(set(entry)) < len(entry):
                raise ValueError(f"comparisons: {':'.join(entry)!r}; write a:b, or a:b:c:d for (a - b) - (c - d)")
            plain = [self.plain(name) for name in entry]
            title = " - ".join(_title(*pair) if len(plain) == 2 else f"({_title(*pair)})" for pair in
                               zip(plain[::2], plain[1::2], strict=True))
            if title in result:
                raise ValueError(f"comparisons: {':'.join(entry)!r} stands twice")
            result[title] = tuple(zip((1, -1, -1, 1), plain, strict=False))
        return result

    def tested(self, contrasts: dict[str, tuple[tuple[int, str], ...]]) -> dict[str, dict[str, Any]]:
        """Verdicts on the declared contrasts, a family: title → as statistics.family says. Raises ValueError."""
        unit, kind = statistics.units(self.table(self.all[0])["sentence"].unique())
        results = {}
        for title, terms in contrasts.items():
            counted = [(weight, {seed: self.counts(name, seed)[0].sum(1) for seed in self.seeds(name)})
                       for weight, name in terms]
            try:
                results[title] = statistics.contrast(counted, unit) | {"unit": kind}
            except ValueError as error:
                raise ValueError(f"{title}: {error}") from None
        return statistics.family(results)

    def where(self, contrasts: dict[str, tuple[tuple[int, str], ...]], by: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Mean over common seeds of each contrast (rows) of F1 in each slice (columns), nan where a slice has no gold mention;
        and the number of gold mentions in each. For novelty, the training part of a contrast's last term decides for all its
        terms, so that none is judged by another list of known names."""
        rows, sizes = {}, {}
        for title, terms in contrasts.items():
            common = sorted(set.intersection(*(set(self.seeds(name)) for _, name in terms)))
            reference = self.seeds(terms[-1][1])[common[0]] if by == "novelty" else None
            values = [weight * statistics.f1(self.counts(name, seed, by, reference)[0].sum(0))
                      for weight, name in terms for seed in common]
            counted, slices = self.counts(terms[0][1], common[0], by, reference)
            sizes[title] = dict(zip(slices, counted.sum(0)[:, 2].tolist(), strict=True))
            rows[title] = {name: value if sizes[title][name] else np.nan
                           for name, value in zip(slices, (np.sum(values, 0) / len(common)).round(12), strict=True)}
        return pd.DataFrame(rows).T, pd.DataFrame(sizes).T

    def settings(self) -> pd.DataFrame:
        """A row a configuration: number of seeds, the parameters in which configurations differ, training part, seconds."""
        first = {name: next(iter(seeds.values())).record for name, seeds in self.configurations.items()}
        columns = sorted(differing([record["parameters"] for record in first.values()]) - NAMES)
        parts = sorted({record["split"]["training_fingerprint"] for record in first.values()})
        trained = {name: [run.record["training"] for run in seeds.values()] for name, seeds in self.configurations.items()}
        return pd.DataFrame({name: {
            "seeds": len(self.configurations[name]), **{column: record["parameters"].get(column) for column in columns},
            "training part": chr(ord("A") + parts.index(record["split"]["training_fingerprint"])),
            "training sentences": record["split"]["training"],
            "training seconds": float(np.median([row["seconds"]["training"] for row in trained[name]])),
            "word pieces a second": float(np.median([row["pieces_per_second"] for row in trained[name]]))}
            for name, record in first.items()}).T


def _unfinished(name: str) -> bool:
    folder = runs.ROOT / "reports" / name
    return any(path.stem == "03" or not runs.is_complete(folder, path.stem) for path in folder.glob("stages/0[1-4].json"))


def named(names: str) -> dict[str, Run]:
    """The runs with these names or patterns (separated by spaces), by name. Raises FileNotFoundError where there is none, or
    one of them is unfinished: it is not left out unsaid."""
    found: dict[str, Run] = {}
    for name in names.split():
        matching = [name] if re.fullmatch(NAME, name) else fnmatch.filter(sorted(os.listdir(runs.ROOT / "reports")), name)
        meant = [one for one in matching if (runs.ROOT / "reports" / one / "run.json").is_file() or _unfinished(one)]
        if not meant:
            raise FileNotFoundError(f"no finished run is called {name!r}: there is no reports/{name}/run.json")
        found |= {one: Run.load(one) for one in meant}
    return found


def differing(records: Sequence[dict[str, Any]]) -> set[str]:
    """The names whose values are not the same in all records. A parameter that there was not yet had its default."""
    defaults = {name: field.default for name, field in Params.model_fields.items()}
    return {name for name in set().union(*records)
            if len({repr(record.get(name, defaults.get(name))) for record in records}) > 1}


def _title(a: str, b: str) -> str:
    (plain_a, _, how_a), (plain_b, _, how_b) = a.partition("@"), b.partition("@")
    return f"{plain_a}: {how_a or 'as trained'} - {how_b or 'as trained'}" if plain_a == plain_b else f"{a} - {b}"
