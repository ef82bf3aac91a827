"""What a script writes is its own, and programs are not found: as on a machine without them.

The scripts here check themselves: a failed `assert` is no prediction. So they can also be run as
they are, on a CPU, where what they assert has to be true as well.
"""

import pytest

from tests.scripts import TRAINING
from tests.warm import predicted, run

DEVICE = """
import torch
device = "cuda" if torch.cuda.is_available() else "cpu"
model = torch.nn.Linear(1000, 1000).to(device)
state = model.state_dict()

def raises(kind, act, *arguments, **options):
    try:
        act(*arguments, **options)
    except kind:
        return True
"""
FILES = """
import glob, os, shutil, tarfile, tempfile
from pathlib import Path

# atomic saving, links and copies
torch.save(state, "new.tmp")
os.replace("new.tmp", "last.pt")
assert not os.path.exists("new.tmp")
os.link("last.pt", "checkpoint-1.pt")
assert raises(FileExistsError, os.link, "last.pt", "checkpoint-1.pt")
os.unlink("last.pt")
assert sorted(glob.glob("*.pt")) == ["checkpoint-1.pt", "found.pt"]
shutil.copyfile("checkpoint-1.pt", "a.pt")
shutil.copy2("checkpoint-1.pt", "b.pt")
os.makedirs("runs/1")
shutil.move("b.pt", "runs/1")
Path("runs/latest").symlink_to("1")
assert os.readlink("runs/latest") == "1" and Path("runs/latest").resolve().name == "1"
for name in ("a.pt", os.path.abspath("runs/1/b.pt"), "runs/latest/b.pt", "runs/../checkpoint-1.pt"):
    assert [value.shape for value in torch.load(name).values()] == [(1000, 1000), (1000,)]
Path("a.pt").rename("c.pt")
Path("c.pt").unlink()
Path("c.pt").unlink(missing_ok=True)
os.makedirs("runs/2")
os.rename("runs/1", "runs/3")
assert sorted(str(path) for path in Path("runs").rglob("*")) == [
    "runs/2", "runs/3", "runs/3/b.pt", "runs/latest"
]

# from a folder's descriptor, by an opener, and by a module that knows `open` by another name
os.mkdir("there")
folder = os.open("there", os.O_RDONLY)
os.close(os.open("x", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
with open("y", "w", opener=lambda path, flags: os.open(path, flags, dir_fd=folder)) as file:
    file.write("y")
with open("there/z", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
    file.write("z")
os.truncate("there/z", 5)
assert [Path("there", name).read_text() for name in "xyz"] == ["", "y", "z" + 4 * chr(0)]
with tarfile.open("there.tar", "w") as file:
    file.add("there")
shutil.rmtree("there")
with tarfile.open("there.tar") as file:
    file.extractall(filter="tar")
assert sorted(os.listdir("there")) == ["x", "y", "z"]
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "x").touch()
    shutil.copy2("there/y", folder)
    assert raises(FileNotFoundError, os.utime, folder + "/nothing")
    assert sorted(os.listdir(folder)) == ["x", "y"]
for name in ("found.txt", "there/y"):
    os.chmod(name, 0o600), os.utime(name), os.chown(name, -1, -1)

# what is not there
for act in (os.unlink, os.rmdir, shutil.rmtree, os.utime, os.listdir, os.scandir, os.stat):
    assert raises(FileNotFoundError, act, "nothing")
shutil.rmtree("nothing", ignore_errors=True)
assert raises(OSError, os.rmdir, "runs")

# folders
shutil.rmtree("runs")
assert not os.path.exists("runs")
with tempfile.TemporaryDirectory(dir=".") as folder:
    Path(folder, "x").touch()
    assert os.listdir(folder) == ["x"]
assert not os.path.exists(folder)
with tempfile.NamedTemporaryFile(dir=".") as file, tempfile.TemporaryFile(dir=".") as other:
    file.write(b"x"), other.write(b"x")
os.mkdir("sub")
os.chdir("sub")
Path("x").write_text("x")
assert Path.cwd().name == "sub" and os.listdir() == ["x"] and os.path.exists("../found/a.txt")
os.chdir("..")
shutil.copytree("sub", "sub2")
assert os.listdir("sub2") == ["x"]

# what was here before
Path("found/b.txt").write_text("b")
assert sorted(entry.path for entry in os.scandir("found")) == ["found/a.txt", "found/b.txt"]
assert [(len(folders), len(names)) for _, folders, names in os.walk("found")] == [(0, 2)]
os.remove("found/a.txt")
assert os.listdir("found") == ["b.txt"] and not os.path.exists("found/a.txt")
shutil.rmtree("found")
os.mkdir("found")
assert os.listdir("found") == [] and raises(FileNotFoundError, open, "found/a.txt")
os.rename("found.txt", "moved.txt")
assert Path("moved.txt").read_text() == "found" and not os.path.exists("found.txt")
"""
CHECKPOINTS = """
import copy, io, json, pickle
import numpy
import safetensors.torch
from safetensors import safe_open

def read(f, **options):
    found = torch.load(f, **options).items()
    return {key: (value.shape, value.device.type) for key, value in found}

def alike(place):
    return {"weight": ((1000, 1000), place), "bias": ((1000,), place)}

with open("a.pt", "wb") as file:
    torch.save(obj=state, f=file)
with open("a.pt", "rb") as file:
    assert read(file) == alike(device)
buffer = io.BytesIO()
torch.save(state, buffer)
for where in ("cpu", {"cuda:0": "cpu"}, lambda storage, place: storage.cpu()):
    buffer.seek(0)
    assert read(f=buffer, map_location=where) == alike("cpu")
for where in (device, torch.device(device), lambda storage, place: getattr(storage, device)()):
    assert read("found.pt", map_location=where) == alike(device)
assert read("found.pt", weights_only=True) == read("found.pt", mmap=True) == alike("cpu")

optimizer = torch.optim.Adam(model.parameters())
model(torch.ones(2, 1000, device=device)).sum().backward()
optimizer.step()
torch.save([model, optimizer, optimizer.state_dict()], "all.pt")
other, its, _ = torch.load("all.pt", weights_only=False)
other(torch.ones(2, 1000, device=device)).sum().backward()
its.step()
assert [one.requires_grad for one in other.parameters()] == [True, True]
assert pickle.loads(pickle.dumps(state))["weight"].shape == (1000, 1000)
same = copy.copy(state["weight"])
assert same.untyped_storage()._cdata == state["weight"].untyped_storage()._cdata
numpy.save("a.npy", state["bias"].cpu().numpy())
assert numpy.load("a.npy").shape == (1000,)
json.dump({"bias": state["bias"].tolist()}, open("a.json", "w"))
given = torch.ones(2, 1000, device=device)
torch.jit.save(torch.jit.trace(model, given, check_trace=False), "t.pt")
assert torch.jit.load("t.pt").weight.shape == (1000, 1000)

safetensors.torch.save_file(state, "a.safetensors", metadata={"format": "pt"})
assert safetensors.torch.load_file("a.safetensors", device=device)["bias"].device.type == device
assert safetensors.torch.load(safetensors.torch.save(state))["weight"].shape == (1000, 1000)
safetensors.torch.load_model(model, "a.safetensors")
for name in ("a.safetensors", "found.safetensors"):
    with safe_open(name, framework="pt", device=device) as file:
        assert set(file.keys()) == set(state)
        assert file.get_slice("weight").get_shape() == [1000, 1000]
        assert file.get_tensor("weight").dtype == torch.float32
"""
PROGRAMS = """
import os, shutil, subprocess

assert raises(FileNotFoundError, subprocess.check_output, ["git", "rev-parse", "HEAD"])
assert raises(FileNotFoundError, os.posix_spawn, "/bin/ls", ["ls"], {})
quoted = subprocess.run(["nvidia-smi"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
assert (quoted.stdout, quoted.returncode) == ("", 0)
assert raises(FileNotFoundError, subprocess.check_output, ["nvidia-smi", "-L"])
assert raises(subprocess.CalledProcessError, subprocess.check_output, "git log", shell=True)
done = subprocess.run("git log", shell=True, capture_output=True, text=True)
assert done.returncode == 127 and "git: not found" in done.stderr and done.stdout == ""
assert os.waitstatus_to_exitcode(os.system("git log")) == 127
assert subprocess.getstatusoutput("git log")[0] == 127
assert os.popen("git log").read() == ""
assert shutil.which("git") is None

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
def doubled(number):
    return int(torch.full((2,), number).sum())
from multiprocessing.pool import Pool, ThreadPool
for make in (multiprocessing.Pool, multiprocessing.get_context("spawn").Pool, Pool, ThreadPool):
    with make(4) as pool:
        assert list(pool.imap(doubled, range(3))) == [0, 2, 4]
with ProcessPoolExecutor(2) as pool:
    assert list(pool.map(doubled, range(3))) == [0, 2, 4]
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with files that are there before the script."""
    made = (
        "import os, torch, safetensors.torch\n"
        "state = torch.nn.Linear(1000, 1000).state_dict()\n"
        f"os.chdir({str(tmp_path)!r}); torch.save(state, 'found.pt')\n"
        "safetensors.torch.save_file(state, 'found.safetensors')"
    )
    assert run("-c", made).returncode == 0
    (tmp_path / "found").mkdir()
    (tmp_path / "found/a.txt").write_text("a")
    (tmp_path / "found.txt").write_text("found")
    return tmp_path


