"""PYTORCH_ALLOC_CONF: the settings of the caching allocator, and which of them are simulated.

Rules: c10/core/AllocatorConfig.h and .cpp, c10/cuda/CUDAAllocatorConfig.h (torch 2.14). PyTorch
reads the variable at the first allocation, so a script may set it until then. The installed PyTorch
checks the text, and raises the errors that it would raise on a GPU.
"""

import math
import os
import re
from dataclasses import dataclass, replace

from vramcast import compat
from vramcast.memory.tracker import Tracker

MIB = 2**20
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
    """The settings that change the allocator's rules; sizes in bytes."""

    expandable: bool = False  # expandable_segments
    max_split: float = math.inf  # larger blocks are not split, and serve only such requests
    rounding: int = 20 * MIB  # max_non_split_rounding: by so much they may be too large
    divisions: tuple[int, ...] = (0,) * INTERVALS  # roundup_power2_divisions

    def division(self, size: int) -> int:
        """How many sizes of blocks there are from one power of two to the next; 0 or 1: no rule."""
        return self.divisions[min(max(size.bit_length() - 21, 0), INTERVALS - 1)]


def parse(text: str, before: Settings) -> tuple[Settings, list[str]]:
    """The settings in a well-formed text, and the names of those that are not simulated.

    Settings that `text` does not name stay as `before`; some go back to their defaults.
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
    """The number of divisions for each interval of sizes (`parseRoundUpPower2Divisions`).

    The text is one number for all, or `[256:1,512:2,>:4]` with sizes in MiB. Intervals below the
    first one take its number; `>` stands for all after the last one.
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
    """Let a script change the settings.

    Settings that are not simulated are named in `notes`.
    """
    check = compat.check_settings
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
        text = next((os.environ[name] for name in compat.SETTINGS_FROM if name in os.environ), None)
        if text is not None:
            use(text)

    tracker.configure = read_environment
    compat.replace_settings(set_settings)
