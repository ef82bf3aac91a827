"""System calls for which Python has no function. Linux only."""

import ctypes
import os

PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


def call(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call; return its result, or raise OSError."""
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    result = function(
        ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def give_up_privileges() -> None:
    """Let no program give this thread new rights; both filters ask for that. Not to be undone."""
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
