"""Storages, and PyTorch's caching allocator."""
