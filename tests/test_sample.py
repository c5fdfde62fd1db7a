"""The sample corpus, parsed here with the csv module alone, so that no other part of nerlib vouches for it."""

import csv
import io
from collections import Counter, defaultdict

import pytest
from sklearn.model_selection import train_test_split

from nerlib.sample import gmb_csv

TYPES = {"geo", "gpe", "org", "per", "tim", "art", "eve", "nat"}


@pytest.fixture(scope="module")
def data() -> bytes:
    return gmb_csv()


@pytest.fixture(scope="module")
def corpus(data: bytes) -> list[list[list[str]]]:
    """Sentences of [word, POS, tag]."""
    sentences: list[list[list[str]]] = []
    for number, *row in list(csv.reader(io.StringIO(data.decode("cp1252"), newline="")))[1:]:
        if number:
            sentences.append([])
        sentences[-1].append(row)
    return sentences


def mentions(sentence: list[list[str]]) -> list[tuple[str, str]]:
    """(type, surface) of each mention, in order; relies on valid IOB2."""
    found: list[list[str]] = []
    for word, _, tag in sentence:
        if tag.startswith("B-"):
            found.append([tag[2:], word])
        elif tag.startswith("I-"):
            found[-1][1] += " " + word
    return [(kind, surface) for kind, surface in found]


def test_the_same_arguments_give_the_same_bytes(data: bytes) -> None:
    assert gmb_csv() == data
    assert gmb_csv(sentences=60, seed=7) == gmb_csv(sentences=60, seed=7)
    assert gmb_csv(sentences=60, seed=7) != gmb_csv(sentences=60, seed=8)


@pytest.mark.parametrize("sentences", [1, 60, 250])
def test_as_many_sentences_as_asked_for(sentences: int) -> None:
    assert gmb_csv(sentences).decode("cp1252").count("Sentence: ") == sentences


def test_layout_is_that_of_the_kaggle_file(data: bytes) -> None:
    assert data.startswith(b"Sentence #,Word,POS,Tag\r\nSentence: 1,")
    assert data.endswith(b"\r\n") and data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")
    text = data.decode("cp1252")
    assert "é" in text and "Ã" not in text
    assert ',",",",",O\r\n' in text and ',"""",``,O\r\n' in text  # comma and quotation mark as words
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert all(len(row) == 4 and all(row[1:]) for row in rows)
    numbers = [row[0] for row in rows[1:] if row[0]]
    assert rows[1][0] and numbers == [f"Sentence: {i}" for i in range(1, len(numbers) + 1)]


def test_words_are_bare(corpus: list) -> None:
    """Nothing of the grammar's own notation may be left over."""
    words = {word for sentence in corpus for word, _, _ in sentence}
    assert not [word for word in words if word != word.strip() or set(word) & set("{}<>[]|/_") or " " in word]
    assert "None" in words  # pandas reads it as a missing value


def test_sentences(corpus: list) -> None:
    assert len(corpus) == 4000
    lengths = [len(sentence) for sentence in corpus]
    assert min(lengths) >= 5 and max(lengths) <= 40
    assert 0.05 < sum(not mentions(sentence) for sentence in corpus) / len(corpus) < 0.2
    for sentence in corpus:
        first = next(word for word, _, _ in sentence if word[0].isalnum())
        assert not first[0].islower()


def test_articles_agree(corpus: list) -> None:
    after_a = {b[0] for s in corpus for a, b in zip(s, s[1:], strict=False) if a[0] in ("a", "A")}
    assert not [word for word in after_a if word[0] in "AEIOaeio" and not word.startswith("one")]


def test_pos_tags(corpus: list) -> None:
    pos: dict[str, set[str]] = defaultdict(set)
    for sentence in corpus:
        for word, tag, _ in sentence:
            pos[word].add(tag)
    assert len(set().union(*pos.values())) >= 35
    expected = {"the": "DT", ",": ",", ".": ".", "(": "LRB", ")": "RRB", '"': "``", "$": "$", ";": ";", "--": ":"}
    expected |= {"'s": "POS", "will": "MD", "Nations": "NNPS", "Baghdad": "NNP", "1980s": "NNS", "who": "WP"}
    assert {word: pos[word] for word in expected} == {word: {tag} for word, tag in expected.items()}
    assert pos["may"] == {"MD"} and pos["May"] == {"MD", "NNP"}


def test_tags_are_valid_iob2(corpus: list) -> None:
    for sentence in corpus:
        last = "O"
        for _, _, tag in sentence:
            assert tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:] in TYPES)
            assert tag[0] != "I" or last[1:] == tag[1:]
            last = tag


def test_every_type_occurs(corpus: list) -> None:
    count = Counter(kind for sentence in corpus for kind, _ in mentions(sentence))
    assert set(count) == TYPES
    assert all(count[kind] >= 1000 for kind in ("geo", "gpe", "org", "per", "tim"))
    assert count["art"] >= 30 and count["eve"] >= 25 and count["nat"] >= 25
    assert max(count["art"], count["eve"], count["nat"]) < 200


@pytest.mark.parametrize(
    ("surface", "kinds"),
    [("Jordan", "geo gpe org per"), ("Washington", "geo org per"), ("May", "per tim"), ("August", "per tim")]
    + [(name, "geo org per") for name in ("Chelsea", "Lincoln", "Austin", "Charlotte", "Paris", "Madison", "Georgia")],
)
def test_one_surface_has_several_types(corpus: list, surface: str, kinds: str) -> None:
    count = Counter(kind for sentence in corpus for kind, name in mentions(sentence) if name == surface)
    assert all(count[kind] >= 5 for kind in kinds.split()), count


def test_a_fair_share_of_test_mentions_is_unseen(corpus: list) -> None:
    train, test = train_test_split(corpus, test_size=0.2, random_state=42)
    known = {mention for sentence in train for mention in mentions(sentence)}
    asked = {mention for sentence in test for mention in mentions(sentence)}
    assert 0.25 <= len(asked - known) / len(asked) <= 0.37


def test_long_and_nested_names(corpus: list) -> None:
    found = {mention for sentence in corpus for mention in mentions(sentence)}
    long = [surface for kind, surface in found if kind == "org" and len(surface.split()) >= 5]
    assert len(long) >= 20 and [surface for surface in long if surface.startswith("Ministry of ")]
    assert [s for kind, s in found if kind == "org" and s.startswith("University of ") and ("geo", s[14:]) in found]
    assert [s for kind, s in found if kind == "per" and s.startswith("President ") and ("per", s[10:]) in found]


def test_some_sentences_repeat_and_some_repeat_with_other_tags(corpus: list) -> None:
    groups: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    for sentence in corpus:
        groups[tuple(row[0] for row in sentence)].append([row[2] for row in sentence])
    assert sum(len(group) - 1 for group in groups.values()) == 40
    assert 10 <= sum(any(tags != group[0] for tags in group) for group in groups.values()) <= 30


def test_names_recur_nearby(corpus: list) -> None:
    """Documents: a person is named again in the next sentence more often than in one far off."""
    people = [{surface for kind, surface in mentions(sentence) if kind == "per"} for sentence in corpus]

    def recurring(distance: int) -> int:
        return sum(bool(a & b) for a, b in zip(people, people[distance:], strict=False))

    assert recurring(1) > 1.5 * recurring(500)
