"""The training loop, prediction, and the tables that all scores and figures are computed from."""

import hashlib
import io
import itertools
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import get_linear_schedule_with_warmup

from nerlib import dataset, encoder, evaluation, features, model, parallel, runs
from nerlib.checkpoint import Checkpoints, Moment
from nerlib.corpus import Corpus
from nerlib.dataset import NERDatasetWithPOS, Vocabulary
from nerlib.hardware import device, keep_memory, levers, repeatable, use_bf16
from nerlib.model import BERTNERWithPOS
from nerlib.params import Params
from nerlib.prediction import predict, progress, table
from nerlib.split import READ, Split

# Parameters that change nothing in the result of a training (data and split enter the key by their fingerprints).
NOT_TRAINING = READ - {"entity_types"} | {"run", "checkpoint_minutes"}
SOURCES = [Path(__file__).with_name(f"{name}.py") for name in (  # whose code it depends on
    "checkpoint corpus dataset decoding encoder evaluation features hardware model parallel prediction reading "
    "training words").split()]
DERIVED = ("run.json", "metrics.json", "predictions.parquet", "training.parquet", "scores.npy", "history.csv",
           "classification_report.*", "model", "index.html", "04_*", "stages/04.json", "figures/03_*", "figures/04_*")


@dataclass(frozen=True)
class Training:
    """A finished training: what happened in each epoch, what was predicted, how long it took."""

    history: pd.DataFrame  # a row an epoch; the columns stand in `fit`'s docstring
    predictions: pd.DataFrame  # a row a word of validation and test; the columns stand in `table`'s docstring
    scores: np.ndarray  # (rows of predictions, labels) float32, natural log-probabilities
    record: dict[str, Any]  # key, best_epoch, seconds, pieces_per_second, precision, …


