PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install demo test bench clean

help:
	@echo "make demo   install into .venv and train the char-lm recipe"
	@echo "make test   install into .venv and run every check"
	@echo "make bench  run the CPU benchmarks"
	@echo "make clean  remove .venv and caches"

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[recipes,checkpoints,dev]"
	@touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/lightning run char-lm

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: install
	$(BIN)/python tests/benchmarks/site_writing.py
	$(BIN)/python tests/benchmarks/site_finding.py
	$(BIN)/python tests/benchmarks/uncertainty.py
	$(BIN)/python -m tests.benchmarks.one_graph
	$(BIN)/python -m tests.benchmarks.callback_cost
	$(BIN)/python -m tests.benchmarks.throughput
	$(BIN)/python -m tests.benchmarks.generation
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.distributed
	$(BIN)/python -m tests.benchmarks.publish

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
