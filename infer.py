"""Animates a portrait; see `python infer.py --help`."""

from eamm_jax.cli.infer import main

if __name__ == "__main__":
    main()
