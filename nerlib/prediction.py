"""What a model says of sentences, and the table that all scores and figures are computed from."""

import os
import sys
from collections.abc import Iterable, Sized
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from nerlib import dataset, decoding, parallel
from nerlib.corpus import Corpus, ranges
from nerlib.dataset import IGNORE_LABEL, NERDatasetWithPOS, Vocabulary
from nerlib.hardware import device, use_bf16
from nerlib.model import BERTNERWithPOS
from nerlib.params import Params

# Pieces, with padding, in a batch of prediction: on a CPU as many as its caches hold, while a GPU wants more work at once.
PREDICTED_AT_ONCE = {"cpu": 2**12, "cuda": 2**16}


@dataclass(frozen=True)
class Prediction:
    """What a model says of each word."""

    labels: np.ndarray  # (words,) int64, as the run's decoder chooses them
    scores: np.ndarray  # (words, labels) float32, natural log-probabilities
    pos: np.ndarray | None  # (words,) int64, most probable POS ids; None without a POS head
    pos_fed: bool  # whether the model embeds tags, given ones or its own


@torch.inference_mode()
def predict(net: BERTNERWithPOS, data: NERDatasetWithPOS, params: Params, label: str = "") -> Prediction:
    """Labels, scores and POS of the data's words, in their order."""
    net.eval()
    scores = np.zeros((len(data.words), net.classifier.out_features), np.float32)
    pos = None if net.pos_classifier is None else np.zeros(len(data.words), np.int64)
    batches = parallel.share(dataset.batches_by_pieces(data.lengths, PREDICTED_AT_ONCE[device().type]))
    loader = data.loader(batches)
    for windows, batch in zip(batches, progress(loader, label) if label else loader, strict=True):
        labelled = batch.pop("labels") != IGNORE_LABEL
        del batch["pos_labels"]
        with torch.autocast(device().type, torch.bfloat16, enabled=use_bf16(params)):
            logits, pos_logits = net(**{name: tensor.to(device(), non_blocking=True) for name, tensor in batch.items()})
        rows = ranges(*data.owned(windows))
        scores[rows] = torch.log_softmax(logits.float(), -1).cpu()[labelled].numpy()
        if pos is not None:
            pos[rows] = pos_logits.argmax(-1).cpu()[labelled].numpy()
    if parallel.count() > 1:  # each word was predicted by one process, and is zero in the others
        scores = parallel.total(torch.from_numpy(scores).to(device())).cpu().numpy()
        pos = None if pos is None else parallel.total(torch.from_numpy(pos).to(device())).cpu().numpy()
    by_viterbi = params.decoder == "viterbi"
    labels = decoding.viterbi(scores, data.offsets, data.vocabulary.labels) if by_viterbi else scores.argmax(1)
    return Prediction(labels, scores, pos, net.pos_embedding is not None)


def table(data: Corpus, sentences: np.ndarray, part: str, prediction: Prediction, vocabulary: Vocabulary,
          given: np.ndarray | None) -> pd.DataFrame:
    """One row a word: part, sentence (index in the file), position, word, pos (the corpus's), pos_used (what the model
    embedded: a given tag, or its own most probable one for the mixture of all), pos_predicted (by its POS head), gold,
    predicted, argmax and viterbi (as each decoder would have it), confidence = P(predicted) and loss = -ln P(gold). `given`
    (words of the corpus,): as `features.given_pos` says."""
    rows = data.table(sentences)
    own = None if prediction.pos is None else np.array(vocabulary.pos, object)[prediction.pos]
    rows.insert(0, "part", part)
    rows.insert(5, "pos_used", (own if prediction.pos_fed else None) if given is None else given[data.rows(sentences)])
    rows.insert(6, "pos_predicted", own)
    labels, scores, every = np.array(vocabulary.labels, object), prediction.scores, np.arange(len(rows))
    gold = pd.Categorical(rows["gold"], categories=vocabulary.labels).codes
    offsets = np.append(np.flatnonzero(rows["position"] == 0), len(rows))
    return rows.assign(predicted=labels[prediction.labels], argmax=labels[scores.argmax(1)],
                       viterbi=labels[decoding.viterbi(scores, offsets, vocabulary.labels)],
                       confidence=np.exp(scores[every, prediction.labels]), loss=-scores[every, gold])


def progress(items: Iterable, label: str, done: int = 0, unit: str = "batch") -> tqdm:
    """A progress bar in text: in a terminal and in JupyterLab each second, in a log file every half a minute. `done`: items
    that were done before these."""
    interactive = sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ
    seconds = 1 if interactive else 30
    return tqdm(items, desc=label, unit=unit, mininterval=seconds, maxinterval=max(10, seconds), file=sys.stderr,
                initial=done, total=done + len(items) if isinstance(items, Sized) else None, disable=parallel.rank() > 0)
