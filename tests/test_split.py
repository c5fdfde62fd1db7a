"""Splits: the source's, held against scikit-learn and the published supports, and what each kind promises by brute force."""

import math
import random
from collections import Counter

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from nerlib.params import Params
from nerlib.split import load

KINDS = ["random", "grouped", "blocks"]


@pytest.fixture
def write(tmp_path):
    """Write sentences, given as strings, to a CSV file; capitalised words are persons, "Eve" is an event."""
    def make(sentences, name="main.csv", pos=True):
        lines = ["Sentence #,Word,POS,Tag" if pos else "Sentence #,Word,Tag"]
        for i, sentence in enumerate(sentences):
            for word in sentence.split():
                tag = "B-eve" if word == "Eve" else "B-per" if word.istitle() else "O"
                lines.append(f"Sentence: {i},{word},NN,{tag}" if pos else f"Sentence: {i},{word},{tag}")
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return name
    return make


@pytest.fixture
def draw(tmp_path, write):
    """Write sentences and split them."""
    def make(sentences, **values):
        return load(Params(data=write(sentences), entity_types="all", **values), tmp_path)
    return make


def distinct(count):
    return [f"Ann has {i} e{i}" for i in range(count)]


def repetitive(count, seed):
    """Sentences of which many are equal."""
    rng = random.Random(seed)
    return [f"Ann saw {rng.randint(1, count // 2)} of them" for _ in range(count)]


# The real corpus.

SUPPORT = {"geo": 7664, "gpe": 3175, "org": 3913, "per": 3389, "tim": 4049}  # published with the source's results


def support(corpus, sentences):
    return Counter(tag[2:] for tag in corpus.tags[corpus.rows(sentences)] if tag[0] == "B")


def on_gmb(gmb, **values):
    return load(Params(data=str(gmb), **values), gmb.parent)


@pytest.fixture(scope="module")
def gmb_default(gmb):
    return on_gmb(gmb)


@pytest.mark.corpus
def test_gmb_default_split_is_the_sources(gmb_default):
    corpus, split = gmb_default
    assert {part: len(indices) for part, indices in split.parts().items()} == {
        "training": 34_530, "validation": 3_837, "test": 9_592}
    assert support(corpus, split.test) == SUPPORT


@pytest.mark.corpus
def test_gmb_split_without_validation_has_the_published_leak(gmb):
    corpus, split = on_gmb(gmb, validation_size=0)
    assert (len(split.training), len(split.validation), len(split.test)) == (38_367, 0, 9_592)
    texts = corpus.texts()
    trained = {texts[i] for i in split.training}
    assert sum(texts[i] in trained for i in split.test) == 107
    adjacent = np.isin(split.test - 1, split.training) | np.isin(split.test + 1, split.training)
    assert round(adjacent.mean(), 2) == 0.96


@pytest.mark.corpus
def test_gmb_five_and_eight_types_share_both_fingerprints(gmb, gmb_default):
    corpus, split = on_gmb(gmb, entity_types="all")
    assert (split.fingerprint, split.training_fingerprint) == (
        gmb_default[1].fingerprint, gmb_default[1].training_fingerprint)
    assert support(corpus, split.test) > Counter(SUPPORT)


@pytest.mark.corpus
def test_gmb_sample_of_16668_sentences_trains_on_12000(gmb):
    _, split = on_gmb(gmb, max_sentences=16_668)
    assert len(split.training) == 12_000
    assert sum(map(len, split.parts().values())) == 16_668


