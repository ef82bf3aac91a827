"""Linux' Landlock: the kernel itself refuses to write or connect, also to C code (landlock(7))."""

import contextlib
import os
import struct
import sys
from pathlib import Path

from vramcast.sandbox import system_calls

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls
# Rights, as linux/landlock.h numbers them.
EXECUTE, WRITE, REFER, TRUNCATE = 1 << 0, 1 << 1, 1 << 13, 1 << 14  # refer: to another folder
CHANGE = 0b1_1111_1111_0000  # remove and make: files, folders, devices, sockets, pipes, links
DEVICES, CONTROL = 1 << 6 | 1 << 11, 1 << 15  # make character and block devices; control them
TCP = 0b11  # bind, connect
SCOPES = 0b11  # abstract sockets and signals of others
NEW = {1: EXECUTE | WRITE | CHANGE, 2: REFER, 3: TRUNCATE, 5: CONTROL}  # by interface's version
HARMLESS = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")]


def version() -> int:
    """The version of the kernel's Landlock; 0 without it (not Linux, before 5.13, switched off)."""
    try:
        return system_calls.call(CREATE_RULESET, None, 0, 1) if sys.platform == "linux" else 0
    except OSError:
        return 0


def restrict(folder: str | Path) -> bool:
    """Let this thread, and all that it starts from now on, write only below a folder.

    It cannot start programs either; with Linux 6.7 or newer not bind or connect by TCP; with 6.12
    or newer not signal other processes. Shared memory (/dev/shm) and devices like /dev/null stay
    writable. Returns False if the kernel has no Landlock.
    """
    known = version()
    if not known:
        return False
    rights = sum(bits for since, bits in NEW.items() if since <= known)
    files, device = rights & ~(EXECUTE | DEVICES | CONTROL), rights & (WRITE | TRUNCATE | CONTROL)
    writable = dict.fromkeys([folder, "/dev/shm"], files) | dict.fromkeys(HARMLESS, device)
    asked = struct.pack("=QQQ", rights, TCP if known >= 4 else 0, SCOPES if known >= 6 else 0)
    try:
        ruleset = system_calls.call(CREATE_RULESET, asked, len(asked), 0)
        for path, allowed in writable.items():
            with contextlib.suppress(FileNotFoundError):  # /dev/shm, in some containers
                beneath = os.open(path, os.O_PATH)
                system_calls.call(ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, beneath), 0)
                os.close(beneath)
        system_calls.give_up_privileges()
        system_calls.call(RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)
    except OSError:  # inside of too many others, say
        return False
    return True
