"""The tagger beside what its run predicted, and its offsets beside the text itself."""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from nerlib import evaluation, interactive, runs, tagger, training
from nerlib.params import Params
from nerlib.split import load
from nerlib.tagger import Tagger

TEXT = "Dr. Ada Lovelace moved from London to Turin in May 1842.\nShe met \"Mr. Babbage\" of the U.S. Army. He left."


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """Train the small encoder once for each set of changes; returns the folder."""
    made = {}

    def train(**changes):
        key = json.dumps(changes)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("run")
            params = Params(encoder=str(tiny), max_sentences=300, epochs=3, batch_size=16, learning_rate=5e-3,
                            head_learning_rate=1e-2, precision="fp32", **changes)
            torch.set_num_threads(1)
            training.train(params, *load(params, runs.ROOT), made[key])
        return made[key]
    return train


@pytest.fixture(scope="module")
def plain(trained):
    return Tagger.load(trained(pos="none") / "model")


@pytest.mark.parametrize("changes", [
    {"pos": "none"}, {"pos": "corpus"}, {"pos": "constant"}, {"pos": "predicted", "word_shape": True},
    {"pos": "none", "lexicon": True, "decoder": "viterbi"}, {"pos": "none", "max_length": 16}])
def test_tagger_finds_what_its_run_found(trained, changes):
    folder = trained(**changes)
    rows = pd.read_parquet(folder / "predictions.parquet").query("part == 'test'").reset_index(drop=True)
    mine = Tagger.load(folder / "model")
    sentences = [group for _, group in rows.groupby("sentence", sort=False)]
    pos = [group["pos"].tolist() for group in sentences] if changes["pos"] == "corpus" else None
    found = list(mine.pipe([group["word"].tolist() for group in sentences], pos))
    assert len(found) == len(sentences) and sum(map(len, found)) > 10
    for group, mentions in zip(sentences, found, strict=True):
        group = group.reset_index(drop=True)
        wanted = evaluation.mentions(group, "predicted")
        starts = np.cumsum([0, *(len(word) + 1 for word in group["word"])])
        assert ([(m.type, m.text, m.start) for m in mentions]
                == [(w.type, w.surface, starts[w.first]) for w in wanted.itertuples()])
        sure = [group["confidence"][w.first:w.last + 1].prod() for w in wanted.itertuples()]
        assert [m.confidence for m in mentions] == pytest.approx(sure, rel=1e-3)


def test_raw_text_is_split_into_sentences_and_words_with_their_offsets():
    sentences = [[TEXT[a:b] for a, b in spans] for spans in tagger.split(TEXT)]
    assert sentences == [["Dr.", "Ada", "Lovelace", "moved", "from", "London", "to", "Turin", "in", "May", "1842", "."],
                         ["She", "met", '"', "Mr.", "Babbage", '"', "of", "the", "U.S.", "Army", "."], ["He", "left", "."]]


def test_no_character_is_lost_whatever_the_text():
    random.seed(1)
    alphabet = ["a", "B", " ", ".", '"', "''", "``", "'s", "\n", "\t", "(", "]", "U.S.", "…", "é", "e\u0301", "😀", "م", "$",
                "\u00a0", "can't", "gonna", "--", "...", "?", "\x00", "\u2028", "&amp;", "“", "”", "’", "<"]
    for _ in range(3000):
        text = "".join(random.choices(alphabet, k=random.randrange(25)))
        spans = [span for sentence in tagger.split(text) for span in sentence]
        assert all(a < b for a, b in spans) and all(b <= c for (_, b), (c, _) in itertools.pairwise(spans)), repr(text)
        inside = {i for a, b in spans for i in range(a, b)}
        assert not [c for i, c in enumerate(text) if i not in inside and not c.isspace() and c != "\x00"], repr(text)


def test_mentions_stand_where_they_say(plain):
    found = plain(TEXT)
    assert found and [m.text for m in found] == [TEXT[m.start:m.end] for m in found]
    assert [m.start for m in found] == sorted(m.start for m in found) and all(0 < m.confidence <= 1 for m in found)
    words = ["Ada", "Lovelace", "moved", "to", "Turin"]
    assert [m.text for m in plain(words)] == [" ".join(words)[m.start:m.end] for m in plain(words)]


