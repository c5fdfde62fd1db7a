# Every target does its own set-up in .venv; the README has the same as plain commands.
PYTHON ?= python3
BIN := .venv/bin
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
MEMORY = $(shell $(BIN)/python -c 'import os; print(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20)') # MiB
GPUS = $(shell $(BIN)/python -c 'from nerlib.hardware import gpus; print(*gpus())') # as CUDA_VISIBLE_DEVICES names them
GIVEN := $(DATA)
DATA ?= $(firstword $(wildcard data/ner_dataset.csv.zip data/ner_dataset.csv))

# A file of tests for each core, each in one thread: twice as fast as one after the other in all of them.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder

.PHONY: quickstart gmb test test-all mutations lab bench sweep search lock help
.DEFAULT_GOAL := help

quickstart: .venv/installed ## the whole suite on the built-in sample corpus: reports/quickstart/index.html
	$(BIN)/python -m nerlib params/quickstart.yaml

gmb: .venv/installed ## the same on the Kaggle corpus: data/ner_dataset.csv(.zip), or DATA=path
	$(BIN)/python -m nerlib params/gmb.yaml $(if $(DATA),-p data "$(abspath $(DATA))")

test: .venv/installed-test ## linter and tests
	$(BIN)/ruff check .
	$(PYTEST) -m "not slow and not mutations"

test-all: .venv/installed-test ## linter and all tests, also those that take minutes
	$(BIN)/ruff check .
	$(PYTEST) -m ""

mutations: .venv/installed-test ## the code broken on purpose, which a test must notice each time
	$(BIN)/python -m pytest -m mutations tests/test_mutations.py

lab: .venv/installed ## JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

bench: .venv/installed-bench ## speed beside the usual tools', half an hour on a quiet machine: reports/results/benchmarks.json
	$(BIN)/python -m benchmarks "$(or $(DATA),data/ner_dataset.csv.zip)"

sweep: .venv/installed-sweep ## many runs and their comparison: SWEEP=params/sweeps/NAME.yaml; killed, it goes on where it was
	@test -n "$(SWEEP)" || { echo "name a sweep: make sweep SWEEP=params/sweeps/pos-shape.yaml"; exit 1; }
	@$(eval FOUND := $(GPUS))
	PATH="$(abspath $(BIN)):$$PATH" snakemake --cores all --resources mem_mb=$(MEMORY) $(if $(FOUND),gpu=$(words $(FOUND))) \
	  --rerun-incomplete --nolock --keep-going --show-failed-logs --config sweep="$(SWEEP)" $(if $(GIVEN),data="$(abspath $(GIVEN))") \
	  $(if $(THREADS),threads=$(THREADS)) $(if $(FOUND),gpus=1 devices="$(FOUND)")

search: .venv/installed-sweep ## a search of hyperparameters: SEARCH=params/searches/NAME.yaml; killed, it goes on where it was
	@test -n "$(SEARCH)" || { echo "name a search: make search SEARCH=params/searches/gmb-search.yaml"; exit 1; }
	$(BIN)/python -m nerlib.search "$(SEARCH)" $(if $(GIVEN),--data "$(abspath $(GIVEN))")

# Exactly the versions that were tested here, without where they came from; torch without "+cpu", which its own index adds.
COMPILE = $(BIN)/uv pip compile -q pyproject.toml --all-extras --constraint .venv/tested.txt --no-annotate --no-header \
  --no-emit-index-url --no-emit-find-links --python $(BIN)/python --python-platform x86_64-manylinux_2_28
lock: .venv/installed-test ## requirements.lock: the tested versions of everything, for Linux x86-64, Python 3.11, no GPU
	$(BIN)/pip install -q uv
	$(BIN)/uv pip freeze --python $(BIN)/python --exclude-editable | sed 's/+cpu$$//' > .venv/tested.txt
	$(COMPILE) --torch-backend cpu > .venv/resolved.txt || $(COMPILE) > .venv/resolved.txt
	@{ echo "# The tested versions, for Linux x86-64, Python 3.11, no GPU: made by make lock"; \
	  sed 's/+cpu$$//' .venv/resolved.txt; } > requirements.lock

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# Without an NVIDIA GPU, plain pip would fetch gigabytes of CUDA libraries; uv knows PyTorch's index of CPU builds.
.venv/torch: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	@if command -v nvidia-smi > /dev/null; then $(BIN)/pip install -q "$(TORCH)"; else \
	  $(BIN)/pip install -q uv; \
	  $(BIN)/uv pip install --python $(BIN)/python --torch-backend=cpu "$(TORCH)" || { \
	    echo "The index of CPU builds is out of reach; installing $(TORCH) as pip finds it, maybe with CUDA libraries."; \
	    $(BIN)/pip install -q "$(TORCH)"; }; fi
	@touch $@

.venv/installed: .venv/torch
	$(BIN)/pip install -q -e .
	@touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install -q -e ".[test,bench,sweep,slurm,parallel,kaggle]"
	@touch $@

.venv/installed-sweep: .venv/installed
	$(BIN)/pip install -q -e ".[sweep]"
	@touch $@

.venv/installed-bench: .venv/installed
	$(BIN)/pip install -q -e ".[bench]"
	@touch $@
