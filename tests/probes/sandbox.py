"""Do what a prediction refuses, under one layer of the sandbox alone, and print what became of each
act, as JSON: how it failed, or "done". See test_sandbox.py.

events  Python's audit events, without the kernel's filters
kernel  the kernel's filters, without Python's events; prints nothing where there are none

Each act is done in a new folder FOLDER/NAME with a file "old", an empty folder "empty" and a
folder "inside", the only one that a script may write to.
"""

import ctypes
import fcntl
import json
import multiprocessing.util
import os
import posix
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import syslog
import warnings
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from vramcast.sandbox import audit, landlock, seccomp, system_calls

try:
    import _interpreters as interpreters  # Python 3.13
except ImportError:
    import _xxsubinterpreters as interpreters

warnings.simplefilter("ignore")
LINUX = sys.platform == "linux"
MACHINES = list(seccomp.MACHINES)
AT_FDCWD = -100  # linux/fcntl.h
IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
TCSETS = 0x5402  # asm-generic/ioctls.h
FS_IOC_SETFLAGS, FS_IOC_ENABLE_VERITY = 0x40086602, 0x40806685  # linux/fs.h, linux/fsverity.h
NOT_PERMITTED = {
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease",
    "kcmp", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "tkill", "setns", "unshare",
    "chroot", "pivot_root", "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsconfig",
    "fsmount", "fspick", "mount_setattr", "open_by_handle_at", "swapon", "swapoff", "quotactl",
    "quotactl_fd", "acct", "sethostname", "setdomainname", "settimeofday", "clock_settime",
    "clock_adjtime", "adjtimex", "reboot", "kexec_load", "kexec_file_load", "init_module",
    "finit_module", "delete_module", "bpf", "perf_event_open", "add_key", "request_key", "keyctl",
    "syslog", "fanotify_init", "fanotify_mark", "mq_open", "mq_unlink", "shmget", "shmat",
    "shmctl", "semget", "semop", "semtimedop", "semctl", "msgget", "msgsnd", "msgrcv", "msgctl",
    "truncate", "kill", "tgkill", "vhangup", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "prlimit64",
    "move_pages", "migrate_pages", "execve", "execveat",
}  # fmt: skip
if os.uname().machine == "x86_64":
    NOT_PERMITTED |= {"iopl", "ioperm"}
NOT_HERE = {"clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd"}
DATAGRAM = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"x", ("127.0.0.1", 9))
"""


def forked(fork: Callable[[], int]) -> None:
    if not fork():
        os._exit(0)
    os.wait()


def relative(open_, *arguments, **options) -> None:
    """From a working directory that is the script's own, a file that is not."""
    here = os.getcwd()
    os.chdir("inside")
    folder = os.open("..", os.O_RDONLY)
    try:
        open_("old", *arguments, dir_fd=folder, **options)
    finally:
        os.close(folder)
        os.chdir(here)


def opened_by(opener: Callable) -> Callable:
    return lambda name, dir_fd: open(
        name, "w", opener=lambda path, flags: opener(path, flags, dir_fd=dir_fd)
    )


def in_memory() -> None:
    """A program that lies nowhere."""
    program = os.memfd_create("program")
    os.write(program, Path("/bin/true").read_bytes())
    os.execve(program, ["true"], {})


def in_another_interpreter(code: str) -> None:
    other = interpreters.create()
    failure = interpreters.run_string(other, code)  # from Python 3.13 on, it returns it
    if failure:
        raise OSError(failure.formatted)


def datagram() -> None:
    """To an address that a pair of sockets does not have."""
    left, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.sendto(b"x", os.path.abspath("socket"))


def call(name: str, *arguments) -> int:
    """A system call by its name."""
    return system_calls.call(number(name), *arguments)


def number(name: str) -> int | None:
    """A system call's number on this machine; None where there is none."""
    return dict(zip(MACHINES, seccomp.CALLS[name]))[os.uname().machine]


