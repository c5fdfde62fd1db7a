"""Corpora written and read back in each layout, converted on the command line, fetched from a server."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerlib import reading, runs, writing
from nerlib.corpus import GMB_SHA256, Corpus, read

LAYOUTS = [".csv", ".conll", ".jsonl"]
NAMES = ["words", "tags", "pos", "offsets"]


def equal(one, other):
    for name in NAMES:
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None) and (a is None or a.tolist() == b.tolist()), name


@pytest.fixture
def small():
    words = ["Ada", "moved", "to", "New", "York", '"', "مرحبا", "é", "😀"]
    tags = ["B-per", "O", "O", "B-geo", "I-geo", "O", "B-per", "B-per", "O"]
    return Corpus(np.array(words, object), np.array(["NNP"] * 9, object), np.array(tags, object), np.array([0, 6, 9]), "", "")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("with_pos", [True, False])
def test_what_was_written_reads_back_the_same(small, tmp_path, layout, with_pos):
    data = small if with_pos else Corpus(small.words, None, small.tags, small.offsets, "", "")
    writing.write(data, tmp_path / f"corpus{layout}")
    equal(read(tmp_path / f"corpus{layout}"), data)


WORD = st.one_of(st.sampled_from(["None", '"', "''", "\ufeff", "\u2028", "a b", "é", "{", "-", "#", "\x1c"]), st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n\0"), min_size=1, max_size=5)).filter(str.strip)
TOKENS = st.lists(st.tuples(WORD, WORD, st.sampled_from(["O", "B-geo", "B-per", "I"])), min_size=1, max_size=8)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(sentences=st.lists(TOKENS, min_size=1, max_size=4))
def test_any_words_and_tags_read_back_the_same(tmp_path_factory, layout, sentences):
    words, pos, tags, ends = [], [], [], [0]
    for sentence in sentences:
        for position, (word, own, tag) in enumerate(sentence):
            before = "O" if position == 0 else tags[-1]
            tags.append("O" if tag == "I" and before == "O" else f"I-{before[2:]}" if tag == "I" else tag)
            words.append(word)
            pos.append(own)
        ends.append(len(words))
    data = Corpus(np.array(words, object), np.array(pos, object), np.array(tags, object), np.array(ends), "", "")
    path = tmp_path_factory.mktemp("any") / f"corpus{layout}"
    writing.write(data, path)
    equal(read(path), data)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_kaggle_corpus_reads_back_the_same(gmb_corpus, tmp_path, layout):
    writing.write(gmb_corpus, tmp_path / f"gmb{layout}")
    equal(read(tmp_path / f"gmb{layout}"), gmb_corpus)


def test_spans_of_a_text_become_tags_of_its_words(tmp_path):
    (tmp_path / "c.jsonl").write_text(
        '{"text": "Ada Lovelace left. Oslo slept.", "spans": [{"start": 0, "end": 12, "label": "per"}, '
        '{"start": 19, "end": 23, "label": "geo"}], "meta": 1}\n\n'
        '{"words": ["New York", "is"], "spans": [{"start": 0, "end": 8, "label": "geo"}]}\n', "utf-8")
    data = read(tmp_path / "c.jsonl")
    assert [data.sentence(i) for i in range(3)] == [
        ["Ada", "Lovelace", "left", "."], ["Oslo", "slept", "."], ["New York", "is"]]
    assert data.tags.tolist() == ["B-per", "I-per", "O", "O", "B-geo", "O", "O", "B-geo", "O"] and data.pos is None


@pytest.mark.parametrize("line, message", [
    ("{", "not JSON: Expecting property name enclosed in double quotes at character 2 of '{'"),
    ("3", "not {\"text\""), ('{"text": "Ada"}', "not {\"text\""),
    ('{"text": 3, "spans": []}', "not {\"text\""), ('{"words": ["Ada", 3], "spans": []}', "not {\"text\""),
    ('{"text": "Ada", "words": ["Ada"], "spans": []}', "not {\"text\""),
    ('{"text": "Ada", "pos": ["N"], "spans": []}', "not {\"text\""),
    ('{"words": ["Ada"], "pos": ["N", "V"], "spans": []}', "2 POS tags for 1 words"),
    ('{"text": " ", "spans": []}', "no words"),
    ('{"words": ["Ada"], "pos": ["N"], "spans": []}', "line 1: no POS tags, which line 2 has"),
    ('{"words": ["Ada", " "], "spans": []}', "empty Word"),
    ('{"text": "Ada left", "spans": [{"start": 0, "end": 2, "label": "per"}]}', "'Ad' does not begin and end where words do"),
    ('{"text": "Ada left", "spans": [{"start": 0, "end": 3}]}', "needs start, end and label"),
    ('{"text": "Ada left", "spans": [[0, 3, "per"]]}', "needs start, end and label"),
    ('{"text": "Ada left", "spans": [{"start": 0, "end": 3, "label": null}]}', "needs start, end and label"),
    ('{"text": "Ada left", "spans": [{"start": 4, "end": 3, "label": "per"}]}', "no such place among the 8 characters"),
    ('{"text": "Ada left", "spans": [{"start": 0, "end": 9, "label": "per"}]}', "no such place among the 8 characters"),
    ('{"text": "Ada left", "spans": [{"start": 0.0, "end": 3, "label": "per"}]}', "two whole numbers and a text"),
    ('{"text": "Ada left", "spans": [{"start": 0, "end": 8, "label": "a"}, {"start": 4, "end": 8, "label": "b"}]}', "overlaps"),
    ('{"text": "He left. Oslo slept.", "spans": [{"start": 3, "end": 13, "label": "geo"}]}', "is in two sentences"),
    ('{"text": "Ada left", "spans": [{"start": 0, "end": 3, "label": "a b"}]}', "tag 'B-a b' is not in BIO form"),
    ('{"text": "\\ud800 left", "spans": []}', "surrogates not allowed"), ("[" * 100_000, "recursion")])
def test_bad_json_lines_are_refused_with_file_line_and_value(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(f'{{"words": ["Oslo"], "spans": []}}\n{line}\n', "utf-8")
    with pytest.raises(ValueError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}, line ") and message in str(raised.value)
    assert "line 2" in str(raised.value)


@pytest.mark.parametrize("layout, word", [(".csv", "a\nb"), (".conll", "a\tb"), (".conll", "-DOCSTART-"), (".conll", "a\rb")])
def test_a_word_that_a_layout_cannot_hold_is_refused_and_json_lines_hold_it(small, tmp_path, layout, word):
    small.words[3] = word
    with pytest.raises(ValueError, match="write .jsonl"):
        writing.write(small, tmp_path / f"corpus{layout}")
    assert list(tmp_path.iterdir()) == []
    writing.write(small, tmp_path / "corpus.jsonl")
    equal(read(tmp_path / "corpus.jsonl"), small)


def convert(*words):
    return subprocess.run([sys.executable, "-m", "nerlib.corpus", "convert", *map(str, words)], cwd=runs.ROOT,
                          capture_output=True, text=True, timeout=300)


def test_convert_says_what_it_changed_and_overwrites_nothing(tmp_path):
    source, target = tmp_path / "iob1.conll", tmp_path / "new.csv"
    source.write_text("Ada\tI-per\nleft\tO\n\nOslo\tI-geo\n")
    done = convert(source, target)
    assert done.returncode == 0 and "tags were IOB1: 2 I- became B-" in done.stdout and "2 sentences, 3 words" in done.stdout
    assert read(target).tags.tolist() == ["B-per", "O", "B-geo"]
    for words, said in (((source, target), "exists already"),
                        ((source, tmp_path / "x.xml"), "must end in .csv, .conll, .jsonl"),
                        ((tmp_path / "gone.csv", tmp_path / "y.csv"), "no such file")):
        done = convert(*words)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def kaggle(monkeypatch):
    """A server in the place of Kaggle's, where kagglehub looks in its TEST environment; what it gives can be set."""
    pytest.importorskip("kagglehub", reason="the extra kaggle is not installed")
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        gives = b"Sentence #,Word,POS,Tag\nSentence: 1,Ada,NNP,B-per\n"

        def do_POST(self):
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            data = json.dumps({"currentVersionNumber": 4}).encode() if self.path.endswith("GetDataset") else self.gives
            self.send_response(200)
            self.send_header("Content-Type", "application/json" if self.path.endswith("GetDataset") else "text/csv")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass
    try:
        server = http.server.ThreadingHTTPServer(("localhost", 7777), Handler)
    except OSError as error:
        pytest.skip(f"port 7777, which kagglehub wants for tests, cannot be had: {error}")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Handler, asked
    server.shutdown()
    server.server_close()


