"""Storages, and PyTorch's caching allocator.

storages     when each storage is allocated and released, and on which stream
tracker      by which module, in which phase and what for
allocator    the caching allocator, simulated: when a block is free again, what is reserved
allocators   one for each GPU that a script uses
blocks       its blocks and segments, and how large they are
settings     PYTORCH_ALLOC_CONF
order        which work of a stream is certainly done, for blocks that several streams use
pinned       the allocator of pinned host memory
peaks        the peaks in the log, and what they consist of
origins      where tensors come from that may stay
"""
