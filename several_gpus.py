"""What the scripts for several GPUs need besides: processes that do not wait for a dead one.

`check_gpus` of `local_utilities.py` calls `prepare` for a script that needs more than one GPU.
"""

import os
import sys
import threading
import time

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment

from missing import stop


def prepare(needed: int, found: int) -> int:
    """Prepare this process for others, one per GPU; how many GPUs there are to train on.

    `needed`: at least so many, on all machines; `found`: here. Stops the script (exit status 1)
    where GPUs are missing, or where torchrun or SLURM has started fewer processes.
    """
    torchrun = dist.is_torchelastic_launched()
    if torchrun:
        check_started("torchrun", os.environ["WORLD_SIZE"], needed)
    elif SLURMEnvironment.detect():
        check_started("SLURM", os.environ["SLURM_NTASKS"], needed)
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if torchrun else needed
    if found < here:
        plural = "s" if here > 1 else ""
        stop(f"needs {here} CUDA GPU{plural}, and PyTorch finds {found or 'none'} here.")
    leave_at_once_on_error()
    share_cores(here if torchrun else found)
    if not torchrun:
        end_with_first_process()
        return found
    # tells Fabric what torchrun has started, through the variables that `fabric run` uses
    os.environ.setdefault("LT_DEVICES", os.environ["LOCAL_WORLD_SIZE"])
    os.environ.setdefault("LT_NUM_NODES", os.environ["GROUP_WORLD_SIZE"])
    return int(os.environ["WORLD_SIZE"])


def check_started(by: str, processes: str, needed: int) -> None:
    """Stop the script (exit status 1) if a launcher has started too few processes."""
    if int(processes) < needed:
        stop(f"needs at least {needed} processes, and {by} started {processes}.")


def leave_at_once_on_error() -> None:
    """End this process right after an error's traceback.

    Otherwise Python would first let NCCL clean up, which waits for the other processes, while they
    wait for this one.
    """
    show = sys.excepthook

    def show_and_leave(*error) -> None:
        show(*error)
        sys.stdout.flush()
        os._exit(1)

    sys.excepthook = show_and_leave


def share_cores(processes: int) -> None:
    """Give each of this machine's processes its share of the cores: CPU offload computes there.

    By itself, torchrun gives one core to each, and Fabric all cores to all but one.
    """
    threads = max(1, (os.cpu_count() or 1) // processes)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


def end_with_first_process() -> None:
    """Let the processes that Fabric starts end with the one that starts them.

    Fabric itself sees to the reverse. The first process leaves its number to the others.
    """
    if "LOCAL_RANK" not in os.environ:
        os.environ["LADDER_MAIN_PID"] = str(os.getpid())
    elif "LADDER_MAIN_PID" in os.environ:
        first = int(os.environ["LADDER_MAIN_PID"])
        threading.Thread(target=end_with, args=[first], daemon=True).start()


def end_with(parent: int) -> None:
    """End this process, as soon as the process `parent` that started it has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
