"""Linux' seccomp: the kernel itself refuses what a prediction has no use for (seccomp(2)).

Landlock's rules are about files. This is about the rest that one process can do to others and to
the system: start programs and processes, connect, send signals, trace, mount, set clocks; and about
what Landlock leaves out: modes, owners, times and attributes of files.

A filter sees a system call's number and arguments, not what pointers lead to. So paths and
addresses cannot be told apart: the calls that need none are left (`socketpair`), and those that
change files' modes, owners and times succeed without an effect, since scripts make them for their
own files, too (`shutil.copy2`).
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from vramcast.sandbox import system_calls

# What a filter answers: linux/seccomp.h. The lower half of an error is its number; 0: success.
ALLOW, ERROR = 0x7FFF0000, 0x00050000
SET_MODE_FILTER, ALL_THREADS, NO_SLOWER = 1, 1 << 0, 1 << 2  # NO_SLOWER: no speculation barriers
LOAD, IF_EQUAL, IF_ABOVE, AND, ANSWER = 0x20, 0x15, 0x25, 0x54, 0x06  # linux/bpf_common.h
NUMBER, MACHINE, ARGUMENTS = 0, 4, 16  # places in struct seccomp_data; lower halves come first
WHOLE = 0xFFFFFFFF
# The last call that is known here, `mseal` of Linux 6.10. Of later ones nothing is known.
LAST = 462

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
# Numbers on the two machines, None where there is no such call: as in the kernel's
# arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
SECCOMP = (317, 277)
PROCESSES = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
}  # fmt: skip
NETWORK = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200),
}  # fmt: skip
OTHERS = {  # what is other processes' or the system's
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "tkill": (200, 130), "setns": (308, 268), "unshare": (272, 97), "chroot": (161, 51),
    "pivot_root": (155, 41), "mount": (165, 40), "umount2": (166, 39), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265),
    "swapon": (167, 224), "swapoff": (168, 225), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "acct": (163, 89), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "reboot": (169, 142), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "bpf": (321, 280), "perf_event_open": (298, 241),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "syslog": (103, 116),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "vhangup": (153, 58),
    "iopl": (172, None), "ioperm": (173, None), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190),
    "semop": (65, 193), "semtimedop": (220, 192), "semctl": (66, 191), "msgget": (68, 186),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "truncate": (76, 45),  # by path: Landlock refuses it from version 3 on; ftruncate is left
}  # fmt: skip
NOT_HERE = {  # that programs do without on older kernels; for clone3, glibc takes clone
    "clone3": (435, 435), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "userfaultfd": (323, 282),
}  # fmt: skip
ATTRIBUTES = {
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip
WITHOUT_EFFECT = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    # real time would leave others little
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
}  # fmt: skip
ASKED = {  # looked at more closely; see `_rules`
    "clone": (56, 220), "socketpair": (53, 199), "ioctl": (16, 29), "fcntl": (72, 25),
    "mknod": (133, None), "mknodat": (259, 33), "kill": (62, 129), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261),
    "move_pages": (279, 239), "migrate_pages": (256, 238), "sched_setaffinity": (203, 122),
    "setpriority": (141, 140), "personality": (135, 92), "prctl": (157, 167),
}  # fmt: skip
CALLS = {
    **PROCESSES, **NETWORK, **OTHERS, **NOT_HERE, **ATTRIBUTES, **WITHOUT_EFFECT, **ASKED
}  # fmt: skip

CLONE_THREAD = 0x10000
AF_UNIX, SOCK_STREAM, SOCK_SEQPACKET, KINDS_OF_SOCKETS = 1, 1, 5, 0xF
DEVICE = 0o020000  # the bit that tells both kinds of device nodes from other files
# Questions about terminals and pipes, copies that need an open file to write to, and settings of
# the process's own descriptors (asm-generic/ioctls.h, linux/fs.h). Others change files or devices.
REQUESTS = (
    0x5401,  # TCGETS
    0x5413,  # TIOCGWINSZ
    0x540F,  # TIOCGPGRP
    0x541B,  # FIONREAD
    0x5421,  # FIONBIO
    0x5450,  # FIONCLEX
    0x5451,  # FIOCLEX
    0x40049409,  # FICLONE
    0x4020940D,  # FICLONERANGE
)
# F_SETOWN, F_SETSIG, F_SETOWN_EX: signals to others. F_SETLEASE, F_NOTIFY: others have to wait.
COMMANDS = (8, 10, 15, 1024, 1026)
WITH_COMMAND = (1, 36)  # PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER: they end it with its command
NEGATIVE = 0x80000000
ASK_PERSONALITY = 0xFFFFFFFF


@dataclass(frozen=True)
class Condition:
    """A condition on the lower 32 bits of an argument: that they are (not) one of some values."""

    argument: int
    values: tuple[int, ...]
    mask: int = WHOLE
    one: bool = True


def _rules() -> dict[str, tuple[int, tuple[Condition, ...]]]:
    """For each call, what it fails with (0: it seems to succeed) unless all conditions hold."""
    itself = os.getpid()
    own = Condition(0, (0, itself))
    rules = {}
    for calls, number in (
        (PROCESSES, errno.EPERM), (NETWORK, errno.ENETUNREACH), (OTHERS, errno.EPERM),
        (NOT_HERE, errno.ENOSYS), (ATTRIBUTES, errno.ENOTSUP), (WITHOUT_EFFECT, 0),
    ):  # fmt: skip
        rules |= dict.fromkeys(calls, (number, ()))
    for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        rules[name] = errno.EPERM, (Condition(0, (itself,)),)
    for name in ("prlimit64", "move_pages", "migrate_pages"):
        rules[name] = errno.EPERM, (own,)
    rules["sched_setaffinity"] = 0, (own,)  # OpenMP sets those of its threads, by their numbers
    lower = Condition(2, (0,), NEGATIVE)  # than others' usual priority, or as high
    rules["setpriority"] = 0, (Condition(0, (0,)), Condition(1, (0, itself)), lower)  # PRIO_PROCESS
    rules["clone"] = errno.EPERM, (Condition(0, (CLONE_THREAD,), CLONE_THREAD),)
    # Datagrams could be sent to others' addresses.
    kinds = Condition(1, (SOCK_STREAM, SOCK_SEQPACKET), KINDS_OF_SOCKETS)
    rules["socketpair"] = errno.ENETUNREACH, (Condition(0, (AF_UNIX,)), kinds)
    rules["ioctl"] = errno.ENOTTY, (Condition(1, REQUESTS),)
    rules["fcntl"] = errno.EPERM, (Condition(1, COMMANDS, one=False),)
    rules["mknod"] = errno.EPERM, (Condition(1, (0,), DEVICE),)
    rules["mknodat"] = errno.EPERM, (Condition(2, (0,), DEVICE),)
    rules["personality"] = errno.EPERM, (Condition(0, (ASK_PERSONALITY,)),)
    rules["prctl"] = errno.EPERM, (Condition(0, WITH_COMMAND, one=False),)
    return rules


def _instruction(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    """A struct sock_filter; `true` and `false`: how many instructions to skip then."""
    return struct.pack("=HBBI", code, true, false, value)


def _holds(condition: Condition, fails: int) -> Iterator[bytes]:
    """Go on if a condition holds; else answer `fails`."""
    yield _instruction(LOAD, ARGUMENTS + 8 * condition.argument)
    if condition.mask != WHOLE:
        yield _instruction(AND, condition.mask)
    count = len(condition.values)
    for place, value in enumerate(condition.values):
        left = count - place - 1
        if condition.one:  # past the others and the answer, or to the next one
            yield _instruction(IF_EQUAL, value, true=left + 1)
        else:  # to the answer, or past it after the last one
            yield _instruction(IF_EQUAL, value, true=left, false=0 if left else 1)
    yield _instruction(ANSWER, fails)


def program(machine: str) -> bytes:
    """The filter for this process, in BPF, on one of MACHINES."""
    place = list(MACHINES).index(machine)
    nothing = _instruction(ANSWER, ERROR | errno.ENOSYS)
    code = [
        _instruction(LOAD, MACHINE),
        _instruction(IF_EQUAL, MACHINES[machine], true=1), nothing,  # 32 bits: other numbers
        _instruction(LOAD, NUMBER),
        _instruction(IF_ABOVE, LAST, false=1), nothing,  # also x32, whose numbers are large
    ]  # fmt: skip
    for name, (number, conditions) in _rules().items():
        if CALLS[name][place] is None:
            continue
        fails = ERROR | number
        block = [part for condition in conditions for part in _holds(condition, fails)]
        block.append(_instruction(ANSWER, ALLOW if conditions else fails))
        code += [_instruction(IF_EQUAL, CALLS[name][place], false=len(block)), *block]
    return b"".join([*code, _instruction(ANSWER, ALLOW)])


def restrict() -> bool:
    """Filter the system calls of all threads of this process, and of those that it starts.

    Returns False where there is no such filter: on another system, on other machines than x86_64
    and aarch64, in a kernel without seccomp. It cannot be undone.
    """
    machine = platform.machine() if sys.platform == "linux" else None
    if machine not in MACHINES or struct.calcsize("P") != 8:
        return False
    code = ctypes.create_string_buffer(program(machine))
    length = (len(code) - 1) // 8  # a buffer ends with a zero
    number = SECCOMP[list(MACHINES).index(machine)]
    system_calls.give_up_privileges()
    asked = struct.pack("@HP", length, ctypes.addressof(code))
    try:
        flags = ALL_THREADS | NO_SLOWER
        failed = system_calls.call(number, SET_MODE_FILTER, flags, asked)
    except OSError:
        return False
    return failed == 0  # else the number of a thread with a filter of its own
