"""Odd corpora through everything: read, split, encoded, trained on, predicted, scored. Nothing is lost on the way."""

import numpy as np
import pandas as pd
import pytest
import torch
from seqeval.metrics import classification_report

from nerlib import evaluation, statistics, training
from nerlib.params import Params
from nerlib.split import load
from nerlib.tagger import Tagger

NOTHING = ["\u200b", "\x07", "\ufeff", "\u200e\u200f", "\ufffd"]  # of which the tokenizer makes no piece
ODD = ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "Zoe\u0308", "\u0645\u062f\u064a\u0646\u0629", "\u57ce\u5e02", "a\u2028b",
       "\U00020000", "<b>&amp;", "-" * 60, "None", "nan", '"', ",", "=1+1", "e\u0301" * 30, "\xa0x", "Donau" * 2000]
TRAINED = [[("Ann", "NNP", "B-per"), ("Lee", "NNP", "I-per"), ("left", "VBD", "O"), (f"town{i}", "NNP", "B-geo")]
           for i in range(40)]
LONG = [("the", "DT", "O") if i % 7 else (f"Oslo{i}", "NNP", "B-geo") for i in range(5000)]
FILES = {  # sentences of (word, POS, tag)
    "training": [*TRAINED, LONG, [(word, "SYM", "O") for word in NOTHING + ODD], [("May", "NNP", "B-tim")]],
    "validation": [*TRAINED[:3], [("May", "NNP", "B-tim")]],
    "test": [*TRAINED[:9], [("Hi", "UH", "O")], LONG, [(word, "SYM", "B-per") for word in NOTHING], [(NOTHING[0], "SYM", "O")],
             [(word, "SYM", "B-per" if i % 2 else "I-per") for i, word in enumerate(ODD[::-1])][1:],
             [("Act", "NEW", "B-law"), ("Four", "NNP", "I-law")]]}  # POS UH and NEW, type law: only here; tim: not here


def write(folder, name, sentences):
    """A CoNLL column file of the given sentences."""
    text = "\n\n".join("\n".join("\t".join(row) for row in rows) for rows in sentences)
    (folder / name).write_text(text + "\n", "utf-8", newline="\n")
    return name


@pytest.fixture(scope="module", params=[{"pos": "corpus", "lexicon": True, "decoder": "viterbi", "word_shape": True},
                                        {"pos": "predicted"}, {"pos": "none", "max_length": 100}],
                ids=lambda changes: changes["pos"])
def trained(request, tiny, tmp_path_factory):
    """The folder of a run on FILES, its split and its corpus."""
    folder, threads = tmp_path_factory.mktemp("odd"), torch.get_num_threads()
    torch.set_num_threads(1)
    files = {f"data_{part}".replace("_training", ""): write(folder, f"{part}.conll", rows) for part, rows in FILES.items()}
    params = Params(encoder=str(tiny), entity_types="all", epochs=2, batch_size=8, learning_rate=5e-3, head_learning_rate=1e-2,
                    precision="fp32", checkpoint_minutes=0, **files, **request.param)
    corpus, split = load(params, folder)
    training.train(params, corpus, split, folder)
    yield folder, corpus, split
    torch.set_num_threads(threads)


@pytest.fixture
def rows(trained):
    return pd.read_parquet(trained[0] / "predictions.parquet")


def test_each_word_is_predicted_once_in_its_place_and_unchanged(trained, rows, tokenizer):
    assert not any(map(tokenizer.tokenize, NOTHING))
    for part in ("validation", "test"):
        expected = [(i, word, gold) for i, sentence in enumerate(FILES[part]) for word, _, gold in sentence]
        mine = rows[rows["part"] == part]
        assert mine["word"].tolist() == [word for _, word, _ in expected]
        assert mine["gold"].tolist() == [gold for _, _, gold in expected]
        assert (mine["sentence"] - mine["sentence"].min()).tolist() == [i for i, _, _ in expected]
        assert mine["position"].tolist() == [k for sentence in FILES[part] for k in range(len(sentence))]
    kept = pd.read_parquet(trained[0] / "training.parquet")
    assert kept["word"].tolist() == [word for sentence in FILES["training"] for word, _, _ in sentence]


def test_scores_of_each_word_are_probabilities_and_belong_to_its_row(trained, rows):
    scores = np.load(trained[0] / "scores.npy")
    assert scores.shape == (len(rows), 9) and np.isfinite(scores).all()
    assert np.allclose(np.exp(scores.astype(np.float64)).sum(1), 1, atol=1e-4)
    labels = trained[1].labels
    gold = [labels.index(tag) for tag in rows["gold"]]
    assert np.array_equal(rows["loss"], -scores[np.arange(len(rows)), gold])


