# make demo   set up .venv, train GRPO and GDRO side by side on the built-in suite, leave a page
# make test   set up .venv, pass the tests
# make test-verl     set up .venv-verl, pass the tests on verl and a local Ray (4 minutes)
# make nightly-verl  the same, all of it (half an hour); writes docs/results/verl.md
# make results every page of docs/results that its numbers give, with the README's tables
# make theory measure what the theory bounds, print it beside the bounds
# make cover  what the tests of the core leave out, by line and branch
# make mutate which small changes of budgets, adversary, allocators and classifier go unnoticed
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
VERL_BIN := .venv-verl/bin
VERL_READY := .venv-verl/.ready
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: demo test test-verl nightly-verl results theory cover mutate lint type bench setup clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	PYTHON=$(PYTHON) bash scripts/setup.sh
	touch $@

demo: $(READY)
	$(BIN)/gdro compare arithmetic --methods grpo,rollout,rollout_replay --seeds 0 --parallel 2 --out runs/demo

test: $(READY)
	$(BIN)/pytest -n 2 --dist worksteal

$(VERL_READY): pyproject.toml constraints-verl.txt scripts/setup_verl.sh
	PYTHON=$(PYTHON) bash scripts/setup_verl.sh
	touch $@

test-verl: $(VERL_READY)
	$(VERL_BIN)/pyright -p scripts/pyright-verl.json --pythonpath $(VERL_BIN)/python
	$(VERL_BIN)/pytest tests/trainers/verl -m "not nightly"

nightly-verl: $(VERL_READY)
	$(VERL_BIN)/python scripts/nightly_verl.py

results: $(READY)
	$(BIN)/python scripts/results.py
	$(BIN)/python benchmarks/forgetting.py > /dev/null
	$(BIN)/python benchmarks/factorial.py > /dev/null
	$(BIN)/python benchmarks/headroom.py
	$(BIN)/python benchmarks/verifier.py
	$(BIN)/python -m benchmarks.mechanism page
	$(BIN)/python -m benchmarks.simulator --page

theory: $(READY)
	$(BIN)/pytest tests/theory -vv

cover: $(READY)
	$(BIN)/coverage run -m pytest tests/core tests/theory
	$(BIN)/coverage report

mutate: $(READY)
	rm -rf mutants
	$(BIN)/mutmut run > mutants.log
	$(BIN)/python scripts/mutants.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(READY)
	$(BIN)/pyright

bench: $(READY)
	$(BIN)/python benchmarks/controller.py
	$(BIN)/python benchmarks/step.py

clean:
	rm -rf .venv .venv-verl
