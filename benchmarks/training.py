"""Real word pieces a second of training: the source's recipe, Hugging Face's Trainer twice, ours, and the machine's limit.

All fine-tune the same encoder on the same sentences. A round is an epoch over them, so lengths vary as they do in a real one.
"""

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

from benchmarks.contest import contest, ours_vs
from nerlib import encoder, model, plots, runs, training
from nerlib.dataset import NERDatasetWithPOS, Vocabulary
from nerlib.params import Params
from nerlib.split import load

BATCH = 32


def run(data: str, sentences: int = 480, repeats: int = 5) -> dict[str, Any]:
    """The record of this benchmark for benchmarks.json: sentences are drawn from the corpus `data`."""
    contenders = {"a": source, "b": trainer_documented, "c": trainer_best, "d": ours}
    result = contest(contenders, (data, sentences), repeats, "training")
    products = contest({"fp32": product_fp32, "bf16": product_bf16}, (), repeats, "matrix products")
    net, windows = our_model(data, sentences)
    flops = flops_per_piece(net, float(windows.lengths.mean()))
    rates = {name: row["median_rate"] for name, row in products.items()}
    best = max(rates.values()) / flops
    names = {"a": "the source's recipe: fp32, all padded to 160, encoder dropout 0.1", "b": "Trainer as documented",
             "c": "Trainer at its best: bf16, batches of similar lengths, multiples of 8", "d": "ours"}
    return {
        "unit": "real word pieces a second", "threads": torch.get_num_threads(), "sentences": sentences,
        "pieces": int(windows.lengths.sum()), "batch": BATCH,
        "contenders": {name: {"name": names[name], **row} for name, row in result.items()},
        "e": {"name": "the machine's limit: its matrix products alone", "median_rate": best, "flops_per_piece": flops,
              "flops_per_second": rates},
        "ours_vs": ours_vs(result, "d"), "share_of_limit": round(result["d"]["median_rate"] / best, 3)}


def figure(record: dict[str, Any]) -> plots.Picture:
    """The rates as bars, the machine's limit last."""
    rows = [*record["contenders"].values(), record["e"]]
    rates = pd.Series({row["name"].split(":")[0]: row["median_rate"] for row in rows})
    return plots.bars(rates, "Training speed", "real word pieces a second", f"on {record['threads']} threads")


def our_model(data: str, sentences: int, **changes: Any) -> tuple[model.BERTNERWithPOS, NERDatasetWithPOS]:
    params = Params(data=data, max_sentences=sentences, **changes)
    corpus, split = load(params, runs.ROOT)
    vocabulary = Vocabulary.of(corpus, params.pos)
    net, tokenizer = model.build(params, vocabulary)
    drawn = np.concatenate(list(split.parts().values()))
    return net.to(training.device()), NERDatasetWithPOS(corpus, drawn, vocabulary, tokenizer, params.max_length, corpus.pos)


def source(data: str, sentences: int) -> Callable[[], float]:
    """(a) The slides' loop: everything padded to 160 pieces, fp32, torch's default attention, encoder dropout 0.1."""
    net, windows = our_model(data, sentences, encoder_dropout=0.1)
    net.bert.set_attn_implementation("sdpa")
    loader = DataLoader(windows, BATCH, shuffle=True, collate_fn=lambda items: windows.collate(items, 160))
    optimizer, where = torch.optim.AdamW(net.parameters(), lr=2e-5), training.device()

    def epoch() -> float:
        net.train()
        for batch in loader:
            labels, _ = batch.pop("labels"), batch.pop("pos_labels")
            logits, _ = net(**{name: tensor.to(where) for name, tensor in batch.items()})
            loss = model.loss(logits, labels.to(where))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(windows.lengths.sum())
    return epoch


def ours(data: str, sentences: int) -> Callable[[], float]:
    """(d) `training.fit` with the default parameters."""
    net, windows = our_model(data, sentences)
    params = Params(epochs=1, batch_size=BATCH)

    def epoch() -> float:
        training.fit(net, windows, params, None)
        return float(windows.lengths.sum())
    return epoch


def trainer_documented(data: str, sentences: int) -> Callable[[], float]:
    """(b) transformers' Trainer with the collator that its guide to token classification uses."""
    return _trainer(data, sentences, pad_to_multiple_of=None)


def trainer_best(data: str, sentences: int) -> Callable[[], float]:
    """(c) The same at its best settings on a CPU."""
    return _trainer(data, sentences, pad_to_multiple_of=8, bf16=training.use_bf16(Params()),
                    train_sampling_strategy="group_by_length")


def _trainer(data: str, sentences: int, pad_to_multiple_of: int | None, **settings: Any) -> Callable[[], float]:
    _, windows = our_model(data, sentences)
    path, _ = encoder.locate(Params())
    names = ("input_ids", "attention_mask", "labels")
    rows = [{name: windows[i][name].tolist() for name in names} for i in range(len(windows))]
    tokenizer = AutoTokenizer.from_pretrained(path)
    net = AutoModelForTokenClassification.from_pretrained(path, num_labels=max(max(row["labels"]) for row in rows) + 1)
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), learning_rate=2e-5, per_device_train_batch_size=BATCH, num_train_epochs=1,
        weight_decay=0.01, save_strategy="no", report_to="none", disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(), **settings)
    trainer = Trainer(model=net, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
                      data_collator=DataCollatorForTokenClassification(tokenizer, pad_to_multiple_of=pad_to_multiple_of))

    def epoch() -> float:
        trainer.train()
        return float(windows.lengths.sum())
    return epoch


def flops_per_piece(net: model.BERTNERWithPOS, length: float) -> float:
    """Floating-point operations to train on one piece of a sentence of `length`: 6 a weight that multiplies (2 forward,
    4 backward) and 12 a layer, unit of width and piece attended to. Kaplan et al. 2020, arXiv:2001.08361, section 2.1."""
    weights = sum(layer.weight.numel() for layer in net.modules() if isinstance(layer, torch.nn.Linear))
    return 6 * weights + 12 * net.bert.config.num_hidden_layers * net.bert.config.hidden_size * length


def product_fp32() -> Callable[[], float]:
    """Floating-point operations of a product of two matrices in fp32."""
    return _product(torch.float32)


def product_bf16() -> Callable[[], float]:
    """The same in bf16."""
    return _product(torch.bfloat16)


def _product(dtype: torch.dtype, size: int = 2048) -> Callable[[], float]:
    where = training.device()
    left, right = torch.randn(size, size, device=where, dtype=dtype), torch.randn(size, size, device=where, dtype=dtype)

    def product(times: int = 20) -> float:
        for _ in range(times):
            torch.mm(left, right)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return times * 2.0 * size**3
    return product
