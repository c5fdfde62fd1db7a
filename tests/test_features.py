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


def test_a_corpus_with_one_tag_has_nothing_to_pretrain_from():
    corpus = corpus_of("_ _ _", "_ _")
    with pytest.raises(ValueError, match="tags are alike"):
        features.pretrained_pos(corpus, np.arange(2), ["[PAD]", "[IGNORE]", "_"], 8, 1)


def test_pretrained_vectors_fit_fewer_dimensions_than_tags():
    corpus = corpus_of(*SENTENCES)
    vectors = features.pretrained_pos(corpus, np.arange(4), features.pos_vocabulary(corpus, "corpus"), 3, seed=1)
    assert vectors.shape == (8, 3) and np.isfinite(vectors).all()


# --- the lexicon

LABELS = ["O", "B-geo", "I-geo"]


def test_lexicon_gives_smoothed_shares_and_a_log_count():
    words, tags = np.array(["Bern", "in", "Bern", "Bern"], object), np.array(["B-geo", "O", "B-geo", "O"], object)
    said = features.Lexicon.of(words, tags, LABELS)(np.array(["Bern", "Oslo", "in"], object))
    overall = np.array([2, 2, 0]) / 4
    expected = [[*((np.array([1, 2, 0]) + overall) / 4), math.log(4)], [*overall, 0],
                [*((np.array([1, 0, 0]) + overall) / 2), math.log(2)]]
    np.testing.assert_allclose(said, expected, rtol=1e-6)
    assert said.dtype == np.float32 and said[:, :3].sum(1) == pytest.approx(1)


def test_lexicon_of_nothing_knows_nothing_and_files_keep_all(tmp_path):
    empty = features.Lexicon.of(np.array([], object), np.array([], object), LABELS)(np.array(["Bern"], object))
    assert empty.tolist() == [[0, 0, 0, 0]]
    lexicon = features.Lexicon.of(np.array(["Bern", "zürich"], object), np.array(["B-geo", "O"], object), LABELS)
    lexicon.save(tmp_path / "lexicon.json")
    words = np.array(["zürich", "Bern", "?"], object)
    np.testing.assert_array_equal(features.Lexicon.load(tmp_path / "lexicon.json")(words), lexicon(words))


def test_a_training_part_of_one_fold_is_told_nothing():
    said = features.lexicon_of(tagged(60), np.arange(50))[1]
    assert (said[:100] == 0).all() and (said[100:] != 0).any()


def tagged(sentences, seed=0):
    """A corpus of two-word sentences over few words, with random tags."""
    random = np.random.default_rng(seed)
    words = random.choice(list("abcdefgh"), 2 * sentences).astype(object)
    tags = random.choice(["O", "B-geo", "I-geo"], 2 * sentences).astype(object)
    return Corpus(words, None, tags, np.arange(0, 2 * sentences + 1, 2), "test", "0")


def test_lexicon_of_other_parts_counts_the_whole_training_part_and_no_other():
    corpus = tagged(1200)
    training, test = np.arange(0, 1000), np.arange(1000, 1200)
    lexicon, said = features.lexicon_of(corpus, training)
    expected = features.Lexicon.of(corpus.words[:2000], corpus.tags[:2000], corpus.labels)(corpus.words)
    np.testing.assert_array_equal(said[corpus.rows(test)], expected[corpus.rows(test)])
    corpus.tags[corpus.rows(test)] = "O"
    np.testing.assert_array_equal(features.lexicon_of(corpus, training)[1][corpus.rows(test)], expected[corpus.rows(test)])
    assert lexicon.counts.sum() == 2000


@pytest.mark.parametrize("block", [0, 3, 9])
def test_a_training_word_is_told_nothing_that_its_block_knows(block):
    corpus = tagged(1000)
    training = np.setdiff1d(np.arange(1000), np.arange(50, 60))
    own = np.intersect1d(training, np.arange(100 * block, 100 * block + 100))
    before = features.lexicon_of(corpus, training)[1][corpus.rows(own)]
    corpus.tags[corpus.rows(own)] = "I-geo"
    np.testing.assert_array_equal(features.lexicon_of(corpus, training)[1][corpus.rows(own)], before)
    others = training[(training // 100) % 5 != block % 5]
    expected = features.Lexicon.of(corpus.words[corpus.rows(others)], corpus.tags[corpus.rows(others)], corpus.labels)
    np.testing.assert_array_equal(before, expected(corpus.words[corpus.rows(own)]))
