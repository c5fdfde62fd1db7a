"""Words a second of tagging test sentences: transformers' pipeline one by one and in batches, ours. And seconds of scoring.

The pipeline gets the words joined by blanks and a classifier without training: its labels cost the same. Ours gets the words.
Both start from text and end with a label for each word or piece. `Tagger.pipe`, on the same words and on the same texts, also
makes mentions with offsets and, of texts, sentences and words; its classifier says O, but for a name in every tenth word or so.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from benchmarks.contest import contest, ours_vs
from nerlib import encoder, evaluation, model, prediction, runs, training
from nerlib.corpus import Corpus
from nerlib.dataset import NERDatasetWithPOS, Vocabulary
from nerlib.params import Params
from nerlib.split import load
from nerlib.tagger import Tagger

BATCHES = (8, 32, 128)


def run(data: str, sentences: int = 800, repeats: int = 5) -> dict[str, Any]:
    """The record of this benchmark for benchmarks.json, on `sentences` of the test part of the corpus `data`."""
    batched = {f"pipeline_{size}": partial(hf_pipeline, batch_size=size) for size in BATCHES}
    result = contest({"pipeline": hf_pipeline, **batched, "tagger_words": tagger_words, "tagger_text": tagger_text,
                      "ours": ours}, (data, sentences), repeats, "tagging")
    best = max((name for name in result if name.startswith("pipeline_")), key=lambda name: result[name]["median_rate"])
    ratios = ours_vs(result, "ours")
    names = {"pipeline": "pipeline at its defaults", "ours": "ours", "tagger_words": "our Tagger.pipe on words",
             "tagger_text": "our Tagger.pipe on raw text"}
    scoring = contest({"seqeval": partial(scorer, score=evaluation.report), "ours": partial(scorer, score=evaluation.align)},
                      (data, sentences), repeats, "scoring")
    return {"unit": "words a second", "threads": torch.get_num_threads(), "sentences": sentences,
            "contenders": {name: {"name": names.get(name) or f"pipeline in batches of {name.split('_')[-1]}", **row}
                           for name, row in result.items()},
            "ours_vs": {"pipeline": ratios["pipeline"], "pipeline_best": ratios[best], "tagger_words": ratios["tagger_words"],
                        "tagger_text": ratios["tagger_text"]}, "best_batch": best,
            "scoring": {"unit": "words a second", "contenders": scoring, "ours_vs": ours_vs(scoring, "ours")}}


def _test_part(data: str, sentences: int) -> tuple[Params, Corpus, Any]:
    params = Params(data=data)
    corpus, split = load(params, runs.ROOT)
    return params, corpus, split.test[:sentences]


def ours(data: str, sentences: int) -> Callable[[], float]:
    """`NERDatasetWithPOS`, then `prediction.predict`."""
    params, corpus, test = _test_part(data, sentences)
    vocabulary = Vocabulary.of(corpus, params.pos)
    net, tokenizer = model.build(params, vocabulary)
    net.to(training.device())

    def tag() -> float:
        windows = NERDatasetWithPOS(corpus, test, vocabulary, tokenizer, params.max_length, corpus.pos)
        return len(prediction.predict(net, windows, params).labels)
    return tag


def tagger_words(data: str, sentences: int) -> Callable[[], float]:
    """`Tagger.pipe` on the words."""
    return _tagger(data, sentences, lambda words: words)


def tagger_text(data: str, sentences: int) -> Callable[[], float]:
    """`Tagger.pipe` on the words joined by blanks."""
    return _tagger(data, sentences, " ".join)


def _tagger(data: str, sentences: int, given: Callable[[list[str]], Any]) -> Callable[[], float]:
    params, corpus, test = _test_part(data, sentences)
    params = params.model_copy(update={"pos": "none"})
    vocabulary = Vocabulary.of(corpus, params.pos)
    net, tokenizer = model.build(params, vocabulary)
    net.classifier.bias.data[0] += 0.7
    tagger = Tagger(model.Saved(net, tokenizer, vocabulary, None, params))
    texts = [given(corpus.sentence(i)) for i in test]
    words = float(corpus.lengths[test].sum())

    def tag() -> float:
        for _ in tagger.pipe(texts):
            pass
        return words
    return tag


def hf_pipeline(data: str, sentences: int, **settings: int) -> Callable[[], float]:
    """transformers' pipeline as its documentation calls it, `settings` added to the call."""
    params, corpus, test = _test_part(data, sentences)
    path, _ = encoder.locate(params)
    net = AutoModelForTokenClassification.from_pretrained(path, num_labels=len(corpus.labels))
    tagger = pipeline("token-classification", net, tokenizer=AutoTokenizer.from_pretrained(path), device=training.device())
    texts = [" ".join(corpus.sentence(i)) for i in test]
    words = float(corpus.lengths[test].sum())

    def tag() -> float:
        tagger(texts, **settings)
        return words
    return tag


def scorer(data: str, sentences: int, score: Callable[[pd.DataFrame], Any]) -> Callable[[], float]:
    """One way to score a table: seqeval's report, by which all is scored here, or our pairing of mentions, in which the
    error analysis counts."""
    table = _scored(data, sentences)

    def work() -> float:
        score(table)
        return len(table)
    return work


def _scored(data: str, sentences: int) -> pd.DataFrame:
    """Test sentences as the lookup baseline tags them: mentions and errors as a model's table has them."""
    _, corpus, test = _test_part(data, sentences)
    table = corpus.table(test).assign(part="test")
    return table.assign(predicted=evaluation.lookup(table, table["word"]))
