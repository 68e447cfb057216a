"""Pure functions on arrays; no Flax, no files, no jit."""