@pytest.mark.corpus
def test_gmb_grouped_keeps_the_test_part_and_no_equal_sentences(gmb, gmb_default):
    corpus, split = on_gmb(gmb, split="grouped")
    assert split.fingerprint == gmb_default[1].fingerprint
    texts = corpus.texts()
    parts = [{texts[i] for i in indices} for indices in split.parts().values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(set(texts))


# The source's random split.

@pytest.mark.parametrize("count, test_size, validation_size, seed", [
    (503, 0.2, 0.1, 42), (503, 0.2, 0.1, 7), (100, 0.33, 0.5, 0), (10, 0.1, 0.1, 1)])
def test_random_is_scikit_learns_twice_with_validation_from_the_shuffled_training_part(
        draw, count, test_size, validation_size, seed):
    _, split = draw(distinct(count), test_size=test_size, validation_size=validation_size, split_seed=seed)
    rest, test = train_test_split(list(range(count)), test_size=test_size, random_state=seed)
    training, validation = train_test_split(rest, test_size=validation_size, random_state=seed)  # rest is not sorted
    assert {part: indices.tolist() for part, indices in split.parts().items()} == {
        "training": sorted(training), "validation": sorted(validation), "test": sorted(test)}


@pytest.mark.parametrize("seed", [0, 42])
def test_random_parts_are_disjoint_and_complete(draw, seed):
    _, split = draw(repetitive(400, seed), split_seed=seed)
    assert sorted(np.concatenate(list(split.parts().values()))) == list(range(400))
    assert split.notes == ()


@pytest.mark.parametrize("kind", KINDS)
def test_without_validation_the_test_part_stays(draw, kind):
    sentences = repetitive(1000, 3)
    _, with_validation = draw(sentences, split=kind)
    _, without = draw(sentences, split=kind, validation_size=0)
    assert len(without.validation) == 0 < len(with_validation.validation)
    assert without.test.tolist() == with_validation.test.tolist()
    assert set(with_validation.training) < set(without.training)


# Grouped.

@pytest.mark.parametrize("seed", range(3))
def test_grouped_has_the_random_test_part_and_no_equal_sentence_in_two_parts(draw, seed):
    sentences = repetitive(300, seed)
    _, plain = draw(sentences, split_seed=seed)
    _, split = draw(sentences, split_seed=seed, split="grouped")
    assert split.test.tolist() == plain.test.tolist() and split.fingerprint == plain.fingerprint
    in_test = {sentences[i] for i in plain.test}
    validation = [i for i in plain.validation if sentences[i] not in in_test]
    in_validation = {sentences[i] for i in validation}
    training = [i for i in plain.training if sentences[i] not in in_test | in_validation]
    assert split.validation.tolist() == validation and split.training.tolist() == training
    dropped = len(plain.training) - len(training), len(plain.validation) - len(validation)
    assert min(dropped) > 0
    assert split.notes == (f"{dropped[0]} sentences left the training part (grouped split)",
                           f"{dropped[1]} sentences left the validation part (grouped split)")


# Blocks of 100 sentences, with 10 dropped at each edge.

@pytest.mark.parametrize("count, values", [
    (2000, {}), (2000, {"split_seed": 1}), (2050, {"split_seed": 2}), (1234, {"test_size": 0.4}),
    (2000, {"validation_size": 0.4})])
def test_blocks_hold_out_whole_blocks_and_keep_10_sentences_of_distance(draw, count, values):
    _, split = draw(distinct(count), split="blocks", **values)
    training, validation, test = map(set, split.parts().values())
    blocks = [set(range(start, min(start + 100, count))) for start in range(0, count, 100)]
    held_out = [block for block in blocks if block & test]
    assert set.union(*held_out) == test
    assert len(held_out) == math.ceil(len(blocks) * values.get("test_size", 0.2))

    def near(i, others):
        return any(j in others for j in range(i - 10, i + 11))

    assert not any(near(i, test) for i in validation)
    assert not any(near(i, test | validation) for i in training)
    assert not training & validation
    lost = set(range(count)) - training - validation - test
    assert lost and all(near(i, test | validation) for i in lost)  # and nothing else was dropped


def test_blocks_keep_validation_blocks_whole_but_for_their_edges(draw):
    _, split = draw(distinct(2000), split="blocks")
    for block in {i // 100 for i in split.validation}:
        inside = [i for i in split.validation if i // 100 == block]
        assert set(range(100 * block + 10, 100 * block + 90)) <= set(inside)


# A sample of the sentences.

@pytest.mark.parametrize("seed", [1, 42])
def test_apart_and_among_differ_only_in_the_neighbours_of_their_validation_part(draw, seed):
    (_, apart), (_, among), (_, random) = (draw(distinct(4000), split=kind, split_seed=seed, validation_size=0.1)
                                           for kind in ("apart", "among", "random"))
    assert apart.test.tolist() == among.test.tolist() == random.test.tolist()  # the test part stays the source's
    assert apart.validation.tolist() == among.validation.tolist()
    assert apart.validation_fingerprint == among.validation_fingerprint != random.validation_fingerprint
    assert len(apart.training) == len(among.training) and 0.07 < len(apart.validation) / 3200 < 0.13
    held = set(apart.validation // 100)
    inside = [i for i in range(4000) if i // 100 in held and i not in set(apart.test)]
    others = sorted(set(inside) - set(apart.validation))
    assert 0.4 < len(others) / len(inside) < 0.6
    assert set(others) <= set(among.training) and not set(others) & set(apart.training)
    near = {i + shift for i in inside for shift in range(-10, 11)}
    assert not near & set(apart.training)
    for split in (apart, among):
        parts = np.concatenate(list(split.parts().values()))
        assert len(set(parts)) == len(parts)
        assert (np.diff(split.training) > 0).all() and (np.diff(split.validation) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_random_repeatable_and_in_file_order(draw, kind):
    sentences = distinct(3000)
    _, split = draw(sentences, split=kind, max_sentences=1500)
    _, again = draw(sentences, split=kind, max_sentences=1500)
    _, other = draw(sentences, split=kind, max_sentences=1500, split_seed=43)
    for part, indices in split.parts().items():
        assert indices.tolist() == sorted(set(indices)) == again.parts()[part].tolist()
        assert indices.tolist() != other.parts()[part].tolist()
    used, used_by_other = (np.sort(np.concatenate(list(s.parts().values()))) for s in (split, other))
    assert len(set(used) & set(used_by_other)) < 900  # half of either; the sample itself follows the seed
    assert len(used) == 1500 if kind == "random" else 1000 < len(used) <= 1500
    assert used[-1] > 2900 and 0.4 < (used < 1500).mean() < 0.6  # from all over the file
    assert split.notes[0] == "a random sample of 1,500 sentences is used"


@pytest.mark.parametrize("count", [0, 200, 500])
def test_no_limit_or_one_that_is_not_reached_uses_all_sentences(draw, count):
    _, split = draw(distinct(200), max_sentences=count)
    assert sum(map(len, split.parts().values())) == 200 and split.notes == ()


# Official parts.

@pytest.fixture
def official(write, tmp_path):
    """Split a main file of 100 sentences with official parts of 7 and 5 sentences, as `values` ask."""
    write(distinct(100))
    write([f"Bo sits {i}" for i in range(7)], "validation.csv")
    write([f"Eve stands {i}" for i in range(5)], "test.csv")
    return lambda **values: load(Params(data="main.csv", entity_types="all", **values), tmp_path)


def test_official_parts_are_used_as_they_are(official):
    corpus, split = official(data_validation="validation.csv", data_test="test.csv")
    assert len(corpus) == 112
    assert split.training.tolist() == list(range(100))
    assert [corpus.sentence(i) for i in split.validation] == [["Bo", "sits", str(i)] for i in range(7)]
    assert [corpus.sentence(i) for i in split.test] == [["Eve", "stands", str(i)] for i in range(5)]
    assert corpus.types == ["eve", "per"]


def test_with_an_official_test_part_validation_comes_from_the_main_file(official):
    corpus, split = official(data_test="test.csv")
    training, validation = train_test_split(list(range(100)), test_size=0.1, random_state=42)
    assert split.training.tolist() == sorted(training) and split.validation.tolist() == sorted(validation)
    assert {corpus.sentence(i)[0] for i in split.test} == {"Eve"} and len(split.test) == 5


def test_with_an_official_validation_part_test_comes_from_the_main_file(official):
    corpus, split = official(data_validation="validation.csv")
    training, test = train_test_split(list(range(100)), test_size=0.2, random_state=42)
    assert split.training.tolist() == sorted(training) and split.test.tolist() == sorted(test)
    assert {corpus.sentence(i)[0] for i in split.validation} == {"Bo"} and len(split.validation) == 7


def test_a_sample_leaves_official_parts_whole(official):
    _, split = official(data_validation="validation.csv", data_test="test.csv", max_sentences=30)
    assert [len(part) for part in split.parts().values()] == [30, 7, 5] and max(split.training) < 100


@pytest.mark.parametrize("part", ["data_test", "data_validation"])
def test_blocks_keep_no_distance_to_official_parts_in_other_files(write, tmp_path, part):
    write(distinct(1000))
    write([f"Bo sits {i}" for i in range(5)], "other.csv")
    params = Params(data="main.csv", entity_types="all", split="blocks", validation_size=0, split_seed=5, **{part: "other.csv"})
    _, split = load(params, tmp_path)
    official, drawn = (split.test, split.validation) if part == "data_test" else (split.validation, split.test)
    assert official.tolist() == [1000, 1001, 1002, 1003, 1004]
    assert 999 in split.training or 999 in drawn


# POS.

def test_a_corpus_without_pos_asks_for_pos_none(write, tmp_path):
    data = write(distinct(50), pos=False)
    with pytest.raises(ValueError, match="main.csv: has no POS column; set pos: none"):
        load(Params(data=data, entity_types="all"), tmp_path)
    corpus, split = load(Params(data=data, entity_types="all", pos="none"), tmp_path)
    assert corpus.pos is None and len(split.test) == 10


def test_an_official_part_without_pos_is_the_one_named(official, write):
    write(["Eve stands"], "test.csv", pos=False)
    with pytest.raises(ValueError, match="test.csv: has no POS column"):
        official(data_test="test.csv")
    corpus, _ = official(data_test="test.csv", pos="none")
    assert corpus.pos is None


# Fingerprints.

def prints(draw, sentences=None, **values):
    _, split = draw(sentences or repetitive(300, 0), **values)
    return split.fingerprint, split.training_fingerprint


@pytest.mark.parametrize("values, test_same, training_same", [
    ({}, True, True),
    ({"epochs": 9, "pos": "none", "max_length": 32, "seed": 1}, True, True),
    ({"validation_size": 0.2}, True, False),
    ({"validation_size": 0}, True, False),
    ({"split": "grouped"}, True, False),
    ({"split_seed": 43}, False, False),
    ({"test_size": 0.3}, False, False),
    ({"max_sentences": 200}, False, False),
    ({"sentences": [*repetitive(300, 0)[:-1], "Bo has none"]}, False, False),
])
def test_fingerprints_are_equal_where_the_sentences_are(draw, values, test_same, training_same):
    one, other = prints(draw), prints(draw, **values)
    assert (one[0] == other[0], one[1] == other[1]) == (test_same, training_same)


def test_fingerprints_leave_the_entity_types_out(write, tmp_path):
    data = write([*distinct(50), "Eve ends"])
    one, other = (load(Params(data=data, entity_types=types), tmp_path) for types in ("all", "per"))
    assert one[0].tags.tolist() != other[0].tags.tolist()
    assert (one[1].fingerprint, one[1].training_fingerprint) == (other[1].fingerprint, other[1].training_fingerprint)


# What cannot be split.

@pytest.mark.parametrize("count, values, message", [
    (1, {}, "1 sentences cannot be split"),
    (2, {}, "2 sentences cannot be split"),
    (99, {"split": "blocks"}, "99 sentences, 1 block of 100, cannot be split"),  # one block
    (199, {"split": "blocks"}, "199 sentences, 2 blocks of 100, cannot be split"),  # two blocks: none left for validation
    (100, {"max_sentences": 1}, "cannot be split"),
    (20, {"test_size": 0.99}, "20 sentences cannot be split"),
])
def test_too_few_sentences_are_refused(draw, count, values, message):
    with pytest.raises(ValueError) as error:
        draw(distinct(count), **values)
    assert "main.csv: " in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("sentences, values", [
    (["Ann sits"] * 50, {"split": "grouped"}),  # all equal to a test sentence
    (distinct(205), {"split": "blocks", "split_seed": 5}),  # trains on the last five, next to a held-out block
])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(draw, sentences, values):
    with pytest.raises(ValueError, match="main.csv: "):
        draw(sentences, **values)


def test_relative_paths_start_at_the_given_root(write, tmp_path, monkeypatch):
    write(distinct(30))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(load(Params(data="main.csv", entity_types="per"), tmp_path)[0]) == 30
    assert len(load(Params(data=str(tmp_path / "main.csv"), entity_types="per"), tmp_path / "elsewhere")[0]) == 30
    with pytest.raises(FileNotFoundError, match="main.csv"):
        load(Params(data="main.csv", entity_types="per"), tmp_path / "elsewhere")


def test_an_unknown_entity_type_is_refused(write, tmp_path):
    with pytest.raises(ValueError, match="main.csv: has no entity type geo; it has per"):
        load(Params(data=write(distinct(30)), entity_types="geo per"), tmp_path)
