"""Raw text as sentences and words, with the places where they stand."""

import re
from collections.abc import Sequence

import numpy as np
from nltk.tokenize import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

PUNKT = PunktParameters()
PUNKT.abbrev_types = set(  # after which a full stop ends no sentence; Punkt itself knows none without a download
    "mr mrs ms dr prof gen col lt sgt capt maj adm gov sen rep rev hon st jr sr inc corp co ltd bros vs etc e.g i.e a.m p.m "
    "u.s u.n u.k e.u d.c jan feb apr jun jul aug sep sept oct nov dec".split())
SENTENCES, WORDS = PunktSentenceTokenizer(PUNKT), NLTKWordTokenizer()  # once: each new one compiles its expressions again


def split(text: str) -> list[list[tuple[int, int]]]:
    """Sentences of a text, each as its words' (start, end): a line break ends a sentence, else Punkt finds its end (Kiss and
    Strunk 2006); words as in the Penn Treebank."""
    sentences = []
    for line in re.finditer(r"[^\r\n]+", text):
        for begin, end in SENTENCES.span_tokenize(line.group()):
            spans = WORDS.span_tokenize(line.group()[begin:end])
            sentences.append([(line.start() + begin + a, line.start() + begin + b) for a, b in spans])
    return [spans for spans in sentences if spans]


def positions(words: Sequence[str]) -> list[tuple[int, int]]:
    """Where each word stands when all are joined by blanks: (start, end)."""
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    return [(int(end) - len(word), int(end)) for word, end in zip(words, ends, strict=True)]
