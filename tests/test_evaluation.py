"""Scores against seqeval, scikit-learn and brute force; error kinds, slices and the lookup against cases counted by hand."""

from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from seqeval.metrics import classification_report, f1_score, precision_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2
from sklearn.metrics import brier_score_loss, confusion_matrix

from nerlib import evaluation, split
from nerlib.params import Params

LABELS = ["O", "B-geo", "I-geo", "B-org", "I-org", "B-per", "I-per"]


def table(*sentences, part="test"):
    """A table; each sentence is words, gold tags and, if it has any, predicted tags, separated by blanks."""
    rows = [(part, number, position, *row) for number, columns in enumerate(sentences)
            for position, row in enumerate(zip(*map(str.split, columns), strict=True))]
    names = ["part", "sentence", "position", "word", "gold", "predicted"]
    return pd.DataFrame(rows, columns=names[:len(rows[0])])


def random_table(seed, sentences=60):
    """Any tags after any others, so that illegal sequences abound; in every second sentence the model is often right."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(sentences):
        gold = random.choice(LABELS, random.integers(1, 9))
        keep = random.random(len(gold)) < 0.7 * (number % 2)
        predicted = np.where(keep, gold, random.choice(LABELS, len(gold)))
        rows.append([" ".join(random.choice(["a", "b", "c"], len(gold))), " ".join(gold), " ".join(predicted)])
    return table(*rows)


def spans(rows, column):
    """seqeval's own reading, a sentence at a time: {(type, first row, last row)}."""
    found, start = set(), 0
    for _, sentence in rows.groupby("sentence", sort=False):
        found |= {(kind, start + first, start + last) for kind, first, last in get_entities(sentence[column].tolist())}
        start += len(sentence)
    return found


RANDOM = [random_table(seed) for seed in range(5)]
HAND = table(  # two gold and two predicted mentions correct, one org lost, one per invented
    ["Ada of Bern met Nestle", "B-per O B-geo O B-org", "B-per O B-geo O O"],
    ["the old Ivo left", "O O O O", "O O B-per O"])


# --- scores

@pytest.mark.parametrize("rows", [*RANDOM, HAND])
@pytest.mark.parametrize("strict", [False, True])
def test_report_is_seqevals_own(rows, strict):
    gold, predicted = ([part[column].tolist() for _, part in rows.groupby("sentence")] for column in ("gold", "predicted"))
    mode = {"mode": "strict", "scheme": IOB2} if strict else {}
    expected = classification_report(gold, predicted, output_dict=True, zero_division=0, **mode)
    report = evaluation.report(rows, strict=strict)
    assert report == expected
    assert {type(value) for row in report.values() for value in row.values()} == {int, float}
    expected_text = classification_report(gold, predicted, digits=4, zero_division=0, **mode)
    assert evaluation.report(rows, strict=strict, as_text=True) == expected_text


def test_report_of_a_case_counted_by_hand():
    micro = evaluation.report(HAND)["micro avg"]
    assert micro == {"precision": 2 / 3, "recall": 2 / 3, "f1-score": pytest.approx(2 / 3), "support": 3}
    assert evaluation.report(HAND)["org"]["support"] == 1


def test_an_opening_i_scores_by_default_and_not_in_strict_mode():
    scores = evaluation.scores(table(["New York", "B-geo I-geo", "I-geo I-geo"]))
    assert scores["default"]["micro avg"]["f1-score"] == 1
    assert scores["strict"]["micro avg"]["f1-score"] == 0


def test_definitions_name_both_modes_and_the_installed_seqeval():
    assert list(evaluation.DEFINITIONS) == ["default", "strict"]
    assert all(version("seqeval") in text for text in evaluation.DEFINITIONS.values())


def test_metrics_hold_both_parts_with_the_lookup_beside_them():
    rows = pd.concat([HAND.assign(part="validation"), RANDOM[0]], ignore_index=True)
    rows = rows.assign(argmax="I-geo", pos="NN", pos_predicted=None)
    training = table(["Ada in Bern", "B-per O B-geo"])
    metrics = evaluation.metrics(rows, training, LABELS)
    assert metrics["tags"] == LABELS and metrics["types"] == ["geo", "org", "per"]
    assert metrics["definitions"] == evaluation.DEFINITIONS
    assert metrics["validation"] == evaluation.scores(HAND) and metrics["test"] == evaluation.scores(RANDOM[0])
    assert metrics["illegal_tags"]["validation"] == {"argmax": HAND["sentence"].nunique(), "predicted": evaluation.illegal(
        HAND, "predicted")}  # I-geo after I-geo is allowed
    assert metrics["pos_accuracy"] == {}
    rows["pos_predicted"] = np.where(rows["part"] == "test", "NN", "VB")
    assert evaluation.metrics(rows, training, LABELS)["pos_accuracy"] == {"validation": 0, "test": 1}
    # The lookup finds Ada and Bern and, unlike the model, invents nothing.
    assert metrics["baseline"]["validation"]["default"]["micro avg"] == {
        "precision": 1, "recall": 2 / 3, "f1-score": pytest.approx(0.8), "support": 3}
    assert metrics["baseline"]["test"]["strict"]["micro avg"]["support"] == metrics["test"]["strict"]["micro avg"]["support"]


