"""Triton's kernels are not run: they write only to tensors that their callers have allocated."""

from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Let the launch of a kernel do nothing."""
    when_imported("triton.runtime.jit", _jit)


def _jit(module: ModuleType) -> None:
    # what kernels, tuned and other ones, share: kernel[grid](…)
    module.KernelInterface.__getitem__ = lambda kernel, grid: lambda *args, **options: None
