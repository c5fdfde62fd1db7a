"""Seconds from the CSV to encoded training arrays: pandas and the tokenizer as the source used them, datasets.map, ours."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, disable_progress_bars
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from benchmarks.contest import contest, ours_vs
from nerlib import corpus, encoder
from nerlib.dataset import NERDatasetWithPOS, Vocabulary
from nerlib.params import Params

MAX_LENGTH = 160


def run(data: str, repeats: int = 5) -> dict[str, Any]:
    """The record of this benchmark for benchmarks.json; all read the whole corpus `data`, a GMB CSV, zipped or not."""
    result = contest({"source": source, "datasets": mapped, "ours": ours}, (data,), repeats, "loading")
    names = {"source": "the source's way: groupby into lists, one call of the tokenizer a sentence",
             "datasets": "Hugging Face datasets: map in batches, as documented", "ours": "ours"}
    return {"unit": "sentences a second", "threads": torch.get_num_threads(),
            "contenders": {name: {"name": names[name], **row} for name, row in result.items()},
            "ours_vs": ours_vs(result, "ours")}


def tokenizer_of(params: Params) -> PreTrainedTokenizerBase:
    """The encoder's fast tokenizer."""
    return AutoTokenizer.from_pretrained(encoder.locate(params)[0])


def ours(data: str) -> Callable[[], float]:
    """`corpus.read`, then `NERDatasetWithPOS` over all sentences."""
    tokenizer = tokenizer_of(Params())

    def load() -> float:
        everything = corpus.read(data)
        windows = NERDatasetWithPOS(everything, np.arange(len(everything)), Vocabulary.of(everything, "corpus"), tokenizer,
                                    MAX_LENGTH, everything.pos)
        return len(windows)
    return load


def source(data: str) -> Callable[[], float]:
    """The slides' way; its labels and POS are aligned piece by piece, which is part of encoding in every contender."""
    tokenizer = tokenizer_of(Params())

    def load() -> float:
        sentences, labels, tags = _grouped(data)
        encoded = []
        for words, names, pos in zip(sentences["Word"], sentences["Tag"], sentences["POS"], strict=True):
            pieces = tokenizer(words, is_split_into_words=True, truncation=True, max_length=MAX_LENGTH, padding="max_length")
            heads = _heads(pieces.word_ids())
            encoded.append((pieces["input_ids"], [-100 if word is None else labels[names[word]] for word in heads],
                            [0 if word is None else tags[pos[word]] for word in heads]))
        return len(encoded)
    return load


def mapped(data: str) -> Callable[[], float]:
    """datasets' guide: grouped lists into a Dataset, `map(batched=True)`, arrays at the end."""
    tokenizer = tokenizer_of(Params())
    disable_progress_bars()

    def load() -> float:
        sentences, labels, tags = _grouped(data)

        def encode(batch: dict[str, list]) -> dict[str, list]:
            pieces = tokenizer(batch["Word"], is_split_into_words=True, truncation=True, max_length=MAX_LENGTH)
            heads = [_heads(pieces.word_ids(i)) for i in range(len(batch["Word"]))]
            names = zip(heads, batch["Tag"], strict=True)
            pos = zip(heads, batch["POS"], strict=True)
            return pieces | {"labels": [[-100 if w is None else labels[row[w]] for w in ids] for ids, row in names],
                             "pos_tags": [[0 if w is None else tags[row[w]] for w in ids] for ids, row in pos]}

        dataset = Dataset.from_pandas(sentences[["Word", "POS", "Tag"]], preserve_index=False)
        return len(dataset.map(encode, batched=True, remove_columns=dataset.column_names).with_format("torch"))
    return load


def _grouped(data: str) -> tuple[pd.DataFrame, dict[str, int], dict[str, int]]:
    """A row a sentence, lists of its words, POS and tags; then ids of tags and of POS."""
    file = Path(data).read_bytes()
    if zipfile.is_zipfile(io.BytesIO(file)):
        archive = zipfile.ZipFile(io.BytesIO(file))
        file = archive.read(archive.namelist()[0])
    frame = pd.read_csv(io.BytesIO(file), encoding="latin-1", keep_default_na=False, dtype=str)
    frame["Sentence #"] = frame["Sentence #"].replace("", None).ffill()
    sentences = frame.groupby("Sentence #", sort=False).agg(list)
    return (sentences, {tag: i for i, tag in enumerate(sorted(frame["Tag"].unique()))},
            {pos: i + 2 for i, pos in enumerate(sorted(frame["POS"].unique()))})


def _heads(words: list[int | None]) -> list[int | None]:
    """Each word's number on its first piece, None on the others."""
    return [word if word != before else None for word, before in zip(words, [None, *words], strict=False)]
