"""Promises for any input, which Hypothesis tries to break; the same inputs in every run."""

import csv
import io
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2

from nerlib import decoding, evaluation, model, statistics
from nerlib.corpus import Corpus, read
from nerlib.dataset import IGNORE_LABEL, NERDatasetWithPOS, Vocabulary
from nerlib.params import Params
from nerlib.prediction import predict
from nerlib.split import BLOCK, MARGIN, load

modest = settings(max_examples=40, derandomize=True, database=None, deadline=None,
                  suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

LABELS = ["O", "B-geo", "I-geo", "B-per", "I-per"]
VOCABULARY = Vocabulary(LABELS, ["[PAD]", "[IGNORE]", "IN", "NN", "NNP"])
NOTHING = ["\u200b", "\x07", "\ufeff"]  # the tokenizer makes no piece of these


def texts(without: str, longest: int) -> st.SearchStrategy[str]:
    """Any text that is not blank, without the given characters."""
    characters = st.characters(exclude_categories=["Cs"], exclude_characters=without)
    known = st.sampled_from([*NOTHING, "None", '"', "''", "Oslo", "e\u0301"])
    return (st.text(characters, min_size=1, max_size=longest) | known).filter(str.strip)


# From words to predictions.

TOKENS = st.tuples(texts("", 5), st.sampled_from(VOCABULARY.pos[2:]), st.sampled_from(LABELS))
SENTENCES = st.lists(st.lists(TOKENS, min_size=1, max_size=25), min_size=1, max_size=5)


def corpus_of(sentences):
    words, pos, tags = (np.array(column, object) for column in zip(*(row for rows in sentences for row in rows), strict=True))
    return Corpus(words, pos, tags, np.cumsum([0, *map(len, sentences)]), "test", "0")


def dataset_of(corpus, tokenizer, max_length, sentences=None):
    sentences = np.arange(len(corpus)) if sentences is None else sentences
    return NERDatasetWithPOS(corpus, sentences, VOCABULARY, tokenizer, max_length, corpus.pos)


@modest
@given(sentences=SENTENCES, max_length=st.integers(22, 40))
def test_labels_stand_on_first_pieces_alone_each_word_once_and_in_order(tokenizer, sentences, max_length):
    pieces = [[tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)) or [tokenizer.unk_token_id] for word, _, _ in rows]
              for rows in sentences]
    found = []
    for item, window in zip(data := dataset_of(corpus_of(sentences), tokenizer, max_length), data.windows, strict=True):
        assert len(item["input_ids"]) <= max_length
        shown = list(itertools.chain(*pieces))[window[0]:window[1]]
        assert item["input_ids"].tolist() == [tokenizer.cls_token_id, *itertools.chain(*shown), tokenizer.sep_token_id]
        first = [0, *(k == 0 for word in shown for k in range(len(word))), 0]
        labelled = (item["labels"] != IGNORE_LABEL).tolist()
        assert not any(has and not begins for has, begins in zip(labelled, first, strict=True))
        assert [id > 1 for id in item["pos_tags"].tolist()] == list(map(bool, first))
        found += [(piece, LABELS[label], VOCABULARY.pos[pos]) for piece, label, pos, has in zip(
            item["input_ids"].tolist(), item["labels"].tolist(), item["pos_tags"].tolist(), labelled, strict=True) if has]
    assert found == [(word[0], tag, pos) for ids, rows in zip(pieces, sentences, strict=True)
                     for word, (_, pos, tag) in zip(ids, rows, strict=True)]


@pytest.fixture(scope="module")
def net(tiny):
    torch.set_num_threads(1)
    return model.build(Params(encoder=str(tiny), seed=1), VOCABULARY)[0]


