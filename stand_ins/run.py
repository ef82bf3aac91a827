"""Run one unmodified script on stand-ins: `python -m stand_ins.run SCRIPT RESULT.json`.

Meant to be started by `rehearse.py`, in a process of its own, because the stand-ins replace parts
of PyTorch for good. The script's output is its own; what was observed goes to RESULT.json.
"""

import json
import os
import resource
import runpy
import sys
import time
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # also on a machine with a GPU, the CPU takes its place

from stand_ins import data, hardware, weights
from stand_ins.observer import Observer


def host_peak() -> float:
    """Peak resident memory of this process so far, in GB (1e9 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main(script: str, result: str) -> None:
    """Run `script` as if started by `python SCRIPT`; errors of the script pass through."""
    hardware.install()
    data.install()
    weights.install()
    observer = Observer()
    observer.install()
    sys.argv = [script]
    sys.path[0] = str(Path(script).parent)
    start = time.perf_counter()
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        seen = {
            "precision": observer.precision(),
            "seconds": time.perf_counter() - start,
            "images_per_second": observer.images_per_second(),
            "loss_first": observer.loss_first,
            "loss_last": observer.loss_last,
            "accuracy": observer.accuracy,
            "host_gb": host_peak(),
        }
        Path(result).write_text(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
