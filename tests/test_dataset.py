"""From words to batches: held against the tokenizer's own word_ids, and windows against a brute-force choice."""

import math
import re

import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from nerlib import features
from nerlib.corpus import Corpus
from nerlib.dataset import LengthBatches, NERDatasetWithPOS, Vocabulary, batches_by_pieces, encode, windows

CLS, SEP, PAD, UNK = 101, 102, 0, 100  # in the encoder's uncased vocabulary
PAD_POS, IGNORE_POS = 0, 1
NOTHING = "\u200b"  # a zero-width space: the tokenizer drops it


def corpus_of(*sentences):
    """A corpus from sentences written as "word/POS/tag word/POS/tag"."""
    rows = [[token.rsplit("/", 2) for token in sentence.split(" ")] for sentence in sentences]
    words, pos, tags = (np.array(column, object) for column in zip(*(row for s in rows for row in s), strict=True))
    return Corpus(words, pos, tags, np.cumsum([0, *map(len, rows)]), "test", "0")


def dataset_of(corpus, tokenizer, max_length=160, sentences=None, pos="corpus"):
    sentences = np.arange(len(corpus)) if sentences is None else np.array(sentences)
    return NERDatasetWithPOS(corpus, sentences, Vocabulary.of(corpus, pos), tokenizer, max_length,
                             features.given_pos(corpus, pos, 0))


def random_corpus(seed, sentences=30, longest=40):
    """Sentences of invented words, of one to about ten pieces each."""
    rng = np.random.default_rng(seed)

    def token():
        word = "".join(rng.choice(list("aeioubdklmnrstz"), rng.choice([1, 2, 4, 8, 14])))
        return f"{word.title() if rng.random() < 0.3 else word}/{rng.choice(['NN', 'NNP', 'VB'])}/{rng.choice(['O', 'B-per'])}"

    return corpus_of(*(" ".join(token() for _ in range(rng.integers(1, longest))) for _ in range(sentences)))


# Vocabularies.

PLAIN = corpus_of("Ann/NNP/B-per plays/VBZ/O the/DT/O xylophone/NN/O", "Oslo/NNP/B-geo")


def test_vocabulary_lists_labels_and_pos_in_alphabetical_order_after_pad_and_ignore():
    vocabulary = Vocabulary.of(PLAIN, "corpus")
    assert vocabulary.labels == ["O", "B-geo", "I-geo", "B-per", "I-per"]
    assert vocabulary.pos[PAD_POS] == "[PAD]" and vocabulary.pos[IGNORE_POS] == "[IGNORE]"
    assert vocabulary.pos[2:] == ["DT", "NN", "NNP", "VBZ"]
    assert Vocabulary.of(PLAIN, "none").pos == []


# Alignment of words and pieces.

def test_alignment_by_hand(tokenizer):
    item = dataset_of(PLAIN, tokenizer)[0]
    assert tokenizer.convert_ids_to_tokens(item["input_ids"].tolist()) == [
        "[CLS]", "ann", "plays", "the", "x", "##yl", "##ophone", "[SEP]"]
    assert item["labels"].tolist() == [-100, 3, 0, 0, 0, -100, -100, -100]
    assert item["pos_tags"].tolist() == [PAD_POS, 4, 5, 2, 3, IGNORE_POS, IGNORE_POS, PAD_POS]
    assert item["attention_mask"].tolist() == [1] * 8


@pytest.mark.parametrize("seed", range(3))
def test_alignment_is_the_tokenizers_own(tokenizer, seed):
    corpus = random_corpus(seed)
    dataset, vocabulary = dataset_of(corpus, tokenizer, 512), Vocabulary.of(corpus, "corpus")
    assert len(dataset) == len(corpus)
    for i, item in enumerate(dataset):
        expected = tokenizer(corpus.sentence(i), is_split_into_words=True)
        assert item["input_ids"].tolist() == expected["input_ids"]
        assert item["attention_mask"].tolist() == expected["attention_mask"]
        labels, pos, previous = [], [], None
        for word in expected.word_ids():
            first = word is not None and word != previous
            row = corpus.offsets[i] + word if first else None
            labels.append(vocabulary.labels.index(corpus.tags[row]) if first else -100)
            pos.append(vocabulary.pos.index(corpus.pos[row]) if first else PAD_POS if word is None else IGNORE_POS)
            previous = word
        assert item["labels"].tolist() == labels and item["pos_tags"].tolist() == pos


