"""What several test files share."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    """Files with many slow tests first: several workers, each at a file, then end at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def tokenizer():
    """The bundled encoder's own tokenizer (uncased word pieces)."""
    from nerlib.model import load_encoder
    from nerlib.params import Params
    return load_encoder(Params())[1]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, tokenizer):
    """A small untrained BERT in a folder: an encoder with which an epoch takes a tenth of a second."""
    import torch
    from transformers import BertConfig, BertModel
    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    torch.manual_seed(0)
    config = BertConfig(vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=64, max_position_embeddings=256)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chromium():
    """The Chromium of this machine, driven by Playwright."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not path:
        pytest.skip("no chromium on the PATH")
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def gmb() -> Path:
    """The user's copy of the real corpus; tests that ask for it are marked `corpus`."""
    if not (path := os.environ.get("NERLIB_CORPUS")):
        pytest.skip("NERLIB_CORPUS is not set: it names the Kaggle corpus, ner_dataset.csv or its zip")
    if not Path(path).is_file():
        pytest.fail(f"NERLIB_CORPUS is set, but there is no file {path}")
    return Path(path).resolve()


@pytest.fixture(scope="session")
def gmb_corpus(gmb):
    """The real corpus as `read` gives it, all eight types."""
    from nerlib.corpus import read
    return read(gmb)
