"""Configurations: complete, typed, locked, and refused in words where they are wrong."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from eamm_jax.errors import UserError
from eamm_jax.models.config import published
from eamm_jax.models.presets import demo, tiny
from eamm_jax.training.config import check_config, model_config
from eamm_jax.training.objectives import OBJECTIVES
from eamm_jax.training.stage import make_stage
from tests.conftest import ROOT

STAGES = ("stage0", "stage1", "stage1_finetune", "stage2")
BUNDLED = ("bundled_keypoints", "bundled_generator", "bundled_stage1", "bundled_stage2")


def get_config(stage, variant=""):
    return importlib.import_module(f"configs.{stage}").get_config(variant)


@pytest.fixture
def parse(monkeypatch):
    """What the command line makes of arguments."""

    def parse(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])  # ml_collections looks there
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values)
        with warnings.catch_warnings():
            # ml_collections loads the file in a way that Python deprecates.
            warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)
            values(sys.argv)
        return values.config

    return parse


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_has_a_published_and_a_tiny_configuration(stage):
    config = get_config(stage)
    assert config.stage == stage
    check_config(config, published())
    assert model_config(config) == published()
    small = get_config(stage, "tiny")
    check_config(small, tiny())
    assert model_config(small) == tiny()
    assert set(small) == set(config)


@pytest.mark.parametrize("name", BUNDLED)
def test_each_bundled_configuration_fits_the_bundled_networks(name):
    config = get_config(name)
    config.num_steps = 1000
    networks = model_config(config)
    make_stage(config, networks)
    assert networks == demo()
    small = get_config(name, "tiny")
    assert set(small) == set(config)
    small.num_steps = 2
    make_stage(small, model_config(small))


def test_all_objectives_are_configured():
    variants = [(stage, "") for stage in (*STAGES, *BUNDLED)] + [("stage0", "gan")]
    assert {get_config(*variant).stage for variant in variants} == set(OBJECTIVES)


@pytest.mark.parametrize("stage", STAGES)
def test_published_optimiser(stage):
    config = get_config(stage)
    assert (config.learning_rate, config.beta1, config.beta2) == (2e-4, 0.5, 0.999)
    assert (config.milestones, config.learning_rate_factor) == ((60, 90), 0.1)
    assert config.clip_norm == 0


def test_batch_sizes_are_published():
    assert [get_config(stage).batch_size for stage in STAGES] == [40, 8, 6, 16]


def test_fields_can_be_set_on_the_command_line(parse):
    config = parse(
        f"--config={ROOT}/configs/stage2.py:tiny",
        "--config.batch_size=3",
        "--config.learning_rate=0.1",
        "--config.remat=('emo_detector',)",
        "--config.emotion_head=linear_10",
    )
    assert (config.batch_size, config.learning_rate) == (3, 0.1)
    assert config.remat == ("emo_detector",)
    assert model_config(config).moved_keypoints == tuple(range(10))


def test_unknown_fields_and_wrong_types_are_refused(parse):
    with pytest.raises(AttributeError, match="batchsize"):
        parse(f"--config={ROOT}/configs/stage1.py", "--config.batchsize=3")
    with pytest.raises(flags.IllegalFlagValueError, match="batch_size"):
        parse(f"--config={ROOT}/configs/stage1.py", "--config.batch_size=many")
    with pytest.raises(AttributeError, match="locked"):
        get_config("stage1").new_field = 1


def test_unknown_variants_are_refused():
    with pytest.raises(UserError, match=r"stage1 has no variant 'small'; allowed are tiny"):
        get_config("stage1", "small")


def test_variants_are_joined_by_commas():
    config = get_config("stage0", "tiny,gan")
    assert config.stage == "stage0_gan"
    assert config.model == "tiny"
    assert get_config("stage0", "tiny").stage == "stage0"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("dtype", "float16", "float32, bfloat16"),
        ("perceptual", "lpips", "vgg, pyramid"),
        ("remat", ("vgg11",), "vgg19"),
        ("accumulate", 0, "at least 1"),
        ("learning_rate", 0.0, "above 0"),
        ("model", "huge", "published, demo, tiny"),
        ("perceptual", "vgg", "8x8 pixels; VGG-19 needs 16x16"),
        ("feature_matching_weights", (1.0,), "the discriminator has 2 blocks"),
    ],
)
def test_wrong_values_are_answered_with_what_is_allowed(field, value, words):
    config = get_config("stage0", "tiny,gan")
    with config.ignore_type():
        config[field] = value
    with pytest.raises(UserError, match=words) as caught:
        make_stage(config, model_config(config))
    assert "\n" not in str(caught.value)


def test_numbers_are_finite():
    """Every field that is a number, or holds some."""
    given = get_config("stage0", "tiny,gan")
    names = [name for name, value in given.items() if isinstance(value, float)]
    names += ["perceptual_weights", "scales"]
    assert len(names) > 10
    for name in names:
        for wrong in (float("nan"), float("inf"), -float("inf")):
            config = given.copy_and_resolve_references().unlock()
            config[name] = (wrong, 1.0) if isinstance(config[name], tuple) else wrong
            with pytest.raises(UserError, match=f"config.{name} is .*finite"):
                check_config(config, model_config(config))


def test_loading_a_configuration_imports_nothing_heavy():
    code = (
        "import sys\n"
        f"import importlib\nfor name in {STAGES + BUNDLED}:\n"
        "    importlib.import_module(f'configs.{name}').get_config('tiny')\n"
        "print([name for name in ('jax', 'flax', 'orbax', 'optax') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", STAGES + BUNDLED)
def test_the_docstring_has_command_hardware_cost_and_metric(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    for words in (f"train.py --config=configs/{name}.py", "Hardware: ", "Cost: ", "Metric: "):
        assert words in text
    assert Path(ROOT, "configs", f"{name}.py").is_file()
