# One command trains, one command tests; each does its own set-up.
VENV := .venv
BIN := $(VENV)/bin
# Two processes; each file's tests stay together, in the order that tests/conftest.py gives.
PYTEST := $(BIN)/python -m pytest tests -n 2 --dist loadgroup --no-loadscope-reorder --durations=10
READY := $(VENV)/floe-ready
# As cluster/setup.sh decides which engine it installs: that for CUDA has no CPU mode.
GPU_SHARES = $(shell nvidia-smi -L >/dev/null 2>&1 && echo rollout.num_gpus=0.5 learner.num_gpus=0.5)

.PHONY: help setup train check test ci docs soak coverage mutants prove-gpu prove-24gb record lint format types clean

help:  ## What can be made
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed 's/:.*## /\t/'

train: $(READY)  ## Set up, warm-start, run GRPO on the demo, print the before/after table
	$(BIN)/floe train --config configs/quickstart.yaml $(GPU_SHARES)

check: $(READY) lint types  ## Lint, types, and the tests that start no engine, Ray or DeepSpeed: some minutes
	$(PYTEST) -m "not engine and not heavy and not long and not soak"

test: $(READY) lint types  ## Lint, types, and all tests but the long loops, on real parts
	$(PYTEST) -m "not long and not soak"

ci: $(READY) lint types  ## What CI runs: all tests but the soak's, with skips for want of floe's own needs turned into failures
	FLOE_CI=1 $(PYTEST) -m "not soak"

docs: $(READY)  ## Build the docs as a site into build/site; a broken link or an unknown name is an error
	$(BIN)/properdocs build --clean

soak: $(READY)  ## Kill a run's processes again and again, watch a long run's memory, and run the cases beyond CI's
	$(BIN)/python -m floe.cluster.soak
	FLOE_SOAK=1 FLOE_TEST_PRELOADED=0 $(BIN)/python -m pytest tests -m soak
	FLOE_SOAK=1 FLOE_TEST_PRELOADED=0 $(BIN)/python -m pytest tests/test_resume.py -m ""
	$(BIN)/python -m floe.cluster.prove.gpu --device cpu --again

coverage: $(READY)  ## Run the tests of `make check` and print the share of lines that they run, by folder
	$(PYTEST) -m "not engine and not heavy and not long and not soak" --cov --cov-report=json:build/coverage.json
	$(BIN)/python -m tests.coverage_by_folder build/coverage.json

mutants: $(READY)  ## Change the pure core in about a thousand ways and see whether its tests notice: ten minutes or so
	rm -rf mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 2
	$(BIN)/python -m tests.mutants

prove-24gb: $(READY)  ## One step of the 3B shape with engine and learner within 24 GB, on CPU; takes long: TOKENIZER=DIR
	$(BIN)/python -m floe.cluster.prove $(if $(TOKENIZER),--tokenizer "$(TOKENIZER)")

prove-gpu: $(READY)  ## What no CPU can show, in twelve parts that go on where they were left: DEVICE=cpu QUICK=1 PARTS="2 3" AGAIN=1
	$(BIN)/python -m floe.cluster.prove.gpu --device $(or $(DEVICE),cuda) --parts "$(PARTS)" $(if $(QUICK),--quick) $(if $(AGAIN),--again)

record: $(READY)  ## What this version learns and how fast it is, into docs/record; goes on where it was left: PARTS="curve trl" GEOQUERY=DIR AGAIN=1
	$(BIN)/python -m floe.cluster.record --parts "$(PARTS)" $(if $(GEOQUERY),--geoquery "$(GEOQUERY)") $(if $(AGAIN),--again)

setup: $(READY)  ## Create .venv and install everything

$(READY): pyproject.toml constraints.txt cluster/setup.sh
	bash cluster/setup.sh $(VENV)
	touch $(READY)

lint: $(READY)  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## Rewrite files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)  ## Check types
	$(BIN)/mypy

clean:  ## Remove .venv and what the targets above leave
	rm -rf $(VENV) build mutants