def test_only_the_given_sentences_are_read_in_their_order(tokenizer):
    items = list(dataset_of(corpus_of("a/X/O", "b/X/O", "c/Y/B-geo d/X/O"), tokenizer, sentences=[2, 0]))
    assert [tokenizer.decode(item["input_ids"][1:-1]) for item in items] == ["c d", "a"]
    assert [item["labels"].tolist() for item in items] == [[-100, 1, 0, -100], [-100, 0, -100]]
    assert [item["pos_tags"].tolist() for item in items] == [[PAD_POS, 3, 2, PAD_POS], [PAD_POS, 2, PAD_POS]]


def test_all_tensors_are_int64_and_of_one_length(tokenizer):
    for item in dataset_of(random_corpus(0), tokenizer, 24):
        assert {tensor.dtype for tensor in item.values()} == {torch.int64}
        assert len({len(tensor) for tensor in item.values()}) == 1


def test_without_pos_no_pos_tag_is_given_away(tokenizer):
    plain = corpus_of("Ann/NNP/B-per plays/VBZ/O")
    for corpus in plain, Corpus(plain.words, None, plain.tags, plain.offsets, "test", "0"):
        item = dataset_of(corpus, tokenizer, pos="none")[0]
        assert set(item["pos_tags"].tolist()) <= {PAD_POS, IGNORE_POS}
        assert item["labels"].tolist() == [-100, 1, 0, -100]


def test_shapes_stand_on_all_pieces_and_first_ones_differ(tokenizer):
    item = dataset_of(PLAIN, tokenizer)[0]  # [CLS] Ann plays the x ##yl ##ophone [SEP]
    lower, title = 0, 1
    assert item["shapes"].tolist() == [0, 2 * title + 1, *[2 * lower + 1] * 3, *[2 * lower + 2] * 2, 0]


def test_lexicon_stands_on_first_pieces_and_is_padded_with_zeros(tokenizer):
    known = np.arange(10, dtype=np.float32).reshape(5, 2) + 1  # two numbers a word of the corpus
    dataset = NERDatasetWithPOS(PLAIN, np.array([0, 1]), Vocabulary.of(PLAIN, "none"), tokenizer, 160, None, known)
    item = dataset[0]["lexicon"]  # [CLS] Ann plays the x ##yl ##ophone [SEP]
    assert item.tolist() == [[0, 0], [1, 2], [3, 4], [5, 6], [7, 8], [0, 0], [0, 0], [0, 0]]
    batch = dataset.collate([dataset[1], dataset[0]])["lexicon"]
    assert batch.shape == (2, 8, 2) and batch[0].tolist() == [[0, 0], [9, 10]] + [[0, 0]] * 6 and batch.dtype == torch.float32


@pytest.mark.parametrize("pos", ["predicted", "auxiliary"])
def test_tags_to_predict_are_not_given_but_learnt_on_labelled_pieces(tokenizer, pos):
    item = dataset_of(PLAIN, tokenizer, pos=pos)[0]
    assert item["pos_tags"].tolist() == [PAD_POS, -1, -1, -1, -1, IGNORE_POS, IGNORE_POS, PAD_POS]
    assert item["pos_labels"].tolist() == [-100, 4, 5, 2, 3, -100, -100, -100]
    windows = list(dataset_of(random_corpus(4, sentences=3, longest=60), tokenizer, 24, pos=pos))
    assert all(((item["pos_labels"] == -100) == (item["labels"] == -100)).all() for item in windows)


@pytest.mark.parametrize("pos", ["none", "corpus", "constant", "shuffled"])
def test_without_a_pos_head_there_are_no_tags_to_learn(tokenizer, pos):
    item = dataset_of(PLAIN, tokenizer, pos=pos)[0]
    assert set(item["pos_labels"].tolist()) == {-100} and -1 not in item["pos_tags"]


def test_a_text_without_tags_can_be_read_by_a_model_that_predicts_them(tokenizer):
    vocabulary = Vocabulary.of(PLAIN, "predicted")
    bare = Corpus(PLAIN.words, None, PLAIN.tags, PLAIN.offsets, "test", "0")
    item = NERDatasetWithPOS(bare, np.array([1]), vocabulary, tokenizer, 160, None)[0]
    assert item["pos_tags"].tolist() == [PAD_POS, -1, PAD_POS] and set(item["pos_labels"].tolist()) == {-100}


