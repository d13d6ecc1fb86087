# One command trains, one command tests; each does its own set-up.
VENV := .venv
BIN := $(VENV)/bin
AND := $(empty) and not long
READY := $(VENV)/floe-ready

.PHONY: help setup train test ci soak prove-24gb lint format types clean

help:  ## What can be made
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed 's/:.*## /\t/'

train: $(READY)  ## Set up, warm-start, run GRPO on the demo, print the before/after table
	$(BIN)/floe train --config configs/quickstart.yaml

test: $(READY) lint types  ## Set up, then lint, types and all tests, in two processes: with a trained run, and the others
	@$(BIN)/python -m pytest tests -m "not trained$(AND)" > $(VENV)/tests-without-a-run.log 2>&1 & beside=$$!; \
	$(BIN)/python -m pytest tests -m "trained$(AND)"; trained=$$?; \
	wait $$beside; others=$$?; cat $(VENV)/tests-without-a-run.log; \
	[ $$trained -eq 0 ] && [ $$others -eq 0 ]

ci:  ## What CI runs: all tests, the long ones too, with skips for want of floe's own needs turned into failures
	FLOE_CI=1 $(MAKE) test AND=

soak: $(READY)  ## Kill a run's processes again and again, and watch a long run's memory; half an hour
	$(BIN)/python -m cluster.soak

prove-24gb: $(READY)  ## One step of the 3B shape with engine and learner within 24 GB, on CPU; takes long
	$(BIN)/python -m cluster.prove

setup: $(READY)  ## Create .venv and install everything

$(READY): pyproject.toml cluster/setup.sh
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

clean:  ## Remove .venv
	rm -rf $(VENV)
