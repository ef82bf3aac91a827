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
import traceback
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # also on a machine with a GPU, the CPU takes its place

from stand_ins import data, hardware, weights
from stand_ins.observer import Observer


def host_peak() -> float:
    """Peak resident memory of this process so far, in GB (1e9 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main(script: str, result: str) -> None:
    """Run `script` as if started by `python SCRIPT`; exit status 1 if it raises."""
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
    except Exception as error:
        traceback.print_exception(error.with_traceback(_from(script, error.__traceback__)))
        sys.exit(1)
    finally:
        loss_first, loss_last = observer.losses()
        seen = {
            "precision": observer.precision(),
            "seconds": time.perf_counter() - start,
            "images_per_second": observer.images_per_second(),
            "loss_first": loss_first,
            "loss_last": loss_last,
            "accuracy": observer.accuracy,
            "host_gb": host_peak(),
        }
        draft = Path(result).with_suffix(".draft")
        draft.write_text(json.dumps(seen))
        draft.replace(result)


def _from(script: str, trace):
    """The part of a traceback that begins in the script; all of it if none does."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename != script:
        part = part.tb_next
    return part or trace


if __name__ == "__main__":
    main(*sys.argv[1:])