@modest
@given(sentences=SENTENCES, max_length=st.integers(22, 40), decoder=st.sampled_from(["argmax", "viterbi"]))
def test_each_word_gets_the_prediction_that_its_sentence_gets_alone(net, tokenizer, sentences, max_length, decoder):
    corpus, params = corpus_of(sentences), Params(precision="fp32", decoder=decoder)
    together = predict(net, dataset_of(corpus, tokenizer, max_length), params)
    alone = [predict(net, dataset_of(corpus, tokenizer, max_length, np.array([i])), params) for i in range(len(corpus))]
    assert together.scores.shape == (len(corpus.words), len(LABELS))
    assert np.allclose(together.scores, np.concatenate([one.scores for one in alone]), atol=1e-4)
    assert np.allclose(np.exp(together.scores).sum(1), 1, atol=1e-4)
    if decoder == "argmax":
        assert (together.labels == together.scores.argmax(1)).all()
    else:
        assert all(allowed([LABELS[label] for label in one.labels]) for one in alone)


# Decoding.

def allowed(tags):
    """Whether a sentence's tags are valid IOB2."""
    return all(tag[0] != "I" or before in (f"B-{tag[2:]}", tag) for before, tag in zip(["O", *tags], tags, strict=False))


@st.composite
def scored(draw):
    """Labels in any order, the lengths of some sentences, and scores of their words, with ties and differences of 1e6."""
    labels = draw(st.permutations(draw(st.sampled_from([LABELS, LABELS[:3], ["O", "B-a", "I-a", "B-a-b", "I-a-b"], ["O"]]))))
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    values = st.lists(st.integers(-5, 0) | st.floats(-1e6, 0, width=32), min_size=len(labels), max_size=len(labels))
    return labels, lengths, np.array(draw(st.lists(values, min_size=sum(lengths), max_size=sum(lengths))), np.float64)


@modest
@given(scored())
def test_viterbi_is_valid_and_the_best_of_all_valid_sequences(drawn):
    labels, lengths, scores = drawn
    offsets = np.append([0], np.cumsum(lengths))
    before = scores.copy()
    ids = decoding.viterbi(scores, offsets, labels)
    assert (scores == before).all()
    for first, last in itertools.pairwise(offsets):
        mine, every = scores[first:last], np.arange(last - first)
        valid = [np.array(chosen) for chosen in itertools.product(range(len(labels)), repeat=last - first)
                 if allowed([labels[label] for label in chosen])]
        assert allowed([labels[label] for label in ids[first:last]])
        best = max(mine[every, chosen].sum() for chosen in valid)
        assert mine[every, ids[first:last]].sum() == pytest.approx(best, rel=1e-9)
        best_alone = mine.argmax(1)
        if allowed([labels[label] for label in best_alone]) and (np.sort(mine)[:, -1:] > np.sort(mine)[:, :-1]).all():
            assert (ids[first:last] == best_alone).all()


# Scores.

KINDS = ["geo", "a-b", "B-x", "\u57ce\u5e02", "O"]
ANY_TAG = st.sampled_from(["O", "O", *(f"{prefix}-{kind}" for kind in KINDS for prefix in "BI")])


