"""train.py's flags: what is right is read, what is wrong is answered in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eamm_jax.cli.tool import run
from eamm_jax.cli.train import parse
from tests.conftest import ROOT

# ml_collections loads configurations by a method that Python 3.11 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIG = f"--config={ROOT}/configs/stage1.py"


def test_flags_and_fields():
    flags = parse([
        *(f"{CONFIG}:tiny", "--workdir=runs/1", "--init_from", "weights"),
        *("--config.batch_size=32", "--config.learning_rate", "1e-3"),
        *("--config.data=lrw=/data/LRW@2,voxceleb=/data/Vox", "--config.milestones=(5, 7)"),
        *("--coordinator=a:1", "--num_processes=2", "--process_id=1"),
    ])  # fmt: skip
    assert (flags.workdir, flags.init_from) == ("runs/1", "weights")
    assert (flags.coordinator, flags.num_processes, flags.process_id) == ("a:1", 2, 1)
    config = flags.config
    assert (config.model, config.stage) == ("tiny", "stage1")
    assert (config.batch_size, config.learning_rate) == (32, 1e-3)
    assert config.data == "lrw=/data/LRW@2,voxceleb=/data/Vox"
    assert tuple(config.milestones) == (5, 7)


@pytest.mark.parametrize("value", ["--config=stage1:tiny", "--config\nstage1:tiny"])
def test_a_configuration_is_found_by_name_in_any_folder(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    config = parse([*value.split("\n"), "--workdir=w", "--config.batch_size=3"]).config
    assert (config.stage, config.model, config.batch_size) == ("stage1", "tiny", 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "the following arguments are required: --config, --workdir"),
        ([CONFIG], "the following arguments are required: --workdir"),
        ([CONFIG, "--workdir"], "argument --workdir: expected one argument"),
        (["--config=none.py", "--workdir=w"], "Cannot read the configuration none.py"),
        (["--config=none", "--workdir=w"], "stage0, stage1, stage1_finetune, stage2"),
        (["--config", "none.py", "--workdir=w"], "Cannot read the configuration none.py"),
        ([f"--config={ROOT}/pyproject.toml", "--workdir=w"], "pyproject.toml fails: SyntaxError"),
        ([f"{CONFIG}:huge", "--workdir=w"], "no variant 'huge'; allowed are tiny"),
        ([CONFIG, "--workdir=w", "--config.batchsize=3"], "did you mean --config.batch_size?"),
        ([CONFIG, "--workdir=w", "--config.xyzzy=3"], "--config.xyzzy is no field"),
        ([CONFIG, "--workdir=w", "--config.batch_size=x"], "is 'x'; it must be a whole number"),
        ([CONFIG, "--workdir=w", "--config.learning_rate=x"], "is 'x'; it must be a number"),
        ([CONFIG, "--workdir=w", "--config.augment=x"], "is 'x'; it must be true or false"),
        ([CONFIG, "--workdir=w", "--num_processes=two"], "'two' is not a whole number"),
        ([CONFIG, "--workdir=w", "--cofig.batch_size=3"], "'cofig.batch_size'"),
        ([CONFIG, "--workdir=w", "rest"], "'rest' is not a flag"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, given, words):
    with pytest.raises(SystemExit) as ended:
        run(lambda: parse(given))
    assert ended.value.code == 2
    assert words in (line := capsys.readouterr().err)
    assert line.startswith("error: ")
    assert line.count("\n") == 1


def test_help_and_bad_input_as_a_user_sees_them(tmp_path):
    def run_program(*given: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "train.py"), *given]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    shown = run_program("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    for flag in (
        "--config NAME",
        "--workdir DIR",
        "--init_from DIR",
        "--config.FIELD",
        "Exit codes",
    ):
        assert flag in shown.stdout
    refused = run_program(CONFIG, f"--workdir={tmp_path}")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: stage1 needs trained kp_detector, generator: give")
    assert refused.stderr.count("\n") == 1


def test_flags_are_parsed_without_heavy_imports():
    code = (
        "import sys\n"
        "from eamm_jax.cli.train import parse; parse([sys.argv[1], '--workdir=w'])\n"
        "heavy = {'jax', 'flax', 'orbax', 'grain', 'av', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, CONFIG], cwd=ROOT, timeout=120, check=True)
