"""Which sentences train, choose and test: drawing the parts, and fingerprints by which runs can be compared."""

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from nerlib.corpus import Corpus, join, read
from nerlib.params import Params

READ = {"data", "data_validation", "data_test", "entity_types", "max_sentences", "split", "test_size", "validation_size",
        "split_seed"}  # the parameters by which `load` finds sentences and parts
BLOCK, MARGIN = 100, 10  # sentences; names recur next door 16 times as often as at random, at a distance of 10 no more


@dataclass(frozen=True)
class Split:
    """Indices of the sentences in each part, ascending."""

    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    fingerprint: str  # sha256 over the corpus's sha256 and the test indices: equal means comparable
    validation_fingerprint: str  # the same of the validation indices
    training_fingerprint: str  # the same for training and validation
    kind: str = "random"
    notes: tuple[str, ...] = ()

    def parts(self) -> dict[str, np.ndarray]:
        """Part name → indices."""
        return {"training": self.training, "validation": self.validation, "test": self.test}


def files(params: Params, root: Path) -> dict[str, str]:
    """Which corpus each of data, data_validation and data_test names, if it does: 'sample', or a path; relative ones start at
    `root`. Raises FileNotFoundError."""
    named = {name: getattr(params, name) for name in ("data", "data_validation", "data_test") if getattr(params, name)}
    for name, path in named.items():
        if path != "sample" and not (root / path).is_file():
            raise FileNotFoundError(f"{name} = {path}: there is no file {root / path}" + (
                "; how to get the Kaggle corpus stands in data/README.md, and data = sample is built in" * (name == "data")))
    return {name: path if path == "sample" else str(root / path) for name, path in named.items()}


def load(params: Params, root: Path) -> tuple[Corpus, Split]:
    """Read and split what `params` name; relative paths start at `root`. Raises as `read` does, and ValueError."""
    found = files(params, root)
    main = read(found.pop("data"))
    official = {name.removeprefix("data_"): read(path) for name, path in found.items()}
    if params.pos not in ("none", "constant") and (without := [c.source for c in (main, *official.values()) if c.pos is None]):
        raise ValueError(f"{without[0]}: has no POS column; set pos: none")
    parts = {"data": main} | {f"data_{part}": piece for part, piece in official.items()}
    for (one, first), (other, second) in itertools.combinations(parts.items(), 2):
        if first.sha256 == second.sha256:
            raise ValueError(f"{other} = {second.source}: holds the same as {one} = {first.source}; what is trained on cannot "
                             "be held out")
    corpus, given, start = main, {}, len(main)
    if official:
        corpus = join([main, *official.values()])
        for part, piece in official.items():
            given[part] = np.arange(start, start + len(piece))
            start += len(piece)
    corpus = corpus.keep_types(params.entity_types)
    return corpus, _split(corpus, params, np.arange(len(main)), given)


def _split(corpus: Corpus, params: Params, pool: np.ndarray, given: dict[str, np.ndarray]) -> Split:
    seed, notes = params.split_seed, []
    if 0 < params.max_sentences < len(pool):
        pool = np.sort(np.random.default_rng(seed).choice(pool, params.max_sentences, replace=False))
        notes.append(f"a random sample of {params.max_sentences:,} sentences is used")
    units = pool // BLOCK if params.split == "blocks" else pool  # what is drawn: sentences, or blocks of them
    test, validation = given.get("test"), given.get("validation")
    rest = pd.unique(units)  # every draw is from what the one before it left, in its order, as the source has it
    try:
        if test is None:
            rest, drawn = train_test_split(rest, test_size=params.test_size, random_state=seed)
            test = pool[np.isin(units, drawn)]
        if params.split in ("apart", "among"):
            validation, rest = _beside(rest, params.validation_size, seed, among=params.split == "among")
        if validation is None:
            validation = pool[:0]
            if params.validation_size:
                rest, drawn = train_test_split(rest, test_size=params.validation_size, random_state=seed)
                validation = pool[np.isin(units, drawn)]
    except ValueError:  # scikit-learn speaks of its own parameters
        blocks = len(np.unique(pool // BLOCK))
        few = f", {blocks} block{'s' * (blocks > 1)} of {BLOCK}," * (params.split in ("blocks", "apart", "among"))
        shares = ", ".join(f"{name} = {getattr(params, name):g}" for name in ("test_size", "validation_size")
                           if name.removesuffix("_size") not in given)
        raise ValueError(f"{corpus.source}: {len(pool)} sentences{few} cannot be split as asked ({shares}): "
                         "they are too few for parts of these sizes") from None
    training = pool[np.isin(units, rest)]
    if params.split == "grouped":
        key = pd.factorize(pd.Series(corpus.texts()))[0]
        new_validation = validation[~np.isin(key[validation], key[test])]
        new_training = training[~np.isin(key[training], key[np.append(test, new_validation)])]
    elif params.split == "blocks":  # an official part, in a file of its own, has no neighbours
        new_validation = validation if "validation" in given else _away_from(validation, np.intersect1d(test, pool))
        new_training = _away_from(training, np.intersect1d(np.append(test, new_validation), pool))
    else:
        new_training, new_validation = training, validation
    for part, old, new in (("training", training, new_training), ("validation", validation, new_validation)):
        if len(new) < len(old):
            notes.append(f"{len(old) - len(new):,} sentences left the {part} part ({params.split} split)")

    if not len(new_training) or not len(test) or (len(validation) and not len(new_validation)):
        sizes = f"{len(new_training)} / {len(new_validation)} / {len(test)}"
        raise ValueError(f"{corpus.source}: {len(pool)} sentences cannot be split as asked: training / validation / test "
                         f"would have {sizes}")

    for part, sentences in (("training", new_training), ("validation", new_validation), ("test", test)):
        if len(sentences) and not (corpus.tags[corpus.rows(sentences)] != "O").any():
            raise ValueError(f"{corpus.source}: the {part} part has no mention"
                             f"{f' of {params.entity_types}' * (params.entity_types != 'all')}: nothing to score")

    def fingerprint(*parts: np.ndarray) -> str:
        text = "|".join([corpus.sha256, *(",".join(map(str, part)) for part in parts)])
        return hashlib.sha256(text.encode()).hexdigest()

    return Split(new_training, new_validation, test, fingerprint(test), fingerprint(new_validation),
                 fingerprint(new_training, new_validation), "official" if "test" in given else params.split, tuple(notes))


def _beside(sentences: np.ndarray, share: float, seed: int, among: bool) -> tuple[np.ndarray, np.ndarray]:
    """Validation and training for measuring what neighbours give away, from the sentences that are not tested.

    Validation is a random half of each of some blocks, about `share` of all sentences. Training has as many sentences in
    both cases: with `among` the other halves of these blocks and a random rest, else only sentences away from them.
    """
    random, sentences = np.random.default_rng(seed), np.sort(sentences)
    block = sentences // BLOCK
    held = np.isin(block, random.permutation(np.unique(block))[:max(1, round(2 * share * len(np.unique(block))))])
    inside, outside = sentences[held], _away_from(sentences[~held], sentences[held])
    half = random.permutation(len(inside)) % 2 == 0
    neighbours = inside[~half]
    if not among:
        return inside[half], outside
    return inside[half], np.sort(np.append(neighbours, random.permutation(outside)[:max(0, len(outside) - len(neighbours))]))


def _away_from(sentences: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`sentences` without those that stand within MARGIN of one of `others`."""
    near = np.unique(np.add.outer(np.arange(-MARGIN, MARGIN + 1), others))
    return sentences[~np.isin(sentences, near)]
