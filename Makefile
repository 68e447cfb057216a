# `make test` is what continuous integration runs; it needs only Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= runs/demo

.PHONY: test lint install demo train-demo clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@ $(VENV)/.runs

# What it takes to run, without the tools of development.
$(VENV)/.runs: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[speech]"
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install lint
	$(BIN)/python -m pytest -m "not slow"
	$(BIN)/python -m pytest -m slow

# A talking face in outputs/, from what comes with the package.
demo: $(VENV)/.runs
	$(BIN)/python infer.py

# The bundled model from nothing, in $(DEMO): hours on two cores. Every step goes on where it was
# stopped, so this may be killed and run again.
train-demo: $(VENV)/.runs
	$(BIN)/python -m data.synthetic --output $(DEMO)/album --identities 2400 --seed 0 --stills 24
	$(BIN)/python -m data.synthetic --output $(DEMO)/neutral --identities 240 --seed 0 --emotions neutral
	$(BIN)/python -m data.synthetic --output $(DEMO)/talk --identities 60 --seed 0
	$(BIN)/python train.py --config=configs/stage0.py:demo_keypoints --workdir=$(DEMO)/keypoints \
	  --config.data=synthetic=$(DEMO)/album
	$(BIN)/python train.py --config=configs/stage0.py:demo --workdir=$(DEMO)/stage0 \
	  --config.data=synthetic=$(DEMO)/album --init_from=$(DEMO)/keypoints
	$(BIN)/python train.py --config=configs/stage1.py:demo --workdir=$(DEMO)/stage1 \
	  --config.data=synthetic=$(DEMO)/neutral,synthetic=$(DEMO)/talk --init_from=$(DEMO)/stage0
	$(BIN)/python train.py --config=configs/stage2.py:demo --workdir=$(DEMO)/stage2 \
	  --config.data=synthetic=$(DEMO)/talk --init_from=$(DEMO)/stage1
	$(BIN)/python -m data.synthetic.bundle --model $(DEMO)/stage2/model --clips $(DEMO)/talk

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
