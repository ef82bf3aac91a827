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
nested       jagged nested tensors, whose lengths are numbers
optimizers   how steps are taken
lbfgs        the optimizer whose state grows as its numbers tell
compiler     `torch.compile`
flex_attention    a kernel if compiled, else plain operators
readings     numbers that a script reads from tensors
known        small tensors on the host, whose numbers are known
unknown      numbers that are read without being known, and sizes that they decide
as_of_2023   the rules of PyTorch in 2023
"""
