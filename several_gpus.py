"""What only the scripts for several GPUs need: if one of their processes dies, the others end.

`check_gpus` of `local_utilities.py` calls `prepare` for a script that needs more than one GPU.
"""

import os
import sys
import threading
import time

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment

from messages import stop

# what they tell each process that they start, as far as it is needed here or by Fabric
RUN = "TORCHELASTIC_RUN_ID"  # the only one that is no number
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE")
SLURM = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")


def prepare(needed: int, found: int) -> int:
    """Prepare this process to train with others, one per GPU; how many GPUs there are in all.

    `needed`: how many the script needs at least, over all machines; `found`: how many this machine
    has. Stops the script (exit status 1) if there are too few GPUs, or if torchrun or SLURM has
    started too few processes.
    """
    torchrun = dist.is_torchelastic_launched()
    if torchrun:
        check_told("torchrun", *TORCHRUN)
        check_started("torchrun", os.environ["WORLD_SIZE"], needed)
    elif SLURMEnvironment.detect():
        check_told("SLURM", "SLURM_NTASKS")
        check_started("SLURM", os.environ["SLURM_NTASKS"], needed)
        check_told("SLURM", *SLURM)
    elif "LOCAL_RANK" in os.environ and "LADDER_MAIN_PID" not in os.environ:
        check_told("torchrun", RUN, *TORCHRUN)
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


def check_told(by: str, *variables: str) -> None:
    """Stop the script (exit status 1) if a launcher has not told all that it tells its processes.

    Then nobody has launched this process: some of the variables were left in the shell.
    """
    told = [
        name
        for name in variables
        if os.environ.get(name, "").isdecimal() or (name == RUN and name in os.environ)
    ]
    if len(told) < len(variables):
        absent = ", ".join(sorted(set(variables) - set(told)))
        stop(
            f"finds some of what {by} tells its processes in the environment, but not {absent}.\n"
            f"If {by} has not started it, remove them:  "
            f"unset {' '.join(name for name in variables if name in os.environ)}"
        )


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
    """Give each of this machine's processes its share of the cores; CPU offload needs them.

    By default, torchrun gives each process one core. Fabric gives all cores to each but one.
    """
    threads = max(1, (os.cpu_count() or 1) // processes)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


def end_with_first_process() -> None:
    """Let the processes that Fabric starts end when the first process, which starts them, ends.

    Fabric itself sees to the reverse. The others find the first one's process ID in a variable.
    """
    if "LOCAL_RANK" not in os.environ:
        os.environ["LADDER_MAIN_PID"] = str(os.getpid())
    elif "LADDER_MAIN_PID" in os.environ:
        first = int(os.environ["LADDER_MAIN_PID"])
        threading.Thread(target=end_with, args=[first], daemon=True).start()


def end_with(parent: int) -> None:
    """Wait until the process `parent` that started this one has ended, then end this one."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
