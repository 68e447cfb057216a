"""Stands in for the package `libtpu`, where processes fake the hosts of a TPU slice."""


def get_library_path() -> str:
    return __file__  # never loaded: these processes compute on CPUs
