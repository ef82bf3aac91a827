"""Compiled scripts: PyTorch's own compiler runs, and what it generates, on tensors without data.

entry        in the place of `torch.compile`: what is compiled, and what is left as it is
regions      what does not hold while compiled code runs: module hooks, and marks in a script
plain_marks  these marks as Dynamo meets them
tracing      tensors without data, as Dynamo and AOTAutograd trace them
lowering     Inductor without a GPU: the device that it asks about, and what it decides by timing
code         the code that Inductor generates, whose kernels compute nothing
"""
