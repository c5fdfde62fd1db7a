"""What the annotation is worth: counts by hand and by brute force, and a person's answers read back."""

import re

import numpy as np
import pandas as pd
import pytest

from nerlib import annotation, evaluation


def table(*sentences, part="test"):
    """A table; each sentence is words, gold tags and, if it has any, predicted tags, separated by blanks."""
    rows = [(part, number, position, *row) for number, columns in enumerate(sentences)
            for position, row in enumerate(zip(*map(str.split, columns), strict=True))]
    names = ["part", "sentence", "position", "word", "gold", "predicted"]
    return pd.DataFrame(rows, columns=names[:len(rows[0])])


TRAINING = table(
    ["New York met York", "B-geo I-geo O B-geo"], ["New York Times of New York", "B-org I-org I-org O B-geo I-geo"],
    ["York in York", "B-per O B-geo"], ["the new york", "O O O"])
FOUND = table(["New York saw Times of York", "B-geo I-geo O B-org O B-per"])


# --- what the training part knows

def test_frequency_counts_mentions_with_the_same_words_and_type():
    assert annotation.frequency(evaluation.mentions(FOUND), TRAINING).tolist() == [2, 0, 1]


def test_consistency_counts_every_place_that_has_the_words_but_within_a_longer_mention():
    # New York: geo twice, and once inside "New York Times"; Times: only inside of that; York: geo twice, per once, and
    # inside of longer mentions three times.
    known = annotation.consistency(evaluation.mentions(FOUND), TRAINING)
    assert known["places"].tolist() == [2, 0, 3]
    assert known["share"].tolist() == pytest.approx([1, np.nan, 2 / 3], nan_ok=True)
    # Untagged, across the edge of a mention, and as a mention of its own: three ways.
    training = table(["new york", "O O"], ["old new york times", "B-org I-org O O"], ["new york times", "B-geo I-geo O"])
    [row] = annotation.consistency(evaluation.mentions(table(["new york", "B-geo I-geo"])), training).itertuples()
    assert (row.places, row.share) == (3, pytest.approx(2 / 3))  # twice "no mention"


def test_consistency_is_unknown_for_new_words():
    known = annotation.consistency(evaluation.mentions(table(["Oslo", "B-geo"])), TRAINING)
    assert known["places"].tolist() == [0] and known["share"].isna().tolist() == [True]


def test_words_with_blanks_have_places():
    rows = table(["New_York slept", "B-geo O"])
    rows["word"] = rows["word"].str.replace("_", " ")
    assert annotation.consistency(evaluation.mentions(rows), rows).to_numpy().tolist() == [[1, 1]]


def test_words_across_sentences_are_no_place():
    training = table(["in New", "O O"], ["York is", "O O"], ["New York", "B-geo I-geo"])
    known = annotation.consistency(evaluation.mentions(table(["New York", "B-geo I-geo"])), training)
    assert known.to_numpy().tolist() == [[1, 1]]


# --- errors that stand for many

def test_telling_errors_are_the_most_frequent_of_the_most_frequent_kinds_in_the_shortest_sentence():
    rows = table(["Ada saw Rome today", "O O B-geo O", "O O B-org O"], ["in Rome", "O B-geo", "O B-org"],
                 ["from old Rome", "O O B-geo", "O O B-org"],
                                 ["Bern or Rome", "B-geo O B-geo", "B-org O B-geo"], ["May May", "O O", "B-tim O"],
                 ["New York", "B-geo I-geo", "B-geo O"], ["a b", "O O", "O B-tim"]).assign(loss=1.0)
    told = annotation.telling(rows, evaluation.align(rows))
    assert told == [(("test", 1), "type, 4 errors, of which 3 as 'Rome': geo in the corpus, org by the model"),
                    (("test", 4), "spurious, 2 errors, as 'May': no mention in the corpus, tim by the model"),
                    (("test", 5), "boundary, 1 error, as 'New York': geo with another boundary")]
    assert len(annotation.telling(rows, evaluation.align(rows), 1)) == 1
    right = rows.assign(predicted=rows["gold"])
    assert annotation.telling(right, evaluation.align(right)) == []


