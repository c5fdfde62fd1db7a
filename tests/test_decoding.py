"""Decoding against brute force over all sequences, and against seqeval's own reading of what is illegal."""

import itertools

import numpy as np
import pandas as pd
import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from nerlib import decoding, evaluation

LABELS = ["O", "B-geo", "I-geo", "B-per", "I-per"]


def allowed(tags: tuple[str, ...]) -> bool:
    return all(not tag.startswith("I-") or previous in ("B-" + tag[2:], tag)
               for previous, tag in zip(("O", *tags), tags, strict=False))


def brute_force(scores: np.ndarray, labels: list[str]) -> float:
    """The highest sum of any allowed sequence."""
    sequences = itertools.product(range(len(labels)), repeat=len(scores))
    return max(sum(scores[word, label] for word, label in enumerate(ids))
               for ids in sequences if allowed(tuple(labels[label] for label in ids)))


def drawn(seed: int, lengths: list[int], labels: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = np.log(random.dirichlet(np.full(labels, 0.4), sum(lengths)) + 1e-9).astype(np.float32)
    return scores, np.append([0], np.cumsum(lengths))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("labels", [LABELS, ["I-per", "B-per", "O"], ["B-a", "I-b", "I-a", "O", "B-b"]])
def test_viterbi_finds_the_best_allowed_sequence(seed, labels):
    lengths = [3, 1, 5, 4, 1, 5, 2]
    scores, offsets = drawn(seed, lengths, len(labels))
    ids = decoding.viterbi(scores, offsets, labels)
    for begin, end in itertools.pairwise(offsets):
        assert allowed(tuple(labels[label] for label in ids[begin:end]))
        assert scores[np.arange(begin, end), ids[begin:end]].sum() == pytest.approx(brute_force(scores[begin:end], labels))


def test_viterbi_leaves_an_allowed_argmax_as_it_is():
    scores, offsets = drawn(1, [6, 2, 9] * 20, len(LABELS))
    best, ids = scores.argmax(1), decoding.viterbi(scores, offsets, LABELS)
    legal = [allowed(tuple(LABELS[label] for label in best[a:b])) for a, b in itertools.pairwise(offsets)]
    assert 0 < sum(legal) < len(legal)
    for good, (begin, end) in zip(legal, itertools.pairwise(offsets), strict=True):
        assert (best[begin:end] == ids[begin:end]).all() == good


def test_illegal_labels_are_those_that_seqeval_drops_in_strict_mode():
    scores, offsets = drawn(2, [7, 1, 4] * 30, len(LABELS))
    ids = scores.argmax(1)
    tags = [[LABELS[label] for label in ids[a:b]] for a, b in itertools.pairwise(offsets)]
    opened_by_i = sum(tags[i][first].startswith("I-") for i in range(len(tags)) for _, first, _ in get_entities(tags[i]))
    table = pd.DataFrame({"position": np.concatenate([np.arange(len(sentence)) for sentence in tags]), "argmax": sum(tags, [])})
    assert evaluation.illegal(table) == opened_by_i > 20
    decoded = decoding.viterbi(scores, offsets, LABELS)
    assert evaluation.illegal(table.assign(predicted=np.array(LABELS)[decoded]), "predicted") == 0
    tags = [[LABELS[label] for label in decoded[a:b]] for a, b in itertools.pairwise(offsets)]
    assert sum(map(len, Entities(tags, IOB2).entities)) == sum(len(get_entities(sentence)) for sentence in tags)


def test_no_words_need_no_decoding():
    assert len(decoding.viterbi(np.empty((0, 5), np.float32), np.array([0]), LABELS)) == 0


def test_a_boundary_of_sentences_is_a_start():
    tags = ["B-geo", "I-geo", "I-geo", "B-geo", "I-geo"]
    assert evaluation.illegal(pd.DataFrame({"position": [0, 1, 0, 0, 1], "argmax": tags})) == 1
    assert evaluation.illegal(pd.DataFrame({"position": [0, 1, 2, 3, 4], "argmax": tags})) == 0