@st.composite
def tables(draw):
    """Gold and predicted tags, valid or not, of up to eight sentences; often they agree, and gold has a mention."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=8))
    gold = ["B-geo", *draw(st.lists(ANY_TAG, min_size=sum(lengths) - 1, max_size=sum(lengths) - 1))]
    predicted = [draw(ANY_TAG) if draw(st.booleans()) else tag for tag in gold]
    return pd.DataFrame({"part": "test", "sentence": np.repeat(range(len(lengths)), lengths),
                         "position": np.concatenate([np.arange(n) for n in lengths]), "word": "w", "gold": gold,
                         "predicted": predicted})


@modest
@given(tables())
def test_scores_are_seqevals_and_no_mention_is_lost(table):
    gold, predicted = ([rows[column].tolist() for _, rows in table.groupby("sentence")] for column in ("gold", "predicted"))
    for strict, mode in ((False, {}), (True, {"mode": "strict", "scheme": IOB2})):
        assert evaluation.report(table, strict=strict) == classification_report(gold, predicted, output_dict=True,
                                                                                zero_division=0, **mode)
    gold, predicted = ([get_entities(tags) for tags in sentences] for sentences in (gold, predicted))
    number = {name: [sum(kind == one for found in side for kind, *_ in found) for one in KINDS]
              for name, side in (("gold", gold), ("predicted", predicted))}
    right = [sum(kind == one for mine, theirs in zip(gold, predicted, strict=True) for kind, *_ in set(mine) & set(theirs))
             for one in KINDS]
    counted = statistics.counts(table, KINDS)
    assert counted.sum(0).T.tolist() == [right, number["predicted"], number["gold"]]
    aligned = evaluation.align(table)
    confusion = evaluation.confusion_of_mentions(aligned, KINDS)
    assert confusion.loc[KINDS].sum(axis=1).tolist() == number["gold"]
    assert confusion[KINDS].sum().tolist() == number["predicted"]
    assert (aligned["kind"] == "correct").sum() == sum(right)
    for side, found in (("gold", number["gold"]), ("pred", number["predicted"])):
        firsts = aligned[f"{side}_first"][aligned[f"{side}_first"] >= 0]
        assert firsts.is_unique and len(firsts) == sum(found)


@modest
@given(tables())
def test_intervals_lie_between_0_and_1_and_mean_the_reports_f1(table):
    units = statistics.counts(table, KINDS)
    report = evaluation.report(table)
    rows = {kind: statistics.of_one_run(units[:, i], 200) for i, kind in enumerate(KINDS)}
    rows["micro avg"] = statistics.of_one_run(units.sum(1), 200)
    for name, row in rows.items():
        assert 0 <= row["low"] <= row["high"] <= 1 and row["f1"] == pytest.approx(report.get(name, {"f1-score": 0})["f1-score"])
        if row["f1"] in (0, 1) and len(units) == 1:
            assert row["low"] == row["high"] == row["f1"]


# Splits.

@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("properties")


def sentences_of(place, name, count, different, seed):
    """A file of so many sentences of one mention and a word, of which so many are different; their texts."""
    drawn = np.random.default_rng(seed).integers(different, size=count)
    (place / name).write_text("".join(f"Ann B-per\nw{i} O\n\n" for i in drawn), "utf-8")
    return [f"Ann w{i}" for i in drawn]


@modest
@given(kind=st.sampled_from(["random", "grouped", "blocks", "apart", "among"]), blocks=st.integers(8, 14),
       more=st.integers(0, BLOCK - 1), seed=st.integers(0, 2**32 - 1), test_size=st.floats(0.1, 0.3),
       validation_size=st.floats(0.1, 0.25), sampled=st.booleans(), official=st.booleans())
def test_parts_are_disjoint_and_hold_all_sentences_but_those_that_their_kind_leaves_out(
        place, kind, blocks, more, seed, test_size, validation_size, sampled, official):
    count = blocks * BLOCK + more
    words = sentences_of(place, "main.txt", count, count // 2, seed)
    if official:
        words += sentences_of(place, "test.txt", 20, 5, seed)
    values = {"data": "main.txt", "data_test": "test.txt" if official else "", "entity_types": "all", "pos": "none",
              "split_seed": seed, "test_size": test_size, "validation_size": validation_size,
              "max_sentences": count - 50 if sampled else 0}
    _, split = load(Params(split=kind, **values), place)
    _, again = load(Params(split=kind, **values), place)
    _, plain = load(Params(split="random", **values), place)
    training, validation, test = (set(part.tolist()) for part in split.parts().values())
    pool = set(np.concatenate(list(plain.parts().values())).tolist())
    assert all(np.array_equal(one, other) and (np.diff(one) > 0).all() and len(one) for one, other in zip(
        split.parts().values(), again.parts().values(), strict=True))
    assert split.fingerprint == again.fingerprint == plain.fingerprint or kind == "blocks"
    assert not training & validation and not (training | validation) & test and training | validation | test <= pool
    assert len(pool) == (count - 50 if sampled else count) + (20 if official else 0)
    assert test == set(range(count, count + 20)) if official else kind == "blocks" or test == set(plain.test.tolist())
    left = pool - training - validation - test
    if kind == "random":
        assert not left
    elif kind == "grouped":
        texts_of = [{words[i] for i in part} for part in (training, validation, test)]
        assert not texts_of[0] & (texts_of[1] | texts_of[2]) and not texts_of[1] & texts_of[2]
        assert {words[i] for i in left} <= texts_of[1] | texts_of[2]
    elif kind == "blocks":
        held = (validation | test) & set(range(count))
        assert not any(near in held for i in training for near in range(i - MARGIN, i + MARGIN + 1))
        assert all(any(near in held | left for near in range(i - MARGIN, i + MARGIN + 1)) for i in left)
    else:
        _, other = load(Params(split="among" if kind == "apart" else "apart", **values), place)
        assert validation == set(other.validation.tolist())
        shared = {i // BLOCK for i in validation} & {i // BLOCK for i in training}
        assert bool(shared) == (kind == "among")


# Reading what was written.

KIND = st.text(st.characters(categories=["L", "N", "S", "Po"]), min_size=1, max_size=4)  # entity types
FIELD = texts("\n\r\0\t", 12)


@st.composite
def tagged(draw):
    """Sentences of (word, POS) and of mentions (type or "", words)."""
    mention = st.tuples(st.just("") | KIND | st.just("per"), st.integers(1, 3))
    mentions = draw(st.lists(st.lists(mention, min_size=1, max_size=4), min_size=1, max_size=5))
    return [(draw(st.lists(st.tuples(FIELD, FIELD), min_size=size, max_size=size)), rows)
            for rows in mentions for size in [sum(words for _, words in rows)]]


def tags_of(mentions, scheme):
    """A sentence's tags in IOB1, IOB2, IOBES or BILOU."""
    tags, previous = [], ""
    for kind, words in mentions:
        opening = "I" if scheme == "IOB1" and kind != previous else "B"
        if not kind:
            tags += ["O"] * words
        elif scheme in ("IOB1", "IOB2"):
            tags += [f"{opening}-{kind}", *[f"I-{kind}"] * (words - 1)]
        elif words == 1:
            tags += [f"{'SU'[scheme == 'BILOU']}-{kind}"]
        else:
            tags += [f"B-{kind}", *[f"I-{kind}"] * (words - 2), f"{'EL'[scheme == 'BILOU']}-{kind}"]
        previous = kind
    return tags


