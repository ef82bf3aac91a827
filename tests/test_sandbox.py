"""What a predicted script may not do, by Python's events and, on Linux, by the kernel."""

import json
import os
import socket

import pytest

from ladder.rungs import ROOT
from tests import helpers, warm
from vramcast.sandbox import landlock

kernel = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")

STEP = "m = torch.nn.Linear(3, 3).cuda(); o = torch.optim.SGD(m.parameters())\n" + (
    "for _ in range(99): m(torch.ones(3).cuda()).sum().backward(); o.step()\n"
)
THREAD = "import threading\nt = threading.Thread(target={}); t.start(); t.join()\n" + STEP
MAKES = "it writes or makes a file ("
TOLD = {  # by Python's events: what the script does, and what the message has to say
    "sqlite": ("import sqlite3; sqlite3.connect('q.db')", "line 2: it writes a file (sqlite3"),
    "chown": (
        "os.chown(os.open(__file__, os.O_RDONLY), 1, 1)",
        "line 2: it changes files (os.chown: ",
    ),
    "descriptor": (
        "os.fchmod(os.open(__file__, os.O_RDONLY), 0o777)",
        "line 2: it changes files (os.chmod: ",
    ),
    "folder": (
        "os.rename(os.path.dirname(__file__), 'x')",
        "line 2: it changes files (os.rename: ",
    ),
    "library": ("import ctypes\nctypes.CDLL(None)", "line 3: it calls C code (ctypes.dlopen: None"),
    "function": (
        "import ctypes\nctypes.pythonapi.Py_GetVersion()",
        "line 3: it calls C code (ctypes.dlsym: Py_GetVersion",
    ),
    "lookup": (
        "import socket; socket.gethostbyaddr('127.0.0.1')",
        "line 2: OSError: [Errno 101] a prediction is offline: ",
    ),
    "spawn": (
        "import multiprocessing as m\nm.get_context('spawn').Process(target=print).start()",
        "line 3: it starts a process (spawn)",
    ),
    "thread": (
        THREAD.format("lambda: os.chown(os.open(__file__, os.O_RDONLY), 1, 1)"),
        "in a thread: line 3: it changes files (os.chown: ",
    ),
    "caught": (
        f"try: os.chown(os.open(__file__, os.O_RDONLY), 1, 1)\nexcept BaseException: pass\n{STEP}",
        "line 2: it changes files (os.chown: ",
    ),
}
DENIED = {  # by the kernel alone
    "fifo": ("os.mkfifo('x')", f"line 2: {MAKES}PermissionError: "),
    "node": ("os.mknod('x')", f"line 2: {MAKES}PermissionError: "),
    "writer": ("torch._C.PyTorchFileWriter('x')", f"line 2: {MAKES}RuntimeError: "),
    "attach": (
        "import sqlite3; sqlite3.connect(':memory:').execute('attach \"x\" as x')",
        "line 2: OperationalError: unable to open database: x",
    ),
    "made-in-thread": (
        THREAD.format("lambda: os.mkfifo('x')"),
        f"in a thread: line 3: {MAKES}PermissionError: ",
    ),
}
ALLOWED = """
import ctypes, fcntl, multiprocessing, socket, sqlite3, tempfile
from multiprocessing import shared_memory

with tempfile.TemporaryDirectory() as folder:
    os.makedirs(f"{folder}/a/b")
    with open(f"{folder}/a/b/c", "w") as file:
        file.write("x")
    os.chmod(f"{folder}/a/b/c", 0o600)
    os.replace(f"{folder}/a/b/c", f"{folder}/c")
    os.mkfifo(f"{folder}/fifo")
    sqlite3.connect(f"{folder}/q.db").execute("create table t(a)")
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 3)), f"{folder}/model.pt")
with tempfile.TemporaryFile() as file:
    file.write(b"x")
    file.truncate(0)
sqlite3.connect(":memory:").execute("create table t(a)")
with open(os.devnull, "w") as nowhere, open(__file__) as itself:
    nowhere.write(itself.read())
    fcntl.flock(itself, fcntl.LOCK_EX)
multiprocessing.get_context("spawn").Lock()
memory = shared_memory.SharedMemory(create=True, size=10)
memory.close()
memory.unlink()
left, right = socket.socketpair()
left.sendmsg([b"x"])
(ctypes.c_float * 3)()
torch.ops.load_library(torch._C.__file__)
"""
# What it has open is the pipe to its command, and its own. What it leaves there is removed.
OPEN = """
from multiprocessing import shared_memory

shared_memory.SharedMemory({name!r}, create=True, size=10)
pipes = 0
for number in map(int, os.listdir("/dev/fd")):
    try:
        place = os.readlink(f"/dev/fd/{{number}}")
    except OSError:  # the listing's own
        continue
    if number > 2 and place != os.devnull and not place.startswith(os.environ["TMPDIR"]):
        os.write(number, b"REGISTER:\\033[31m:nothing\\n")
        pipes += 1
assert pipes == 1, pipes
"""
# What `transformers` brings along starts a thread when it is imported; read by the stand-ins.
THREADS = """
import sys, transformers
torch.ones(3, requires_grad=True).cuda().sum().backward()
states = [open(f"/proc/self/task/{task}/status").read() for task in os.listdir("/proc/self/task")]
bound = ["NoNewPrivs:\\t1" in state for state in states]
sys.exit(f"{len(bound) > 2} {all(bound)}")
"""
OLD_KERNEL = "from vramcast.sandbox import landlock\nlandlock.CREATE_RULESET = 9999\n"


