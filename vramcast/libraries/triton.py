"""Triton's kernels are not run: they write only to tensors that their callers have allocated."""

from types import ModuleType

from vramcast.when_imported import when_imported


def install() -> None:
    """Let the launch of a kernel do nothing. Cannot be undone."""

    def jit(module: ModuleType) -> None:
        # what kernels, tuned and other ones, share: kernel[grid](…)
        module.KernelInterface.__getitem__ = lambda kernel, grid: lambda *args, **options: None

    when_imported("triton.runtime.jit", jit)