def test_what_training_lacked_and_what_the_test_part_lacks_is_scored_all_the_same(trained, rows):
    folder, corpus, _ = trained
    assert corpus.types == ["geo", "law", "per", "tim"]
    test = rows[rows["part"] == "test"].reset_index(drop=True)
    metrics = evaluation.metrics(rows, pd.read_parquet(folder / "training.parquet"), corpus.labels)
    gold, predicted = ([group[column].tolist() for _, group in test.groupby("sentence")] for column in ("gold", "predicted"))
    assert metrics["test"]["default"] == classification_report(gold, predicted, output_dict=True, zero_division=0)
    support = {kind: sum(tag == f"B-{kind}" for sentence in FILES["test"] for *_, tag in sentence) for kind in corpus.types}
    assert support["law"] == 1 and support["tim"] == 0 and support["geo"] > 700
    assert {kind: metrics["test"]["default"].get(kind, {"support": 0})["support"] for kind in corpus.types} == support
    intervals = statistics.of_types(test, corpus.types)
    assert list(intervals) == [*corpus.types, "micro avg"]
    assert all(0 <= row["low"] <= row["high"] <= 1 and 0 <= row["f1"] <= 1 for row in intervals.values())
    confusion = evaluation.confusion_of_mentions(evaluation.align(test), corpus.types)
    assert confusion.loc[corpus.types].sum(axis=1).to_dict() == support


def test_tagger_of_such_a_model_reads_such_words(trained):
    tagger, words = Tagger.load(trained[0] / "model"), NOTHING + ODD
    pos = ["SYM"] * len(words) if tagger.params.pos == "corpus" else None
    found = tagger(words, pos)
    text = " ".join(words)
    assert all(text[m.start:m.end] == m.text and 0 < m.confidence <= 1 for m in found)
    assert [m.start for m in found] == sorted(m.start for m in found)


# What cannot be trained on.

@pytest.mark.parametrize("count, named, message", [
    (1, {0}, r"1 sentences cannot be split as asked \(test_size = 0.2, validation_size = 0.1\): they are too few for parts"),
    (60, set(), "the training part has no mention: nothing to score"),
    (60, {0, 29}, "the training part has no mention: nothing to score"),  # of these 60, 29 is for validation, 0 a test
    (60, {0, 1}, "the validation part has no mention: nothing to score"),
    (60, {1, 29}, "the test part has no mention: nothing to score"),
])
def test_too_little_to_train_on_to_choose_by_or_to_score_is_refused(tmp_path, count, named, message):
    sentences = [[("Ann", "NNP", "B-per" if i in named else "O")] for i in range(count)]
    with pytest.raises(ValueError, match=f"mine.conll: {message}"):
        load(Params(data=write(tmp_path, "mine.conll", sentences), entity_types="all"), tmp_path)


def test_word_of_more_pieces_than_a_window_is_named_with_its_file_before_training(tiny, tmp_path):
    endless = "a-" * 5000
    params = Params(encoder=str(tiny), entity_types="all", pos="none",
                    data=write(tmp_path, "mine.conll", [*TRAINED, [(endless, "NN", "O")]]))
    corpus, split = load(params, tmp_path)
    with pytest.raises(ValueError, match="mine.conll: the word 'a-a-a-.*' has 10000 pieces: max_length must be at least 10002"):
        training.train(params, corpus, split, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


# Odd names of types.

@pytest.mark.parametrize("kind", ["\u57ce\u5e02", "x" * 300, "a-b", "B-x", "I", "O", "_", "<b>&", "1", "\U0001f600", "avg"])
def test_odd_names_of_types_are_scored_like_any_other(tmp_path, kind):
    other = [[(word, pos, tag.replace("per", kind)) for word, pos, tag in rows] for rows in TRAINED]
    params = Params(data=write(tmp_path, "odd.conll", other), entity_types="all", pos="none")
    corpus, split = load(params, tmp_path)
    table = corpus.table(split.test).assign(part="test")
    table["predicted"] = np.where(np.arange(len(table)) % 3, table["gold"], "O")
    plain = table.replace({f"B-{kind}": "B-per", f"I-{kind}": "I-per"})
    for strict in (False, True):
        mine, expected = evaluation.report(table, strict=strict), evaluation.report(plain, strict=strict)
        assert mine[kind] == expected["per"] and mine["micro avg"] == expected["micro avg"]
    assert evaluation.partial(table).equals(evaluation.partial(plain))
    assert evaluation.align(table)["kind"].tolist() == evaluation.align(plain)["kind"].tolist()