def predict(folder, codes: dict[str, str], run=warm.run, **environment):
    """Predict scripts, whose working directory is the folder, in one run of the command."""
    scripts = [folder / f"{name}.py" for name in codes]
    for script, code in zip(scripts, codes.values()):
        script.write_text(f"import os, torch; os.chdir({str(folder)!r})\n{code}\n")
    process = run("-m", "ladder.predict", *map(str, scripts), **environment)
    assert "Traceback" not in process.stdout + process.stderr
    return process


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> str:
    """What the command says of scripts that it refuses."""
    folder = tmp_path_factory.mktemp("refused")
    codes = {name: code for name, (code, _) in (TOLD | DENIED).items()}
    process = predict(folder, codes)
    assert process.returncode == 2
    if landlock.version():
        assert sorted(path.stem for path in folder.iterdir()) == sorted(codes)
    return process.stdout + process.stderr


@pytest.mark.parametrize("name", TOLD)
def test_what_python_tells_is_refused(refused, name):
    assert f"/{name}.py: {TOLD[name][1]}" in refused


@kernel
@pytest.mark.parametrize("name", DENIED)
def test_what_python_does_not_tell_is_refused_by_the_kernel(refused, name):
    assert f"/{name}.py: {DENIED[name][1]}" in refused


def test_without_landlock_the_events_alone_refuse(tmp_path):
    """On a kernel that does not know the system call. Pipes are made then, as the page says."""
    (tmp_path / "sitecustomize.py").write_text(OLD_KERNEL)
    path = f"{tmp_path}:{ROOT}"
    codes = {name: TOLD[name][0] for name in ("sqlite", "thread")}
    codes["fifo"] = f"os.mkfifo('x')\n{STEP}"
    process = predict(tmp_path, codes, helpers.run, PYTHONPATH=path)
    assert process.returncode == 2
    for name in ("sqlite", "thread"):
        assert f"/{name}.py: {TOLD[name][1]}" in process.stdout + process.stderr
    assert "/fifo.py: " not in process.stdout + process.stderr
    assert (tmp_path / "x").is_fifo()


def test_reading_and_scratch_files_are_allowed(tmp_path):
    name = f"left-{os.getpid()}"
    codes = {"allowed": ALLOWED + STEP, "open": OPEN.format(name=name) + STEP}
    process = predict(tmp_path, codes)
    assert process.returncode == 0, process.stderr
    assert "\033" not in process.stdout + process.stderr
    assert not os.path.exists(f"/dev/shm/{name}")


@kernel
def test_no_thread_is_left_out(tmp_path):
    process = predict(tmp_path, {"threads": THREADS}, helpers.run)
    assert process.stdout.endswith("it stopped by itself: True True\n")