def acts(server: socket.socket, connector: socket.socket) -> dict[str, Callable]:
    """What both layers see, by names."""
    descriptor, parent = os.open("old", os.O_RDONLY), os.getppid()
    found = {
        "open": lambda: io_open("old", "a"),
        "open, relative": lambda: relative(posix.open, os.O_WRONLY),
        "open, by opener": lambda: relative(opened_by(posix.open)),
        "mkdir": lambda: os.mkdir("new"),
        "rmdir": lambda: os.rmdir("empty"),
        "remove": lambda: os.remove("old"),
        "rename from": lambda: os.rename("old", "inside/new"),
        "rename to": lambda: os.rename("inside/own", "new"),
        "link from": lambda: os.link("old", "inside/new"),
        "link to": lambda: os.link("inside/own", "new"),
        "symlink": lambda: os.symlink("old", "new"),
        "chmod": lambda: os.chmod("old", 0o777),
        "fchmod": lambda: os.fchmod(descriptor, 0o777),
        "chown": lambda: os.chown("old", os.getuid() + 1, -1),
        "lchown": lambda: os.lchown("old", os.getuid() + 1, -1),
        "fchown": lambda: os.fchown(descriptor, os.getuid() + 1, -1),
        "utime": lambda: os.utime("old", (1, 1)),
        "futime": lambda: os.utime(descriptor, (1, 1)),
        "truncate": lambda: os.truncate("old", 0),
        "sqlite": lambda: sqlite3.connect("new").execute("create table t(a)"),
        "program": lambda: subprocess.run(["/bin/true"]),
        "posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "fork": lambda: forked(os.fork),
        "forkpty": lambda: forked(lambda: os.forkpty()[0]),
        "fork_exec": lambda: spawn(b"/bin/true", [b"true"], ()),
        "interpreter": lambda: in_another_interpreter(DATAGRAM),
        "connect": lambda: connector.connect(server.getsockname()),
        "bind": lambda: connector.bind(("127.0.0.1", 0)),
        "kill": lambda: os.kill(parent, 0),
        "killpg": lambda: os.killpg(os.getpgid(parent), 0),
        "hostname": lambda: socket.sethostname(socket.gethostname()),
        "ioctl": lambda: fcntl.ioctl(descriptor, TCSETS, bytes(60)),
        "owner": lambda: fcntl.fcntl(descriptor, fcntl.F_SETOWN, parent),
    }
    if LINUX:
        import resource

        found |= {
            "setxattr": lambda: os.setxattr("old", "user.a", b"x"),
            "removexattr": lambda: os.removexattr("old", "user.b"),
            "limit": lambda: resource.prlimit(parent, resource.RLIMIT_CORE),
            "lease": lambda: fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK),
            "flags": lambda: fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, bytes(8)),
            "verity": lambda: fcntl.ioctl(descriptor, FS_IOC_ENABLE_VERITY, bytes(128)),
            "program in memory": in_memory,
        }
    return found


def for_events(server: socket.socket, sender: socket.socket) -> dict[str, Callable]:
    """What Python's events see and the kernel need not: it has no sockets to send with."""
    return {
        "fork_exec, by name": lambda: subprocess._fork_exec(),
        "system": lambda: os.system("true"),
        "sendto": lambda: sender.sendto(b"x", server.getsockname()),
        "sendmsg": lambda: sender.sendmsg([b"x"], [], 0, server.getsockname()),
        "getaddrinfo": lambda: socket.getaddrinfo("127.0.0.1", 80),
        "getnameinfo": lambda: socket.getnameinfo(("127.0.0.1", 80), 0),
        "gethostbyname": lambda: socket.gethostbyname("127.0.0.1"),
        "gethostbyaddr": lambda: socket.gethostbyaddr("127.0.0.1"),
        "syslog": lambda: syslog.syslog(syslog.LOG_DEBUG, "x"),
        "C code": lambda: exec(compile("import ctypes; ctypes.CDLL(None)", SCRIPT, "exec")),
        "C code's function": lambda: exec(
            compile("import ctypes; ctypes.pythonapi.Py_GetVersion()", SCRIPT, "exec")
        ),
        "C code's address": lambda: exec(
            compile("import _ctypes; _ctypes.dlsym(api, 'Py_GetVersion')", SCRIPT, "exec"),
            {"api": ctypes.pythonapi._handle},
        ),
        "by a list that was emptied": emptied,
    }


def emptied() -> None:
    """After all that this module offers by a name has been taken away."""
    for name, value in list(vars(audit).items()):
        if isinstance(value, (dict, list, set)) and not name.startswith("__"):
            value.clear()
        elif isinstance(value, (tuple, frozenset, MappingProxyType)):
            setattr(audit, name, type(value)(()) if isinstance(value, (tuple, frozenset)) else {})
    audit.WRITING = 0
    os.chown("old", os.getuid() + 1, -1)