def train(params: Params, data: Corpus, split: Split, folder: Path,
          watch: Callable[[int, float], None] | None = None) -> Training:
    """Fine-tune on the training part, keep the best epoch by validation micro F1, predict validation and test once.

    Writes model/, history.csv, predictions.parquet, scores.npy and training.parquet into `folder`. If they stand there
    already, made from the same parameters, data, encoder and sources, they are loaded instead; if they were made from
    others, they and all that was derived from them are removed first. `watch` is told each epoch and its validation F1,
    and may end the training by raising.
    """
    key = training_key(params, split)
    if (finished := _load(folder, key)) is not None:
        return finished

    began = time.perf_counter()
    vocabulary, given = Vocabulary.of(data, params.pos), features.given_pos(data, params.pos, params.seed)
    lexicon, said = features.lexicon_of(data, split.training) if params.lexicon else (None, None)
    net, tokenizer = model.build(params, vocabulary)
    if parallel.rank():  # dropout of its own; the weights are everywhere the same
        torch.manual_seed(params.seed + parallel.rank() * 2**32)
    if params.pos_init == "pretrained":
        size = net.pos_embedding.embedding_dim
        vectors = features.pretrained_pos(data, split.training, vocabulary.pos, size, params.seed)
        net.pos_embedding.weight.data.copy_(torch.from_numpy(vectors))
    net.to(device())
    parts = {part: NERDatasetWithPOS(data, sentences, vocabulary, tokenizer, params.max_length, given, said)
             for part, sentences in split.parts().items() if part != "test" or params.score_test}
    encoded = time.perf_counter()
    parallel.wait()  # all have looked for a finished one; what could be refused would have been by now
    for path in [path for pattern in DERIVED for path in folder.glob(pattern)] if not parallel.rank() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def predict_table(part: str) -> tuple[pd.DataFrame, np.ndarray]:
        predicted = predict(net, parts[part], params, f"predicting {part}")
        return table(data, split.parts()[part], part, predicted, vocabulary, given), predicted.scores

    validate = (lambda: predict_table("validation")) if len(split.validation) else None
    kept = Checkpoints(folder / "checkpoints", key, 60 * params.checkpoint_minutes)
    history, best_epoch, validation = fit(net, parts["training"], params, validate, watch, kept)
    trained = time.perf_counter()
    predicted = [validation] if validation else []
    if params.score_test:
        predicted.append(predict_table("test"))
    pieces = int(parts["training"].lengths.sum()) * params.epochs
    training_seconds = history["training_seconds"].sum()
    seconds = {"encoding": encoded - began, "training": training_seconds, "prediction": time.perf_counter() - trained,
               "validation": (history["seconds"] - history["training_seconds"]).sum(), "checkpoints": kept.spent}
    result = Training(
        history, pd.concat([rows for rows, _ in predicted], ignore_index=True), np.concatenate([s for _, s in predicted]),
        {"key": key, "best_epoch": best_epoch, "resumed_at": kept.resumed_at, "labels": vocabulary.labels, "pieces": pieces,
         "seconds": {name: round(float(value), 1) for name, value in seconds.items()},
         "steps": -(-len(parts["training"]) // params.batch_size) * params.epochs,
         "pieces_per_second": round(pieces / training_seconds), "processes": parallel.count(), **levers(params),
         "parameters": sum(weight.numel() for weight in net.parameters()),
         "windows": {part: len(windows) for part, windows in parts.items()},
         "made": {"completed": runs.now(), **runs.provenance()}})  # what made it, which a later run that loads it is not
    if not parallel.rank():
        _write(result, data.table(split.training), folder)
        model.save(net.cpu(), tokenizer, vocabulary, lexicon, params, folder / "model")
        runs.write_json(folder / "model" / "training.json", result.record)  # last: the others are complete if it is there
        kept.remove()
    parallel.wait()
    return result


def fit(net: BERTNERWithPOS, data: NERDatasetWithPOS, params: Params,
        validate: Callable[[], tuple[pd.DataFrame, np.ndarray]] | None,
        watch: Callable[[int, float], None] | None = None, kept: Checkpoints | None = None,
        ) -> tuple[pd.DataFrame, int, tuple[pd.DataFrame, np.ndarray] | None]:
    """The loop: train `net` in place, leave it with the weights of the best epoch; history, that epoch, its validation.
    A training that `kept` has a checkpoint of goes on from there, to the same weights as if it had never stopped.

    `validate` predicts the validation part with the net as it is and returns its table and scores; without it the last
    epoch is kept. History has a row an epoch: epoch, training_loss (nats a word), training_seconds, with `validate` also
    validation_loss, validation_precision, _recall and _f1 (micro, seqeval default), and seconds.
    """
    keep_memory()
    repeatable()
    mixed = params.padding == "max_length" or not params.similar_lengths  # sorting would gain nothing at one length
    order = dataset.LengthBatches(data.lengths, params.batch_size, params.seed, mixed)
    steps = len(order) * params.epochs
    encoder = [weight for weight in net.bert.parameters() if weight.requires_grad]
    head = [weight for name, weight in net.named_parameters() if not name.startswith("bert.")]
    head_rate = params.head_learning_rate or params.learning_rate
    groups = [{"params": encoder}, {"params": head, "lr": head_rate}]
    optimizer = torch.optim.AdamW(groups, lr=params.learning_rate, weight_decay=params.weight_decay, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, round(params.warmup_ratio * steps), steps)

    now = Moment(net, optimizer, schedule, order)
    best_validation = None
    if kept and kept.restore(now):
        for row in now.history if watch and validate else ():
            watch(row["epoch"], row["validation_f1"])
    for epoch in range(now.epoch, params.epochs + 1):
        start, now.drawn = time.perf_counter() - now.seconds, order.random.bit_generator.state
        net.train()
        todo = list(order)[now.done:]
        parts = iter(data.loader(parallel.parts(todo, params.gradient_accumulation), params.padding))
        for windows in progress(todo, f"epoch {epoch} of {params.epochs}", now.done):
            labelled = int(data.owned(windows)[1].sum())  # words of the whole batch
            optimizer.zero_grad()
            for batch in itertools.islice(parts, params.gradient_accumulation):
                batch = {name: tensor.to(device(), non_blocking=True) for name, tensor in batch.items()}
                labels, pos_labels = batch.pop("labels"), batch.pop("pos_labels")
                with torch.autocast(device().type, torch.bfloat16, enabled=use_bf16(params)):
                    logits, pos_logits = net(**batch)
                loss = model.loss(logits, labels, labelled)
                (loss if pos_logits is None else loss + model.loss(pos_logits, pos_labels, labelled)).backward()
                now.loss += loss.detach() * labelled  # stays on the device: a GPU alone is waited for once an epoch
            parallel.add_gradients(encoder + head)
            if params.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(encoder + head, params.max_grad_norm)
            optimizer.step()
            schedule.step()
            now.words += labelled
            now.done += 1
            if kept and kept.seconds and parallel.any_of(kept.due()):
                now.seconds = time.perf_counter() - start
                start += kept.save(now)  # which is not training
        row = {"epoch": epoch, "training_loss": parallel.total(now.loss).item() / now.words,
               "training_seconds": time.perf_counter() - start}
        if validate:
            predicted, _ = validation = validate()
            micro = evaluation.report(predicted)["micro avg"]
            row |= {"validation_loss": float(predicted["loss"].mean()), "validation_precision": micro["precision"],
                    "validation_recall": micro["recall"], "validation_f1": micro["f1-score"]}
            if micro["f1-score"] > now.best_f1:
                now.best_f1, now.best_epoch, best_validation = micro["f1-score"], epoch, validation
                now.best_weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        now.next_epoch(row | {"seconds": time.perf_counter() - start})
        if kept:
            kept.save(now)
        if watch and validate:
            watch(epoch, micro["f1-score"])
    if now.best_weights:
        net.load_state_dict(now.best_weights)
    if validate and best_validation is None:  # the best epoch was before the training was killed
        best_validation = validate()
    return pd.DataFrame(now.history), now.best_epoch if validate else params.epochs, best_validation


def describe(params: Params, data: Corpus, split: Split, result: Training) -> dict[str, Any]:
    """What run.json holds: parameters, what made the run, what it was made from, how long it took."""
    record = dict(result.record)
    return {
        "run": params.run, "parameters": params.model_dump(), "changed": params.changed(), **record.pop("made"),
        "corpus": {"source": data.source, "sha256": data.sha256, "sentences": len(data), "words": len(data.words),
                   "notes": data.notes},
        "split": {"kind": split.kind, "fingerprint": split.fingerprint, "validation_fingerprint": split.validation_fingerprint,
                  "training_fingerprint": split.training_fingerprint,
                  "notes": split.notes, **{part: len(index) for part, index in split.parts().items()}},
        "encoder": encoder.origin(params), "training": record}


def training_key(params: Params, split: Split) -> str:
    """sha256 over all that a training's result depends on: parameters, data, encoder, the sources of this package, versions.
    But for the number of threads: others round otherwise, which is no reason to make a finished training again, and
    `repeat.repeat` takes as many as the run that it repeats had."""
    sources = [path.read_text("utf-8") for path in SOURCES]
    settings = params.model_dump(exclude=NOT_TRAINING)
    content = [settings, split.fingerprint, split.training_fingerprint, encoder.origin(params),
               [version(name) for name in ("torch", "transformers", "tokenizers", "numpy")], use_bf16(params), str(device()),
               sources]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(result: Training, training_table: pd.DataFrame, folder: Path) -> None:
    array = io.BytesIO()
    np.save(array, result.scores, allow_pickle=False)
    runs.write_atomically(folder / "scores.npy", array.getvalue())
    runs.write_atomically(folder / "predictions.parquet", result.predictions.to_parquet(index=False))
    runs.write_atomically(folder / "training.parquet", training_table.to_parquet(index=False))
    runs.write_csv(folder / "history.csv", result.history)


def _load(folder: Path, key: str) -> Training | None:
    record = folder / "model" / "training.json"
    if not record.is_file() or (content := runs.read_json(record))["key"] != key:
        return None
    return Training(pd.read_csv(folder / "history.csv"), pd.read_parquet(folder / "predictions.parquet"),
                    np.load(folder / "scores.npy", allow_pickle=False), content)


if __name__ == "__main__":
    parallel.main()
