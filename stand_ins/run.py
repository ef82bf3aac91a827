"""Run one unmodified script on stand-ins: `python -m stand_ins.run SCRIPT FOLDER`.

Meant for `rehearse.py`, in a process of its own, because the stand-ins replace parts of PyTorch
for good. The script's output is its own. Each of its processes writes what was observed in it to
FOLDER/rank-N.json. `torchrun -m stand_ins.run SCRIPT FOLDER` works as well.
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

import torch.distributed as dist

from stand_ins import data, hardware, language, ranks, used, weights
from stand_ins.observer import Observer

GPUS = 2  # of which a script with a strategy for several takes all


def host_peak() -> float:
    """Peak resident memory of this process so far, in GB (1e9 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main(script: str, folder: str) -> None:
    """Run `script` as if started by `python SCRIPT`; exit status 1 if one of its ranks fails."""
    if "LOCAL_RANK" in os.environ:  # torchrun has started all of them
        run_rank(script, folder)
        return
    others = []
    for _ in range(1, GPUS):
        rank = ranks.Rank()
        if rank.is_this_process:
            run_rank(script, folder)
            return
        others.append(rank)
    ranks.install(others)
    run_rank(script, folder)
    if any(rank.wait() for rank in others if rank.started):
        sys.exit(1)


def run_rank(script: str, folder: str) -> None:
    """Run `script` on stand-ins in this process, and write down what was observed in it."""
    hardware.install(GPUS)
    data.install()
    weights.install()
    language.install()
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
        parameters_held, optimizer_held = observer.held()
        seen = {
            "precision": observer.precision(),
            "seconds": time.perf_counter() - start,
            "images_per_second": observer.images_per_second(),
            "loss_first": loss_first,
            "loss_last": loss_last,
            "accuracy": observer.accuracy,
            "host_gb": host_peak(),
            "parameters_held": parameters_held,
            "optimizer_held": optimizer_held,
            "stand_ins": used,
        }
        number = os.environ.get("RANK") or os.environ.get("LOCAL_RANK", "0")
        draft = Path(folder) / f"rank-{number}.draft"
        draft.write_text(json.dumps(seen))
        draft.replace(draft.with_suffix(".json"))
    if dist.is_initialized():
        dist.destroy_process_group()


def _from(script: str, trace):
    """The part of a traceback that begins in the script; all of it if none does."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename != script:
        part = part.tb_next
    return part or trace


if __name__ == "__main__":
    main(*sys.argv[1:])
    # past Python's shutdown, in which a thread of gloo's that still wants Python's lock aborts
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