# --- temperature, kinder rules

@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_temperature_is_the_one_that_the_scores_were_heated_by(true):
    random = np.random.default_rng(0)
    honest = np.log(random.dirichlet(np.full(5, 0.5), 20000))
    gold = (np.exp(honest).cumsum(1) < random.random((20000, 1))).sum(1).clip(max=4)
    heated = honest * true - np.log(np.exp(honest * true).sum(1, keepdims=True))
    assert evaluation.temperature(heated.astype(np.float32), gold) == pytest.approx(true, rel=0.05)


def test_tempered_scores_are_log_probabilities_and_keep_their_order():
    scores = np.log(np.random.default_rng(1).dirichlet(np.ones(7), 50)).astype(np.float32)
    cooled = evaluation.tempered(scores, 2.0)
    np.testing.assert_allclose(np.exp(cooled).sum(1), 1)
    roots = np.sqrt(np.exp(scores))
    np.testing.assert_allclose(np.exp(cooled), roots / roots.sum(1, keepdims=True), rtol=1e-5)
    assert (cooled.argsort(1) == scores.argsort(1)).all()
    np.testing.assert_allclose(evaluation.tempered(scores, 1.0), scores, atol=1e-6)


def test_partial_matches_by_hand():
    rows = table(["a b c d e f g", "B-geo I-geo O B-per O B-org O", "B-geo O O B-org O B-org O"], ["h i", "O B-tim", "B-tim O"])
    # geo: boundary too short; per taken for org; org right; tim missed, and one invented
    found = evaluation.partial(rows)
    of = {name: (found.loc[name, "precision"], found.loc[name, "recall"]) for name in found.index}
    assert of == {"strict": (1 / 4, 1 / 4), "exact": (2 / 4, 2 / 4), "partial": (2.5 / 4, 2.5 / 4), "ent_type": (2 / 4, 2 / 4)}


@pytest.mark.parametrize("rows", RANDOM)
def test_strict_partial_is_never_above_the_kinder_ones(rows):
    f1 = evaluation.partial(rows)["f1"]
    assert f1["strict"] <= f1["exact"] <= f1["partial"] and f1["strict"] <= f1["ent_type"]


def test_score_table_has_a_row_a_type_and_average():
    frame = evaluation.score_table(evaluation.report(HAND))
    assert frame.index.tolist() == ["geo", "org", "per", "micro avg", "macro avg", "weighted avg"]
    assert frame.loc["per", "precision"] == 0.5 and frame["support"].tolist() == [1, 1, 1, 3, 3, 3]


def test_source_table_is_consistent_in_itself():
    types = {name: row for name, row in evaluation.SOURCE.items() if not name.endswith("avg")}
    support = np.array([row[3] for row in types.values()])
    assert {row[3] for name, row in evaluation.SOURCE.items() if name.endswith("avg")} == {support.sum()}
    for precision, recall, f1, _ in types.values():
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall), abs=0.01)
    for i in range(3):
        values = np.array([row[i] for row in types.values()])
        assert evaluation.SOURCE["macro avg"][i] == pytest.approx(values.mean(), abs=0.0101)
        assert evaluation.SOURCE["weighted avg"][i] == pytest.approx(np.average(values, weights=support), abs=0.0101)


def test_source_stands_beside_equal_supports_only():
    supports = {"geo": 7664, "gpe": 3175, "org": 3913, "per": 3389, "tim": 4049,
                "micro avg": 22190, "macro avg": 22190, "weighted avg": 22190}
    report = {name: {"precision": 0.5, "recall": 0.5, "f1-score": 0.5, "support": n} for name, n in supports.items()}
    source = evaluation.source_report(report)["source"]
    assert source["org"] == {"precision": 0.74, "recall": 0.70, "f1-score": 0.72, "support": 3913}
    assert source["micro avg"]["f1-score"] == 0.85 and list(source) == list(supports)
    assert evaluation.source_report(report | {"geo": report["geo"] | {"support": 7663}}) == {}
    assert evaluation.source_report({name: row for name, row in report.items() if name != "tim"}) == {}
    assert evaluation.source_report(report | {"art": report["geo"]}) == {}