DIVIDED = {  # gold and predicted tags of "Ada of New York" → what is said of the mention left over, None where it is alone
    ("B-per I-per I-per I-per", "B-per O B-geo I-geo"): (
        "spurious", "Ada", "per by the model, part of 'Ada of New York' (per) in the corpus, of which the model makes 2"),
    ("B-per O B-geo I-geo", "B-org I-org I-org I-org"): (
        "missed", "Ada", "per in the corpus, part of 'Ada of New York' (org) by the model, of which the corpus makes 2"),
    ("O B-geo I-geo I-geo", "B-per I-per B-geo I-geo"): (
        "spurious", "Ada of", "per by the model, overlapping 'of New York' (geo) in the corpus, of which the model makes 2"),
    ("B-per B-geo I-geo I-geo", "B-per B-geo B-geo B-org"): (
        "spurious", "New", "geo by the model, part of 'of New York' (geo) in the corpus, of which the model makes 3"),
    ("O O B-geo I-geo", "B-per O B-geo I-geo"): ("spurious", "Ada", None),
    ("B-per O B-geo I-geo", "O O B-geo I-geo"): ("missed", "Ada", None),
    ("B-per I-per O O", "O O B-geo I-geo"): ("spurious", "New York", None)}


@pytest.mark.parametrize(("tags", "leftover"), DIVIDED.items())
def test_leftover_of_a_split_or_joined_mention_is_not_said_to_be_no_mention_on_the_other_side(tags, leftover, tmp_path):
    kind, surface, said = leftover
    rows = table(["Ada of New York", *tags]).assign(loss=5.0)
    aligned = evaluation.align(rows)
    [row] = aligned[(aligned["kind"] == kind) & (aligned["surface"] == surface)].index
    assert annotation.divided(rows, aligned)[row] == bool(said)
    [note] = [note for _, note in annotation.telling(rows, aligned.loc[[row]])]
    assert note == f"{kind}, 1 error, as {surface!r}: " + (f"{said} mentions" if said else {
        "spurious": f"no mention in the corpus, {aligned['predicted'][row]} by the model",
        "missed": f"{aligned['gold'][row]} in the corpus, no mention by the model"}[kind])
    dispute = annotation.disputes(rows, aligned)["dispute"][row]
    assert dispute.startswith(("split, one more ", "joined, one ")) == bool(said)
    questions = annotation.adjudication(rows, aligned, tmp_path)
    readings = [{question["A"], question["B"]} for _, question in questions.iterrows()]
    mine = f"{aligned['predicted' if kind == 'spurious' else 'gold'][row]}: {surface}"
    [other] = [*next(pair for pair in readings if mine in pair and len(pair) == 2) - {mine}]
    found = evaluation.mentions(rows, "gold" if kind == "spurious" else "predicted")
    assert other in ([f"{m.type}: {m.surface}" for m in found.itertuples()] if said else ["no mention"])


# --- repeated sentences

def test_repeated_sentences_are_scored_against_each_other():
    first = table(["Ada met Ivo", "B-per O B-per"], ["it rained", "O O"], ["once only", "O O"])
    second = table(["Ada met Ivo", "B-per O B-org"], ["it rained", "O O"], ["Ada met Ivo", "B-per O B-org"], part="other")
    again = annotation.repeated([first, second])
    assert (again["groups"], again["pairs"], again["equal"]) == (2, 3, pytest.approx(2 / 3))
    assert again["f1"] == pytest.approx(2 * (1 + 2) / (4 + 4))  # Ada of two; both of two
    assert 0 <= again["low"] <= again["f1"] <= again["high"] <= 1


def test_without_repetition_there_is_nothing_to_say():
    assert annotation.repeated([table(["a b", "O O"], ["b a", "O O"])]) is None


def test_repeated_sentences_without_mentions_have_no_score_and_widen_no_interval():
    rain = table(*[["it rained", "O O"]] * 2)
    again = annotation.repeated([rain])
    assert again["equal"] == 1 and np.isnan([again["f1"], again["low"], again["high"]]).all()
    both = annotation.repeated([rain, table(*[["Ada slept", "B-per O"]] * 2, part="other")])
    assert (both["groups"], both["f1"], both["low"], both["high"]) == (2, 1, 1, 1)


# --- disputes

def disputing():
    rows = table(["Ada of Bern met Nestle in the old Rome", "B-per O B-geo O B-org O O O B-geo",
                  "B-per O B-org O B-org O O B-geo I-geo"], ["Ivo left Pia", "B-per O O", "O O B-per"])
    sure = {2: 3.0, 8: 5.0, 7: 0.2, 9: 2.2, 11: 4.0}  # Bern and Rome and Pia are disputed; P(gold of Ivo) is 0.11
    return rows.assign(loss=[sure.get(row, 0.01) for row in range(len(rows))])