# What Python's events make of each act of the probe, by the beginning of what it says.
BY_EVENTS = (
    "Refused: it ",
    "Refused: line 1: it calls C code",
    "OSError: [Errno 101] a prediction is offline",
    "OSError: [Errno 25] a prediction sets no devices",
    "PermissionError: [Errno 1] a prediction acts on no others",
    "FileNotFoundError: [Errno 2] a prediction starts no program",
)
# What the kernel answers, by the acts of which it is not that they are not permitted.
OTHERWISE = {
    "done": (
        "chmod", "fchmod", "chown", "lchown", "fchown", "utime", "futime", "scheduler",
        "scheduler's policy", "priority", "group's priority", "own priority", "fchmodat, raw",
        "fchmodat2, raw", "fchownat, raw", "utime, raw", "utimes, raw", "futimesat, raw",
        "sched_setparam, raw", "sched_setattr, raw", "ioprio_set, raw",
    ),
    "PermissionError: [Errno 13] ": (
        "open", "open, relative", "open, by opener", "mkdir", "rmdir", "remove", "rename from",
        "rename to", "link to", "symlink", "forkpty", "fifo", "node", "disk",
        "another's terminal",
    ),
    "OSError: [Errno 18] ": ("link from",),
    "OperationalError: unable to open": ("sqlite",),
    "OSError: [Errno 101] ": ("connect", "bind", "socket", "netlink", "datagram"),
    "OSError: [Errno 25] ": ("ioctl", "flags", "verity"),
    "OSError: [Errno 95] ": (
        "setxattr", "removexattr", "lsetxattr, raw", "fsetxattr, raw", "lremovexattr, raw",
        "fremovexattr, raw",
    ),
    "OSError: [Errno 38] ": (
        "later than known", "x32", "clone3", "io_uring_setup", "io_uring_enter",
        "io_uring_register", "userfaultfd",
    ),
}  # fmt: skip


def acts(layer: str, folder) -> dict[str, str]:
    process = helpers.run("-m", "tests.probes.sandbox", layer, str(folder / layer))
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_each_event_by_itself(tmp_path):
    """Without the kernel's filters: an event that is not looked at lets its act happen."""
    found = acts("events", tmp_path)
    assert "creation failed" in found.pop("interpreter")
    assert found["program"].startswith("FileNotFoundError: ")
    assert {name: told for name, told in found.items() if not told.startswith(BY_EVENTS)} == {}
    assert len(found) > 40


def test_each_of_the_kernels_filters_by_itself(tmp_path):
    """Without Python's events, as C code and other interpreters meet them."""
    found = acts("kernel", tmp_path)
    if not found:
        pytest.skip("this kernel has no Landlock or no seccomp")
    assert "Network is unreachable" in found.pop("interpreter")
    expected = {name: told for told, names in OTHERWISE.items() for name in names}
    denied = "PermissionError: [Errno 1] "
    wrong = {
        name: told
        for name, told in found.items()
        if not told.startswith(expected.get(name, denied)) or "changed" in told
    }
    assert wrong == {}
    assert len(found) > 110


KERNEL = """
import os, socket, sys
from pathlib import Path
from vramcast.sandbox import landlock

folder = Path(sys.argv[1])
inside = folder / "inside"
inside.mkdir()
(folder / "old").write_text("old")
assert landlock.restrict(inside)

def denied(act, *arguments):
    try:
        act(*arguments)
    except PermissionError:
        return True

(inside / "folder").mkdir()
(inside / "file").write_text((folder / "old").read_text())
if landlock.version() >= 2:
    os.rename(inside / "file", inside / "folder/file")
assert denied((folder / "new").write_text, "new")
assert denied((folder / "new").mkdir)
assert denied((folder / "old").write_text, "new")
assert denied((folder / "old").unlink)
assert denied((folder / "link").symlink_to, "old")
assert denied(os.rename, folder / "old", folder / "new")
assert denied(os.truncate, folder / "old", 0) or landlock.version() < 3
assert denied(os.posix_spawn, sys.executable, [sys.executable, "-c", ""], {})
server = ("127.0.0.1", int(sys.argv[2]))
assert denied(socket.socket().connect, server) or landlock.version() < 4
assert denied(socket.socket().bind, ("127.0.0.1", 0)) or landlock.version() < 4
assert denied(os.kill, os.getppid(), 0) or landlock.version() < 6
assert denied(os.mknod, inside / "device", 0o020600, os.makedev(1, 3))
assert denied(open, "/dev/ptmx", "r+b")
open("/dev/null", "w").close()
child = os.fork()
if not child:
    os._exit(0 if denied((folder / "new").mkdir) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@kernel
def test_the_kernels_rules(tmp_path):
    """Each right by itself, in a process without the events."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = helpers.run("-c", KERNEL, str(tmp_path), str(server.getsockname()[1]))
    assert process.returncode == 0, process.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "old"]
    assert (tmp_path / "old").read_text() == "old"