# --- mentions and their pairs

@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("column", ["gold", "predicted"])
def test_mentions_are_seqevals_entities_also_of_illegal_tags(seed, column):
    rows = random_table(100 + seed)
    found = evaluation.mentions(rows, column)
    assert set(zip(found["type"], found["first"], found["last"], strict=True)) == spans(rows, column)
    assert found["first"].is_monotonic_increasing and (found["words"] == found["last"] - found["first"] + 1).all()
    for mention in found.itertuples():
        assert mention.surface == " ".join(rows["word"][mention.first:mention.last + 1])
        assert mention.sentence == rows["sentence"][mention.first] == rows["sentence"][mention.last]


def test_mentions_end_with_their_sentence_and_where_another_begins():
    rows = table(["in New York", "O B-geo I-geo"], ["York Ada Bo", "I-geo B-per B-per"])
    found = evaluation.mentions(rows)
    assert found[["surface", "type"]].to_numpy().tolist() == [
        ["New York", "geo"], ["York", "geo"], ["Ada", "per"], ["Bo", "per"]]


def test_mentions_of_a_table_without_any():
    found = evaluation.mentions(table(["so it was", "O O O"]))
    assert len(found) == 0 and "surface" in found


@pytest.mark.parametrize("gold, predicted, expected", [
    ("O B-geo I-geo", "O B-geo I-geo", [("correct", "geo", "geo", 1, 2, 1, 2)]),
    ("O B-geo I-geo", "O O B-geo", [("boundary", "geo", "geo", 1, 2, 2, 2)]),
    ("O B-geo I-geo", "O B-org I-org", [("type", "geo", "org", 1, 2, 1, 2)]),
    ("O B-geo I-geo", "B-org I-org O", [("both", "geo", "org", 1, 2, 0, 1)]),
    ("O B-geo I-geo", "O O O", [("missed", "geo", "MISSED", 1, 2, -1, -1)]),
    ("O O O", "O B-geo I-geo", [("spurious", "SPURIOUS", "geo", -1, -1, 1, 2)]),
    ("B-geo O B-org", "O B-per O",  # side by side is not overlap
     [("missed", "geo", "MISSED", 0, 0, -1, -1), ("spurious", "SPURIOUS", "per", -1, -1, 1, 1),
      ("missed", "org", "MISSED", 2, 2, -1, -1)]),
    ("B-geo B-geo I-geo", "B-geo I-geo I-geo",  # the larger overlap takes the one prediction
     [("missed", "geo", "MISSED", 0, 0, -1, -1), ("boundary", "geo", "geo", 1, 2, 0, 2)]),
    ("B-geo O B-geo", "B-geo I-geo I-geo",  # of equal overlaps the earlier
     [("boundary", "geo", "geo", 0, 0, 0, 2), ("missed", "geo", "MISSED", 2, 2, -1, -1)]),
    ("B-geo I-geo I-geo", "B-org B-geo I-geo",  # nor does the type decide before the overlap
     [("spurious", "SPURIOUS", "org", -1, -1, 0, 0), ("boundary", "geo", "geo", 0, 2, 1, 2)]),
    ("O O O", "O O O", []),
])
def test_align_names_the_kind_of_each_pair(gold, predicted, expected):
    aligned = evaluation.align(table(["x y z", gold, predicted]))
    columns = ["kind", "gold", "predicted", "gold_first", "gold_last", "pred_first", "pred_last"]
    assert sorted(aligned[columns].itertuples(index=False, name=None)) == sorted(expected)


def test_align_takes_the_surface_from_gold_and_sentence_and_part_from_the_table():
    rows = table(["a b", "O O", "O O"], ["x y z w", "B-geo I-geo O O", "O B-org O B-per"], part="validation")
    aligned = evaluation.align(rows)[["surface", "sentence", "part"]]
    assert aligned.to_numpy().tolist() == [["x y", 1, "validation"], ["w", 1, "validation"]]


