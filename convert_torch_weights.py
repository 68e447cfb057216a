#!/usr/bin/env python3
"""Converts published PyTorch checkpoints; the same as the command `eamm-convert`."""

from eamm_jax.cli.convert import main

if __name__ == "__main__":
    main()
