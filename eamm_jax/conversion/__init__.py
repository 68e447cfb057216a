"""Published PyTorch files to variables of our networks, without PyTorch.

restricted_pickle, pickled_values   pickles of plain data, and what they may make
torch_tensors, torch_reader         the two file formats
contents                            what a file holds, by names
tables                              which tensor becomes which variable, and how its axes move
networks                            one network, complete or not at all
published                           a set of files to one model
"""
