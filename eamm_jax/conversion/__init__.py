"""Published PyTorch files -> parameters of our networks, without PyTorch.

`torch_reader` reads the files, `tables` says which tensor goes where, `published` decides
what a set of files is and converts it, `report` says what was done.
"""
