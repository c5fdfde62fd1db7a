"""From words to batches: vocabularies, word pieces, windows, labels, padding."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from nerlib import features
from nerlib.corpus import Corpus, ranges
from nerlib.features import IGNORE_POS, PAD_POS, PREDICT_POS

IGNORE_LABEL = -100  # torch.nn.functional.cross_entropy leaves these positions out
MULTIPLE = 4  # lengths are rounded up to it: few distinct shapes, for which the CPU's kernels are cached, little padding


@dataclass(frozen=True)
class Vocabulary:
    """Class order of labels and POS tags; ids are positions."""

    labels: list[str]
    pos: list[str]  # PAD and IGNORE first; empty without POS

    @classmethod
    def of(cls, corpus: Corpus, pos: str) -> "Vocabulary":
        """The corpus's labels and its POS tags, or what stands for them (`pos` as in Params)."""
        return cls(corpus.labels, features.pos_vocabulary(corpus, pos))


class NERDatasetWithPOS(Dataset):
    """Windows of word pieces; an item holds input_ids, attention_mask, labels, pos_tags, pos_labels and shapes, each
    (pieces,) int64.

    Label and POS id of a word stand on its first piece; its other pieces carry IGNORE_LABEL and IGNORE_POS, [CLS] and
    [SEP] IGNORE_LABEL and PAD_POS. `pos_tags` are what the model is given, PREDICT_POS where it is to find the tag itself:
    then `pos_labels` has the corpus's, on labelled pieces, for training. `shapes`: 0 on special pieces, else twice the
    word's shape, plus 1 on its first piece and 2 on the others.

    A sentence longer than `max_length` pieces is cut into windows that overlap by a quarter; each word is labelled in one
    window only, the one that shows most of its context, so that over all windows the labelled pieces are the words of
    `sentences`, each once and in order.
    """

    def __init__(self, corpus: Corpus, sentences: np.ndarray, vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase,
                 max_length: int, given: np.ndarray | None, lexicon: np.ndarray | None = None):
        """Encode the given sentences of `corpus`. Raises ValueError where one word alone exceeds a window.

        `given` (words of the whole corpus,): POS tags for the model, as `features.given_pos` says; None: it is given none.
        `lexicon` (words of the whole corpus, numbers): what a lexicon says of each word; items then hold it, too.
        """
        rows = corpus.rows(sentences)
        self.words = corpus.words[rows]
        self.offsets = np.append([0], np.cumsum(corpus.lengths[sentences]))
        self.labels = _ids(corpus.tags[rows], vocabulary.labels)
        self.vocabulary, unknown = vocabulary, np.full(len(rows), PREDICT_POS if vocabulary.pos else IGNORE_POS)
        self.pos = unknown if given is None else _ids(given[rows], vocabulary.pos)
        to_learn = given is None and vocabulary.pos and corpus.pos is not None
        self.pos_labels = _ids(corpus.pos[rows], vocabulary.pos) if to_learn else np.full(len(rows), IGNORE_LABEL)
        self.shapes = 2 * features.shapes(self.words)
        self.lexicon = None if lexicon is None else lexicon[rows]
        self.pieces, self.starts = encode(self.words, tokenizer)
        self.special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
        self.pad_id, self.max_length = tokenizer.pad_token_id, max_length
        try:
            self.windows = windows(self.starts, self.offsets, max_length - 2, self.words)
        except ValueError as error:
            raise ValueError(f"{corpus.source}: {error}") from None
        self.lengths = self.starts[self.windows[:, 1]] - self.starts[self.windows[:, 0]] + 2

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        first, last, own_first, own_last = self.windows[index]
        begin, end = self.starts[first], self.starts[last]
        length = end - begin + 2
        heads = self.starts[first:last] - begin + 1  # each word's first piece, after [CLS]
        input_ids = np.empty(length, np.int64)
        input_ids[0], input_ids[-1] = self.special
        input_ids[1:-1] = self.pieces[begin:end]
        labels, pos_labels = np.full((2, length), IGNORE_LABEL, np.int64)
        labels[heads[own_first - first:own_last - first]] = self.labels[own_first:own_last]
        pos_labels[heads[own_first - first:own_last - first]] = self.pos_labels[own_first:own_last]
        pos_tags = np.full(length, IGNORE_POS, np.int64)
        pos_tags[[0, -1]] = PAD_POS
        pos_tags[heads] = self.pos[first:last]
        shapes = np.zeros(length, np.int64)
        shapes[1:-1] = np.repeat(self.shapes[first:last], np.diff(self.starts[first:last + 1])) + 2
        shapes[heads] -= 1
        item = {"input_ids": input_ids, "attention_mask": np.ones(length, np.int64), "labels": labels, "pos_tags": pos_tags,
                "pos_labels": pos_labels, "shapes": shapes}
        if self.lexicon is not None:
            item["lexicon"] = np.zeros((length, self.lexicon.shape[1]), np.float32)  # of first pieces; zeros elsewhere
            item["lexicon"][heads] = self.lexicon[first:last]
        return {name: torch.from_numpy(values) for name, values in item.items()}

    def collate(self, items: list[dict[str, torch.Tensor]], length: int = 0) -> dict[str, torch.Tensor]:
        """Pad items to `length` or, if 0, to the longest of them; each tensor (items, length), of a lexicon with a third
        dimension. No items, as where a batch has fewer windows than there are processes, become one without labels."""
        if not items:
            items = [self[0] | {name: torch.full_like(self[0][name], IGNORE_LABEL) for name in ("labels", "pos_labels")}]
        longest = max(len(item["input_ids"]) for item in items)
        length = length or min(rounded(longest), max(self.max_length, longest))
        fill = {"input_ids": self.pad_id, "attention_mask": 0, "labels": IGNORE_LABEL, "pos_tags": PAD_POS,
                "pos_labels": IGNORE_LABEL, "shapes": 0, "lexicon": 0}
        batch = {key: torch.full((len(items), length, *value.shape[1:]), fill[key], dtype=value.dtype)
                 for key, value in items[0].items()}
        for row, item in enumerate(items):
            for key, value in item.items():
                batch[key][row, :len(value)] = value
        return batch

    def owned(self, windows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """First word and number of words that each of these windows labels, (windows,) each."""
        own = self.windows[windows]
        return own[:, 2], own[:, 3] - own[:, 2]

    def loader(self, batches: Iterable[list[int]], padding: str = "batch") -> DataLoader:
        """The given batches of windows, padded to their longest ('batch') or to max_length.

        Where there is a GPU, tensors are in pinned memory: copies to it then overlap with its work.
        """
        length = self.max_length if padding == "max_length" else 0
        # A generator of its own, or else making a loader would draw from the one that dropout draws from.
        return DataLoader(self, batch_sampler=batches, collate_fn=lambda items: self.collate(items, length),
                          pin_memory=torch.cuda.is_available(), generator=torch.Generator())


class LengthBatches(Sampler):
    """Batches in random order, anew each epoch; a seed repeats the order of all epochs.

    Windows of a batch have similar lengths, so that little is padded: they are sorted by length within random pools of
    POOL batches. `mixed` leaves the lengths of a batch to chance.
    """

    POOL = 50

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, mixed: bool = False):
        self.lengths, self.batch_size, self.mixed = lengths, batch_size, mixed
        self.random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order, pool = self.random.permutation(len(self.lengths)), self.POOL * self.batch_size
        if not self.mixed:
            pools = (order[i:i + pool] for i in range(0, len(order), pool))
            order = np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in pools])
        batches = [order[i:i + self.batch_size].tolist() for i in range(0, len(order), self.batch_size)]
        self.random.shuffle(batches)
        return iter(batches)