@pytest.mark.parametrize("sentence", [f"{NOTHING}/NN/O", f"Ann/NNP/B-per {NOTHING}/NN/O left/VBD/O"])
def test_a_word_that_the_tokenizer_drops_becomes_unknown(tokenizer, sentence):
    assert tokenizer(NOTHING, add_special_tokens=False)["input_ids"] == []
    corpus = corpus_of(sentence)
    item = dataset_of(corpus, tokenizer)[0]
    at = corpus.sentence(0).index(NOTHING) + 1
    assert item["input_ids"][at] == UNK and item["labels"][at] == 0 and item["pos_tags"][at] > IGNORE_POS
    assert (item["labels"] != -100).sum() == len(corpus.words)


def test_pieces_of_repeated_words_are_the_same_each_time(tokenizer):
    words = np.array(["plays", "xylophone", "Xylophone", "plays", NOTHING, "xylophone"], object)
    pieces, starts = encode(words, tokenizer)
    assert starts[0] == 0 and starts[-1] == len(pieces) and len(starts) == 7
    for i, word in enumerate(words):
        expected = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)) or [UNK]
        assert pieces[starts[i]:starts[i + 1]].tolist() == expected


def test_a_cased_encoder_keeps_case():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "may", "May", "##be"]
    cased = BertTokenizer(vocab={piece: i for i, piece in enumerate(vocabulary)}, do_lower_case=False)
    pieces, starts = encode(np.array(["May", "may", "Maybe", "MAY"], object), cased)
    assert [vocabulary[i] for i in pieces] == ["May", "may", "May", "##be", "[UNK]"] and starts.tolist() == [0, 1, 2, 4, 5]


@pytest.mark.corpus
def test_gmb_has_the_published_word_pieces(tokenizer, gmb_corpus):
    dataset = dataset_of(gmb_corpus, tokenizer)
    lengths = dataset.lengths
    assert len(dataset) == 47_959
    assert (lengths.sum(), round(lengths.mean(), 1), np.median(lengths), np.percentile(lengths, 99), lengths.max()) == (
        1_272_830, 26.5, 26, 51, 154)
    assert len(set(dataset.pieces.tolist()) | {CLS, SEP}) == 19_115


@pytest.mark.corpus
def test_gmb_in_short_windows_loses_no_word(tokenizer, gmb_corpus):
    dataset = dataset_of(gmb_corpus, tokenizer, 32)
    assert len(dataset) > 47_959 and dataset.lengths.max() == 32
    own = dataset.windows[:, 2:]
    assert own[0, 0] == 0 and own[-1, 1] == 1_048_575 and (own[1:, 0] == own[:-1, 1]).all()


# Windows over long sentences.

def layout(seed, longest_word):
    """Where words and sentences begin, at random."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, rng.integers(2, longest_word + 2), rng.integers(60, 200))
    cuts = np.unique(rng.integers(1, len(counts), rng.integers(1, 6)))
    return np.append([0], np.cumsum(counts)), np.array([0, *cuts, len(counts)])


def context(word, first, last, begin, end, starts):
    """Pieces between a word and the nearer cut of its window; the sentence's own edges are no cuts."""
    before = starts[word] - starts[first] if first > begin else np.inf
    behind = starts[last] - starts[word + 1] if last < end else np.inf
    return min(before, behind)


LAYOUTS = [(seed, size) for size in (8, 9, 16, 30, 64, 158) for seed in range(8)]


@pytest.mark.parametrize("seed, size", LAYOUTS)
def test_every_word_belongs_to_one_window_the_one_that_shows_most_of_its_context(seed, size):
    starts, offsets = layout(seed, min(size, 12))
    cut = windows(starts, offsets, size, np.full(len(starts) - 1, "w", object)).tolist()
    owner = [row for row, (_, _, own_first, own_last) in enumerate(cut) for _ in range(own_first, own_last)]
    assert [word for *_, own_first, own_last in cut for word in range(own_first, own_last)] == list(range(len(starts) - 1))
    for begin, end in zip(offsets, offsets[1:], strict=False):
        for word in range(begin, end):
            holding = [row for row, (first, last, *_) in enumerate(cut) if begin <= first <= word < last]
            best = max(holding, key=lambda row: context(word, *cut[row][:2], begin, end, starts))  # max takes the earlier
            assert owner[word] == best


