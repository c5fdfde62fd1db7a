"""BERT with POS embeddings: the network of the slides, its encoder, its files."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from nerlib import encoder
from nerlib.dataset import IGNORE_LABEL, Vocabulary
from nerlib.features import PREDICT_POS, SHAPES, WITH_HEAD, Lexicon
from nerlib.hardware import attention
from nerlib.params import Params
from nerlib.runs import read_json, write_json

LEXICON = "lexicon.json"
HEAD = {"labels", "pos", "pos_dim", "dropout", "pos_kind", "word_shape", "lexicon", "decoder", "max_length", "precision"}


class BERTNERWithPOS(nn.Module):
    """Contextual piece embeddings, concatenated with POS embeddings; dropout; one linear layer over the labels.

    It can also read the shapes of words, added to BERT's word embeddings, and predict POS tags from the same encoder: its
    own tags then take the place of given ones ("predicted"), or are only learnt beside the labels ("auxiliary").
    """

    def __init__(self, bert: BertModel, labels: int, pos: int, pos_dim: int, dropout: float, pos_kind: str = "corpus",
                 word_shape: bool = False, lexicon: int = 0):
        """`labels`, `pos`: sizes of the vocabularies (pos 0: plain BERT); `pos_dim` 0: the encoder's hidden size;
        `pos_kind`, `word_shape`: as `pos` and `word_shape` in Params; `lexicon`: how many numbers it has for a word, or 0."""
        super().__init__()
        self.bert, self.pos_embedding, self.pos_classifier, self.shape_embedding = bert, None, None, None
        self.lexicon_embedding, width = None, bert.config.hidden_size + lexicon
        if pos and pos_kind != "auxiliary":
            self.pos_embedding = nn.Embedding(pos, pos_dim or bert.config.hidden_size)
            width += pos_dim or bert.config.hidden_size
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, labels)
        if pos_kind in WITH_HEAD:
            self.pos_classifier = nn.Linear(bert.config.hidden_size, pos)
        if word_shape:  # first and later pieces of each shape, and special pieces; begins as if it were not there
            self.shape_embedding = nn.Embedding(1 + 2 * len(SHAPES), bert.config.hidden_size)
            nn.init.zeros_(self.shape_embedding.weight)
        if lexicon:
            self.lexicon_embedding = nn.Linear(lexicon, bert.config.hidden_size, bias=False)
            nn.init.zeros_(self.lexicon_embedding.weight)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pos_tags: torch.Tensor,
                shapes: torch.Tensor, lexicon: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits (batch, pieces, labels) and, from a POS head, (batch, pieces, POS), else None; all from ids (batch, pieces).

        `shapes` is not read without `word_shape`; `lexicon` (batch, pieces, numbers) is added to the word embeddings
        through a linear layer that begins at zero, and stands as it is before the classifier.
        """
        embedded = self.bert.embeddings.word_embeddings(input_ids)  # (B, T, H)
        if self.shape_embedding is not None:
            embedded = embedded + self.shape_embedding(shapes)
        if self.lexicon_embedding is not None:
            embedded = embedded + self.lexicon_embedding(lexicon)
        hidden = self.bert(inputs_embeds=embedded, attention_mask=attention_mask).last_hidden_state  # (B, T, H)
        hidden, pos_logits = self.with_pos(hidden, pos_tags)  # (B, T, H + E), (B, T, P)
        if self.lexicon_embedding is not None:
            hidden = torch.cat([hidden, lexicon], dim=-1)  # (B, T, H + E + X)
        return self.classifier(self.dropout(hidden)), pos_logits  # (B, T, L), (B, T, P)

    def with_pos(self, hidden: torch.Tensor, pos_tags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, T, H) with the POS embeddings behind it, if there are any, and what the POS head says, if there is one.

        Where `pos_tags` is PREDICT_POS, the mean of the embeddings under the head's own probabilities takes the place of a
        given tag's. No gradient of the labels' loss flows into these probabilities: they stay POS tags.
        """
        pos_logits = None if self.pos_classifier is None else self.pos_classifier(self.dropout(hidden))
        if self.pos_embedding is None:
            return hidden, pos_logits
        embedded = self.pos_embedding(pos_tags.clamp(min=0))
        if pos_logits is not None:
            own = pos_logits.detach().float().softmax(-1) @ self.pos_embedding.weight
            embedded = torch.where((pos_tags == PREDICT_POS)[..., None], own, embedded)
        return torch.cat([hidden, embedded], dim=-1), pos_logits


def loss(logits: torch.Tensor, labels: torch.Tensor, words: int = 0) -> torch.Tensor:
    """Mean cross entropy over the labelled pieces, natural logarithm: (B, T, L) and (B, T) → scalar. `words`: by how many to
    divide, where these are only a share of a batch."""
    summed = nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE_LABEL,
                                         reduction="sum")
    return summed / (words or (labels != IGNORE_LABEL).sum())


def load_encoder(params: Params) -> tuple[BertModel, PreTrainedTokenizerBase]:
    """Pretrained encoder and its tokenizer. Raises OSError with what to do where the hub is out of reach, ValueError."""
    source = encoder.check(params)
    hf_logging.set_verbosity_error()  # the pooler is left out on purpose; weights that are missing raise below
    hf_logging.disable_progress_bar()
    try:
        bert, loading = BertModel.from_pretrained(
            source, add_pooling_layer=False, attn_implementation=attention(), use_safetensors=True,
            dtype=torch.float32, hidden_dropout_prob=params.encoder_dropout,
            attention_probs_dropout_prob=params.encoder_dropout, output_loading_info=True)
    except SafetensorError as error:
        raise ValueError(f"encoder {params.encoder!r}: the weights in {source} are damaged or incomplete ({error}); get them "
                         "again") from None
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if loading["missing_keys"]:
        raise ValueError(f"encoder {params.encoder!r}: its weights lack {', '.join(sorted(loading['missing_keys'])[:3])}, …")
    _fits(tokenizer, bert, f"encoder {params.encoder!r}")
    return bert, tokenizer


def _fits(tokenizer: PreTrainedTokenizerBase, bert: BertModel, name: str) -> None:
    if not bert.config.vocab_size // 2 < len(tokenizer) <= bert.config.vocab_size:  # transformers makes up missing files
        raise ValueError(f"{name}: its tokenizer has {len(tokenizer)} entries for {bert.config.vocab_size} embeddings; the "
                         "tokenizer's files are missing or another model's")


def build(params: Params, vocabulary: Vocabulary) -> tuple[BERTNERWithPOS, PreTrainedTokenizerBase]:
    """Pretrained encoder under a new head, in eval mode, and its tokenizer; the head's weights follow `params.seed`."""
    bert, tokenizer = load_encoder(params)
    torch.manual_seed(params.seed)
    model = BERTNERWithPOS(bert, len(vocabulary.labels), len(vocabulary.pos), params.pos_dim, params.dropout, params.pos,
                           params.word_shape, len(vocabulary.labels) + 1 if params.lexicon else 0)
    bert.embeddings.requires_grad_(not params.freeze_embeddings)
    return model.eval(), tokenizer


