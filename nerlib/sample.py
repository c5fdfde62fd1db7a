"""The built-in sample corpus: newswire that never happened, generated from the small grammar in `sample.yaml`.

It exists so that the suite runs, with errors worth reading, before anything is downloaded. Nothing in it is reported
fact: places, organisations and events have real or made-up names, persons are first names and surnames put together at
random, and no sentence comes from a corpus. Scores on it say that the suite works, not how well a model reads English.
"""

import csv
import io
import re
from pathlib import Path
from random import Random

from nerlib import yamlfile

Row = tuple[str, str, str]  # word, POS, tag

COMMON = 0.42  # chance of a shape that suits every topic
ECHO = 0.12  # chance that a name is the one before it again: names recur within documents, as in real corpora
REUSE = 0.5  # chance that it is any earlier one: the frequent grow more frequent, most stay rare (Simon's process)
NOISE = 0.015  # share of mentions with a silver-standard slip
COPIES = 0.01  # share of sentences that repeat another
MISTAKEN = dict(geo="gpe", gpe="geo", org="geo", per="org", tim="eve", art="org", eve="tim", nat="per")

SLOT = re.compile(r"<([^<>]*)>|\{([a-z_]+)(\d?)\}")  # a choice with none inside it, or a rule's name
TOKEN = re.compile(r"\[([a-z]+) |\]|([^\s\]]+)")
AN = re.compile(r"[aeio](?!ne\b|uro)|u(?![gks]|n[i ])|1[18]\b|8", re.IGNORECASE)  # words that want "an"
AUXILIARY = "be been being is are was were has have had not".split()


def gmb_csv(sentences: int = 4000, seed: int = 42) -> bytes:
    """Return a generated corpus as the bytes of a CSV file in the format of Kaggle's GMB extract.

    Columns `Sentence #,Word,POS,Tag`, Windows-1252, CRLF, `Sentence #` on a sentence's first row only. Sentences of 5
    to 40 words, in documents of one topic. Tags are IOB2 over GMB's eight types: a capitalised title belongs to its
    person, a country is gpe where it acts and geo where it is a place. As in a silver standard, 1.5 % of the mentions
    have a slip (untagged, first word cut off, or another type) and 1 % of the sentences repeat another, about half of
    them with new slips. The same `sentences` and `seed` give the same bytes everywhere.
    """
    grammar = _Grammar(Random(seed))
    corpus: dict[str, list[Row]] = {}  # by text: only COPIES repeat
    copies = int(sentences * COPIES)
    while len(corpus) < sentences - copies:
        for text in grammar.document():
            rows = grammar.rows(text)
            if 5 <= len(rows) <= 40 and len(corpus) < sentences - copies:
                corpus.setdefault(text, grammar.slip(rows, NOISE))
    tagged = list(corpus.values())
    for _ in range(copies):
        tagged.insert(int(len(tagged) * grammar.rng.random()), grammar.slip(grammar.pick(tagged), 0.25))
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["Sentence #", "Word", "POS", "Tag"])
    for number, rows in enumerate(tagged, 1):
        writer.writerows([f"Sentence: {number}" if i == 0 else "", *row] for i, row in enumerate(rows))
    return out.getvalue().encode("cp1252")


class _Grammar:
    """`sample.yaml`, ready to draw from. Draws use `Random.random` alone: its stream is the same in every Python."""

    def __init__(self, rng: Random) -> None:
        source = yamlfile.mapping(Path(__file__).with_name("sample.yaml"))
        self.rng = rng
        self.skewed = source["names"]
        self.options = {name: text.split(", ") for name, text in (source["names"] | source["words"]).items()}
        for name, text in source["rules"].items():  # "3* x" stands for three x
            weighted = (re.fullmatch(r"(?:(\d)\* )?(.*)", part).groups() for part in text.split(" / "))
            self.options[name] = [part for times, part in weighted for _ in range(int(times or 1))]
        self.common, *self.topics = (text.splitlines() for text in source["shapes"].values())
        self.pos = {word: tag for tag, text in source["pos"].items() for word in text.split()}
        self.guess = [(re.compile(pattern), tag) for pattern, tag in source["guess"].items()]
        self.drawn: dict[str, list[str]] = {name: [] for name in ("company", "full", "last", "name", "town")}

    def pick(self, options: list) -> list | str:
        return options[int(len(options) * self.rng.random())]

    def document(self) -> list[str]:
        topic, texts = self.pick(self.topics), {}
        for _ in range(4 + int(12 * self.rng.random())):
            self.used: set[str] = set()  # what this sentence has already
            self.bound: dict[str, str] = {}  # its numbered slots
            shape = self.pick(self.common if self.rng.random() < COMMON else topic)
            texts[shape] = self.expand(shape)
        return list(texts.values())

    def expand(self, text: str) -> str:
        while match := SLOT.search(text):
            choice, name, digit = match.groups()
            value = self.pick(choice.split("|")) if name is None else self.bound.get(name + digit) or self.draw(name)
            if digit:
                self.bound[name + digit] = value
            text = text[: match.start()] + value + text[match.end() :]
        return text

    def draw(self, name: str) -> str:
        options, old = self.options[name], self.drawn.get(name)
        for _ in range(20):  # "talks between Peru and Peru" would be no news
            u, v = self.rng.random(), self.rng.random()
            if old and u < ECHO + REUSE:
                value = old[-1] if u < ECHO else self.pick(old)
            else:
                value = options[int(len(options) * (v * v if name in self.skewed else v))]
            if value not in self.used:
                break
        value = self.expand(value)
        self.used.add(value)
        if old is not None:
            old.append(value)
        return value

    def rows(self, text: str) -> list[Row]:
        rows: list[Row] = []
        kind = tag = last = ""
        for opening, token in TOKEN.findall(text):
            if not token:
                kind, tag = opening, opening and f"B-{opening}"
                continue
            word, _, pos = token.partition("/")
            pos = pos or self.pos.get(word) or next(tag for pattern, tag in self.guess if pattern.fullmatch(word))
            if last == "a" and AN.match(word):
                rows[-1] = ("an", *rows[-1][1:])
            rows.append((word, "VBN" if pos == "VBD" and last in AUXILIARY else pos, tag or "O"))
            tag, last = kind and f"I-{kind}", word
        first = next(i for i, row in enumerate(rows) if row[0][0].isalnum())
        rows[first] = (rows[first][0][0].upper() + rows[first][0][1:], *rows[first][1:])
        return rows

    def slip(self, rows: list[Row], share: float) -> list[Row]:
        tags = [tag for _, _, tag in rows]
        for start, tag in enumerate(tags):
            if tag.startswith("B-") and self.rng.random() < share:
                end = next((i for i in range(start + 1, len(tags)) if tags[i][0] != "I"), len(tags))
                how = self.rng.random()
                if how < 0.4 and end - start > 1:
                    tags[start : start + 2] = ["O", "B-" + tag[2:]]
                else:
                    tags[start:end] = ["O" if how < 0.6 else old[:2] + MISTAKEN[tag[2:]] for old in tags[start:end]]
        return [(word, pos, tag) for (word, pos, _), tag in zip(rows, tags, strict=True)]
