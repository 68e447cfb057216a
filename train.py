"""Trains a stage; see `python train.py --help`."""

from eamm_jax.cli.train import main

if __name__ == "__main__":
    main()
