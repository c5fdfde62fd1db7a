"""A trained model as a tool: names in a user's own text.

    tagger = Tagger.load("reports/mine/model")  # of a run with pos: predicted or pos: none
    tagger("Ada Lovelace moved from London to Turin in May.")

    python -m nerlib.tagger reports/mine/model < texts > mentions.jsonl

reads a text a line (with --json: a text, {"text": …}, a list of words, or {"words": […], "pos": […]}) and writes for each, in
order, a line {"line": 1, "mentions": […]}, or {"line": 1, "error": "…"} where it cannot be read: the rest is tagged all the
same, the exit code is 1. Only as many lines as are tagged at once are in memory.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nerlib import evaluation, features, model, prediction
from nerlib.corpus import Corpus
from nerlib.dataset import NERDatasetWithPOS, encode
from nerlib.features import IGNORE_POS
from nerlib.hardware import device
from nerlib.model import Saved
from nerlib.params import shown
from nerlib.reading import parsed
from nerlib.words import positions, split

AT_ONCE = 1000  # texts that are in memory, and sorted by length, together


@dataclass(frozen=True)
class Mention:
    """A name that was found: text == source[start:end], where source is the text, or the given words joined by blanks."""

    text: str
    type: str
    start: int  # characters
    end: int
    confidence: float  # product of the probabilities of its words' tags


class Tagger:
    """A saved model on raw text or on words; needs neither corpus, nor run, nor network."""

    def __init__(self, saved: Saved):
        self.net, self.tokenizer, self.vocabulary, self.lexicon, self.params = saved
        self.net.to(device())

    @classmethod
    def load(cls, folder: str | Path, revision: str = "") -> "Tagger":
        """The tagger of a run's folder model/, or, with its revision (a commit, which cannot change), of a model on the
        Hugging Face hub. Raises FileNotFoundError where there is none."""
        return cls(model.load(model.fetch(str(folder), revision) if revision else Path(folder)))

    def __call__(self, text: str | Sequence[str], pos: Sequence[str] | None = None) -> list[Mention]:
        """The mentions in one text, or in a sentence of given words (and their POS tags), from left to right.

        A model that was trained with `pos = corpus` needs words with their tags. Raises ValueError where they are missing, do
        not fit the words, or are unknown to the model, and for a control with shuffled tags; TypeError for what is neither a
        text nor words. A word of more pieces than a window holds is read as an unknown one.
        """
        return next(self.pipe([text], None if pos is None else [pos]))

    def pipe(self, texts: Iterable[str | Sequence[str]], pos: Iterable[Sequence[str]] | None = None) -> Iterator[list[Mention]]:
        """The mentions of each of many texts, in their order, as `__call__` finds them (but for rounding), and much faster.

        The texts may be endless: AT_ONCE of them are read ahead.
        """
        texts = zip(texts, pos, strict=True) if pos is not None else ((text, None) for text in texts)
        texts = iter(texts)
        while some := list(islice(texts, AT_ONCE)):
            yield from self._mentions(*zip(*some, strict=True))

    def _mentions(self, texts: Sequence[str | Sequence[str]], pos: Sequence[Sequence[str] | None]) -> list[list[Mention]]:
        for text, tags in zip(texts, pos, strict=True):
            self.check(text, tags)
        sources = [text if isinstance(text, str) else " ".join(text) for text in texts]
        sentences = [(i, spans) for i, text in enumerate(texts)
                     for spans in (split(text) if isinstance(text, str) else [positions(text)]) if spans]
        owners = np.repeat([i for i, _ in sentences], [len(spans) for _, spans in sentences]).astype(int)
        spans = [span for _, spans in sentences for span in spans]
        found: list[list[Mention]] = [[] for _ in texts]
        if not spans:
            return found
        words = np.array([sources[i][a:b] for i, (a, b) in zip(owners, spans, strict=True)], object)
        pieces = np.diff(encode(words, self.tokenizer)[1])
        words[pieces > self.params.max_length - 2] = self.tokenizer.unk_token  # a line of dashes, an address: no name
        given = np.array([tag for tags in pos for tag in tags], object) if self.params.pos == "corpus" else None
        corpus = Corpus(words, given, np.full(len(words), "O", object),
                        np.cumsum([0, *(len(spans) for _, spans in sentences)]), "text", "")
        table = self._tagged(corpus)
        mentions = evaluation.mentions(table, "predicted")
        sure = evaluation.confidence(table, mentions["first"], mentions["last"])
        for m in mentions.itertuples():
            i, start, end = owners[m.first], spans[m.first][0], spans[m.last][1]
            found[i].append(Mention(sources[i][start:end], m.type, start, end, float(sure[m.Index])))
        return found

    def _tagged(self, corpus: Corpus) -> pd.DataFrame:
        given = features.given_pos(corpus, self.params.pos, 0)
        data = NERDatasetWithPOS(corpus, np.arange(len(corpus)), self.vocabulary, self.tokenizer, self.params.max_length, given,
                                 self.lexicon and self.lexicon(corpus.words))
        predicted = prediction.predict(self.net, data, self.params)
        return prediction.table(corpus, np.arange(len(corpus)), "text", predicted, self.vocabulary, given)

    def check(self, text: str | Sequence[str], pos: Sequence[str] | None = None) -> None:
        """Raises ValueError for what this model cannot tag, TypeError for what is neither a text nor words."""
        listed = isinstance(text, (Sequence, np.ndarray)) and not isinstance(text, (str, bytes))
        if not (isinstance(text, str) or listed and all(isinstance(word, str) for word in text)):
            raise TypeError(f"neither a text nor a list of words: {shown(text)}")
        if listed and not all(word.strip() for word in text):
            raise ValueError(f"an empty word: {shown(text)}")
        if self.params.pos == "shuffled":
            raise ValueError("this model was trained with shuffled POS tags: it is a control for experiments, not a tool")
        if self.params.pos != "corpus":
            return
        if isinstance(text, str) or pos is None:
            raise ValueError(f"this model was trained with pos = {self.params.pos}: it needs words and their POS tags, as "
                             "in tagger(['Ada', 'moved'], pos=['NNP', 'VBD']) or, on the command line with --json, "
                             '{"words": ["Ada", "moved"], "pos": ["NNP", "VBD"]}; a model trained with pos = predicted or none '
                             "reads plain text")
        if len(pos) != len(text):
            raise ValueError(f"{len(pos)} POS tags for {len(text)} words: {' '.join(text)[:60]!r}")
        known = self.vocabulary.pos[IGNORE_POS + 1:]
        if unknown := [tag for tag in pos if tag not in known]:
            raise ValueError(f"POS tag {unknown[0]!r}: this model knows {' '.join(known)}")

    def stream(self, lines: Iterable[bytes], as_json: bool = False) -> Iterator[dict[str, Any]]:
        """What the command line writes for each line, in order; AT_ONCE lines are read ahead."""
        numbered = enumerate(lines, 1)
        while some := list(islice(numbered, AT_ONCE)):
            read, errors = {}, {}
            for number, line in some:
                try:
                    self.check(*(asked := _read(line, as_json)))
                    read[number] = asked
                except (ValueError, RecursionError) as error:  # UnicodeError and JSONDecodeError are ValueErrors
                    errors[number] = str(error)
            found = dict(zip(read, self.pipe(*zip(*read.values(), strict=True)), strict=True)) if read else {}
            for number, _ in some:
                yield {"line": number, "error": errors[number]} if number in errors else {
                    "line": number, "mentions": [asdict(mention) for mention in found[number]]}


def _read(line: bytes, as_json: bool) -> tuple[str | list[str], list[str] | None]:
    """A text or words, and POS tags if there are any. Raises ValueError."""
    text = line.decode("utf-8-sig").rstrip("\r\n")
    if not as_json:
        return text, None
    if not text.strip():  # as an empty line of text: no words, no mentions
        return [], []
    content = parsed(text)
    if isinstance(content, dict) and isinstance(content.get("text"), str) and not {"words", "pos"} & content.keys():
        content = content["text"]
    if isinstance(content, str):
        return content, None
    words, pos = (content.get("words"), content.get("pos")) if isinstance(content, dict) else (content, None)
    for value in (words, pos):
        if not (isinstance(value, list) and all(isinstance(word, str) and word.strip() for word in value)
                or value is pos is None and words is not None):
            raise ValueError('neither a text, nor {"text": …}, nor a list of words, nor {"words": […], "pos": […]}: '
                             f"{text[:60]}")
    return words, pos


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nerlib.tagger", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run's folder model/, or a model on the Hugging Face hub with its --revision")
    parser.add_argument("--revision", default="", help="commit of a model on the hub")
    parser.add_argument("--json", action="store_true", help="each line is JSON: a text, words, or words with POS tags")
    arguments = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends this, too
    sys.stdout.reconfigure(encoding="utf-8")  # JSON is that, whatever the terminal is
    sys.stderr.reconfigure(errors="backslashreplace")
    try:
        tagger = Tagger.load(arguments.model, arguments.revision)
        if not arguments.json:
            tagger.check("a text")
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    bad = 0
    for row in prediction.progress(tagger.stream(sys.stdin.buffer, arguments.json), "tagging", unit="line"):
        if "error" in row:
            bad += 1
            print(f"line {row['line']}: {row['error']}", file=sys.stderr)
        print(json.dumps(row, ensure_ascii=False))
    sys.exit(f"{bad:,} of {row['line']:,} lines could not be read" if bad else 0)


if __name__ == "__main__":
    main()
