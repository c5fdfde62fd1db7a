"""From scores to tags: the best sequence that IOB2 allows, over whole sentences."""

from collections.abc import Sequence

import numpy as np


def predecessors(labels: Sequence[str]) -> np.ndarray:
    """Whether IOB2 allows label j right after label i, (labels + 1, labels) bool; the last row is the sentence's start.

    I-x may only follow B-x or I-x; O and B-x may follow anything.
    """
    before = [*labels, "O"]  # a sentence begins as if after O
    return np.array([[not tag.startswith("I-") or previous[2:] == tag[2:] for tag in labels] for previous in before])


def viterbi(scores: np.ndarray, offsets: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Label ids (words,) int64 of the allowed sequence with the highest sum of scores, sentence by sentence.

    `scores` (words, labels): log-probabilities; `offsets` (sentences + 1,). Of equally good ones, the label with the
    lower id. All sentences advance together, the longest first, one word a step (Viterbi 1967; Forney 1973).
    """
    lengths = np.diff(offsets)
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = offsets[:-1][order], lengths[order]
    allowed = predecessors(labels)
    blocked = np.where(allowed, 0.0, -np.inf)
    ids, back = np.empty(len(scores), np.int64), np.empty(scores.shape, np.int16)  # back: the best label of the word before
    best = np.empty((len(lengths), len(labels)))  # of each sentence: the best sum that ends in each label
    for step in range(lengths.max(initial=0)):
        active = int(np.searchsorted(-lengths, -step))  # sentences with more words than `step`
        rows = starts[:active] + step
        if step == 0:
            best[:active] = blocked[-1] + scores[rows]
            continue
        sums = best[:active, :, None] + blocked[:-1]  # (active, before, now)
        back[rows] = sums.argmax(1)
        best[:active] = sums.max(1) + scores[rows]
    final = best.argmax(1)
    for step in range(lengths.max(initial=0) - 1, -1, -1):
        active = int(np.searchsorted(-lengths, -step))
        rows = starts[:active] + step
        ids[rows] = final[:active]
        if step:
            final[:active] = back[rows, final[:active]]
    return ids
