"""Real trainings on a few sentences of the sample corpus, watched by hooks on the optimiser and repeated by hand."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file
from scipy.special import softmax
from seqeval.metrics import f1_score, precision_score, recall_score
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from nerlib import dataset, decoding, encoder, features, model, prediction, runs, training
from nerlib.params import Params
from nerlib.split import load

DERIVED = ["run.json", "metrics.json", "predictions.parquet", "training.parquet", "scores.npy", "history.csv",
           "classification_report.txt", "classification_report.csv", "model", "index.html", "04_error_analysis.ipynb",
           "04_error_analysis.html", "stages/04.json", "figures/03_f1.png", "figures/04_pos.svg"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For so little work several threads wait for each other, above all on a machine that others use too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@contextmanager
def watched(before_first=lambda: None):
    """A row each optimiser step: learning rates and gradient norm it was made with, classifier weights after it."""
    steps = []

    def before(optimizer, *_):
        if not steps:
            before_first()
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        assert len({id(weight) for weight in weights}) == len(weights)
        norm = torch.stack([weight.grad.norm() for weight in weights if weight.grad is not None]).norm().item()
        steps.append({"rates": [group["lr"] for group in optimizer.param_groups], "norm": norm,
                      "decay": {group["weight_decay"] for group in optimizer.param_groups},
                      "size": sum(weight.numel() for weight in weights)})

    def after(optimizer, *_):
        steps[-1]["head"] = [weight.detach().cpu().clone() for weight in optimizer.param_groups[1]["params"]]

    hooks = register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
    try:
        yield steps
    finally:
        for hook in hooks:
            hook.remove()


@pytest.fixture(scope="module")
def train(tiny):
    """Train with the small encoder; returns parameters, corpus, split and the training."""
    def train(folder, **changes):
        few = {"encoder": str(tiny), "max_sentences": 120, "epochs": 1, "batch_size": 16, "precision": "fp32",
               "learning_rate": 5e-3, "head_learning_rate": 1e-2}
        params = Params(**few | changes)
        data, split = load(params, runs.ROOT)
        return params, data, split, training.train(params, data, split, folder)
    return train


@pytest.fixture(scope="module")
def minilm(train, tmp_path_factory):
    """Two epochs of the bundled encoder on 144 sentences."""
    folder = tmp_path_factory.mktemp("minilm")
    with watched() as steps:
        result = train(folder, encoder="minilm", max_sentences=200, epochs=2, learning_rate=5e-4, weight_decay=0.02)
    return *result, folder, steps


@pytest.fixture(scope="module")
def easy(train, tmp_path_factory):
    """Twelve epochs on sentences so alike that every mention is found long before the last."""
    folder = tmp_path_factory.mktemp("easy")
    people, places = ["Ada", "Ivo", "Noor", "Timo", "Wanda", "Pia"], ["Bern", "Oslo", "Lima", "Quito", "Turin", "Graz"]
    rows = [f"Sentence: {number},{person},NNP,B-per\n,slept,VBD,O\n,in,IN,O\n,{place},NNP,B-geo\n,.,.,O\n"
            for number, (person, place) in enumerate(product(people, places))]
    (folder / "easy.csv").write_text("Sentence #,Word,POS,Tag\n" + "".join(rows))
    with watched() as steps:
        result = train(folder, data=str(folder / "easy.csv"), entity_types="all", max_sentences=0, epochs=12, batch_size=8,
                       warmup_ratio=0.2)
    return *result, folder, steps


def scores_by_hand(saved, words, pos):
    """Log-probabilities of one sentence's words from a saved model, by the tokenizer's own alignment, without batches."""
    net, tokenizer, vocabulary, *_ = saved
    encoded = tokenizer(list(words), is_split_into_words=True, return_tensors="pt")
    of = encoded.word_ids()
    heads = [i for i, word in enumerate(of) if word is not None and word != of[i - 1]]
    pos_tags = torch.tensor([[0 if word is None else 1 for word in of]])
    if vocabulary.pos:
        pos_tags[0, heads] = torch.tensor([vocabulary.pos.index(tag) if tag in vocabulary.pos else -1 for tag in pos])
    of_word = features.shapes(np.array(words, object))
    shapes = torch.tensor([[0 if word is None else 2 * of_word[word] + 2 - (i in heads) for i, word in enumerate(of)]])
    with torch.inference_mode():
        logits, _ = net(encoded["input_ids"], encoded["attention_mask"], pos_tags, shapes)
    return torch.log_softmax(logits[0, heads], -1).numpy()


def assert_scores_are_the_saved_models(folder, sentences):
    predictions, scores = pd.read_parquet(folder / "predictions.parquet"), np.load(folder / "scores.npy")
    saved = model.load(folder / "model")
    for _, rows in list(predictions.groupby(["part", "sentence"]))[:sentences]:
        expected = scores_by_hand(saved, rows["word"], rows["pos_used"].where(rows["pos_predicted"].isna()))
        np.testing.assert_allclose(scores[rows.index], expected, atol=2e-4)


# --- what a training yields

def test_history_has_a_row_an_epoch_and_the_loss_falls(minilm):
    history = minilm[3].history
    assert history.columns.tolist() == ["epoch", "training_loss", "training_seconds", "validation_loss", "validation_precision",
                                        "validation_recall", "validation_f1", "seconds"]
    assert history["epoch"].tolist() == [1, 2] and history["training_loss"].is_monotonic_decreasing
    assert (history["seconds"] >= history["training_seconds"]).all()


def test_training_beats_a_model_that_finds_nothing(minilm):
    _, _, _, result, _, _ = minilm
    for _, rows in result.predictions.groupby("part"):
        tags = [[part[column].tolist() for _, part in rows.groupby("sentence")] for column in ("gold", "predicted")]
        assert f1_score(*tags) > 0.15


def test_history_holds_seqevals_micro_scores_of_the_kept_epoch(minilm):
    _, _, _, result, _, _ = minilm
    rows = result.predictions[result.predictions["part"] == "validation"]
    tags = [[part[column].tolist() for _, part in rows.groupby("sentence")] for column in ("gold", "predicted")]
    kept = result.history.loc[result.record["best_epoch"] - 1, ["validation_precision", "validation_recall", "validation_f1"]]
    assert kept.tolist() == pytest.approx([score(*tags) for score in (precision_score, recall_score, f1_score)])
    assert kept.iloc[2] != pytest.approx(f1_score(*tags, average="macro"))


def test_predictions_hold_every_word_of_validation_and_test_once_and_in_order(minilm):
    params, data, split, result, folder, _ = minilm
    rows = result.predictions
    assert rows.columns.tolist() == ["part", "sentence", "position", "word", "pos", "pos_used", "pos_predicted", "gold",
                                     "predicted", "argmax", "viterbi", "confidence", "loss"]
    expected = [(part, index, position, data.words[row], data.pos[row], data.pos[row], data.tags[row])
                for part, sentences in (("validation", split.validation), ("test", split.test)) for index in sentences
                for position, row in enumerate(range(data.offsets[index], data.offsets[index + 1]))]
    assert list(rows.drop(columns="pos_predicted").iloc[:, :7].itertuples(index=False, name=None)) == expected
    assert rows["pos_predicted"].isna().all()
    assert {str(rows[name].dtype) for name in ("part", "word", "pos", "pos_used", "gold", "argmax", "viterbi")} == {"str"}
    assert {str(rows[name].dtype) for name in ("sentence", "position")} == {"int32"}
    assert result.scores.dtype == rows["confidence"].dtype == rows["loss"].dtype == np.float32
    training_rows = pd.read_parquet(folder / "training.parquet")
    assert training_rows.columns.tolist() == ["sentence", "position", "word", "pos", "gold"]
    assert training_rows["word"].tolist() == [word for index in split.training for word in data.sentence(index)]


def test_confidence_loss_and_prediction_follow_from_the_scores(minilm):
    rows, scores = minilm[3].predictions, np.load(minilm[4] / "scores.npy")
    labels = minilm[3].record["labels"]
    probabilities = softmax(scores.astype(float), axis=1)
    np.testing.assert_allclose(np.exp(scores).sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(rows["confidence"], probabilities.max(1), rtol=1e-5)
    gold = probabilities[np.arange(len(rows)), [labels.index(tag) for tag in rows["gold"]]]
    np.testing.assert_allclose(rows["loss"], -np.log(gold), rtol=1e-4, atol=1e-6)
    assert rows["predicted"].tolist() == rows["argmax"].tolist() == [labels[i] for i in probabilities.argmax(1)]


def test_table_takes_confidence_from_the_prediction_and_loss_from_gold(minilm):
    _, data, split, result, _, _ = minilm
    vocabulary = dataset.Vocabulary(data.labels, [])
    sentence = split.test[:1]
    words = data.lengths[sentence[0]]
    scores = np.log(np.tile(np.linspace(0.02, 0.12, len(data.labels)), (words, 1))).astype(np.float32)
    predicted = prediction.Prediction(np.full(words, 2), scores, None, False)
    rows = prediction.table(data, sentence, "test", predicted, vocabulary, None)
    assert set(rows["predicted"]) == {data.labels[2]} and set(rows["argmax"]) == {data.labels[-1]}
    np.testing.assert_allclose(rows["confidence"], 0.04, rtol=1e-5)
    np.testing.assert_allclose(rows["loss"], -np.log([0.02 + 0.01 * data.labels.index(tag) for tag in rows["gold"]]), rtol=1e-5)
    assert rows["pos_used"].isna().all() and rows["pos"].notna().all()


def test_scores_are_those_of_the_saved_model_sentence_by_sentence(minilm):
    assert_scores_are_the_saved_models(minilm[4], 12)


def test_prediction_with_short_windows_changes_long_sentences_only(minilm):
    params, data, split, result, folder, _ = minilm
    net, tokenizer, vocabulary, *_ = model.load(folder / "model")
    short = dataset.NERDatasetWithPOS(data, split.test, vocabulary, tokenizer, 24, data.pos)
    scores = prediction.predict(net, short, params).scores
    whole = result.scores[(result.predictions["part"] == "test").to_numpy()]
    pieces = np.array([len(tokenizer(data.sentence(index), is_split_into_words=True)["input_ids"]) for index in split.test])
    fits = np.repeat(pieces <= 24, data.lengths[split.test])
    assert scores.shape == whole.shape and 0 < fits.mean() < 1
    np.testing.assert_allclose(scores[fits], whole[fits], atol=2e-4)
    assert np.abs(scores[~fits] - whole[~fits]).max() > 0.01


def test_record_says_which_levers_were_on_and_where_the_time_went(minilm, train, tmp_path):
    record = minilm[3].record
    assert record["device"] == ("cuda" if torch.cuda.is_available() else "cpu") and record["precision"] == "fp32"
    assert record["attention"] == model.load(minilm[4] / "model").net.bert.config._attn_implementation
    assert (record["freeze_embeddings"], record["similar_lengths"], record["encoder_dropout"]) == (False, True, 0.0)
    assert record["threads"] == torch.get_num_threads() and record["lengths_rounded_to"] == 4
    history, seconds = minilm[3].history, record["seconds"]
    assert set(seconds) == {"encoding", "training", "validation", "prediction", "checkpoints"}
    assert seconds["training"] == pytest.approx(history["training_seconds"].sum(), abs=0.06)
    assert seconds["training"] + seconds["validation"] == pytest.approx(history["seconds"].sum(), abs=0.11)
    assert seconds["checkpoints"] > 0
    assert record["pieces_per_second"] == pytest.approx(record["pieces"] / history["training_seconds"].sum(), abs=1)


def test_primitive_cache_holds_more_than_onednn_would_keep_by_itself():
    code = "import torch, nerlib.training, os; print(os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN")}
    for given, expected in (({}, "20000"), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}, "7")):
        done = subprocess.run([sys.executable, "-c", code], env=environment | given, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_describe_says_what_the_run_was_made_from(minilm, tmp_path):
    params, data, split, result, _, _ = minilm
    runs.write_json(tmp_path / "run.json", training.describe(params, data, split, result))
    record = runs.read_json(tmp_path / "run.json")
    assert Params(**record["parameters"]) == params and record["changed"]["max_sentences"] == 200
    assert "seed" not in record["changed"]
    assert record["corpus"]["sha256"] == data.sha256 and record["split"]["fingerprint"] == split.fingerprint
    assert [record["split"][part] for part in ("training", "validation", "test")] == [144, 16, 40]
    assert len(record["encoder"].pop("config_and_tokenizer_sha256")) == 64
    assert record["encoder"] == {"name": "minilm", "sha256": encoder.MINILM_SHA256}
    made = result.record["made"]
    assert record["training"] == {name: value for name, value in result.record.items() if name != "made"}
    assert {name: record[name] for name in made} == made and made["completed"]
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=runs.ROOT, capture_output=True, text=True)
    assert record["git"]["commit"] == (head.stdout.strip() if head.returncode == 0 else None)


# --- the loop

@pytest.mark.parametrize("run", ["minilm", "easy"])
def test_learning_rates_rise_to_their_peaks_and_fall_to_zero(run, request):
    params, _, split, result, _, steps = request.getfixturevalue(run)
    assert len(steps) == result.record["steps"] == params.epochs * -(-len(split.training) // params.batch_size)
    warmup = round(params.warmup_ratio * len(steps))
    assert warmup >= 2
    for group, peak in enumerate((params.learning_rate, params.head_learning_rate)):
        expected = [peak * min(step / warmup, (len(steps) - step) / (len(steps) - warmup)) for step in range(len(steps))]
        assert [step["rates"][group] for step in steps] == pytest.approx(expected)


def test_all_weights_are_trained_with_the_given_decay_and_clipped_gradients(minilm):
    params, _, _, result, folder, steps = minilm
    saved = sum(tensor.numel() for tensor in load_file(folder / "model/model.safetensors").values())
    assert {step["size"] for step in steps} == {result.record["parameters"]} == {saved}
    assert {rate for step in steps for rate in step["decay"]} == {params.weight_decay}
    assert max(step["norm"] for step in steps) == pytest.approx(params.max_grad_norm, rel=1e-3)


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_embeddings_stay_as_pretrained_and_all_else_is_trained(train, tiny, tmp_path, freeze):
    with watched() as steps:
        *_, result = train(tmp_path, freeze_embeddings=freeze)
    before, after = load_file(tiny / "model.safetensors"), load_file(tmp_path / "model/model.safetensors")
    same = {name for name, weight in before.items() if torch.equal(weight, after[f"bert.{name}"])}
    embeddings = {name for name in before if name.startswith("embeddings.")}
    assert same == (embeddings if freeze else set()) and len(embeddings) == 5
    frozen = sum(before[name].numel() for name in same)
    assert {step["size"] for step in steps} == {result.record["parameters"] - frozen}


@pytest.mark.parametrize("norm", [0.0, 0.01])
def test_gradients_are_clipped_to_the_norm_or_not_at_all(train, tmp_path, norm):
    with watched() as steps:
        train(tmp_path, max_grad_norm=norm)
    norms = [step["norm"] for step in steps]
    assert norms == pytest.approx([0.01] * len(norms), rel=1e-3) if norm else min(norms) > 0.02


def test_each_epoch_shows_every_training_sentence_once_in_another_order(train, tmp_path, tokenizer):
    shown = []

    def note(module, inputs):
        if module.training and isinstance(module, torch.nn.Embedding) and module.num_embeddings == tokenizer.vocab_size:
            shown.extend([piece for piece in row if piece != tokenizer.pad_token_id] for row in inputs[0].tolist())

    hook = register_module_forward_pre_hook(note)
    try:
        _, data, split, _ = train(tmp_path, epochs=2)
    finally:
        hook.remove()
    expected = sorted(tokenizer(data.sentence(index), is_split_into_words=True)["input_ids"] for index in split.training)
    first, second = shown[:len(expected)], shown[len(expected):]
    assert sorted(first) == sorted(second) == expected and first != second


@pytest.mark.parametrize("changes, similar", [
    ({}, True), ({"similar_lengths": False}, False), ({"padding": "max_length"}, False)])
def test_batches_hold_similar_lengths_if_asked_for(train, tmp_path, tokenizer, changes, similar):
    shapes = []

    def note(module, inputs):
        if module.training and isinstance(module, torch.nn.Embedding) and module.num_embeddings == tokenizer.vocab_size:
            shapes.append((inputs[0].numel(), int((inputs[0] != tokenizer.pad_token_id).sum())))

    hook = register_module_forward_pre_hook(note)
    try:
        *_, result = train(tmp_path, max_sentences=400, batch_size=8, **changes)
    finally:
        hook.remove()
    padded, real = np.sum(shapes, axis=0)
    assert real == result.record["pieces"]
    assert (padded / real < 1.15) == similar
    assert (padded == len(shapes) * 8 * 160) == (changes.get("padding") == "max_length")


def test_gradients_of_a_step_are_its_own(train, tmp_path):
    with watched() as steps:  # all sentences in one batch, and no step worth the name: each gradient is the same
        train(tmp_path, epochs=3, batch_size=500, dropout=0, max_grad_norm=0, learning_rate=1e-9, head_learning_rate=1e-9)
    assert [step["norm"] for step in steps] == pytest.approx([steps[0]["norm"]] * 3, rel=1e-3)


def test_head_learning_rate_0_is_the_encoders(train, tmp_path):
    with watched() as steps:
        train(tmp_path, head_learning_rate=0)
    assert all(encoder == head for encoder, head in (step["rates"] for step in steps))


def test_dropout_is_on_in_training_and_off_in_prediction(train, tmp_path):
    (*_, first), (*_, second) = (train(tmp_path / str(p), dropout=p, learning_rate=1e-9, head_learning_rate=1e-9)
                                 for p in (0.0, 0.6))
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-4)
    assert abs(first.history["training_loss"][0] - second.history["training_loss"][0]) > 1e-3


def test_best_epoch_by_validation_f1_is_what_is_saved_and_scored(easy):
    params, _, _, result, folder, steps = easy
    best = result.record["best_epoch"]
    f1 = result.history["validation_f1"].tolist()
    assert best == 1 + f1.index(max(f1)) and best < params.epochs  # of equal ones the first
    an_epoch = len(steps) // params.epochs
    saved = load_file(folder / "model/model.safetensors")
    for name, weight in zip(("pos_embedding.weight", "classifier.weight", "classifier.bias"),
                            steps[best * an_epoch - 1]["head"], strict=True):
        assert torch.equal(saved[name], weight)
    rows = result.predictions[result.predictions["part"] == "validation"]
    tags = [[part[column].tolist() for _, part in rows.groupby("sentence")] for column in ("gold", "predicted")]
    assert f1_score(*tags) == pytest.approx(f1[best - 1])
    assert rows["loss"].mean() == pytest.approx(result.history["validation_loss"][best - 1], rel=1e-4)
    assert_scores_are_the_saved_models(folder, 6)


def test_without_validation_the_last_epoch_is_kept(train, tmp_path):
    with watched() as steps:
        _, _, split, result = train(tmp_path, validation_size=0, epochs=3)
    assert result.record["best_epoch"] == 3 and len(split.validation) == 0
    assert result.history.columns.tolist() == ["epoch", "training_loss", "training_seconds", "seconds"]
    assert set(result.predictions["part"]) == {"test"}
    saved = load_file(tmp_path / "model/model.safetensors")
    assert torch.equal(saved["classifier.weight"], steps[-1]["head"][1])


def test_without_score_test_no_test_word_is_anywhere(train, tmp_path):
    _, data, split, result = train(tmp_path, score_test=False)
    rows = pd.read_parquet(tmp_path / "predictions.parquet")
    assert set(rows["part"]) == {"validation"} and len(rows) == len(np.load(tmp_path / "scores.npy"))
    assert set(rows["sentence"]) == set(split.validation) and "test" not in result.record["windows"]
    assert set(pd.read_parquet(tmp_path / "training.parquet")["sentence"]) == set(split.training)


def test_nothing_to_score_is_refused_before_anything_is_made(train, tmp_path):
    with pytest.raises(ValueError, match="validation_size = 0 and score_test = false"):
        train(tmp_path, validation_size=0, score_test=False)
    assert list(tmp_path.iterdir()) == []


def test_max_length_changes_no_word_of_the_tables(train, tmp_path):
    columns = ["part", "sentence", "position", "word", "gold"]
    (*_, short), (*_, long) = (train(tmp_path / str(length), max_length=length) for length in (24, 160))
    pd.testing.assert_frame_equal(short.predictions[columns], long.predictions[columns])
    assert short.record["windows"]["training"] > long.record["windows"]["training"]


def test_training_without_pos_keeps_the_corpus_pos_but_uses_none(train, tmp_path):
    *_, result = train(tmp_path, pos="none")
    rows = pd.read_parquet(tmp_path / "predictions.parquet")
    assert rows["pos_used"].isna().all() and rows["pos"].notna().all() and rows["pos_predicted"].isna().all()
    assert not any("pos" in name for name in load_file(tmp_path / "model/model.safetensors") if not name.startswith("bert."))
    assert_scores_are_the_saved_models(tmp_path, 4)


@pytest.mark.parametrize("pos", ["constant", "shuffled"])
def test_controls_are_given_other_tags_and_say_which(train, tmp_path, pos):
    params, data, split, result = train(tmp_path, pos=pos)
    rows = result.predictions
    given = features.given_pos(data, pos, params.seed)
    assert rows["pos_used"].tolist() == given[data.rows(np.append(split.validation, split.test))].tolist()
    assert (rows["pos"] != rows["pos_used"]).mean() > 0.3 and (rows["pos"].array == data.table().loc[
        data.rows(np.append(split.validation, split.test)), "pos"].array).all()
    assert_scores_are_the_saved_models(tmp_path, 4)


@pytest.mark.parametrize("pos", ["predicted", "auxiliary"])
def test_a_pos_head_learns_tags_and_never_reads_those_of_validation_and_test(train, tmp_path, monkeypatch, pos):
    params, data, split, result = train(tmp_path / "first", pos=pos, word_shape=True, epochs=4, max_sentences=200)
    rows = result.predictions
    most_frequent = (rows["pos"] == rows["pos"].mode()[0]).mean()
    assert (rows["pos_predicted"] == rows["pos"]).mean() > most_frequent + 0.2
    assert rows["pos_used"].isna().all() if pos == "auxiliary" else (rows["pos_used"] == rows["pos_predicted"]).all()
    assert_scores_are_the_saved_models(tmp_path / "first", 4)

    other = data.pos.copy()
    hidden = data.rows(np.append(split.validation, split.test))
    other[hidden] = np.random.default_rng(0).permutation(other[hidden])
    again = training.train(params, replace(data, pos=other), split, tmp_path / "second")
    assert (again.predictions["pos"] != rows["pos"]).mean() > 0.5
    assert np.array_equal(again.scores, result.scores)


def test_given_tags_of_the_test_part_are_read_where_they_are_the_corpus(train, tmp_path):
    params, data, split, result = train(tmp_path / "first")
    other = data.pos.copy()
    other[data.rows(split.test)] = data.pos[0]
    again = training.train(params, replace(data, pos=other), split, tmp_path / "second")
    assert not np.array_equal(again.scores, result.scores)  # else the test above would show nothing


@pytest.mark.parametrize("decoder", ["argmax", "viterbi"])
def test_predictions_are_those_of_the_decoder_with_the_other_beside(train, tmp_path, decoder):
    _, data, split, result = train(tmp_path, decoder=decoder, max_sentences=300, epochs=4)
    rows, labels = result.predictions, np.array(result.record["labels"], object)
    starts = np.flatnonzero(rows["position"] == 0)
    assert rows["viterbi"].tolist() == labels[decoding.viterbi(result.scores, np.append(starts, len(rows)), labels)].tolist()
    assert rows["argmax"].tolist() == labels[result.scores.argmax(1)].tolist() != rows["viterbi"].tolist()
    assert rows["predicted"].tolist() == rows[decoder].tolist()
    confidence = np.exp(result.scores[np.arange(len(rows)), [list(labels).index(tag) for tag in rows["predicted"]]])
    np.testing.assert_allclose(rows["confidence"], confidence, rtol=1e-5)


def test_lexicon_is_used_and_kept_with_the_model(train, tmp_path):
    _, data, split, plain = train(tmp_path / "plain", max_sentences=300, epochs=4)
    _, data, split, result = train(tmp_path / "known", max_sentences=300, epochs=4, lexicon=True)
    f1 = {name: one.history["validation_f1"].max() for name, one in (("plain", plain), ("known", result))}
    assert f1["known"] > f1["plain"]  # an encoder that knows nothing has much to learn from it
    kept = json.loads((tmp_path / "known/model/lexicon.json").read_text("utf-8"))
    words = pd.Series(data.words[data.rows(split.training)])
    assert {word: sum(counts) for word, counts in kept.items()} == words.value_counts().to_dict()
    assert not (tmp_path / "plain/model/lexicon.json").exists()


def test_pretrained_pos_embeddings_are_where_the_training_begins(train, tmp_path, monkeypatch):
    began = []
    fit = training.fit
    monkeypatch.setattr(training, "fit", lambda net, *rest: began.append(net.pos_embedding.weight.detach().clone()) or
                        fit(net, *rest))
    params, data, split, _ = train(tmp_path, pos_init="pretrained", pos_dim=7)
    vocabulary = dataset.Vocabulary.of(data, "corpus").pos
    expected = features.pretrained_pos(data, split.training, vocabulary, 7, params.seed)
    np.testing.assert_array_equal(began[0].cpu().numpy(), expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_is_recorded_and_weights_and_scores_stay_float32(train, tmp_path, precision):
    *_, result = train(tmp_path, precision=precision, padding="max_length", max_length=48)
    assert result.record["precision"] == precision and result.scores.dtype == np.float32
    assert {tensor.dtype for tensor in load_file(tmp_path / "model/model.safetensors").values()} == {torch.float32}
    if precision == "bf16":
        net, tokenizer, vocabulary, *_ = model.load(tmp_path / "model")
        params, data, split, _ = train(tmp_path, precision=precision, padding="max_length", max_length=48)
        windows = dataset.NERDatasetWithPOS(data, split.test, vocabulary, tokenizer, 48, data.pos)
        exact = prediction.predict(net, windows, params.model_copy(update={"precision": "fp32"})).scores
        difference = np.abs(result.scores[-len(exact):] - exact)
        assert 1e-4 < difference.max() < 0.5  # rounded, not wrong


def test_bf16_rounds_in_training_too(train, tmp_path):
    losses = [train(tmp_path / precision, precision=precision)[3].history["training_loss"][0] for precision in ("fp32", "bf16")]
    assert 1e-6 < abs(losses[0] - losses[1]) < 0.1


@pytest.mark.skipif(torch.cuda.is_available() or not Path("/proc/cpuinfo").exists(), reason="asks Linux about the CPU")
def test_automatic_precision_is_bf16_where_the_cpu_has_instructions_for_it():
    assert training.use_bf16(Params()) == ("avx512_bf16" in Path("/proc/cpuinfo").read_text())


# --- the same again, and other parameters

@pytest.mark.parametrize("changes", [{"epochs": 2}, {"encoder": "minilm", "max_sentences": 60}])
def test_same_seed_gives_the_same_bytes_and_another_seed_others(train, tmp_path, changes):
    files = {}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        train(tmp_path / name, seed=seed, **changes)
        files[name] = [(tmp_path / name / file).read_bytes() for file in ("predictions.parquet", "scores.npy")]
        torch.rand(seed)  # the state of the generators is not what decides
        np.random.rand(3)
    assert files["one"] == files["again"]
    assert all(a != b for a, b in zip(files["one"], files["other"], strict=True))


def test_finished_training_is_loaded_and_not_repeated(train, tmp_path):
    params, data, split, first = train(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with watched() as steps:
        again = training.train(params.model_copy(update={"run": "other-name"}), data, split, tmp_path)
    assert steps == [] and {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    pd.testing.assert_frame_equal(again.predictions, first.predictions)
    pd.testing.assert_frame_equal(again.history, first.history)
    assert np.array_equal(again.scores, first.scores) and again.record == first.record


def test_other_parameters_remove_all_that_was_derived_and_then_train(train, tmp_path):
    train(tmp_path)
    own, before = ["notes.txt", "01_eda.ipynb", "stages/01.json", "figures/01_lengths.png"], [*DERIVED, "model/stray.bin"]
    for name in [*own, *before]:
        if name != "model":
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(name)
    left = []
    with watched(lambda: left.extend(name for name in before if (tmp_path / name).exists())) as steps:
        train(tmp_path, dropout=0.3)
    assert steps and left == [] and not (tmp_path / "run.json").exists()
    assert [(tmp_path / name).read_text() for name in own] == own


def test_training_that_did_not_finish_is_repeated(train, tmp_path):
    *_, first = train(tmp_path)
    (tmp_path / "model/training.json").unlink()
    with watched() as steps:
        *_, again = train(tmp_path)
    assert steps and np.array_equal(again.scores, first.scores)


def test_key_depends_on_each_parameter_of_the_training_and_on_no_other(tiny, tmp_path):
    data, split = load(Params(max_sentences=120), runs.ROOT)
    mine, other = (shutil.copytree(tiny, tmp_path / name) for name in ("mine", "other"))
    base = Params(encoder=str(mine))
    trains = {
        "entity_types": "all", "encoder": str(other), "max_length": 159, "padding": "max_length", "pos": "none",
        "pos_dim": 7, "pos_init": "pretrained", "word_shape": True, "decoder": "viterbi",
        "lexicon": True, "dropout": 0.1, "encoder_dropout": 0.1, "epochs": 4, "batch_size": 31, "learning_rate": 1e-5,
        "head_learning_rate": 0.0, "weight_decay": 0.0, "warmup_ratio": 0.0, "max_grad_norm": 0.0, "seed": 1,
        "encoder_revision": "v2", "score_test": False,
        "freeze_embeddings": True, "similar_lengths": False, "gradient_accumulation": 2,
        "precision": "fp32" if training.use_bf16(base) else "bf16"}
    others = {"run": "another", "max_sentences": 5, "data": "x.csv", "data_validation": "y.csv", "data_test": "z.csv",
              "split": "blocks", "test_size": 0.3, "validation_size": 0.2, "split_seed": 1,  # the split itself tells
              "checkpoint_minutes": 1}
    assert set(trains) | set(others) == set(Params.model_fields)  # a new parameter must be decided upon here
    key = training.training_key(base, split)
    keys = {name: training.training_key(base.model_copy(update={name: value}), split) for name, value in trains.items()}
    assert key not in keys.values() and len(set(keys.values())) == len(trains)
    for name, value in others.items():
        assert training.training_key(base.model_copy(update={name: value}), split) == key, name
    for changes in ({"max_sentences": 119}, {"split_seed": 1}, {"validation_size": 0.2}):
        assert training.training_key(base, load(Params(**{"max_sentences": 120} | changes), runs.ROOT)[1]) != key, changes


@pytest.mark.parametrize("sharded", [False, True])
def test_key_depends_on_every_file_that_the_encoder_is_read_from(tiny, tmp_path, sharded):
    mine = shutil.copytree(tiny, tmp_path / "mine")
    if sharded:
        (mine / "model.safetensors").unlink()
        transformers.BertModel.from_pretrained(tiny, add_pooling_layer=False).save_pretrained(mine, max_shard_size="200KB")
    params = Params(encoder=str(mine), max_sentences=120)
    _, split = load(params, runs.ROOT)
    keys = [training.training_key(params, split)]
    (mine / "README.md").write_text("which says nothing of how it computes")
    assert training.training_key(params, split) == keys[0]
    (mine / "vocab.txt").write_text("older tokenizers read it")
    files = sorted(path for path in mine.iterdir() if path.name != "README.md")
    assert len([path for path in files if path.suffix == ".safetensors"]) == (2 if sharded else 1) and len(files) >= 5
    for path in files:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        keys.append(training.training_key(params, split))
    assert len(set(keys)) == len(keys), [path.name for path in files]


@pytest.mark.parametrize("library", ["torch", "transformers", "tokenizers", "numpy"])
def test_key_depends_on_the_versions_of_what_computes(tiny, monkeypatch, library):
    params = Params(encoder=str(tiny), max_sentences=120)
    _, split = load(params, runs.ROOT)
    key = training.training_key(params, split)
    monkeypatch.setattr(training, "version", lambda name: "0.0.1" if name == library else version(name))
    assert training.training_key(params, split) != key


@pytest.mark.parametrize("module", ["reading", "corpus", "dataset", "hardware", "model", "evaluation", "training"])
def test_key_depends_on_the_sources_that_decide_the_result(tiny, tmp_path, monkeypatch, module):
    _, split = load(Params(max_sentences=120), runs.ROOT)
    key = training.training_key(Params(encoder=str(tiny)), split)
    sources = {path.stem: path for path in training.SOURCES}
    source = Path(shutil.copy(sources[module], tmp_path))
    monkeypatch.setattr(training, "SOURCES", list((sources | {module: source}).values()))
    assert training.training_key(Params(encoder=str(tiny)), split) == key  # where it stands is no matter
    source.write_text(source.read_text("utf-8") + "# another line\n", "utf-8")
    assert training.training_key(Params(encoder=str(tiny)), split) != key


def test_records_are_json_without_numpy_numbers(minilm):
    record = json.loads((minilm[4] / "model/training.json").read_text("utf-8"))
    assert record == minilm[3].record and record["pieces"] > 0 and record["pieces_per_second"] > 0
