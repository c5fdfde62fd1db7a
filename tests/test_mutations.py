"""The code broken on purpose, once in each place that matters, beside the test that must notice.

    make mutations
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.mutations, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[1]
SLOW = ("test_training", "test_parallel", "test_checkpoint")  # whose tests, minutes of training, pass in the whole suite alone
MUTATIONS = {  # what goes wrong: file, code, broken code, the test that notices
    "labels one piece too early": (
        "dataset.py", "self.starts[first:last] - begin + 1", "self.starts[first:last] - begin",
        "test_dataset.py::test_alignment_by_hand"),
    "continuations count in the loss": (
        "dataset.py", "labels, pos_labels = np.full((2, length), IGNORE_LABEL, np.int64)",
        "labels, pos_labels = np.zeros((2, length), np.int64)", "test_dataset.py::test_alignment_by_hand"),
    "padding counts in the loss": (
        "dataset.py", '"labels": IGNORE_LABEL, "pos_tags": PAD_POS', '"labels": 0, "pos_tags": PAD_POS',
        "test_dataset.py::test_batches_are_padded_to_multiples_of_4_or_to_the_given_length"),
    "padding is attended to": (
        "dataset.py", '"attention_mask": 0, "labels"', '"attention_mask": 1, "labels"',
        "test_dataset.py::test_the_loader_gives_every_window_once_an_epoch"),
    "mask inverted": (
        "dataset.py", '"attention_mask": np.ones(length, np.int64)', '"attention_mask": np.zeros(length, np.int64)',
        "test_dataset.py::test_alignment_is_the_tokenizers_own"),
    "label ids shifted": (
        "dataset.py", "index = {value: i for i, value in enumerate(vocabulary)}",
        "index = {value: (i + 1) % len(vocabulary) for i, value in enumerate(vocabulary)}",
        "test_dataset.py::test_alignment_by_hand"),
    "order of labels changed": (
        "corpus.py", 'for kind in self.types for prefix in "BI")', 'for kind in self.types for prefix in "IB")',
        "test_corpus.py::test_labels_are_o_then_the_types_in_alphabetical_order"),
    "a word labelled in two windows": (
        "dataset.py", "owned.append(end)", "owned.append(end - 1)",
        "test_dataset.py::test_over_all_windows_each_word_is_labelled_once_and_in_order"),
    "windows cut context short": (
        "dataset.py", "starts[last] - size // 4", "starts[last] - size // 8",
        "test_dataset.py::test_windows_are_full_stay_in_their_sentence_and_overlap_by_a_quarter"),
    "IOB1 read as it stands": (
        "corpus.py", 'np.where(opens, "B-" + kind, tags)', 'np.where(opens, tags, tags)',
        "test_corpus.py::test_iob1_becomes_iob2_by_hand"),
    "the word None read as missing": (
        "reading.py", "na_filter=False", "na_filter=True",
        "test_corpus.py::test_words_that_look_like_missing_values_or_numbers_stay_words"),
    "another split": (
        "split.py", "train_test_split(rest, test_size=params.test_size, random_state=seed)",
        "train_test_split(rest, test_size=params.test_size, random_state=seed + 1)",
        "test_split.py::test_random_is_scikit_learns_twice_with_validation_from_the_shuffled_training_part"),
    "order of the pool lost before validation is drawn": (
        "split.py", "            if params.validation_size:\n                rest, drawn",
        "            if params.validation_size:\n                rest = np.sort(rest)\n                rest, drawn",
        "test_split.py::test_random_is_scikit_learns_twice_with_validation_from_the_shuffled_training_part"),
    "equal sentences on both sides of a grouped split": (
        "split.py", "np.isin(key[training], key[np.append(test, new_validation)])", "np.isin(key[training], [])",
        "test_split.py::test_grouped_has_the_random_test_part_and_no_equal_sentence_in_two_parts"),
    "warm-up off": (
        "training.py", "round(params.warmup_ratio * steps)", "0",
        "test_training.py::test_learning_rates_rise_to_their_peaks_and_fall_to_zero"),
    "dropout off in training": (
        "training.py", "net.train()", "net.eval()", "test_training.py::test_dropout_is_on_in_training_and_off_in_prediction"),
    "dropout on in evaluation": (
        "prediction.py", "    net.eval()\n", "    net.train()\n",
        "test_training.py::test_dropout_is_on_in_training_and_off_in_prediction"),
    "gradients pile up": (
        "training.py", "            optimizer.zero_grad()\n", "", "test_training.py::test_gradients_of_a_step_are_its_own"),
    "gradients not clipped": (
        "training.py", "torch.nn.utils.clip_grad_norm_(encoder + head, params.max_grad_norm)", "pass",
        "test_training.py::test_gradients_are_clipped_to_the_norm_or_not_at_all"),
    "the test part chooses the epoch": (
        "training.py", 'validate = (lambda: predict_table("validation"))', 'validate = (lambda: predict_table("test"))',
        "test_training.py::test_predictions_hold_every_word_of_validation_and_test_once_and_in_order"),
    "the worst epoch is kept": (
        "training.py", 'micro["f1-score"] > now.best_f1', 'micro["f1-score"] < now.best_f1 or now.best_f1 < 0',
        "test_training.py::test_best_epoch_by_validation_f1_is_what_is_saved_and_scored"),
    "POS embeddings dropped": (
        "model.py", "return torch.cat([hidden, embedded], dim=-1), pos_logits",
        "return torch.cat([hidden, embedded * 0], dim=-1), pos_logits",
        "test_model.py::test_with_pos_the_logits_depend_on_the_words_own_pos"),
    "no dropout before the classifier": (
        "model.py", "self.classifier(self.dropout(hidden)), pos_logits", "self.classifier(hidden), pos_logits",
        "test_model.py::test_dropout_is_between_embeddings_and_classifier_and_off_in_eval_mode"),
    "ignored pieces in the loss": (
        "model.py", "labels.flatten(), ignore_index=IGNORE_LABEL,", "labels.flatten().clamp(min=0),",
        "test_model.py::test_loss_is_the_mean_over_labelled_pieces_in_float32"),
    "a model that predicts POS reads the corpus's": (
        "features.py", 'return corpus.pos if kind == "corpus" else None', "return corpus.pos",
        "test_features.py::test_none_is_given_where_there_is_none_or_the_model_finds_its_own"),
    "a training word's lexicon knows its own tag": (
        "features.py", "count(training[fold != number])", "count(training)",
        "test_features.py::test_a_training_word_is_told_nothing_that_its_block_knows"),
    "predictions of other words": (
        "dataset.py", "return own[:, 2], own[:, 3] - own[:, 2]", "return own[::-1, 2], (own[:, 3] - own[:, 2])[::-1]",
        "test_training.py::test_scores_are_those_of_the_saved_model_sentence_by_sentence"),
    "no correction for many comparisons": (
        "statistics.py", "np.arange(len(p), 0, -1)", "np.ones(len(p))", "test_statistics.py::test_holm_by_hand"),
    "a claim by one of the tests": (
        "statistics.py", '"p": max(p_seeds, p_both, ', '"p": min(p_seeds, p_both, ',
        "test_statistics.py::test_a_difference_needs_both_kinds_of_luck_excluded"),
    "one kind of luck at a time": (
        "statistics.py", "error = np.hypot(seed_error, sentence_error)", "error = np.maximum(seed_error, sentence_error)",
        "test_statistics.py::test_both_kinds_of_luck_together_are_welchs_test"),
    "equivalence beyond the margin": (
        "statistics.py", "MARGIN - abs(mean)", "MARGIN + abs(mean)",
        "test_statistics.py::test_both_kinds_of_luck_together_are_welchs_test"),
    "seeds that are no pairs": (
        "statistics.py", "[runs[seed] for _, runs in terms]", "[runs[seed if sign > 0 else seeds[-1]] for sign, runs in terms]",
        "test_statistics.py::test_difference_is_the_mean_over_common_seeds_and_its_interval_scipys"),
    "decoding allows I- after O": (
        "decoding.py", 'not tag.startswith("I-") or previous[2:] == tag[2:]', "True",
        "test_decoding.py::test_viterbi_finds_the_best_allowed_sequence"),
    "confusion with its axes swapped": (
        "evaluation.py", 'pd.crosstab(table["gold"], table["predicted"])', 'pd.crosstab(table["predicted"], table["gold"])',
        "test_evaluation.py::test_confusion_of_tags_is_scikit_learns"),
    "strict scores that are not": (
        "evaluation.py", 'mode = {"mode": "strict", "scheme": IOB2} if strict else {}', "mode = {}",
        "test_evaluation.py::test_an_opening_i_scores_by_default_and_not_in_strict_mode"),
    "the rarest tag looked up": (
        "evaluation.py", 'sort_values("count", ascending=False, kind="stable")', 'sort_values("count", kind="stable")',
        "test_evaluation.py::test_lookup_gives_the_most_frequent_tag_of_ties_the_first_seen_and_o_to_unseen_words"),
    "macro for micro": (
        "training.py", 'evaluation.report(predicted)["micro avg"]', 'evaluation.report(predicted)["macro avg"]',
        "test_training.py::test_history_holds_seqevals_micro_scores_of_the_kept_epoch"),
    "resumed with other dropout": (
        "checkpoint.py", '            torch.set_rng_state(tensors[f"random.cpu.{own}"])\n', "            pass\n",
        "test_checkpoint.py::test_damaged_checkpoint_is_passed_over_for_the_one_before"),
    "a checkpoint at every step of a second process": (
        "checkpoint.py", "began, tensors, self.last = time.perf_counter(), moment.tensors(), time.monotonic()",
        "began, tensors = time.perf_counter(), moment.tensors()",
        "test_checkpoint.py::test_after_a_checkpoint_no_process_wants_the_next_one_at_once"),
    "gradients of one process alone": (
        "parallel.py", "gradient.copy_(part.view_as(gradient))", "pass",
        "test_parallel.py::test_several_processes_and_parts_take_the_steps_that_one_takes[2-1]"),
    "each part of a batch divided by its own words": (
        "training.py", "model.loss(logits, labels, labelled)", "model.loss(logits, labels)",
        "test_parallel.py::test_several_processes_and_parts_take_the_steps_that_one_takes[1-3]"),
    "resumed with another order of batches": (
        "checkpoint.py", "        self.order.random.bit_generator.state = self.drawn\n", "",
        "test_checkpoint.py::test_training_that_was_killed_ends_as_one_that_was_not"),
    "two processes at work on one run": (
        "lock.py", "        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "        pass\n",
        "test_never_half.py::test_the_lock_refuses_waits_or_is_free"),
    "a notebook on its own is not guarded": (
        "runs.py", "        lock.take(folder(run, ", "        str(folder(run, ",
        "test_never_half.py::test_a_notebook_holds_the_lock_from_its_first_cell_to_its_last_unless_its_runner_does"),
    "the last of two equal names wins": (
        "yamlfile.py", "isinstance(name, Hashable) and name in lines", "False",
        "test_params.py::test_a_file_that_is_wrong_as_a_file_is_refused_by_name_and_line"),
    "aliases that stand for more than a memory holds": (
        "yamlfile.py", "self.check_event(yaml.AliasEvent)", "False",
        "test_params.py::test_a_file_that_is_wrong_as_a_file_is_refused_by_name_and_line"),
    "the record goes last when results do": (
        "training.py", 'DERIVED = ("run.json", "metrics.json", "predictions.parquet",',
        'DERIVED = ("metrics.json", "predictions.parquet", "run.json",',
        "test_never_half.py::test_a_training_with_other_parameters_removes_the_record_of_the_one_before_it_first"),
    "a training that failed is a run": (
        "runs.py", 'if (path / "stages/03.json").is_file() and not is_complete(path, "03"):', "if False:",
        "test_never_half.py::test_a_training_that_did_not_end_is_no_run_for_any_reader"),
    "unfinished results take the place of finished ones": (
        "__main__.py", "(folder / name).is_file() and runs.is_complete(folder, number)", "(folder / name).is_file()",
        "test_never_half.py::test_only_finished_results_are_set_aside_and_never_replaced_by_unfinished_ones"),
    "a name that leads out of reports": (
        "runs.py", "not re.fullmatch(NAME, run) or path.resolve().parent != path.parent.resolve()", "False",
        "test_hostile.py::test_what_is_no_name_of_a_run_leads_nowhere"),
    "damaged weights are loaded": (
        "model.py", 'head.get("sha256", sha256) != sha256', "False",
        "test_hostile.py::test_damaged_weights_of_a_model_are_refused_by_name"),
    "a branch of the hub that moved is not noticed": (
        "training.py", "encoder.origin(params),\n", "params.encoder,\n",
        "test_hostile.py::test_a_run_records_the_commit_and_is_trained_again_when_the_branch_has_moved"),
    "another tokenizer is not noticed": (
        "encoder.py", '_sha256(Path(path), "*.json", "*.txt")', '_sha256(Path(path), "config.json", "*.txt")',
        "test_training.py::test_key_depends_on_every_file_that_the_encoder_is_read_from"),
    "weights in several files are not looked at": (
        "encoder.py", '_sha256(path, "model*.safetensors")', '_sha256(path, "model.safetensors")',
        "test_training.py::test_key_depends_on_every_file_that_the_encoder_is_read_from"),
}


SERVER = """
import json, os, sys
import nervaluate, pandas, pytest, sklearn, torch, transformers  # once, before each test has a process of its own