def test_disputes_are_errors_that_the_model_is_sure_of_by_loss():
    rows = disputing()
    found = annotation.disputes(rows, evaluation.align(rows))
    assert found[["surface", "dispute", "loss"]].values.tolist() == [
        ["Rome", "other boundary of geo", 5.0], ["Pia", "per, not O", 4.0], ["Bern", "org, not geo", 3.0]]


def test_a_missed_mention_is_called_no_mention():
    rows = disputing()
    rows.loc[9, "loss"] = 2.4
    found = annotation.disputes(rows, evaluation.align(rows))
    assert found.set_index("surface").loc["Ivo", "dispute"] == "no mention, not per"


# --- adjudication

def many(seed=0, sentences=400):
    random = np.random.default_rng(seed)
    rows = []
    for number in range(sentences):
        gold = random.choice(["B-geo", "B-per", "O"], 3)
        rows.append([f"a{number} b{number} c{number}", " ".join(gold),
                     " ".join(np.where(random.random(3) < 0.7, gold, random.choice(["B-geo", "B-org", "O"], 3)))])
    rows = table(*rows)
    return rows.assign(loss=np.where(rows["gold"] == rows["predicted"], 0.1, random.exponential(3, len(rows))))


@pytest.fixture
def asked(tmp_path):
    rows = many()
    aligned = evaluation.align(rows)
    return rows, aligned, annotation.adjudication(rows, aligned, tmp_path), tmp_path