@pytest.mark.parametrize("rows", RANDOM)
def test_align_holds_every_mention_once_and_leaves_no_overlapping_pair_apart(rows):
    aligned = evaluation.align(rows)
    gold, predicted = spans(rows, "gold"), spans(rows, "predicted")
    left = [(a.gold, a.gold_first, a.gold_last) for a in aligned.itertuples() if a.kind != "spurious"]
    right = [(a.predicted, a.pred_first, a.pred_last) for a in aligned.itertuples() if a.kind != "missed"]
    assert len(left) == len(gold) and set(left) == gold
    assert len(right) == len(predicted) and set(right) == predicted
    correct = aligned[aligned["kind"] == "correct"]
    assert len(correct) == len(gold & predicted)
    tags = [evaluation.sequences(rows, column) for column in ("gold", "predicted")]
    assert len(correct) == round(precision_score(*tags) * len(predicted))  # seqeval's true positives

    def overlap(a):
        return min(a.gold_last, a.pred_last) >= max(a.gold_first, a.pred_first)

    for a in aligned[~aligned["kind"].isin(["missed", "spurious"])].itertuples():
        assert overlap(a)
        same_span = (a.gold_first, a.gold_last) == (a.pred_first, a.pred_last)
        expected = {(True, True): "correct", (True, False): "type", (False, True): "boundary", (False, False): "both"}
        assert a.kind == expected[same_span, a.gold == a.predicted]
    for m in aligned[aligned["kind"] == "missed"].itertuples():
        for s in aligned[aligned["kind"] == "spurious"].itertuples():
            assert not overlap(SimpleNamespace(gold_first=m.gold_first, gold_last=m.gold_last,
                                               pred_first=s.pred_first, pred_last=s.pred_last))
    at = [min(x for x in (a.gold_first, a.pred_first) if x >= 0) for a in aligned.itertuples()]
    assert at == sorted(at)


# --- confusion

@pytest.mark.parametrize("rows", [*RANDOM, HAND])
def test_confusion_of_tags_is_scikit_learns(rows):
    counts = evaluation.confusion_of_tags(rows, LABELS)
    assert (counts.to_numpy() == confusion_matrix(rows["gold"], rows["predicted"], labels=LABELS)).all()
    assert counts.index.tolist() == counts.columns.tolist() == LABELS
    assert counts.to_numpy().sum() == len(rows)


@pytest.mark.parametrize("rows", [*RANDOM, HAND])
def test_confusion_of_mentions_adds_up_to_the_mentions(rows):
    types = ["per", "org", "geo"]
    counts = evaluation.confusion_of_mentions(evaluation.align(rows), types)
    assert counts.index.tolist() == [*types, "SPURIOUS"] and counts.columns.tolist() == [*types, "MISSED"]
    for kind in types:
        assert counts.loc[kind].sum() == sum(m[0] == kind for m in spans(rows, "gold"))
        assert counts[kind].sum() == sum(m[0] == kind for m in spans(rows, "predicted"))
    assert counts.loc["SPURIOUS", "MISSED"] == 0


def test_confusion_of_mentions_of_the_hand_case():
    counts = evaluation.confusion_of_mentions(evaluation.align(HAND), ["geo", "org", "per"])
    assert counts.to_numpy().tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 0]]


# --- lookup, novelty, leakage

def test_lookup_gives_the_most_frequent_tag_of_ties_the_first_seen_and_o_to_unseen_words():
    training = table(["Bern Rome Bern Rome Bern saw", "B-org B-per B-geo B-geo B-geo O"], ["may may Ada", "O B-tim B-per"])
    words = pd.Series("Ada Bern Rome may bern saw".split(), index=[7, 7, 3, 2, 1, 0])
    assert evaluation.lookup(training, words).tolist() == ["B-per", "B-geo", "B-per", "O", "O", "O"]


def test_novelty_asks_for_surface_and_type():
    training = table(["Bern and New York won", "B-geo O B-geo I-geo O"], ["Bern Ada", "B-org B-per"])
    found = evaluation.mentions(table(["Bern Bern Bern York Ada and", "B-geo B-org B-per B-geo B-per B-per"]))
    assert evaluation.novelty(found, training).tolist() == ["seen", "seen", "other type", "unseen", "seen", "unseen"]


def test_leakage_of_a_case_counted_by_hand():
    training = table(["Ada won", "B-per O"], ["Bern slept", "B-geo O"]).replace({"sentence": {1: 5}})  # sentences 0 and 5
    test = table(["Ada won", "B-per O"], ["Ivo won", "B-per O"], ["Ada ran", "B-geo O"], ["it ran", "O O"])
    test["sentence"] = test["sentence"].map({0: 1, 1: 4, 2: 8, 3: 9})
    assert evaluation.leakage(training, test) == {
        "equal sentence": 0.25, "neighbour in training": 0.5, "unseen mentions": pytest.approx(2 / 3)}


@pytest.fixture(scope="module")
def source_split(gmb):
    """The real corpus and the source's own split: all but the test part trains."""
    def load(types):
        corpus, parts = split.load(Params(data=str(gmb), entity_types=types, validation_size=0), gmb.parent)
        return corpus.table(parts.training), corpus.table(parts.test)
    return load