@pytest.mark.parametrize("seed, size", LAYOUTS)
def test_windows_are_full_stay_in_their_sentence_and_overlap_by_a_quarter(seed, size):
    starts, offsets = layout(seed, min(size, 12))
    cut = windows(starts, offsets, size, np.full(len(starts) - 1, "w", object))
    assert (starts[cut[:, 1]] - starts[cut[:, 0]] <= size).all()
    for begin, end in zip(offsets, offsets[1:], strict=False):
        spans = [(first, last) for first, last, *_ in cut.tolist() if begin <= first < end]
        assert spans[0][0] == begin and spans[-1][1] == end
        if starts[end] - starts[begin] <= size:
            assert len(spans) == 1
        for (first, last), (following, _) in zip(spans, spans[1:], strict=False):
            assert starts[last + 1] - starts[first] > size  # no further word fits
            # The next begins as early as the quarter allows and leaves room for a new word.
            assert following == min(f for f in range(first + 1, last + 1)
                                    if starts[last] - starts[f] <= size // 4 and starts[last + 1] - starts[f] <= size)


def test_windows_by_hand():
    starts = np.arange(13)  # twelve words of one piece
    assert windows(starts, np.array([0, 12]), 8, np.full(12, "w", object)).tolist() == [[0, 8, 0, 7], [6, 12, 7, 12]]
    assert windows(starts, np.array([0, 4, 12]), 8, np.full(12, "w", object)).tolist() == [[0, 4, 0, 4], [4, 12, 4, 12]]


@pytest.mark.parametrize("max_length", [16, 21, 40])
def test_over_all_windows_each_word_is_labelled_once_and_in_order(tokenizer, max_length):
    corpus = random_corpus(1, sentences=10, longest=60)
    dataset, vocabulary = dataset_of(corpus, tokenizer, max_length), Vocabulary.of(corpus, "corpus")
    labels, heads, pos = [], [], []
    for item in dataset:
        assert 3 <= len(item["input_ids"]) <= max_length
        assert (item["input_ids"][0], item["input_ids"][-1]) == (CLS, SEP)
        kept = item["labels"] != -100
        labels += item["labels"][kept].tolist()
        heads += item["input_ids"][kept].tolist()
        pos += item["pos_tags"][kept].tolist()
    assert len(dataset) > len(corpus)
    assert [vocabulary.labels[i] for i in labels] == corpus.tags.tolist()
    assert [vocabulary.pos[i] for i in pos] == corpus.pos.tolist()
    assert heads == [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in corpus.words]


def test_words_shown_for_context_only_have_a_pos_tag_and_no_label(tokenizer):
    first, second = dataset_of(corpus_of(" ".join(["run/NN/B-per"] * 12)), tokenizer, 10)  # eight words and two specials
    assert first["labels"].tolist() == [-100] + [1] * 7 + [-100] * 2
    assert second["labels"].tolist() == [-100] * 2 + [1] * 5 + [-100]
    assert first["pos_tags"].tolist() == [PAD_POS] + [2] * 8 + [PAD_POS]
    assert second["pos_tags"].tolist() == [PAD_POS] + [2] * 6 + [PAD_POS]


def test_a_word_longer_than_a_window_is_refused_with_the_length_it_needs(tokenizer):
    word = "xylophonist" * 3
    pieces = len(tokenizer.tokenize(word))
    corpus = corpus_of(f"The/DT/O {word}/NN/O plays/VBZ/O")
    with pytest.raises(ValueError, match=re.escape(f"'{word}' has {pieces} pieces: max_length must be at least {pieces + 2}")):
        dataset_of(corpus, tokenizer, pieces + 1)
    assert dataset_of(corpus, tokenizer, pieces + 2).lengths.max() == pieces + 2


# Batches.

@pytest.fixture
def short(tokenizer):
    """Windows of 3, 5 and 11 pieces, of at most 20."""
    return dataset_of(corpus_of("a/X/O", "a/X/O b/X/O c/X/B-geo", " ".join(["a/X/O"] * 9)), tokenizer, 20)


@pytest.mark.parametrize("which, length, expected", [
    ([0], 0, 4), ([0, 1], 0, 8), ([1, 2], 0, 12), ([0], 20, 20), ([0, 1, 2], 20, 20)])
def test_batches_are_padded_to_multiples_of_4_or_to_the_given_length(short, which, length, expected):
    items = [short[i] for i in which]
    batch = short.collate(items, length)
    padding = {"input_ids": PAD, "attention_mask": 0, "labels": -100, "pos_tags": PAD_POS,
               "pos_labels": -100, "shapes": 0}
    assert batch.keys() == padding.keys()
    for key, tensor in batch.items():
        assert tensor.shape == (len(which), expected) and tensor.dtype == torch.int64
        for row, item in zip(tensor.tolist(), items, strict=True):
            values = item[key].tolist()
            assert row == values + [padding[key]] * (expected - len(values))


def test_padding_never_exceeds_max_length(tokenizer):
    dataset = dataset_of(corpus_of(" ".join(["a/X/O"] * 17)), tokenizer, 19)
    assert dataset.collate([dataset[0]])["input_ids"].shape == (1, 19)  # not 20


@pytest.mark.parametrize("padding", ["batch", "max_length"])
def test_the_loader_gives_every_window_once_an_epoch(tokenizer, padding):
    dataset = dataset_of(random_corpus(2), tokenizer, 40)
    loader = dataset.loader(LengthBatches(dataset.lengths, 4, 1), padding)
    expected = sorted(item["input_ids"].tolist() for item in dataset)
    for _ in range(2):
        batches = list(loader)
        rows = [pair for b in batches for pair in zip(b["input_ids"], b["attention_mask"], strict=True)]
        assert sorted(ids[mask.bool()].tolist() for ids, mask in rows) == expected
        assert len(batches) == len(loader) == math.ceil(len(dataset) / 4)
        widths = {b["input_ids"].shape[1] for b in batches}
        assert widths == {40} if padding == "max_length" else len(widths) > 1 and all(width % 4 == 0 for width in widths)


LENGTHS = np.random.default_rng(0).integers(3, 160, 5003)


@pytest.mark.parametrize("count, size", [(5003, 32), (64, 32), (10, 32), (1, 1), (7, 3)])
@pytest.mark.parametrize("mixed", [False, True])
def test_every_index_is_in_one_batch_of_the_asked_size(count, size, mixed):
    sampler = LengthBatches(LENGTHS[:count], size, 5, mixed)
    for _ in range(2):
        batches = list(sampler)
        assert sorted(i for batch in batches for i in batch) == list(range(count))
        assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1)
        assert len(batches) == len(sampler) == math.ceil(count / size)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_seed_repeats_the_order_of_all_epochs_and_each_epoch_has_another(mixed):
    def epochs(seed):
        sampler = LengthBatches(LENGTHS, 32, seed, mixed)
        return [list(sampler) for _ in range(3)]

    one, two, other = epochs(5), epochs(5), epochs(6)
    assert one == two
    assert one[0] != one[1] != one[2] != one[0] and one[0] != other[0]
    assert {frozenset(batch) for batch in one[0]}.isdisjoint(frozenset(batch) for batch in one[1])  # other company, too