def test_fetch_downloads_checks_and_writes_once(kaggle, tmp_path, monkeypatch):
    handler, asked = kaggle
    monkeypatch.setattr(writing, "GMB_SHA256", hashlib.sha256(handler.gives).hexdigest())
    path = writing.fetch(tmp_path)
    assert path == tmp_path / "ner_dataset.csv.zip" and reading.load(path) == (handler.gives, "ner_dataset.csv")
    assert read(path).tags.tolist() == ["B-per"]
    assert any(name.endswith("DownloadDataset") for name in asked)
    asked.clear()
    assert writing.fetch(tmp_path) == path and asked == []
    path.write_text("mine")
    with pytest.raises(OSError, match="holds something else; move it away first"):
        writing.fetch(tmp_path)
    assert path.read_text() == "mine"


def test_fetch_of_another_file_writes_nothing_and_says_what_to_do(kaggle, tmp_path):
    with pytest.raises(OSError, match=rf"not {GMB_SHA256}; nothing was written; by hand: get ner_dataset.csv of kaggle.com/"):
        writing.fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fetch_without_a_network_says_what_to_do(tmp_path):
    pytest.importorskip("kagglehub", reason="the extra kaggle is not installed")
    code = f"import sys; from pathlib import Path; from nerlib import writing; writing.fetch(Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=runs.ROOT,
                          env=os.environ | {"KAGGLE_API_ENVIRONMENT": "LOCALHOST"})  # nobody answers at port 80
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "could not be downloaded" in last and "by hand: get ner_dataset.csv of kaggle.com/" in last
    assert list(tmp_path.iterdir()) == []