def test_many_texts_come_back_in_order_as_one_by_one_and_few_are_read_ahead(plain, monkeypatch):
    monkeypatch.setattr(tagger, "AT_ONCE", 7)
    texts = [TEXT, "", "Oslo", ["Oslo"], [], "   \n ", *(f"{'Timo went home . ' * n}Lima" for n in range(20))]
    alone = [plain(text) for text in texts]
    assert [[(m.text, m.start, m.end) for m in found] for found in plain.pipe(texts)] == \
        [[(m.text, m.start, m.end) for m in found] for found in alone]
    read = []
    endless = (read.append(i) or "Ada slept in Bern ." for i in itertools.count())
    assert len(list(itertools.islice(plain.pipe(endless), 8))) == 8 and len(read) == 14


def test_common_words_end_a_sentence():
    text = "He said no. Then he sat. Mar was in the sun. Oslo was cold."
    assert [text[spans[0][0]:spans[-1][1]] for spans in tagger.split(text)] == [f"{part}." for part in text[:-1].split(". ")]


@pytest.mark.parametrize("word", ["=" * 300, "https://example.org/" + "a/b-" * 80, "中" * 200, "a" * 5000])
def test_endless_word_is_read_as_unknown_and_spoils_nothing(plain, word):
    alone, beside = plain("Ada slept in Bern."), list(plain.pipe(["Ada slept in Bern.", f"{word} and", [word]]))
    assert [m.text for m in beside[0]] == [m.text for m in alone]
    assert len(beside) == 3 and all(m.text == f"{word} and"[m.start:m.end] for m in beside[1])