def for_the_kernel(other: int) -> dict[str, Callable]:
    """What raises no event. `other`: a process."""
    found = {
        "fifo": lambda: os.mkfifo("new"),
        "node": lambda: os.mknod("new"),
        "device": lambda: os.mknod("inside/device", 0o020600, os.makedev(1, 3)),
        "disk": lambda: io_open(next(Path("/dev").glob("[svx]d[a-z]*"), "/dev/kmsg"), "r+b"),
        "another's terminal": lambda: io_open("/dev/ptmx", "r+b"),
        "socket": lambda: socket.socket(),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "datagram": datagram,
        "pidfd": lambda: os.pidfd_open(other),
        "personality": lambda: call("personality", 0),
        "clone": lambda: forked(lambda: call("clone", signal.SIGCHLD, 0, 0, 0, 0)),
        "end with command": lambda: call("prctl", 1, 0, 0, 0, 0),  # PR_SET_PDEATHSIG
        "no subreaper": lambda: call("prctl", 36, 0, 0, 0, 0),
        "scheduler": lambda: os.sched_setaffinity(other, {0}),
        "scheduler's policy": lambda: os.sched_setscheduler(
            other, os.SCHED_BATCH, os.sched_param(0)
        ),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, other, 19),
        "group's priority": lambda: os.setpriority(os.PRIO_PGRP, 0, 19),
        "own priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
        "later than known": lambda: system_calls.call(seccomp.LAST + 1, 0),
        "x32": lambda: system_calls.call(0x40000000 + 39),  # getpid
    }
    place, descriptor = b"old", os.open("old", os.O_RDONLY)
    epoch, real_time = struct.pack("4q", 1, 0, 1, 0), struct.pack("IIQiIQQQ", 48, 3, *[0] * 6)
    raw = {  # of the same acts, what Python's functions do not call
        "mknod": (b"inside/device", 0o020600, 0x103),
        "fchmodat": (AT_FDCWD, place, 0o777), "fchmodat2": (AT_FDCWD, place, 0o777, 0),
        "fchownat": (AT_FDCWD, place, os.getuid() + 1, -1, 0), "utime": (place, epoch),
        "utimes": (place, epoch), "futimesat": (AT_FDCWD, place, epoch),
        "lsetxattr": (place, b"user.a", b"x", 1, 0),
        "fsetxattr": (descriptor, b"user.a", b"x", 1, 0), "lremovexattr": (place, b"user.b"),
        "fremovexattr": (descriptor, b"user.b"), "sched_setparam": (other, struct.pack("i", 99)),
        "sched_setattr": (other, real_time, 0), "ioprio_set": (1, other, 3 << 13),
    }  # fmt: skip
    found |= {
        f"{name}, raw": lambda name=name, given=given: call(name, *given)
        for name, given in raw.items()
        if number(name) is not None
    }
    if number("fork") is not None:
        found["fork, raw"] = lambda: forked(lambda: call("fork"))
    # With these arguments they fail in another way, or do nothing, should the filter let them pass.
    found |= {name: lambda name=name: call(name, *[-2] * 6) for name in NOT_PERMITTED | NOT_HERE}
    return found


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except BaseException as failure:
        return f"{type(failure).__name__}: {failure}"
    return "done"


def prepare(folder: Path) -> None:
    (folder / "inside").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "inside/own").write_text("own")
    (folder / "old").write_text("old")
    os.utime(folder / "old", (10**9, 10**9))
    if LINUX:
        os.setxattr(folder / "old", "user.b", b"x")


def state(folder: Path, other: int) -> list:
    """What must not change, of files and of another process."""
    status = os.stat(folder / "old")
    found = [sorted(os.listdir(folder)), (folder / "old").read_text(), oct(status.st_mode)]
    found += [status.st_uid, status.st_mtime]
    found += [os.getpriority(os.PRIO_PROCESS, process) for process in (0, other)]
    if LINUX:
        found += [os.sched_getaffinity(other), os.sched_getscheduler(other)]
        found.append(system_calls.call(IOPRIO_GET[os.uname().machine], 1, other))
        found += os.listxattr(folder / "old")
    return found


if __name__ == "__main__":
    layer, folder = sys.argv[1], Path(sys.argv[2])
    SCRIPT = str(folder / "script.py")
    io_open, spawn = open, multiprocessing.util.spawnv_passfds  # as they are without the sandbox
    prepare(folder)
    os.chdir(folder)
    os.setsid()
    other = subprocess.Popen(["cat"], stdin=subprocess.PIPE).pid  # ends with this process
    before = state(folder, other)
    server, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    server.bind(("127.0.0.1", 0))
    connector = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    todo = acts(server, connector)
    if layer == "events":
        landlock.version = int  # 0
        seccomp.MACHINES = {}
        todo |= for_events(server, sender)
    else:
        todo |= for_the_kernel(other)
    guard = audit.Sandbox(Path(SCRIPT), folder / "inside")
    if layer == "events":
        guard.watch()
    elif not (guard.kernel_has_files and guard.kernel_has_calls):
        todo = {}
    found = {}
    for name, act in todo.items():
        found[name] = outcome(act)
        if state(folder, other) != before:
            found[name] += ", and something changed"
            break  # what follows would tell nothing
    print(json.dumps(found), flush=True)
    os._exit(0)  # without waiting for the other
