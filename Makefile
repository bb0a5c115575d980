# A fresh machine needs Python 3.11+, a C compiler and the package registry. Everything goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LATEST := .venv-latest
TORCH := $(shell grep -m1 '^torch==' requirements.txt)
DATA := data/builtin/train/frames_reranking.jsonl

.PHONY: help train train-tiny test test-fast test-latest setup data data-all data-pipeline lint bench bench-gpu gpu-check clean
.DEFAULT_GOAL := train

train: data            ## install, prepare data, fine-tune a pretrained encoder, evaluate before and after, export
	@if $(BIN)/python -m data_prep minilm; then \
	  echo "$(BIN)/python run_train.py experiment=first" && $(BIN)/python run_train.py experiment=first; \
	else \
	  echo "make train: without a pretrained encoder it trains youtu_tiny from random weights, as make train-tiny" && \
	  $(BIN)/python run_train.py experiment=first_tiny; \
	fi

train-tiny: data       ## the same with youtu_tiny from random weights
	$(BIN)/python run_train.py experiment=first_tiny

test: $(VENV)/installed  ## install, run the whole test suite
	$(BIN)/python -m pytest

test-fast: $(VENV)/installed  ## without the tests marked slow
	$(BIN)/python -m pytest -m "not slow"

test-latest:           ## the fast tests with the newest versions that pyproject.toml allows, in .venv-latest
	test -x $(LATEST)/bin/python || $(PYTHON) -m venv $(LATEST)
	$(LATEST)/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(LATEST)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
		"$(TORCH)" -e "$$(grep -m1 '^-e ' requirements.txt | cut -c4-)"
	$(LATEST)/bin/python -m pytest -m "not slow"

setup: $(VENV)/installed  ## install only

data: $(VENV)/installed $(DATA)  ## prepare the builtin data

data-all: data         ## and what the stages pretrain and align train on
	$(BIN)/python -m data_prep --out data/builtin --all

data-pipeline: data    ## the road from files to records with mined negatives, on builtin docs, about two minutes
	$(BIN)/python -m data_prep run data_prep/pipelines/docs.yaml

lint: $(VENV)/installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: data            ## speed and memory against sentence-transformers and the direct loss, about 20 minutes
	$(BIN)/python -m experiments.benchmarks.train_speed
	$(BIN)/python -m experiments.benchmarks.encode_speed
	$(BIN)/python -m experiments.benchmarks.evaluate_speed
	$(BIN)/python -m experiments.benchmarks.info_nce

bench-gpu: data        ## a training step of youtu2b on one card
	$(BIN)/python -m experiments.benchmarks.gpu_step

gpu-check: $(VENV)/installed  ## what only a card can show, in 9 minutes: a page in experiments/gpu_check
	$(BIN)/python -m experiments.gpu_check

help:                  ## this list
	@awk -F':.*##' '/^[a-z-]+:.*##/ { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

clean:                 ## remove .venv, the data and all results
	rm -rf $(VENV) $(LATEST) data outputs multirun

# torch first and alone: a range that pip resolves together with other packages may pick another build
$(VENV)/installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# once: data_prep leaves what is there as it is, and writes this file last
$(DATA): | $(VENV)/installed
	$(BIN)/python -m data_prep --out data/builtin
