"""A model's card beside the record that it is written from."""

import json

import mistune
import pytest
from bs4 import BeautifulSoup
from huggingface_hub import ModelCard

from nerlib import card
from nerlib.corpus import GMB_SHA256
from nerlib.params import Params

SCORES = {"precision": 0.5, "recall": 0.25, "f1-score": 1 / 3, "support": 4000}


@pytest.mark.parametrize(("changes", "sha256", "lower", "said", "unsaid"), [
    ({}, GMB_SHA256, True, ["news in English", "upper case alike.", "no plain text", 'pos=["NNP"', "at random",
                            "in sentences whose words come with POS tags. BERT", "`ner_dataset.csv`, 12,345 sentences"],
     ["made-up", " in text."]),
    ({"word_shape": True, "pos": "none"}, GMB_SHA256, True, ["alike, but sees the shape", "without POS tags", "in text. BERT"],
     ["no plain text"]),
    ({"split": "blocks", "pos": "predicted"}, "0", False, ["by the split", "POS tags (predicted)"], ["upper case", "news"]),
    ({"encoder": "/home/me/secret/bert", "pos": "shuffled"}, "0", False, ["`bert`", "a control", "A control"], ["minilm"]),
    ({"data": "sample", "max_sentences": 345}, "0", False, ["made-up sentences in English", "345 of its 12,345 sentences",
                                                            "`max_sentences: 345`"], ["same documents"]),
    ({"data": "/home/me/secret/<b>`a|b`\n.csv"}, "0", False, ["<code>&#60;b&#62;&#96;a&#124;b&#96;&#10;&#46;csv</code>, 12"],
     ["made-up"])])
def test_card_says_what_its_model_reads_was_trained_on_and_cannot(tmp_path, changes, sha256, lower, said, unsaid):
    params = Params(run="mine", **{"data": "/home/me/secret/ner_dataset.csv"} | changes)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    parts = {"training": 300, "validation": 5, "test": 40} if params.max_sentences else {
        "training": 9000, "validation": 345, "test": 3000}
    record = {
        "run": "mine", "parameters": params.model_dump(), "changed": params.changed(), "git": {"commit": "abc", "clean": False},
        "corpus": {"source": params.data, "sha256": sha256, "sentences": 12345},
        "encoder": {"name": params.encoder}, "split": {"kind": params.split, "fingerprint": "f" * 64, **parts},
        "versions": {"torch": "2", "transformers": "5"}, "training": {"parameters": 7}}
    kinds = ["geo", "*<b>*"]
    report = {name: SCORES for name in (*kinds, "micro avg")}
    metrics = {"types": kinds, "tags": ["O"] * 5, "test": {"default": report},
               "intervals": {"test": {"micro avg": {"low": 0.3, "high": 0.4}}}}
    read = ModelCard.load(card.write(tmp_path, record, metrics))
    text = read.text
    assert all(part in text for part in said) and not any(part in text for part in unsaid)
    assert "| micro average | 0.500 | 0.250 | 0.333 | 0.300 to 0.400 | 4,000 |" in text and "0.250 | 0.333 | – |" in text
    assert "| `geo` | 0.500" in text and "No licence is named" in text
    assert "<b>" not in text and "secret" not in read.content and "with uncommitted changes" in text
    assert read.data.eval_results[2].metric_value == 1 / 3 and read.data.eval_results[2].dataset_split == "test"
    known = sha256 == GMB_SHA256 or params.data == "sample"
    assert read.data.language == ("en" if known else None) and read.data.license is None


@pytest.mark.parametrize("part", ["test", "validation"])
@pytest.mark.parametrize(("ours", "lookup", "said"), [
    (0.5, 0.4, ""), (0.4, 0.4, ""), (0.1, 0.0, ""), (0.0, 0.4, "finds no name"),
    (0.0, 0.0, "finds no name"), (0.3, 0.4, "is worse than looking each word up in the training part")])
def test_a_model_that_has_learnt_too_little_is_not_shown_as_a_result(part, ours, lookup, said):
    report, base = ({"default": {"micro avg": {"f1-score": f1}}} for f1 in (ours, lookup))
    metrics = {"validation": {"default": {"micro avg": {"f1-score": 0.9}}}} | {part: report, "baseline": {part: base}}
    warning = card.warning({"training": {"steps": 1234}}, metrics)
    expected = f"This model {said}. It was trained in 1,234 steps: more epochs, or a smaller batch_size, may help."
    assert warning == (said and expected)
    assert card.warning({}, metrics) == card.warning({"training": {"steps": 1234}}, {}) == ""


@pytest.mark.parametrize("name", ["geo", "my corpus-2.csv.zip", "größe_1", "a`b", "a|b", "<b>x</b>", "a\\|b", "a\n\nb", "a  b",
                                  " a", "``", "*x*", "$x$", "&lt;", "[x](y)", ""])
def test_name_is_code_in_a_table_and_in_a_line_whatever_it_holds(name):
    markdown = mistune.create_markdown(escape=False, plugins=["table"])
    made = markdown(f"| type | F1 |\n| --- | --- |\n| {card._code(name)} | 0.5 |\n\n- in {card._code(name)}, too")
    page = BeautifulSoup(made, "html.parser")
    assert [cell.get_text() for cell in page("td")] == [name, "0.5"] and page.li.get_text() == f"in {name}, too"
    assert [code.get_text() for code in page("code")] == [name] * 2 and not page("b")
    assert ("`" in card._code(name)) == (name in ("geo", "my corpus-2.csv.zip", "größe_1"))
