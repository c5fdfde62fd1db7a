"""How far the annotation itself can be trusted: what the training part knows of a name, repeated sentences, disputed tags."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nerlib.evaluation import extent, mentions, sequences
from nerlib.reading import decode
from nerlib.runs import harmless, read_json, write_csv, write_json
from nerlib.statistics import f1, interval, resampled

DISPUTED = 0.1  # a word's gold tag is disputed if the model gives it less probability than this
ANSWERS = ("A", "B", "both", "neither")


def frequency(found: pd.DataFrame, training: pd.DataFrame) -> pd.Series:
    """How often the training part has each mention in `found`, same words and same type."""
    known = Counter(mentions(training)[["type", "surface"]].itertuples(index=False, name=None))
    return pd.Series([known[pair] for pair in zip(found["type"], found["surface"], strict=True)], found.index, dtype=int)


def consistency(found: pd.DataFrame, training: pd.DataFrame) -> pd.DataFrame:
    """For each mention in `found`, columns places and share: in how many places the training part has its words in a row, but
    for those within a longer mention, and which share of these it tags in the most frequent way (as one mention of one type,
    or as anything else); nan where there is none."""
    lengths = set(found["words"])
    tagged: dict[str, Counter] = {surface: Counter() for surface in found["surface"]}
    spans, mention = {}, np.full(len(training), -1)  # of each row, the number of the mention that it is in
    for number, m in enumerate(mentions(training).itertuples()):
        spans[m.first, m.last], mention[m.first:m.last + 1] = m.type, number
    first = 0
    for words in sequences(training, "word"):
        for length in lengths:
            for at in range(first, first + len(words) - length + 1):
                if (surface := " ".join(words[at - first:at - first + length])) in tagged:
                    span = at, at + length - 1
                    if span in spans or mention[span[0]] < 0 or mention[span[0]] != mention[span[1]]:
                        tagged[surface][spans.get(span, "no mention")] += 1
        first += len(words)
    share = {surface: max(counts.values()) / counts.total() for surface, counts in tagged.items() if counts}
    places = {surface: counts.total() for surface, counts in tagged.items()}
    return pd.DataFrame({"places": found["surface"].map(places).astype(int),
                         "share": found["surface"].map(share).astype(float)})


def repeated(tables: list[pd.DataFrame]) -> dict[str, float] | None:
    """How far sentences that occur several times are tagged alike: groups, pairs of neighbours in a group, share of pairs
    with equal tags, micro F1 of one's mentions against the other's, with a 95 % bootstrap interval over the groups that have
    mentions (nan where none has).

    None where no sentence occurs twice. This is not a ceiling for a model, which may learn the more frequent tagging.
    """
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for table in tables:
        for words, tags in zip(sequences(table, "word"), sequences(table, "gold"), strict=True):
            groups.setdefault(tuple(words), []).append(tags)
    units, equal = [], []
    for words, copies in groups.items():
        if len(copies) > 1:
            counts = np.zeros(3)
            for one, other in zip(copies, copies[1:], strict=False):
                spans = [_spans(words, tags) for tags in (one, other)]
                counts += [len(spans[0] & spans[1]), len(spans[1]), len(spans[0])]
                equal.append(one == other)
            units.append(counts)
    if not units:
        return None
    named = np.array([counts for counts in units if counts.any()])
    low, high = interval(f1(resampled(named))) if len(named) else (np.nan, np.nan)
    return {"groups": len(units), "pairs": len(equal), "equal": float(np.mean(equal)),
            "f1": float(f1(named.sum(0))) if len(named) else np.nan, "low": low, "high": high}


def _spans(words: Sequence[str], tags: list[str]) -> set[tuple[int, int, str]]:
    found = mentions(pd.DataFrame({"sentence": 0, "position": range(len(words)), "word": words, "gold": tags}))
    return set(found[["first", "last", "type"]].itertuples(index=False, name=None))


def worst_loss(table: pd.DataFrame, aligned: pd.DataFrame) -> pd.DataFrame:
    """`aligned` with a column loss: the largest of a word in either span (nats)."""
    losses = table["loss"].to_numpy()
    return aligned.assign(loss=np.array([losses[a:b + 1].max() for a, b in zip(*extent(aligned), strict=True)], float))


def divided(table: pd.DataFrame, aligned: pd.DataFrame) -> pd.Series:
    """Whether each missed or spurious mention in `aligned` shares words with one of the other side, which is paired with
    another: the model made several mentions of one, or one of several. False for all other pairs."""
    first, last = extent(aligned)
    before = {name: np.append(0, (table[name] != "O").cumsum()) for name in ("gold", "predicted")}
    inside = {name: count[last + 1] > count[first] for name, count in before.items()}
    return pd.Series((aligned["kind"] == "spurious") & inside["gold"] | (aligned["kind"] == "missed") & inside["predicted"],
                     aligned.index, dtype=bool)


def _sharing(found: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    """The mentions in `found` that share words with the rows from `first` to `last`."""
    return found[(found["first"] <= last) & (found["last"] >= first)]


def telling(table: pd.DataFrame, aligned: pd.DataFrame, count: int = 3) -> list[tuple[tuple[str, int], str]]:
    """Errors that stand for many, as ((part, sentence), what happened): of each of the most frequent kinds, the surface that
    goes wrong most often in that way, shown in the shortest sentence where it does."""
    errors = aligned[aligned["kind"] != "correct"]
    rows = errors.assign(divided=divided(table, errors), words=table.groupby(["part", "sentence"]).size().loc[list(zip(
        errors["part"], errors["sentence"], strict=True))].to_numpy())
    chosen = []
    for kind, number in rows["kind"].value_counts(sort=True).head(count).items():
        alike = rows[rows["kind"] == kind].groupby(["surface", "gold", "predicted", "divided"])
        name, times = alike.size().index[alike.size().argmax()], int(alike.size().max())
        example = alike.get_group(name).sort_values("words", kind="stable").iloc[0]
        corpus, model = "no mention" if kind == "spurious" else name[1], "no mention" if kind == "missed" else name[2]
        what = f"{corpus} with another boundary" if kind == "boundary" else f"{corpus} in the corpus, {model} by the model"
        what = _division(table, example) if example["divided"] else what
        of_them = f"of which {times:,} " * (times > 1)
        note = f"{kind}, {number:,} {'error' if number == 1 else 'errors'}, {of_them}as {name[0]!r}: {what}"
        chosen.append(((example["part"], example["sentence"]), note))
    return chosen


def _division(table: pd.DataFrame, row: Mapping[str, Any]) -> str:
    """What happened to a `divided` mention."""
    first, last = max(row["gold_first"], row["pred_first"]), max(row["gold_last"], row["pred_last"])  # -1 without partner
    ours, theirs = (mentions(table, column) for column in ("predicted", "gold"))
    said = [f"{row['predicted']} by the model", "in the corpus, of which the model makes"]
    if row["kind"] == "missed":
        ours, theirs, said = theirs, ours, [f"{row['gold']} in the corpus", "by the model, of which the corpus makes"]
    whole = _sharing(theirs, first, last).iloc[0]
    within = "part of" if whole["first"] <= first and last <= whole["last"] else "overlapping"
    parts = len(_sharing(ours, whole["first"], whole["last"]))
    return f"{said[0]}, {within} {whole['surface']!r} ({whole['type']}) {said[1]} {parts} mentions"


def disputes(table: pd.DataFrame, aligned: pd.DataFrame) -> pd.DataFrame:
    """Errors in which the model finds the corpus's tag of some word less likely than DISPUTED, by descending loss.

    Columns: those of evaluation.align, loss (the largest of a word in either span, nats), dispute ("org, not geo",
    "no mention, not per", "other boundary of geo"; of `divided` ones "split, one more per", "joined, one per fewer").
    """
    errors = worst_loss(table, aligned[aligned["kind"] != "correct"])
    named = [(f"split, one more {predicted}" if kind == "spurious" else f"joined, one {gold} fewer") if apart else
             f"other boundary of {gold}" if kind == "boundary" else f"{'no mention' if kind == 'missed' else predicted}, not "
             f"{'O' if kind == 'spurious' else gold}" for kind, gold, predicted, apart in
             zip(errors["kind"], errors["gold"], errors["predicted"], divided(table, errors), strict=True)]
    found = errors.assign(dispute=named)
    return found[found["loss"] > -np.log(DISPUTED)].sort_values("loss", ascending=False, kind="stable")


def adjudication(table: pd.DataFrame, aligned: pd.DataFrame, folder: Path, size: int = 100, seed: int = 0) -> pd.DataFrame:
    """The questions in adjudicate.csv, which is written unless it has answers, with its key in adjudicate-key.json.

    Up to `size` disputed mentions and as many random ones of all that corpus or model have, each asked once, in random
    order; one reading is the corpus's and one the model's, as A and B by chance; [[ ]] in the sentence hold the words that
    either reading has. A person writes A, B, both or neither into `right`. What corpus and model both overlook is not asked.
    Raises ValueError where the answers there were given to questions from other predictions, and for any other answer.
    """
    random = np.random.default_rng(seed)
    candidates = {"disputed": disputes(table, aligned), "random": aligned}
    drawn = {sample: set(found.index[random.permutation(len(found))[:size]]) for sample, found in candidates.items()}
    rows, key, found = [], [], {side: mentions(table, column) for side, column in (("gold", "gold"), ("pred", "predicted"))}
    for i in random.permutation(sorted(drawn["disputed"] | drawn["random"])):
        row, corpus_is = aligned.loc[i], "AB"[random.integers(2)]
        corpus, model = (_reading(row, side, found[side]) for side in ("gold", "pred"))
        key.append({"samples": [sample for sample in drawn if i in drawn[sample]],
                    "right": [corpus_is, "both"] if corpus != model else ["A", "B", "both"]})
        words = table["word"][(table["part"] == row["part"]) & (table["sentence"] == row["sentence"])].tolist()
        begin, end = (int(table["position"].iloc[edge[0]]) for edge in extent(aligned.loc[[i]]))
        words[begin] = f"[[{words[begin]}"
        words[end] = f"{words[end]}]]"
        a, b = (corpus, model) if corpus_is == "A" else (model, corpus)
        rows.append({"number": len(rows) + 1, "sentence": " ".join(words), "A": a, "B": b, "right": ""})
    questions = harmless(pd.DataFrame(rows, columns=["number", "sentence", "A", "B", "right"]))
    path, secret = folder / "adjudicate.csv", folder / "adjudicate-key.json"
    answered = _saved(path) if path.is_file() and path.stat().st_size else questions.head(0)
    if "right" not in answered or (answered["right"] != "").any():
        asked = questions.drop(columns="right").astype(str).map(str.strip)
        same = "right" in answered and {*asked} <= {*answered} and asked.sort_values("number").to_numpy().tolist() == (
            harmless(answered)[[*asked]].sort_values("number").to_numpy().tolist())  # which it is, but for earlier versions'
        if not same:
            raise ValueError(f"{path} was made for other predictions than this run's, or its questions were changed; keep it "
                             "elsewhere, then run this again")
        questions["right"] = asked["number"].map(answered.set_index("number")["right"])
        wrong = questions[~questions["right"].isin(["", *ANSWERS])]
        if len(wrong):
            raise ValueError(f"{path}, number {wrong['number'].iloc[0]}: right is {wrong['right'].iloc[0]!r}; "
                             f"write one of {', '.join(ANSWERS)}, or leave it empty")
    else:
        write_csv(path, questions, mark="\ufeff")
    write_json(secret, key)
    return questions


def _saved(path: Path) -> pd.DataFrame:
    """adjudicate.csv as a spreadsheet may have saved it: in another order, with another separator, in another encoding."""
    text = decode(path.read_bytes(), str(path))
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    try:
        return pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False).map(str.strip)
    except pd.errors.ParserError as error:
        raise ValueError(f"{path}: not a CSV file any more: {error}") from None


def _reading(row: Mapping[str, Any], side: str, found: pd.DataFrame) -> str:
    """How one side, whose mentions are `found`, reads the place: "geo: New York", or "no mention"; where its mentions there
    have other partners, all of them."""
    other = side if row[f"{side}_first"] >= 0 else {"gold": "pred", "pred": "gold"}[side]
    here = _sharing(found, row[f"{other}_first"], row[f"{other}_last"])
    return "; ".join(f"{m.type}: {m.surface}" for m in here.itertuples()) or "no mention"


def adjudicated(questions: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """What the answers say, a row a sample: answered, wrong (the corpus's reading is not right), share, and its 95 % Wilson
    interval (Wilson 1927). For the disputed: how precise the candidates are; for the random: how often the corpus errs."""
    key = pd.DataFrame(read_json(folder / "adjudicate-key.json"), columns=["samples", "right"])
    given = questions["right"] != ""
    wrong = np.array([answer not in right for answer, right in zip(questions["right"], key["right"], strict=True)])
    rows = {}
    for sample in ("disputed", "random"):
        mine = given & np.array([sample in samples for samples in key["samples"]], bool)
        answered, errors = int(mine.sum()), int((mine & wrong).sum())
        bounds = stats.binomtest(errors, answered).proportion_ci(method="wilson") if answered else (np.nan, np.nan)
        rows[sample] = {"answered": answered, "wrong": errors, "share": errors / answered if answered else np.nan,
                        "low": float(bounds[0]), "high": float(bounds[1])}
    return pd.DataFrame(rows).T.astype({"answered": int, "wrong": int})