for line in sys.stdin:
    folder, *tests = json.loads(line)
    if not (child := os.fork()):
        os.chdir(folder)
        sys.path.insert(0, folder)
        os.dup2(os.open("said.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
        os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package and its tests, to be broken."""
    folder = tmp_path_factory.mktemp("mutations")
    for name in ("nerlib", "tests", "params", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "test_mutations.py"))
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def run(copy):
    """Run tests of the copy in a process of their own: its exit code and what it said."""
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.DEVNULL, env=environment)

    def run(*tests):
        server.stdin.write(json.dumps([str(copy), *tests]) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline()), (copy / "said.txt").read_text()
    yield run
    server.stdin.close()
    server.wait(60)


@pytest.fixture(scope="module")
def noticed():
    """The tests that failed because the code was broken; they must not fail for another reason."""
    return []


@pytest.mark.parametrize("what", MUTATIONS)
def test_broken_code_is_noticed(copy, run, noticed, what):
    name, code, broken, test = MUTATIONS[what]
    path = copy / "nerlib" / name
    source = path.read_text("utf-8")
    assert source.count(code) == 1, "the code has changed: change the mutation too"
    path.write_text(source.replace(code, broken), "utf-8")
    try:
        code, said = run(f"tests/{test}")
    finally:
        path.write_text(source, "utf-8")
    assert code == 1 and " failed" in said, said[-1500:]
    if not test.startswith(SLOW):
        noticed.append(re.search(r"^FAILED (tests/.+?)(?: - .*)?$", said, re.M)[1])


def test_code_as_it_is_passes_what_noticed(run, noticed):
    if not noticed:
        pytest.skip("no broken code was tried before")
    code, said = run(*dict.fromkeys(noticed))
    assert code == 0 and f"{len(set(noticed))} passed" in said, said[-1500:]
