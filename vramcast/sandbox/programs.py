"""Programs are not found: as on a machine where there are none. Pools of processes are threads.

`nvidia-smi` without options is there, and prints nothing: logs quote it, and nothing reads it.
"""

import functools
import inspect
import os
import shutil
import subprocess
from concurrent import futures
from multiprocessing import pool

NOT_FOUND = 127  # a shell's exit status
# how `multiprocessing.pool.ThreadPool` starts its workers and talks to them
THREADS = ("Process", "_wrap_exception", "_setup_queues", "_get_sentinels", "_help_stuff_finish")
QUIET = ("nvidia-smi", ["nvidia-smi"], ("nvidia-smi",))
NOBODY = 2**22  # the number of no process: Linux' are lower (PID_MAX_LIMIT)


def install() -> None:
    """Let shells say so from now on; `audit.py` refuses what is started without one.

    A pool computes in threads of this process, whose tensors have numbers, as in processes.
    """
    for name in THREADS:
        setattr(pool.Pool, name, vars(pool.ThreadPool)[name])
    futures.ProcessPoolExecutor = _Executor
    os.system = lambda command: NOT_FOUND << 8
    shutil.which = lambda cmd, mode=None, path=None: None
    start = subprocess.Popen._execute_child
    signature = inspect.signature(start)

    @functools.wraps(start)
    def not_found(popen, *args, **kwargs):
        given = signature.bind(popen, *args, **kwargs).arguments
        command = given["args"]
        printed = command in QUIET
        if not given["shell"] and not printed:
            start(popen, *args, **kwargs)  # raises FileNotFoundError, by the audit event
            return
        if not printed:
            text = os.fsdecode(command if isinstance(command, (str, bytes)) else command[0])
            errors = 2 if given["errwrite"] == -1 else given["errwrite"]
            os.write(errors, f"/bin/sh: 1: {text.split(maxsplit=1)[0]}: not found\n".encode())
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        popen._close_pipe_fds(*(given[name] for name in pipes))
        popen.pid, popen.returncode = NOBODY, 0 if printed else NOT_FOUND

    subprocess.Popen._execute_child = not_found


class _Executor(futures.ThreadPoolExecutor):
    """`concurrent.futures.ProcessPoolExecutor`."""

    def __init__(
        self, max_workers=None, mp_context=None, initializer=None, initargs=(), **options
    ) -> None:
        super().__init__(1, initializer=initializer, initargs=initargs)
