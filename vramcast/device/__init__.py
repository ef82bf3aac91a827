"""The GPU without data: what PyTorch does otherwise on "cuda".

mode         runs operators on shapes alone
cache        remembers the results of operators, to be fast
devices      where tensors are: "cuda" or the host
cuda         `torch.cuda`: which GPU, and how many
tensor_types `torch.cuda.FloatTensor` and the like
streams      its streams and events
statistics   what a script is told about memory
graphs       CUDA graphs and memory pools
autocast     its casts
optimizers   how steps are taken
compiler     `torch.compile`
readings     numbers that a script reads from tensors without numbers
as_of_2023   the rules of PyTorch in 2023
"""
