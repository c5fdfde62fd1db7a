"""A model's card beside the record that it is written from."""

import json

import pytest
from huggingface_hub import ModelCard

from nerlib import card
from nerlib.corpus import GMB_SHA256
from nerlib.params import Params

SCORES = {"precision": 0.5, "recall": 0.25, "f1-score": 1 / 3, "support": 4000}


@pytest.mark.parametrize(("changes", "sha256", "lower", "said", "unsaid"), [
    ({}, GMB_SHA256, True, ["news in English", "upper case alike.", "no plain text", 'pos=["NNP"', "at random"], []),
    ({"word_shape": True, "pos": "none"}, GMB_SHA256, True, ["alike, but sees the shape", "without POS tags"],
     ["no plain text"]),
    ({"split": "blocks", "pos": "predicted"}, "0", False, ["by the split", "POS tags (predicted)"], ["upper case", "news"]),
    ({"encoder": "/home/me/secret/bert", "pos": "shuffled"}, "0", False, ["<code>bert</code>", "a control"], ["minilm"])])
def test_limits_are_those_of_the_corpus_and_the_parameters(tmp_path, changes, sha256, lower, said, unsaid):
    params = Params(run="mine", data="/home/me/secret/ner.csv", **changes)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    record = {
        "run": "mine", "parameters": params.model_dump(), "changed": params.changed(), "git": {"commit": "abc", "clean": False},
        "corpus": {"source": "/home/me/secret/ner.csv", "sha256": sha256, "sentences": 12345},
        "encoder": {"name": params.encoder},
        "split": {"kind": params.split, "fingerprint": "f" * 64, "training": 9000, "validation": 345, "test": 3000},
        "versions": {"torch": "2", "transformers": "5"}, "training": {"parameters": 7}}
    kinds = ["geo", "*<b>*"]
    report = {name: SCORES for name in (*kinds, "micro avg")}
    metrics = {"types": kinds, "tags": ["O"] * 5, "test": {"default": report},
               "intervals": {"test": {"micro avg": {"low": 0.3, "high": 0.4}}}}
    read = ModelCard.load(card.write(tmp_path, record, metrics))
    text = read.text
    assert all(part in text for part in said) and not any(part in text for part in unsaid)
    assert "| micro average | 0.500 | 0.250 | 0.333 | 0.300 to 0.400 | 4,000 |" in text and "0.250 | 0.333 | – |" in text
    assert "<b>" not in text and "secret" not in read.content and "with uncommitted changes" in text
    assert read.data.eval_results[2].metric_value == 1 / 3 and read.data.eval_results[2].dataset_split == "test"
