"""What several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tokenizer():
    """The bundled encoder's own tokenizer (uncased word pieces)."""
    from nerlib.model import load_encoder
    from nerlib.params import Params
    return load_encoder(Params())[1]


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
