"""Published PyTorch files to variables of our networks, without PyTorch.

restricted_pickle            pickles of plain data
torch_reader, torch_tensors  the two file formats, and the tensors in them
contents                     what a file holds, by names
tables                       which tensor becomes which variable, and how its axes move
published                    networks, complete or not at all; a set of files to one model
"""
