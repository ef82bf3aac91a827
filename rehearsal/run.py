"""Run one unmodified script on stand-ins: `python -m rehearsal.run SCRIPT FOLDER`.

Meant for `rehearse.py`, which gives it a process of its own, because the stand-ins replace parts of
PyTorch for good. The script prints as usual. Each of its processes writes what was observed in it
to FOLDER/rank-N.json. `torchrun -m rehearsal.run SCRIPT FOLDER` works as well.
"""

import contextlib
import json
import logging
import multiprocessing
import os
import resource
import runpy
import sys
import time
import traceback
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # also on a machine with a GPU, the CPU takes its place

import torch.distributed as dist

from rehearsal import GPUS, data, hardware, language, ranks, used, weights
from rehearsal.observer import Observer
from vramcast.processes.messages import brief, text_of

# torchao, which transformers imports, lets PyTorch warn of torchao's own code
logging.getLogger("torch.utils._pytree").addFilter(lambda record: "is an Enum" not in record.msg)
with contextlib.suppress(ModuleNotFoundError):  # not all scripts need them
    import datasets  # noqa: F401  here once, in the process that all scripts are forked from
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

HERE = Path(__file__).parent


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
    # as in a new process: the fork server's ways are not those of a loader's workers
    multiprocessing.set_start_method(None, force=True)
    sys.argv = [script]
    sys.path[0] = str(Path(script).parent)
    start, error = time.perf_counter(), None
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as leaving:
        if isinstance(leaving.code, int) and leaving.code:
            error = f"it ended itself with status {leaving.code}"
        elif leaving.code:
            error = brief(text_of(leaving.code))
        raise
    except BaseException as failure:
        error = in_a_line(script, failure)
        _print(failure)
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
            "targets": observer.targets,
            "steps": observer.steps,
            "differentiated": observer.differentiated,
            "host_gb": host_peak(),
            "parameters_held": parameters_held,
            "optimizer_held": optimizer_held,
            "stand_ins": used,
            "error": error,
            "ended": time.monotonic(),
        }
        number = os.environ.get("RANK") or os.environ.get("LOCAL_RANK", "0")
        draft = Path(folder) / f"rank-{number}.draft"
        draft.write_text(json.dumps(seen))
        draft.replace(draft.with_suffix(".json"))
    if dist.is_initialized():
        dist.destroy_process_group()


def in_a_line(script: str, failure: BaseException) -> str:
    """An exception in one line: what went wrong, and in which line of the script."""
    if isinstance(failure, SyntaxError) and failure.filename == script:
        return f"line {failure.lineno}: SyntaxError: {failure.msg}"
    frames = traceback.extract_tb(failure.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == script]
    where = f"line {lines[-1]}: " if lines else ""
    whole = traceback.TracebackException.from_exception(failure)
    whole.__notes__ = None  # which somebody has added to the message
    return where + brief(list(whole.format_exception_only())[-1])


def _print(failure: BaseException) -> None:
    """Print an exception as Python does, without the frames of the rehearsal itself."""
    whole = traceback.TracebackException.from_exception(failure)
    parts = [whole]
    for part in parts:
        parts += filter(None, (part.__cause__, part.__context__, *(part.exceptions or ())))
        kept = [frame for frame in part.stack if not _is_ours(frame.filename)]
        part.stack = traceback.StackSummary.from_list(kept) if kept else None
    print("".join(whole.format()), end="", file=sys.stderr)


def _is_ours(file: str) -> bool:
    return file == "<frozen runpy>" or Path(file).parent == HERE


if __name__ == "__main__":
    main(*sys.argv[1:])
    # past Python's shutdown, in which a thread of gloo's that still wants Python's lock aborts
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