def check(path, drawn, with_pos):
    corpus = read(path)
    rows = [row for rows, _ in drawn for row in rows]
    assert corpus.words.tolist() == [word for word, _ in rows]
    assert corpus.pos.tolist() == [pos for _, pos in rows] if with_pos else corpus.pos is None
    assert corpus.tags.tolist() == [tag for _, mentions in drawn for tag in tags_of(mentions, "IOB2")]
    assert corpus.lengths.tolist() == [len(rows) for rows, _ in drawn]


@modest
@given(drawn=tagged(), with_pos=st.booleans(), every=st.booleans(), separator=st.sampled_from(",;\t"),
       end=st.sampled_from(["\n", "\r\n", "\r"]), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
       encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), scheme=st.sampled_from(["IOB1", "IOB2", "IOBES", "BILOU"]))
def test_what_the_csv_module_writes_is_read_as_it_was(place, drawn, with_pos, every, separator, end, quoting, encoding, scheme):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow(["Sentence #", "Word", *["POS"] * with_pos, "Tag"])
    for number, (rows, mentions) in enumerate(drawn):
        for i, ((word, pos), tag) in enumerate(zip(rows, tags_of(mentions, scheme), strict=True)):
            writer.writerow([number if every or not i else "", word, *[pos] * with_pos, tag])
    (place / "written.csv").write_bytes(file.getvalue().encode(encoding))
    check(place / "written.csv", drawn, with_pos)


@modest
@given(drawn=tagged(), with_pos=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\r"]), documents=st.booleans(),
       encoding=st.sampled_from(["utf-8-sig", "utf-16"]), scheme=st.sampled_from(["IOB1", "IOB2", "IOBES", "BILOU"]))
def test_columns_are_read_as_they_were_written(place, drawn, with_pos, end, documents, encoding, scheme):
    lines = ["-DOCSTART-\tO", ""] if documents else []
    for rows, mentions in drawn:
        lines += ["\t".join([word, *[pos] * with_pos, tag]) for (word, pos), tag in zip(
            rows, tags_of(mentions, scheme), strict=True)] + [""]
    (place / "written.txt").write_bytes(end.join(lines).encode(encoding))
    check(place / "written.txt", drawn, with_pos)
