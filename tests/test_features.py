"""What the model is given beside word pieces, against hand-made cases and counting one by one."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from nerlib import features
from nerlib.corpus import Corpus


def corpus_of(*sentences):
    """A corpus whose words are numbered, from sentences of POS tags."""
    tags = [tag for sentence in sentences for tag in sentence.split()]
    offsets = np.cumsum([0, *(len(sentence.split()) for sentence in sentences)])
    words = np.array([f"w{i}" for i in range(len(tags))], object)
    return Corpus(words, np.array(tags, object), np.full(len(tags), "O", object), offsets, "test", "0")


SENTENCES = ["DT NN VB DT NN .", "NNP VB IN DT NN NN .", "NNP NNP VB .", "VB"]


# --- tags that are given

def test_corpus_gives_its_own_tags_and_constant_one_for_all():
    corpus = corpus_of(*SENTENCES)
    assert features.given_pos(corpus, "corpus", 1) is corpus.pos
    assert set(features.given_pos(corpus, "constant", 1)) == {"[WORD]"}
    assert features.pos_vocabulary(corpus, "constant") == ["[PAD]", "[IGNORE]", "[WORD]"]


@pytest.mark.parametrize("kind", ["none", "predicted", "auxiliary"])
def test_none_is_given_where_there_is_none_or_the_model_finds_its_own(kind):
    corpus = corpus_of(*SENTENCES)
    assert features.given_pos(corpus, kind, 1) is None
    tags = [] if kind == "none" else ["[PAD]", "[IGNORE]", ".", "DT", "IN", "NN", "NNP", "VB"]
    assert features.pos_vocabulary(corpus, kind) == tags


def test_shuffled_permutes_within_sentences_and_is_fixed_by_the_seed():
    corpus = corpus_of(*SENTENCES * 50)
    first, again, other = (features.given_pos(corpus, "shuffled", seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any() and (first != corpus.pos).mean() > 0.5
    for begin, end in itertools.pairwise(corpus.offsets):
        assert Counter(first[begin:end]) == Counter(corpus.pos[begin:end])


def test_shuffled_brings_every_tag_to_every_place():
    corpus = corpus_of(*["A B C"] * 3000)
    first = features.given_pos(corpus, "shuffled", 3)[::3]
    assert all(0.30 < count / 3000 < 0.37 for count in Counter(first).values()) and len(Counter(first)) == 3


# --- word shapes

@pytest.mark.parametrize("shape, words", {
    "lower": ["house", "x", "don't", "well-known", "e.g.", "straße", "東京", "مرحبا"],
    "Title": ["House", "A", "Übung", "O", "Mary-ann", "'Tis"],
    "UPPER": ["UN", "U.S.", "AT&T", "ÖBB"],
    "digits": ["1995", "3.5", "12:30", "1,000", "٣"],
    "mixed": ["McDonald", "iPhone", "G8", "mid-1990s", "1st", "O'Brien", "UNs"],
    "punctuation": [".", ",", "--", "$", "%", "…"]}.items())
def test_shape_of_a_word(shape, words):
    got = features.shapes(np.array(words, object))
    assert [features.SHAPES[i] for i in got] == [shape] * len(words)


def test_shapes_are_in_the_order_of_the_words():
    got = features.shapes(np.array(["a", "B", "a", "7", "B"], object))
    assert [features.SHAPES[i] for i in got] == ["lower", "Title", "lower", "digits", "Title"]


# --- pretrained POS embeddings

def information(tags, sentences):
    """Positive pointwise mutual information of each tag with (side, neighbour), counted one by one."""
    pairs = Counter()
    for sentence in sentences:
        padded = ["edge", *sentence.split(), "edge"]
        for before, tag, after in zip(padded, padded[1:], padded[2:], strict=False):
            pairs[tag, "before", before] += 1
            pairs[tag, "after", after] += 1
    total = sum(pairs.values())
    of_tag, of_context = Counter(), Counter()
    for (tag, *context), count in pairs.items():
        of_tag[tag] += count
        of_context[tuple(context)] += count
    contexts = sorted(of_context)
    return np.array([[max(0, math.log(pairs[tag, *context] * total / (of_tag[tag] * of_context[context])))
                      if pairs[tag, *context] else 0 for context in contexts] for tag in tags])


@pytest.mark.parametrize("dim", [64, 384])
def test_pretrained_vectors_have_the_angles_of_the_square_root_of_information(dim):
    corpus = corpus_of(*SENTENCES, "UH UH")
    vocabulary = features.pos_vocabulary(corpus, "corpus")
    vectors = features.pretrained_pos(corpus, np.arange(len(SENTENCES)), vocabulary, dim, seed=1)
    assert vectors.shape == (len(vocabulary), dim) and vectors.dtype == np.float32
    tags = sorted(set(" ".join(SENTENCES).split()))
    matrix = information(tags, SENTENCES)
    values, basis = np.linalg.eigh(matrix @ matrix.T)  # U sqrt(S), whose Gram matrix is U S U', the root of M M'
    expected = basis @ np.diag(np.sqrt(values.clip(0))) @ basis.T
    mine = vectors[[vocabulary.index(tag) for tag in tags]].astype(float)
    np.testing.assert_allclose(mine @ mine.T / expected, np.full(expected.shape, mine[0] @ mine[0] / expected[0, 0]), rtol=1e-3)
    assert (mine ** 2).mean() == pytest.approx(1, rel=1e-4)


def test_pretrained_vectors_come_from_the_training_part_alone():
    corpus = corpus_of(*SENTENCES)
    vocabulary, training = features.pos_vocabulary(corpus, "corpus"), np.array([0, 2, 3])
    vectors = features.pretrained_pos(corpus, training, vocabulary, 48, seed=1)
    corpus.pos[corpus.rows(np.array([1]))] = "NN"  # in a sentence that is not of the training part
    assert np.array_equal(features.pretrained_pos(corpus, training, vocabulary, 48, seed=1), vectors)
    assert not np.array_equal(features.pretrained_pos(corpus, np.array([0, 1]), vocabulary, 48, seed=1), vectors)


def test_pretrained_vectors_fit_fewer_dimensions_than_tags():
    corpus = corpus_of(*SENTENCES)
    vectors = features.pretrained_pos(corpus, np.arange(4), features.pos_vocabulary(corpus, "corpus"), 3, seed=1)
    assert vectors.shape == (8, 3) and np.isfinite(vectors).all()