@pytest.mark.corpus
def test_lookup_reaches_the_published_f1_on_the_sources_test_set(source_split):
    training, test = source_split("geo gpe org per tim")
    assert training["sentence"].nunique() == 38367
    test["predicted"] = evaluation.lookup(training, test["word"])
    report = evaluation.report(test)
    assert round(report["micro avg"]["f1-score"], 3) == 0.704
    assert set(evaluation.source_report(report)) == {"source"}


@pytest.mark.corpus
def test_leakage_of_the_sources_split_is_as_published(source_split):
    training, test = source_split("all")
    found = evaluation.mentions(test)
    assert len(found) == 22386 and (evaluation.novelty(found, training) != "seen").sum() == 2900
    leakage = evaluation.leakage(training, test)
    assert round(leakage["equal sentence"] * 9592) == 107
    assert round(leakage["neighbour in training"], 2) == 0.96
    assert leakage["unseen mentions"] == pytest.approx(2900 / 22386)


# --- slices and confidence

def test_by_slice_of_the_hand_case():
    found = {column: evaluation.mentions(HAND, column) for column in ("gold", "predicted")}
    slices = [mentions["sentence"].map({0: "first", 1: "second"}) for mentions in found.values()]
    result = evaluation.by_slice(HAND, evaluation.align(HAND), *slices)
    assert result.to_dict("index") == {"first": {
        "recall": pytest.approx(2 / 3), "support": 3, "precision": 1.0, "f1": pytest.approx(0.8)}}
    assert evaluation.by_slice(HAND, evaluation.align(HAND), slices[0]).columns.tolist() == ["recall", "support"]


@pytest.mark.parametrize("rows", RANDOM)
def test_by_slice_of_types_is_seqevals_report(rows):
    types = (evaluation.mentions(rows, column)["type"] for column in ("gold", "predicted"))
    result = evaluation.by_slice(rows, evaluation.align(rows), *types).rename(columns={"f1": "f1-score"})
    expected = {name: row for name, row in evaluation.report(rows).items() if not name.endswith("avg")}
    pd.testing.assert_frame_equal(result[["precision", "recall", "f1-score", "support"]], pd.DataFrame(expected).T,
                                  check_dtype=False, check_names=False)


def test_mention_confidence_is_the_product_over_its_words():
    rows = table(["a b c d", "B-geo I-geo O B-org", "B-geo I-geo O B-per"], ["e f", "O B-per", "B-org B-per"])
    rows["confidence"] = [0.5, 0.8, 0.9, 0.25, 0.125, 1.0]
    judged = evaluation.mention_confidence(rows, evaluation.align(rows))
    assert judged["confidence"].tolist() == pytest.approx([0.4, 0.25, 0.125, 1.0])
    assert judged["correct"].tolist() == [True, False, False, True]


@pytest.mark.parametrize("size", [1000, 1003, 7])
def test_calibration_has_bins_of_equal_mass_and_scikit_learns_brier_score(size):
    random = np.random.default_rng(size)
    confidence = random.random(size)
    correct = (random.random(size) < confidence).astype(float)
    bins, brier = evaluation.calibration(confidence, correct)
    assert brier == pytest.approx(brier_score_loss(correct, confidence))
    assert len(bins) == min(size, 10) and bins["mentions"].sum() == size and np.ptp(bins["mentions"]) <= 1
    assert bins["confidence"].is_monotonic_increasing
    assert np.average(bins["accuracy"], weights=bins["mentions"]) == pytest.approx(correct.mean())
    if size == 1000:
        order = np.argsort(confidence)
        assert np.allclose(bins["confidence"], confidence[order].reshape(10, 100).mean(1))
        assert np.allclose(bins["accuracy"], correct[order].reshape(10, 100).mean(1))


def test_calibration_without_any_mention_has_no_bins():
    bins, _ = evaluation.calibration(np.array([]), np.array([]))
    assert len(bins) == 0 and {"confidence", "accuracy", "mentions"} <= set(bins)


def test_f1_of_random_tags_agrees_with_the_pairs():
    rows = pd.concat(RANDOM, ignore_index=True)
    kinds = evaluation.align(rows)["kind"].value_counts()
    errors = kinds.drop("correct")
    f1 = 2 * kinds["correct"] / (2 * kinds["correct"] + errors.sum() + errors[["boundary", "type", "both"]].sum())
    assert f1 == pytest.approx(f1_score(*(evaluation.sequences(rows, column) for column in ("gold", "predicted"))))