def test_questions_are_two_samples_in_random_order_with_blinded_readings(asked):
    rows, aligned, questions, folder = asked
    key = pd.read_json(folder / "adjudicate-key.json")
    of = {sample: key["samples"].map(lambda samples, sample=sample: sample in samples) for sample in ("disputed", "random")}
    assert of["disputed"].sum() == of["random"].sum() == 100 and (of["disputed"] | of["random"]).all() and len(questions) < 200
    assert (of["random"] != of["random"].shift()).sum() > 60  # mixed
    assert 0.35 < (key["right"].str[0] == "A")[of["disputed"]].mean() < 0.65
    assert not questions.drop(columns="number").duplicated().any()
    disputed = annotation.disputes(rows, aligned)
    for question, hidden in zip(questions.itertuples(), key.itertuples(), strict=True):
        readings = {"A": question.A, "B": question.B}
        side = hidden.right[0]
        number = int(question.sentence.split()[0].strip("[]")[1:])
        own = aligned[aligned["sentence"] == number]
        golds = {f"{row.gold}: {row.surface}" for row in own.itertuples() if row.kind != "spurious"} | {"no mention"}
        assert readings[side] in golds
        assert (question.A == question.B) == (len(hidden.right) == 3)
        if "disputed" in hidden.samples:
            assert number in set(disputed["sentence"]) and question.A != question.B
        marked = question.sentence[question.sentence.index("[[") + 2:question.sentence.index("]]")].split()
        said = {word for text in readings.values() if text != "no mention" for word in text.split(": ")[1].split()}
        assert set(marked) == said and question.sentence.count("[[") == 1
    assert (folder / "adjudicate.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # a spreadsheet takes it for UTF-8
    on_disk = pd.read_csv(folder / "adjudicate.csv", keep_default_na=False)
    assert on_disk.columns.tolist() == ["number", "sentence", "A", "B", "right"] and set(on_disk["right"]) == {""}


def answer(folder, of):
    path = folder / "adjudicate.csv"
    rows = pd.read_csv(path, keep_default_na=False, dtype=str)
    rows["right"] = [of(i, row) for i, row in enumerate(rows.itertuples())]
    rows.to_csv(path, index=False)


def test_answers_survive_another_run_and_are_counted_with_wilsons_interval(asked):
    rows, aligned, _, folder = asked
    key = pd.read_json(folder / "adjudicate-key.json")
    asked_of = {sample: [i for i in range(len(key)) if key["samples"][i] == [sample] and len(key["right"][i]) == 2]
                for sample in ("disputed", "random")}
    model = {i: "B" if key["right"][i][0] == "A" else "A" for i in range(len(key))}
    corpus_errs = set(asked_of["disputed"][:30]) | set(asked_of["random"][:2])
    answer(folder, lambda i, row: "" if i == asked_of["disputed"][-1] else
           ("neither" if i == asked_of["disputed"][0] else model[i]) if i in corpus_errs else
           "both" if i == asked_of["disputed"][50] else key["right"][i][0])
    questions = annotation.adjudication(rows, aligned, folder)
    result = annotation.adjudicated(questions, folder)
    assert result.loc["disputed", ["answered", "wrong"]].tolist() == [99, 30]
    assert result.loc["random", ["answered", "wrong"]].tolist() == [100, 2]
    p, n, z = 30 / 99, 99, 1.959963985
    middle, half = (p + z**2 / 2 / n) / (1 + z**2 / n), z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
    assert result.loc["disputed", ["low", "high"]].tolist() == pytest.approx([middle - half, middle + half])


def test_a_question_says_which_of_equal_words_is_meant(tmp_path):
    rows = table(["Rome said Rome fell", "O O B-geo O", "O O B-per O"]).assign(loss=3.0)
    [question] = annotation.adjudication(rows, evaluation.align(rows), tmp_path).itertuples()
    assert question.sentence == "Rome said [[Rome]] fell"


@pytest.mark.parametrize("saved", [
    lambda rows, path: rows.to_csv(path, index=False, sep=";", encoding="windows-1252"),
    lambda rows, path: rows.to_csv(path, index=False, sep="\t", encoding="utf-16"),
    lambda rows, path: rows.iloc[::-1].to_csv(path, index=False, lineterminator="\r\n")])
def test_answers_are_read_as_spreadsheets_save_them(tmp_path, saved):
    rows = table(["Zoë; met Ivo", "B-per O B-per", "B-org O O"], ["Pia, slept", "B-geo O", "B-per O"]).assign(loss=3.0)
    aligned = evaluation.align(rows)
    given = annotation.adjudication(rows, aligned, tmp_path).astype(str).assign(right=["A", "neither", ""])
    saved(given, tmp_path / "adjudicate.csv")
    assert annotation.adjudication(rows, aligned, tmp_path)["right"].tolist() == ["A", "neither", ""]


def test_answers_that_cannot_be_read_are_refused_by_name(asked):
    rows, aligned, _, folder = asked
    path = folder / "adjudicate.csv"
    path.write_text(path.read_text("utf-8") + '1,"x"\n2,y,z,a,b,c,d\n', "utf-8")
    with pytest.raises(ValueError, match=r"adjudicate.csv: not a CSV file any more: "):
        annotation.adjudication(rows, aligned, folder)
    path.write_text("")
    assert len(annotation.adjudication(rows, aligned, folder)) == len(pd.read_csv(path))  # nothing was there to lose


def test_equal_readings_are_right_whichever_is_named(asked):
    rows, aligned, questions, folder = asked
    answer(folder, lambda i, row: "B" if row.A == row.B else "")
    result = annotation.adjudicated(annotation.adjudication(rows, aligned, folder), folder)
    assert result.loc["random", "answered"] > 5 and result.loc["random", "wrong"] == 0


def test_words_with_blanks_are_words():
    rows = table(["New_York slept", "B-geo O"], ["New_York slept", "B-geo O"])
    again = annotation.repeated([rows.assign(word=rows["word"].str.replace("_", " "))])
    assert (again["pairs"], again["f1"]) == (1, 1)


def test_before_any_answer_nothing_is_called_wrong(asked):
    _, _, questions, folder = asked
    result = annotation.adjudicated(questions, folder)
    assert result["answered"].tolist() == [0, 0] and result[["share", "low", "high"]].isna().all(axis=None)


def test_an_answer_that_is_none_is_refused_with_its_number(asked):
    rows, aligned, _, folder = asked
    answer(folder, lambda i, row: "C" if i == 6 else "")
    with pytest.raises(ValueError, match=r"adjudicate.csv, number 7: right is 'C'; write one of A, B, both, neither"):
        annotation.adjudication(rows, aligned, folder)


def test_answers_to_other_questions_are_never_overwritten(asked):
    rows, aligned, _, folder = asked
    answer(folder, lambda i, row: "A")
    before = (folder / "adjudicate.csv").read_bytes()
    other = many(seed=1)
    with pytest.raises(ValueError, match=re.escape("was made for other predictions")):
        annotation.adjudication(other, evaluation.align(other), folder)
    assert (folder / "adjudicate.csv").read_bytes() == before


def test_questions_without_answers_give_way_to_those_of_another_training(asked):
    *_, questions, folder = asked
    other = many(seed=1)
    again = annotation.adjudication(other, evaluation.align(other), folder)
    assert again["sentence"].tolist() == pd.read_csv(folder / "adjudicate.csv")["sentence"].tolist()
    assert again["A"].tolist() != questions["A"].tolist()


def test_fewer_errors_than_questions_are_all_asked(tmp_path):
    rows = disputing()
    questions = annotation.adjudication(rows, evaluation.align(rows), tmp_path)
    assert len(questions) == 6 and questions["number"].tolist() == list(range(1, 7))