def test_words_without_pieces_and_texts_longer_than_a_window_are_tagged(plain):
    words = ["\x07", "Ada", "slept", "in", "\u200b", "Bern", "."]
    assert [(m.text, m.start) for m in plain(words)] == [("Bern", 17)]
    found = plain("Ada lives in Bern and " * 300)
    assert len({m.start // 3300 for m in found}) == 2, "mentions from its first to its last half"


@pytest.mark.parametrize(("text", "pos", "message"), [
    ("Ada moved", None, "pos = corpus.*pos = predicted or none"), (["Ada", "moved"], None, r"tagger\(\['Ada', 'moved'\]"),
    ("Ada moved", ["NNP", "VBD"], "needs words"), (["Ada", "moved"], ["NNP"], "1 POS tags for 2 words: 'Ada moved'"),
    (["Ada", "moved"], ["NNP", "HUH"], "'HUH': this model knows .*NNP")])
def test_model_that_needs_pos_tags_says_so(trained, text, pos, message):
    with pytest.raises(ValueError, match=message):
        Tagger.load(trained(pos="corpus") / "model")(text, pos)


@pytest.mark.parametrize("session", ["", "JPY_SESSION_NAME"])
def test_sentence_box_of_a_model_that_needs_pos_tags_shows_the_remedy(trained, monkeypatch, session):
    displayed = []
    monkeypatch.setattr(interactive, "display", displayed.append)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if session:
        monkeypatch.setenv(session, "x")
    interactive.tagger_box(trained(pos="corpus") / "model")
    [shown] = displayed
    html = shown.children[1].value if session else shown.data
    assert html.startswith("<p>This model was trained with pos = corpus: it needs words and their POS tags, ")
    assert html.endswith("a model trained with pos = predicted or none reads plain text.</p>")


def test_control_with_shuffled_tags_is_no_tool(trained):
    with pytest.raises(ValueError, match="a control for experiments, not a tool"):
        Tagger.load(trained(pos="shuffled") / "model")(["Ada", "moved"], ["NNP", "VBD"])


def test_model_of_another_version_says_what_it_lacks(trained, tmp_path):
    shutil.copytree(trained(pos="none") / "model", tmp_path / "model")
    head = json.loads((tmp_path / "model/ner.json").read_text())
    (tmp_path / "model/ner.json").write_text(json.dumps({key: head[key] for key in head.keys() - {"precision", "lexicon"}}))
    with pytest.raises(ValueError, match=r"ner\.json lacks lexicon, precision: another version saved this model; train again"):
        Tagger.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_model_folder_that_was_copied_in_part_is_refused(trained, tmp_path, name):
    shutil.copytree(trained(pos="none") / "model", tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises((ValueError, FileNotFoundError), match="tokenizer's files are missing|config.json is missing"):
        Tagger.load(tmp_path / "model")


def test_where_no_model_is_it_says_where_one_would_be(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ner\.json is missing.*reports/<run>/model"):
        Tagger.load(tmp_path)


def test_model_folder_alone_is_enough(trained, plain, tmp_path):
    shutil.copytree(trained(pos="none") / "model", tmp_path / "model")
    code = ("import socket, torch; torch.set_num_threads(1); socket.socket.connect = None\nfrom nerlib.tagger import Tagger\n"
            f"print([(m.text, m.type, m.start) for m in Tagger.load('model')({TEXT!r})])")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([(m.text, m.type, m.start) for m in plain(TEXT)])


def run_tagger(model, given, *words, **environment):
    return subprocess.run([sys.executable, "-m", "nerlib.tagger", str(model), *words], input=given, capture_output=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, timeout=300)


def test_command_line_tags_each_line_in_order_and_names_bad_ones(trained, plain):
    texts = [TEXT.split("\n")[0], "", "Oslo", *(f"{'Timo went home . ' * n}Lima" for n in range(20))]
    lines = [text.encode() for text in texts]
    lines[1:1] = [b"caf\xe9 in Paris"]  # not UTF-8
    done = run_tagger(trained(pos="none") / "model", b"\n".join(lines))
    rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, len(lines) + 1))
    assert "utf-8" in rows.pop(1)["error"] and b"line 2: " in done.stderr
    assert done.returncode == 1 and done.stderr.decode().splitlines()[-1] == "1 of 24 lines could not be read"
    assert [[(m["text"], m["type"], m["start"], m["end"]) for m in row["mentions"]] for row in rows] == \
        [[(m.text, m.type, m.start, m.end) for m in plain(text)] for text in texts]


@pytest.mark.parametrize(("line", "words"), [
    ('"Ada slept in Bern."', "Ada slept in Bern."), ('["Ada", "slept"]', ["Ada", "slept"]), ("[]", []), ("", []),
    ('{"text": "Ada slept in Bern.", "spans": []}', "Ada slept in Bern."),
    ('{"words": ["Ada", "slept"]}', ["Ada", "slept"]), ('{"words": ["Ada"], "pos": ["NNP"]}', ["Ada"])])
def test_json_lines_are_texts_or_words(plain, line, words):
    [row] = plain.stream([line.encode()], as_json=True)
    assert [(m["text"], m["start"]) for m in row["mentions"]] == [(m.text, m.start) for m in plain(words)]


@pytest.mark.parametrize("line", [
    "{", "3", "null", "[1]", '{"text": 3}', '{"text": ["Ada"]}',
    '{"text": "Ada", "pos": ["NNP"]}', '{"text": "Ada", "words": 3}',
    '["Ada", ""]', '["Ada", " "]', '{"word": ["Ada"]}', '{"words": "Ada"}',
    '{"words": ["Ada"], "pos": "NNP"}', '{"words": ["Ada"], "pos": [null]}', '["\\ud800 a"]', "[" * 100_000])
def test_json_lines_that_are_neither_are_reported_and_stop_nothing(plain, line):
    rows = list(plain.stream([b'"Oslo"', line.encode(), b'"Oslo"'], as_json=True))
    assert ["error" in row for row in rows] == [False, True, False] and rows[2]["mentions"] == rows[0]["mentions"]


def test_a_line_that_is_no_json_is_shown_with_the_place_where_it_stops_being_it(plain):
    [row] = plain.stream([b'{"text": oops}'], as_json=True)
    assert row["error"] == """not JSON: Expecting value at character 10 of '{"text": oops}'"""


@pytest.mark.parametrize("given", [{"text": "Ada slept."}, None, 3, b"Ada slept.", b"", ["Ada", 1], {"Ada"}, iter(["Ada"])])
def test_what_is_neither_a_text_nor_words_is_refused(plain, given):
    with pytest.raises(TypeError, match="neither a text nor a list of words: "):
        plain(given)


@pytest.mark.parametrize("words", [["Ada", ""], [" "], ["Ada", "\t", "slept"]])
def test_an_empty_word_is_refused(plain, words):
    with pytest.raises(ValueError, match="an empty word: "):
        plain(words)


def test_streams_keep_a_thousand_lines_in_memory(plain, monkeypatch):
    monkeypatch.setattr(tagger, "AT_ONCE", 7)
    read = []
    endless = (read.append(i) or b"Ada slept in Bern ." for i in itertools.count())
    assert len(list(itertools.islice(plain.stream(endless), 8))) == 8 and len(read) == 14


def test_words_with_bad_pos_tags_are_reported_by_line(trained):
    lines = [b'{"words": ["Ada", "slept"], "pos": ["NNP", "HUH"]}', b'["Ada"]', b'{"words": ["Ada"], "pos": ["NNP"]}']
    rows = list(Tagger.load(trained(pos="corpus") / "model").stream(lines, as_json=True))
    assert "'HUH': this model knows " in rows[0]["error"] and "[PAD]" not in rows[0]["error"]
    with pytest.raises(ValueError, match=r"POS tag '\[PAD\]'"):
        Tagger.load(trained(pos="corpus") / "model")(["Ada"], pos=["[PAD]"])
    assert "needs words and their POS tags" in rows[1]["error"] and "error" not in rows[2]


MEASURED = """
import resource, subprocess, sys
code = subprocess.call([sys.executable, "-m", "nerlib.tagger", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, file=sys.stderr)
sys.exit(code)
"""


def test_ten_thousand_lines_in_an_empty_folder_take_the_memory_of_a_thousand(trained, plain, tmp_path):
    def tag(lines):
        text = "".join(f"Timo {number} went home to Lima , Oslo and Bern .\n" for number in range(lines))
        done = subprocess.run([sys.executable, "-c", MEASURED, str(trained(pos="none") / "model")], input=text, text=True,
                              capture_output=True, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return [json.loads(line) for line in done.stdout.splitlines()], int(done.stderr.split()[-1])
    (_, few), (rows, many) = tag(1_000), tag(10_000)
    assert [row["line"] for row in rows] == list(range(1, 10_001))
    for number in (0, 999, 1_000, 9_999):
        expected = plain(f"Timo {number} went home to Lima , Oslo and Bern .")
        assert expected and [(m["text"], m["start"]) for m in rows[number]["mentions"]] == [
            (m.text, m.start) for m in expected]
    assert many < few + 20 and list(tmp_path.iterdir()) == [], (few, many)  # MiB


@pytest.mark.parametrize("terminal", ["latin-1", "ascii:strict"])
def test_command_line_writes_utf_8_whatever_the_terminal_is(trained, terminal):
    lines = ['"Wałęsa slept in Łódź ."', '{"word": "Wałęsa"}', '"Timo went home to 中国 ."']
    done = run_tagger(trained(pos="none") / "model", "\n".join(lines).encode(), "--json", PYTHONIOENCODING=terminal)
    rows = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3] and "Wałęsa" in rows[1]["error"] and done.returncode == 1
    assert [m["text"] for m in rows[0]["mentions"] + rows[2]["mentions"]] and "Traceback" not in done.stderr.decode()


def test_command_line_refuses_plain_text_at_once_where_the_model_needs_pos_tags(trained):
    done = run_tagger(trained(pos="corpus") / "model", b"Ada slept.\n")
    assert done.returncode == 1 and done.stdout == b"" and b"trained with pos = corpus" in done.stderr
    assert b'with --json, {"words": ["Ada", "moved"], "pos": ["NNP", "VBD"]}' in done.stderr


def test_model_of_the_hub_is_loaded_by_name_and_revision(trained, plain, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(trained(pos="none") / "model", tmp_path / f"models--someone--names/snapshots/{commit}")
    offline = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}  # as it is after a download
    done = run_tagger("someone/names", TEXT.split("\n")[0].encode(), "--revision", commit, **offline)
    [row] = map(json.loads, done.stdout.decode().splitlines())
    assert [m["text"] for m in row["mentions"]] == [m.text for m in plain(TEXT.split("\n")[0])]
    for name, revision in (("someone/names", "f" * 40), ("no//name", commit)):
        done = run_tagger(name, b"", "--revision", revision, **offline)
        assert done.returncode == 1 and done.stderr.decode().startswith(f"{name}, revision {revision}: no such model on the")
