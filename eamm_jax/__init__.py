"""EAMM in JAX: from one portrait, a voice and an emotion to a talking, feeling face.

Imports inside the package go one way (`tests/test_layers.py` enforces it):
``cli`` -> whole jobs (``animate``, ...) -> ``training`` -> ``input_pipeline`` ->
``conversion`` -> ``models`` -> ``features`` -> ``io`` -> ``ops`` -> ``types``, ``constants``,
``errors``.
"""

__version__ = "0.1.0"
