"""What the model is given beside word pieces: POS tags (the corpus's, its own, or a control), word shapes, a lexicon."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nerlib.corpus import Corpus
from nerlib.runs import read_json, write_atomically
from nerlib.split import BLOCK

PAD_POS, IGNORE_POS = 0, 1  # POS ids of special pieces, and of pieces after a word's first
PREDICT_POS = -1  # POS id of a word whose tag the model is to predict itself
WORD = "[WORD]"  # the one tag of every word in the control "constant"
WITH_HEAD = ("predicted", "auxiliary")  # the kinds of `pos` that train a POS head on the encoder
FOLDS = 5  # of blocks of sentences, for what a lexicon says of the training part itself
SHAPES = ("lower", "Title", "UPPER", "digits", "mixed", "punctuation")


def pos_vocabulary(corpus: Corpus, kind: str) -> list[str]:
    """POS ids by position: special ids first, then the tags in alphabetical order; empty for plain BERT."""
    tags = {"none": None, "constant": [WORD]}.get(kind, [] if corpus.pos is None else sorted(set(corpus.pos)))
    return [] if tags is None else ["[PAD]", "[IGNORE]", *tags]


def given_pos(corpus: Corpus, kind: str, seed: int) -> np.ndarray | None:
    """The tag that the model is given for each word of the corpus, (words,), or None where it is given none.

    "corpus": the corpus's own. Two controls: "constant" gives every word the same tag, so that only the larger classifier
    remains of a POS embedding; "shuffled" permutes the tags within each sentence (drawn by `seed`, for all parts), so that
    the embedding learns and knows which tags a sentence has, but not where.
    """
    if kind == "constant":
        return np.full(len(corpus.words), WORD, object)
    if kind == "shuffled":
        sentence = np.repeat(np.arange(len(corpus)), corpus.lengths)
        return corpus.pos[np.lexsort((np.random.default_rng(seed).random(len(sentence)), sentence))]
    return corpus.pos if kind == "corpus" else None


def shapes(words: np.ndarray) -> np.ndarray:
    """Position in SHAPES of each word, (words,) int64. An uncased tokenizer hides what they tell.

    Only letters count for the first three; one capital alone is a Title. Letters of scripts without case are lower.
    """
    which, distinct = pd.factorize(words)
    return np.array([SHAPES.index(_shape(word)) for word in distinct], np.int64)[which]


def _shape(word: str) -> str:
    letters = "".join(character for character in word if character.isalpha())
    if any(character.isdigit() for character in word):
        return "mixed" if letters else "digits"
    if not letters:
        return "punctuation"
    if letters == letters.lower():
        return "lower"
    if letters[0] != letters[0].lower() and letters[1:] == letters[1:].lower():
        return "Title"
    return "UPPER" if letters == letters.upper() else "mixed"


class Lexicon:
    """Which tags a training part gives each word, and how often."""

    def __init__(self, words: Sequence[str], counts: np.ndarray):
        """`counts` (words, labels): how often each word has each label."""
        self.words, self.counts = list(words), np.asarray(counts, np.int64)

    @classmethod
    def of(cls, words: np.ndarray, tags: np.ndarray, labels: Sequence[str]) -> "Lexicon":
        """Count words and tags, (words,) each."""
        which, distinct = pd.factorize(words)
        counts = np.zeros((len(distinct), len(labels)), np.int64)
        np.add.at(counts, (which, pd.Index(labels).get_indexer(tags)), 1)
        return cls(distinct, counts)

    def __call__(self, words: np.ndarray) -> np.ndarray:
        """What it knows of each word: (words, labels + 1) float32, the labels' shares and ln(1 + count).

        Shares are smoothed by one occurrence with the labels' overall shares, which are all that is said of an unknown word.
        """
        totals = self.counts.sum(0)
        at = pd.Index(self.words).get_indexer(words)
        counts = np.vstack([self.counts, 0 * totals])[at]  # -1, an unknown word, is the last row: nothing
        often = counts.sum(1, keepdims=True)
        return np.hstack([(counts + totals / max(totals.sum(), 1)) / (often + 1), np.log1p(often)]).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write a JSON file: word → counts."""
        write_atomically(path, json.dumps(dict(zip(self.words, self.counts.tolist(), strict=True)), ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """Read what `save` wrote."""
        content = read_json(path)
        return cls(content, np.array(list(content.values())))


def lexicon_of(corpus: Corpus, training: np.ndarray) -> tuple[Lexicon, np.ndarray]:
    """The lexicon of the training sentences, and what it says of each word of the corpus, (words, labels + 1) float32.

    A training word must not be told its own tag: its sentence is left out with a fifth of all blocks of neighbours, in
    which the same names recur (cross-fitting).
    """
    def count(sentences: np.ndarray) -> Lexicon:
        rows = corpus.rows(sentences)
        return Lexicon.of(corpus.words[rows], corpus.tags[rows], corpus.labels)
    whole = count(training)
    said = whole(corpus.words)
    fold = training // BLOCK % FOLDS
    for number in np.unique(fold):
        rows = corpus.rows(training[fold == number])
        said[rows] = count(training[fold != number])(corpus.words[rows])
    return whole, said


def pretrained_pos(corpus: Corpus, sentences: np.ndarray, vocabulary: list[str], dim: int, seed: int) -> np.ndarray:
    """POS embeddings from the tag sequences of the given sentences: (vocabulary, dim) float32, mean square 1.

    Tags that stand between the same neighbours get similar vectors: positive pointwise mutual information of each tag with
    the tag before and with the tag after it (or the sentence's edge), then a truncated singular value decomposition,
    U sqrt(S) (Levy and Goldberg 2014; PMI: Church and Hanks 1990). Where `dim` exceeds the rank, a random rotation by `seed`
    spreads the vectors over all dimensions and keeps their angles. Tags that these sentences lack, and special ids, get
    independent standard normal numbers, as without pretraining.
    """
    random = np.random.default_rng(seed)
    result = random.standard_normal((len(vocabulary), dim))
    index = {tag: i for i, tag in enumerate(vocabulary)}
    ids = pd.Series(corpus.pos[corpus.rows(sentences)]).map(index).to_numpy()
    firsts = np.append([0], np.cumsum(corpus.lengths[sentences]))
    edge, size = len(vocabulary), len(vocabulary) + 1
    before, after = np.append(edge, ids[:-1]), np.append(ids[1:], edge)
    before[firsts[:-1]] = after[firsts[1:] - 1] = edge
    counts = np.zeros((size - 1, 2 * size))
    np.add.at(counts, (ids, before), 1)
    np.add.at(counts, (ids, size + after), 1)
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nan_to_num(np.log(counts / expected), nan=0, neginf=0).clip(0)
    left, strength, _ = np.linalg.svd(information, full_matrices=False)
    if not strength[0]:
        raise ValueError("pos_init = pretrained: the training part's POS sequences say nothing, all of its tags are alike")
    rank = min(dim, int((strength > 1e-9 * strength[0]).sum()))
    vectors = left[:, :rank] * np.sqrt(strength[:rank])
    vectors = vectors @ np.linalg.qr(random.standard_normal((dim, rank)))[0].T
    known = np.unique(ids)
    result[known] = vectors[known] / np.sqrt((vectors[known] ** 2).mean())
    return result.astype(np.float32)
