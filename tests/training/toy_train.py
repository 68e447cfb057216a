"""`train.py` with a stage that compiles in no time; run by tests in processes of its own."""

from eamm_jax.cli.train import main
from eamm_jax.training import loop
from tests.training.toy import make_toy_stage

if __name__ == "__main__":
    loop.make_stage, loop.needed_networks = make_toy_stage, lambda *_: ()
    main()
