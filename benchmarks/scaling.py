"""How time and memory of encoding and training grow with the number of sentences and with their length."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks.contest import contest
from nerlib import corpus, model, plots, training
from nerlib.corpus import Corpus
from nerlib.dataset import NERDatasetWithPOS, Vocabulary
from nerlib.params import Params

SENTENCES = (1000, 4000, 16000, 48000)
LENGTHS = (8, 16, 32, 64, 128)  # words; longer ones are cut into windows


def run(data: str, sentences: tuple[int, ...] = SENTENCES, lengths: tuple[int, ...] = LENGTHS, words: int = 8000,
        repeats: int = 5) -> dict[str, Any]:
    """The record of this benchmark for benchmarks.json. Sentences repeat where the corpus `data` has fewer.

    `words` is how many there are for each length: the same work, cut into shorter or longer sentences.
    """
    loading = contest({str(n): partial(_encode, n) for n in sentences}, (data,), repeats, "scaling: encoding")
    epochs = contest({str(n): partial(_train, n) for n in sentences}, (data,), 1, "scaling: an epoch", warm_up=False)
    by_length = contest({str(n): partial(_train_length, n, words) for n in lengths}, (data,), repeats, "scaling: length")
    return {"threads": torch.get_num_threads(), "words_for_each_length": words,
            "encoding": {"unit": "sentences a second", "contenders": loading, "growth": growth(loading)},
            "training": {"unit": "sentences a second", "contenders": epochs, "growth": growth(epochs)},
            "length": {"unit": "words a second", "contenders": by_length}}


def growth(result: dict[str, Any]) -> float:
    """Slope of log seconds over log sentences between the two largest sizes: 1 is linear."""
    (a, small), (b, large) = list(result.items())[-2:]
    return round(float(np.log(large["median_seconds"] / small["median_seconds"]) / np.log(int(b) / int(a))), 3)


def figure(record: dict[str, Any]) -> plots.Picture:
    """Seconds and memory by number of sentences, and speed by length of sentence."""
    with plt.rc_context(plots.STYLE):
        picture, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.8))
    alt = []
    for name, colour, marker in (("training", plots.BLUE, "o"), ("encoding", plots.RED, "s")):
        rows = record[name]["contenders"]
        sizes, seconds = [int(n) for n in rows], [row["median_seconds"] for row in rows.values()]
        memory = [row["peak_memory_mib"] / 1024 for row in rows.values()]
        left.loglog(sizes, seconds, color=colour, marker=marker, label=name)
        middle.semilogx(sizes, memory, color=colour, marker=marker, label=name)
        alt.append(f"{name}: " + ", ".join(f"{n:,} sentences {s:.3g} s and {m:.1f} GiB"
                                           for n, s, m in zip(sizes, seconds, memory, strict=True)))
    rows = record["length"]["contenders"]
    rates = [row["median_rate"] for row in rows.values()]
    right.plot([int(n) for n in rows], rates, color=plots.BLUE, marker="o")
    alt.append("training by length: " + ", ".join(f"{n} words {rate:,.0f} words a second"
                                                  for n, rate in zip(rows, rates, strict=True)))
    picture.suptitle("How time and memory grow", x=0, ha="left", fontweight="bold")
    left.set(title="Time", xlabel="sentences", ylabel="seconds (training: an epoch)")
    middle.set(title="Peak memory, with the whole corpus read", xlabel="sentences", ylabel="GiB", ylim=(0, None))
    right.set(title="Training speed", xlabel="words in a sentence", ylabel="words a second", ylim=(0, None))
    for axes in (left, middle):
        axes.legend(frameon=False)
    return picture, "Three panels, time, memory and speed. " + "; ".join(alt)


def _encode(sentences: int, data: str) -> Callable[[], float]:
    full = _repeated(corpus.read(data), sentences)
    params = Params()
    _, tokenizer = model.load_encoder(params)
    vocabulary = Vocabulary.of(full, params.pos)

    def encode() -> float:
        return len(NERDatasetWithPOS(full, np.arange(sentences), vocabulary, tokenizer, params.max_length, full.pos))
    return encode


def _train(sentences: int, data: str) -> Callable[[], float]:
    return _epoch(_repeated(corpus.read(data), sentences))


def _train_length(length: int, words: int, data: str) -> Callable[[], float]:
    full = corpus.read(data)
    full = replace(full, words=full.words[:words], pos=full.pos[:words], tags=np.full(words, "O", object),
                   offsets=np.append(np.arange(0, words, length), words))
    epoch, words = _epoch(full), float(words)
    return lambda: epoch() and words


def _epoch(full: Corpus) -> Callable[[], float]:
    params = Params(epochs=1)
    vocabulary = Vocabulary.of(full, params.pos)
    net, tokenizer = model.build(params, vocabulary)
    net.to(training.device())
    windows = NERDatasetWithPOS(full, np.arange(len(full)), vocabulary, tokenizer, params.max_length, full.pos)

    def epoch() -> float:
        training.fit(net, windows, params, None)
        return len(full)
    return epoch


def _repeated(full: Corpus, sentences: int) -> Corpus:
    """The first so many sentences, the corpus over and over again where it has fewer."""
    full = corpus.join([full] * -(-sentences // len(full)))
    offsets = full.offsets[:sentences + 1]
    last = offsets[-1]
    return replace(full, words=full.words[:last], pos=full.pos[:last], tags=full.tags[:last], offsets=offsets)
