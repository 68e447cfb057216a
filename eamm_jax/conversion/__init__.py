"""Published PyTorch files -> parameters of our networks, without PyTorch.

torch_reader (restricted_pickle, torch_tensors)   the two file formats
contents                                          what a file holds, by names
tables, layouts                                   which tensor goes where, and how it is laid
networks                                          one network, complete or not at all
published, report                                 a set of files
checkpoint                                        our own files
"""