@pytest.mark.parametrize("text", [FILES, CHECKPOINTS], ids=["files", "checkpoints"])
def test_what_a_script_writes_is_its_own(folder, text):
    script = folder / "script.py"
    script.write_text(DEVICE + text + TRAINING)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    predicted(script)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    plain = f"import os; os.chdir({str(folder)!r})\n" + DEVICE + text
    process = run("-c", plain)  # as it is, which changes the folder
    assert process.returncode == 0, process.stderr


def test_what_is_loaded_to_the_gpu_counts(folder):
    """Once, also where two tensors share their numbers: a weight of 4 MB and its first rows."""
    script = folder / "script.py"
    script.write_text(
        DEVICE
        + """
def bytes_of(*arguments, **options):
    before = torch.cuda.memory_allocated()
    held = torch.load(*arguments, **options)
    return torch.cuda.memory_allocated() - before

assert bytes_of("found.pt") == 0
assert bytes_of("found.pt", map_location="cuda") == 4_000_256 + 4_096
torch.save([state["weight"], state["weight"][:10]], "two.pt")
assert bytes_of("two.pt") == 4_000_256
assert bytes_of("two.pt", map_location="cpu") == 0
"""
        + TRAINING
    )
    predicted(script)


def test_programs_are_not_found(tmp_path):
    """But nvidia-smi, which has nothing to say. And pools of processes compute in this one."""
    script = tmp_path / "script.py"
    script.write_text(DEVICE + PROGRAMS + TRAINING)
    predicted(script)


def test_the_parameters_of_a_class_are_found_without_a_program(tmp_path):
    """As typeshed_client does for jsonargparse, and that for Lightning's command line."""
    folder = tmp_path / "typeshed_client"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .finder import get_search_context")
    (folder / "finder.py").write_text("""
import subprocess, sys
def get_search_context(*, search_path=None, python_executable=None):
    if search_path is None:
        search_path = subprocess.check_output([sys.executable, "-c", "import sys"])
    return search_path
""")
    script = tmp_path / "script.py"
    text = "import sys, typeshed_client\nplaces = map(str, typeshed_client.get_search_context())\n"
    script.write_text(
        DEVICE + text + "assert list(places) == list(filter(None, sys.path))\n" + TRAINING
    )
    predicted(script)