def batches_by_pieces(lengths: np.ndarray, pieces: int) -> list[list[int]]:
    """All windows from long to short, in batches of at most `pieces` pieces with padding, or of one window."""
    order, batches, first = np.argsort(-lengths, kind="stable").tolist(), [], 0
    while first < len(order):
        size = max(1, pieces // rounded(lengths[order[first]]))
        batches.append(order[first:first + size])
        first += size
    return batches


def rounded(length: int) -> int:
    """`length` rounded up to a multiple of MULTIPLE."""
    return -(-int(length) // MULTIPLE) * MULTIPLE


def _ids(values: np.ndarray, vocabulary: list[str]) -> np.ndarray:
    """Position of each value in the vocabulary, (values,) int64."""
    index = {value: i for i, value in enumerate(vocabulary)}
    which, distinct = pd.factorize(values)
    return np.array([index[value] for value in distinct], np.int64)[which]


def encode(words: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, np.ndarray]:
    """Word pieces of all words, and where each word's begin: (pieces,) int32 and (words + 1,) int64.

    WordPiece looks at one word at a time, so each distinct word is encoded once. A word that the tokenizer drops
    (control characters alone) becomes [UNK]: no word is without a piece.
    """
    which, distinct = pd.factorize(words)
    # A call of the tokenizer has a price, and each text in it another: the words of a text count as split already.
    texts = [distinct[i:i + 1000].tolist() for i in range(0, len(distinct), 1000)]
    encoded = tokenizer(texts, is_split_into_words=True, add_special_tokens=False, return_attention_mask=False,
                        verbose=False) if texts else {"input_ids": []}
    flat = np.array([piece for ids in encoded["input_ids"] for piece in ids], np.int32)
    owners = [1000 * i + word for i in range(len(texts)) for word in encoded.word_ids(i)]
    counts = np.bincount(np.array(owners, np.int64), minlength=len(distinct))
    dropped = counts == 0
    flat = np.insert(flat, np.cumsum(counts)[dropped], tokenizer.unk_token_id)
    counts[dropped] = 1
    pieces = flat[ranges((np.cumsum(counts) - counts)[which], counts[which])]
    return pieces, np.append([0], np.cumsum(counts[which]))


def windows(starts: np.ndarray, offsets: np.ndarray, size: int, words: np.ndarray) -> np.ndarray:
    """Cut sentences into windows of at most `size` pieces: (windows, 4) of first, last, own first, own last word.

    `starts` (words + 1,): where each word's pieces begin; `offsets` (sentences + 1,): where each sentence's words do.
    A window holds words first … last - 1 and labels own first … own last - 1: those of which it shows more context
    (pieces to the nearer cut) than its neighbour; ties go to the earlier. Raises ValueError for a word over `size`.
    """
    if len(starts) > 1 and (longest := np.diff(starts)).max() > size:
        word = words[longest.argmax()]
        raise ValueError(f"the word {word[:40]!r} has {longest.max()} pieces: max_length must be at least {longest.max() + 2}, "
                         "or the word shorter")
    result = np.column_stack([offsets[:-1], offsets[1:], offsets[:-1], offsets[1:]])
    long = starts[offsets[1:]] - starts[offsets[:-1]] > size
    cut = [window for begin, end, *_ in result[long] for window in _cut(starts, begin, end, size)]
    result = np.concatenate([result[~long], np.array(cut, np.int64).reshape(-1, 4)])
    return result[np.argsort(result[:, 0], kind="stable")]


def _cut(starts: np.ndarray, begin: int, end: int, size: int) -> list[list[int]]:
    """The windows of one sentence, words begin … end - 1."""
    spans, first = [], begin
    while True:
        last = int(np.searchsorted(starts[:end + 1], starts[first] + size, side="right")) - 1
        spans.append((first, last))
        if last == end:
            break
        overlap = int(np.searchsorted(starts, starts[last] - size // 4))  # a quarter, in whole words
        # The next window must reach further than this one: it gives up overlap where its first new word is long.
        first = max(overlap, first + 1, int(np.searchsorted(starts, starts[last + 1] - size)))
    owned = [begin]
    for (_, last), (first, _) in zip(spans, spans[1:], strict=False):
        middle = np.arange(first, last)
        to_cut_behind = starts[last] - starts[middle + 1]
        to_cut_before = starts[middle] - starts[first]
        owned.append(first + int((to_cut_behind >= to_cut_before).sum()))
    owned.append(end)
    return [[*span, *own] for span, own in zip(spans, zip(owned, owned[1:], strict=False), strict=True)]