def save(model: BERTNERWithPOS, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, lexicon: Lexicon | None,
         params: Params, folder: Path) -> None:
    """Write config.json, model.safetensors, ner.json, the tokenizer, perhaps the lexicon: all that `load` needs."""
    folder.mkdir(parents=True, exist_ok=True)
    model.bert.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if lexicon:
        lexicon.save(folder / LEXICON)
    weights = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    head = {"labels": vocabulary.labels, "pos": vocabulary.pos, "pos_dim": params.pos_dim, "dropout": params.dropout,
            "pos_kind": params.pos, "word_shape": params.word_shape, "lexicon": params.lexicon, "decoder": params.decoder,
            "max_length": params.max_length, "precision": params.precision,
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    write_json(folder / "ner.json", head)
    weights.chmod((folder / "ner.json").stat().st_mode)  # safetensors lets its owner alone read it


def fetch(name: str, revision: str) -> Path:
    """The folder of a model that `save` wrote and someone put on the Hugging Face hub. Raises FileNotFoundError where there
    is none, or the hub is out of reach and the cache has none."""
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.txt"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError) as error:
        raise FileNotFoundError(f"{name}, revision {revision}: no such model on the Hugging Face hub, nor in this machine's "
                                f"cache folder (HF_HOME): {str(error).splitlines()[0]}") from None


class Saved(NamedTuple):
    """What `save` wrote, read again."""

    net: BERTNERWithPOS  # in eval mode
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    lexicon: Lexicon | None
    params: Params  # those of its training that its predictions depend on; defaults for the others


def load(folder: Path) -> Saved:
    """A saved model, from its folder alone. Raises FileNotFoundError where there is none, ValueError where another version
    saved it, or its files are damaged."""
    about, weights = folder / "ner.json", folder / "model.safetensors"
    if missing := next((path for path in (about, weights, folder / "config.json") if not path.is_file()), None):
        raise FileNotFoundError(f"{folder}: no model here, {missing.name} is missing; a run keeps its model in "
                                "reports/<run>/model")
    try:
        head = read_json(about)
    except ValueError as error:
        raise ValueError(f"{about} is damaged ({error}); copy the folder again, or train again") from None
    if missing := ", ".join(sorted(HEAD - head.keys())):
        raise ValueError(f"{about} lacks {missing}: another version saved this model; train again")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    if head.get("sha256", sha256) != sha256:  # earlier versions did not record it
        raise ValueError(f"{weights} is damaged or incomplete: its sha256 is {sha256[:12]}…, that of the saved weights "
                         f"{head['sha256'][:12]}…; copy the folder again, or train again")
    vocabulary = Vocabulary(head["labels"], head["pos"])
    bert = BertModel(BertConfig.from_pretrained(folder, attn_implementation=attention()), add_pooling_layer=False)
    model = BERTNERWithPOS(bert, len(vocabulary.labels), len(vocabulary.pos), head["pos_dim"], head["dropout"],
                           head["pos_kind"], head["word_shape"], len(vocabulary.labels) + 1 if head["lexicon"] else 0)
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{weights} is damaged or another model's ({error}); copy the folder again, or train again") from None
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    _fits(tokenizer, bert, str(folder))
    lexicon = Lexicon.load(folder / LEXICON) if head["lexicon"] else None
    params = Params(pos=head["pos_kind"], **{name: head[name] for name in ("lexicon", "decoder", "max_length", "precision")})
    return Saved(model.eval(), tokenizer, vocabulary, lexicon, params)