@pytest.mark.parametrize("pieces", [1, 160, 1000, 8192, 10**7])
def test_batches_by_pieces_run_from_long_to_short_and_are_as_full_as_may_be(pieces):
    def padded(batch):
        return len(batch) * math.ceil(max(LENGTHS[batch]) / 4) * 4

    batches = batches_by_pieces(LENGTHS, pieces)
    assert sorted(np.concatenate(batches)) == list(range(5003))
    assert LENGTHS[np.concatenate(batches)].tolist() == sorted(LENGTHS, reverse=True)
    assert all(padded(batch) <= pieces or len(batch) == 1 for batch in batches)
    assert all(padded([*batch, following[0]]) > pieces for batch, following in zip(batches, batches[1:], strict=False))


def test_batches_by_pieces_of_nothing_are_none():
    assert batches_by_pieces(np.array([], int), 8) == []


def test_random_batches_are_of_similar_lengths_in_random_order():
    def padding(batches):
        return sum(LENGTHS[batch].max() * len(batch) for batch in batches) / LENGTHS.sum() - 1

    bucketed, mixed = (list(LengthBatches(LENGTHS, 32, 1, mixed)) for mixed in (False, True))
    assert padding(bucketed) < 0.03 and padding(mixed) > 0.5
    longest = [LENGTHS[batch].max() for batch in bucketed]
    assert 0.4 < np.mean([a < b for a, b in zip(longest, longest[1:], strict=False)]) < 0.6
    of_the_longest = [batch for batch in bucketed if LENGTHS[batch].max() == LENGTHS.max()]
    assert len(of_the_longest) >= 3  # several pools: the company of a long window is not always the same
