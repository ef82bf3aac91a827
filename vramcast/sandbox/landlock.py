"""Linux' Landlock: the kernel itself refuses to write or connect, also to C code (landlock(7))."""

import contextlib
import ctypes
import os
import struct
import sys
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls
# Rights, as linux/landlock.h numbers them.
EXECUTE, WRITE, REFER, TRUNCATE = 1 << 0, 1 << 1, 1 << 13, 1 << 14  # refer: to another folder
CHANGE = 0b1_1111_1111_0000  # remove and make: files, folders, devices, sockets, pipes, links
TCP = 0b11  # bind, connect
NEW = {1: EXECUTE | WRITE | CHANGE, 2: REFER, 3: TRUNCATE}  # by version of the interface


def version() -> int:
    """The version of the kernel's Landlock; 0 without it (not Linux, before 5.13, switched off)."""
    try:
        return _call(CREATE_RULESET, None, 0, 1) if sys.platform == "linux" else 0
    except OSError:
        return 0


def restrict(folder: str | Path) -> bool:
    """Let this thread, and all that it starts from now on, write only below a folder.

    It cannot start programs either, and with Linux 6.7 or newer not bind or connect by TCP.
    Devices and shared memory stay writable. Returns False if the kernel has no Landlock.
    """
    known = version()
    if not known:
        return False
    rights = sum(bits for since, bits in NEW.items() if since <= known)
    writable = {folder: rights & ~EXECUTE, "/dev/shm": rights & ~EXECUTE}
    writable["/dev"] = rights & (WRITE | TRUNCATE)
    asked = struct.pack("=QQ", rights, TCP if known >= 4 else 0)
    try:
        ruleset = _call(CREATE_RULESET, asked, len(asked), 0)
        for path, allowed in writable.items():
            with contextlib.suppress(FileNotFoundError):  # /dev/shm, in some containers
                beneath = os.open(path, os.O_PATH)
                _call(ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, beneath), 0)
                os.close(beneath)
        ctypes.CDLL(None).prctl(38, *map(ctypes.c_ulong, (1, 0, 0, 0)))  # no new privileges
        _call(RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)
    except OSError:  # inside of too many others, say
        return False
    return True


def _call(*arguments: int | bytes | None) -> int:
    """Make a system call; return its result, or raise OSError."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    result = call(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "Landlock")
    return result
