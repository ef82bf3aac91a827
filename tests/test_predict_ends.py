"""Scripts that fail, do what a prediction may not, or write files."""

import pytest

from tests.scripts import DEEP, LOOP, WEIGHTS
from tests.warm import predict, predicted

STEP = "m = torch.nn.Linear(3, 3).cuda(); o = torch.optim.SGD(m.parameters())\n" + (
    "for _ in range(99): m(torch.ones(3).cuda()).sum().backward(); o.step()\n"
)
RENAME = "os.rename(os.path.dirname(__file__), '/x')"
BAD = {  # what the script does, and what the message has to say
    "raise RuntimeError('went wrong')": "line 2: RuntimeError: went wrong",
    "print(torch.ones(2))": "never trained",
    f"import os; {RENAME}": "line 2: it changes files",
    "import socket; socket.create_connection(('localhost', 1))": "line 2: OSError: [Errno 101]",
    "import subprocess; subprocess.run(['ls'])": "a prediction starts no program: 'ls'\n",
    "import os; os.fork()": "line 2: it starts a process (os.fork)",
    "import os; os.execvp('ls', ['ls'])": "line 2: it becomes another program (os.exec)",
    "from torch.utils import cpp_extension; cpp_extension.load('x', [])": "CUDA extension",
    "x = torch.ones(3).cuda().long(); x.view(x.max().item(), 1)": "line 2: a size depends on",
    "def f(:": "line 2: invalid syntax",
    "import sys; sys.exit('no GPU of this kind')": "no GPU of this kind",
    "import os; os._exit(3)": "ended its own process, with status 3",
    "raise KeyboardInterrupt": "line 2: KeyboardInterrupt",
    "x = '\xe9'  # in Latin-1": "line 2: (unicode error)",
    f"import os\ntry: {RENAME}\nexcept BaseException: pass\n{STEP}": "changes f",
}


@pytest.mark.parametrize("code", BAD)
def test_what_cannot_be_predicted_is_said(tmp_path, code):
    script, scratch = tmp_path / "bad.py", tmp_path / "scratch"
    scratch.mkdir()
    script.write_text(f"import torch\n{code}\n", "latin-1" if "Latin-1" in code else "utf-8")
    process = predict(script, TMPDIR=str(scratch))
    assert process.returncode == 2, process.stdout
    assert BAD[code] in process.stderr
    assert process.stdout == ""
    assert "Traceback" not in process.stderr
    assert sorted(tmp_path.iterdir()) == [script, scratch]
    assert not list(scratch.iterdir())


def test_python_does_not_write_bytecode_beside_a_script(tmp_path):
    (tmp_path / "helper.py").write_text(STEP.replace("m = ", "import torch\nm = ", 1))
    (tmp_path / "main.py").write_text("import helper\n")
    process = predict(tmp_path / "main.py", PYTHONDONTWRITEBYTECODE="")
    assert process.returncode == 0, process.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["helper.py", "main.py"]


WRITES = """
import json
import os
import socket
from pathlib import Path

os.makedirs("runs/first", exist_ok=True)
Path("out").mkdir(exist_ok=True)
log = open("log.txt", "a")
for epoch in range(3):
    model(torch.randn(8, 1024, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    log.write(f"{epoch}\\n")
    json.dump({"epoch": epoch}, open("out/last.json", "w"))
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
    torch.save(checkpoint, "runs/first/checkpoint.pt")
log.close()
assert open("log.txt").read() == "before\\n0\\n1\\n2\\n"
assert json.loads(Path("out/last.json").read_text()) == {"epoch": 2}
assert os.listdir("runs/first") == ["checkpoint.pt"] and os.path.exists("runs")
assert "out" in os.listdir(".") and "log.txt" in os.listdir(".")
os.replace("out/last.json", "out/best.json")
assert [path.name for path in Path("out").glob("*.json")] == ["best.json"]
kept = torch.load("runs/first/checkpoint.pt", map_location="cpu")
model.load_state_dict(kept["model"])
optimizer.load_state_dict(kept["optimizer"])
assert kept["epoch"] == 2
try:
    Path("out").mkdir()
    raise RuntimeError("made twice")
except FileExistsError:
    pass
try:
    open("no/such/folder.txt", "w")
    raise RuntimeError("written where no folder is")
except FileNotFoundError:
    pass
try:
    socket.create_connection(("localhost", 1))
except OSError as error:
    print(error)
"""


def test_what_is_written_goes_nowhere_and_can_be_read_back(script):
    optimizer = "optimizer = torch.optim.Adam(model.parameters())\n"
    file = script(DEEP + optimizer + WRITES)
    (file.parent / "log.txt").write_text("before\n")
    row = predicted(file)
    assert row["breakdown_gb"]["optimizer"] == pytest.approx(2 * WEIGHTS, rel=0.01)
    assert sorted(path.name for path in file.parent.iterdir()) == ["log.txt", "train.py"]
    assert (file.parent / "log.txt").read_text() == "before\n"


def test_what_fails_once_the_peak_is_at_rest_is_a_note(script):
    end = "open('result.txt', 'w').write(str(1 / 0))\n"
    row = predicted(script(DEEP + LOOP + end))
    (note,) = row["notes"]
    assert "the peak was at rest when it ended: line 12: ZeroDivisionError" in note
    (note,) = predicted(script(DEEP + LOOP + f"import os\n{RENAME}\n"))["notes"]
    assert "line 13: it changes files (os.rename: " in note
    process = predict(script(DEEP + end + LOOP))
    assert process.returncode == 2
    assert "line 5: ZeroDivisionError" in process.stderr
