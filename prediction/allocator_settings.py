"""PYTORCH_ALLOC_CONF: what a user may ask of the caching allocator, and what of it is simulated.

Rules: c10/core/AllocatorConfig.h and .cpp, c10/cuda/CUDAAllocatorConfig.h (torch 2.14). PyTorch
reads the environment at the first allocation, so a script may set it until then. Whether a text is
well formed is asked of the installed PyTorch, which raises what it would raise on a GPU.
"""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from prediction.tracker import Tracker

MIB = 2**20
# the first one that is set counts: PyTorch's CUDA build reads the older name before the newer one
NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
INTERVALS = 16  # of sizes, from 1 MiB to 64 GiB, each twice the one before
# of no effect on how much memory is taken
HARMLESS = {
    "graph_capture_record_stream_reuse", "pinned_free_catch_all", "pinned_num_register_threads",
    "pinned_use_background_threads", "pinned_use_cuda_host_register", "release_lock_on_cudamalloc",
    "throw_on_cudamalloc_oom",
}  # fmt: skip
RESET = ("max_split", "divisions")  # to their defaults by each new text; the others stay


@dataclass(frozen=True)
class Settings:
    """What changes the allocator's rules; sizes in bytes."""

    expandable: bool = False  # expandable_segments
    max_split: float = math.inf  # larger blocks are not split, and serve only such requests
    rounding: int = 20 * MIB  # max_non_split_rounding: by so much they may be too large
    divisions: tuple[int, ...] = (0,) * INTERVALS  # roundup_power2_divisions

    def division(self, size: int) -> int:
        """Into how many steps sizes from one power of two to the next are divided; 0 or 1: none."""
        return self.divisions[min(max(size.bit_length() - 21, 0), INTERVALS - 1)]


def parse(text: str, before: Settings) -> tuple[Settings, list[str]]:
    """Well-formed settings, and the names of those that are not simulated.

    What `text` does not name is as `before`, or, for some, as it is by default.
    """
    values = {name: getattr(Settings, name) for name in RESET}
    values["divisions"] = (0,) * INTERVALS
    unknown = []
    for key, value in re.findall(r"(\w+):(\[[^]]*\]|[^,]*)", re.sub(r"\s", "", text)):
        if key == "expandable_segments":
            values["expandable"] = value == "True"
        elif key == "max_split_size_mb":
            values["max_split"] = int(value) * MIB
        elif key == "max_non_split_rounding_mb":
            values["rounding"] = int(value) * MIB
        elif key == "roundup_power2_divisions":
            values["divisions"] = _divisions(value)
        elif key not in HARMLESS and (key, value) != ("backend", "native"):
            unknown.append(key)
    return replace(before, **values), unknown


def _divisions(value: str) -> tuple[int, ...]:
    """The divisions of each interval: one number for all, or `[256:1,512:2,>:4]` by MiB.

    Intervals below the first one named take its number, `>` stands for all after the last one
    (`parseRoundUpPower2Divisions`).
    """
    if not value.startswith("["):
        return (int(value),) * INTERVALS
    divisions, last = [0] * INTERVALS, None
    for bound, number in re.findall(r"([\d>]+):(\d+)", value):
        if bound == ">":
            start = 0 if last is None else last + 1
            divisions[start:] = [int(number)] * (INTERVALS - start)
            continue
        index = min(int(bound).bit_length() - 1, INTERVALS - 1)
        if last is None:
            divisions[:index] = [int(number)] * index
        divisions[index], last = int(number), index
    return tuple(divisions)


def install(tracker: Tracker, notes: list[str]) -> None:
    """Let a script's settings be booked. Cannot be undone.

    `notes` is told what is not simulated.
    """
    check: Callable[[str], None] = torch._C._accelerator_setAllocatorSettings
    now = Settings()

    def set_settings(text: str) -> None:
        if tracker.configure:
            read_environment()  # which has to be first
        use(text)

    def use(text: str) -> None:
        nonlocal now
        check(text)
        now, unknown = parse(text, now)
        tracker.settings(now)
        for name in unknown:
            why = " (it acts only where a memory fraction is set)" if "garbage" in name else ""
            notes.append(f"{name} of PyTorch's allocator is not simulated{why}")

    def read_environment() -> None:
        tracker.configure = None
        text = next((os.environ[name] for name in NAMES if name in os.environ), None)
        if text is not None:
            use(text)

    tracker.configure = read_environment
    torch._C._accelerator_setAllocatorSettings = set_settings
