"""rehearse.py: what the ladder reaches on the CPU, and what happens when something goes wrong."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from ladder.rows import LOCAL, by_script
from ladder.rungs import ROOT, read_ladder, several_gpus
from rehearsal import progress
from rehearsal.needs import Needs, needs
from rehearsal.outcome import learned
from rehearse import RESULTS, summary
from tests import warm
from tests.helpers import ASLEEP, HANG, alive, wait_until

SCRIPTS = [rung.script for rung in read_ladder()]
RANKS = [script for script in SCRIPTS if several_gpus(script)]
PRECISIONS = {
    "02_mixed-precision.py": "float16 mixed, GradScaler",
    "bonus_distilbert-before.py": "float32",
    "02-2_bf16-mixed.py": "bfloat16 mixed",
    "02-3_bf16-states.py": "bfloat16 mixed",
    "03-2_float16-nan.py": "float16",
    "11-16-under-1gb/11-3_float16-mixed.py": "float16 mixed, GradScaler",
}
KEYS = [
    "script",
    "precision",
    "ranks",
    "parameters_held",
    "optimizer_held",
    "seconds",
    "images_per_second",
    "loss_first",
    "loss_last",
    "accuracy",
    "host_gb",
    "learned",
    "fingerprint",
]
STEP = (
    "import torch\n"
    "model = torch.nn.Linear(3, 3).cuda()\n"
    "optimizer = torch.optim.SGD(model.parameters())\n"
    "model(torch.ones(3).cuda()).sum().backward()\n"
    "optimizer.step()\n"
)


def test_every_script_ran_to_its_end(rehearsed):
    assert list(rehearsed) == SCRIPTS
    for row in rehearsed.values():
        assert list(row) == KEYS  # and no "error"
        assert row["images_per_second"] > 0
        assert 0 < row["host_gb"] < 8


def test_scripts_for_several_gpus_ran_in_two_processes_and_shared_the_model(rehearsed):
    """With DDP, each has a copy; with ZeRO-1, of the parameters alone."""
    for script, row in rehearsed.items():
        assert row["ranks"] == (2 if script in RANKS else 1)
        copied = "ddp" in script or "zero-1" in script
        share = pytest.approx(1 if copied else 1 / row["ranks"], abs=0.01)
        assert row["parameters_held"] == share
        text = (ROOT / script).read_text()
        if ".SGD(" in text:  # which keeps nothing
            assert row["optimizer_held"] is None
        elif "zero-1" in script:  # whole tensors are shared out, of a small model's few
            assert 0.3 < row["optimizer_held"] < 0.7
        elif ".Adafactor(" in text:  # sums of rows and columns
            assert 0 < row["optimizer_held"] < 0.01
        elif "LoRA" in text or "lora" in script or "biases" in script:  # and of the head
            assert 0 < row["optimizer_held"] < 0.3
        elif "last-blocks" in script:
            assert 0.3 < row["optimizer_held"] < 0.5
        else:
            assert row["optimizer_held"] == share


def test_the_trunk_learns(rehearsed):
    assert rehearsed["01_pytorch-fp32.py"]["accuracy"] >= 0.90


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_other_rung_learns_as_well(rehearsed, script):
    row = rehearsed[script]
    if script == "03-2_float16-nan.py":
        assert row["loss_first"] > 0
        assert row["loss_last"] is None  # NaN
        assert row["learned"] is False
    else:
        # of two classes, chance may get both right
        assert row["learned"] is (None if script.startswith("bonus") else True)
        assert row["loss_last"] < row["loss_first"]
        trunk = rehearsed["01_pytorch-fp32.py"]["accuracy"]
        if script.startswith("08-10") or script in RANKS:
            # batches of 4 at a constant rate: the CPU's rounding alone moves 08 from 87 to 91 %
            assert row["accuracy"] >= 0.8
        elif script.startswith("bonus"):  # another, easier task
            assert row["accuracy"] >= trunk - 0.05
        elif "/13" in script:  # 21 steps: see the test below
            assert row["accuracy"] >= 0.8
        else:
            assert abs(row["accuracy"] - trunk) <= 0.05


@pytest.fixture(scope="module")
def over_three_seeds(rehearsed, seeds) -> dict[str, float]:
    """Mean accuracies over the script's own seed and two others, by the script's name."""
    return {
        Path(script).stem: sum([rehearsed[script]["accuracy"], *row["accuracies"]]) / 3
        for script, row in seeds.items()
    }


def test_large_batches_learn_as_well_over_several_seeds(over_three_seeds):
    """13 takes a quarter of 11's steps at its rate: its accuracy varies with the head's numbers."""
    usual, large = over_three_seeds["11_act-checkp"], over_three_seeds["13_batch-64"]
    assert abs(large - usual) <= 0.05


def test_lora_learns_as_well_as_training_all_weights(over_three_seeds):
    """Also with the frozen weights in 4 bits: within two points of 11."""
    whole, lora, qlora = (
        over_three_seeds[name] for name in ("11_act-checkp", "15_lora", "16_qlora")
    )
    assert abs(lora - whole) <= 0.02
    assert abs(qlora - whole) <= 0.02


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_precision_asked_for_is_the_one_that_ran(rehearsed, script):
    expected = "float32" if script.startswith("01") else "bfloat16"
    if script.startswith("08-10"):
        expected = "float16 mixed, GradScaler"
    assert rehearsed[script]["precision"] == PRECISIONS.get(script, expected)


def test_the_nan_is_explained(tmp_path):
    process = warm.run(
        "rehearse.py", "--show", "03-2_float16-nan.py", "--results", str(tmp_path / "rows.json")
    )
    assert "The loss is NaN" in process.stdout
    assert "smallest float16 is 6e-08" in process.stdout
    assert "eps of 1e-08 became 0e+00" in process.stdout
    assert "03_bfloat16.py" in process.stdout


LAUNCHED = """
import os
import torch
from lightning import Fabric

assert os.environ.get("MASTER_ADDR") != "192.0.2.1"
fabric = Fabric(accelerator="cuda", devices=2, strategy="ddp")
fabric.launch()
model = torch.nn.Linear(3, 3)
model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters()))
fabric.backward(model(torch.ones(2, 3, device=fabric.device)).sum())
optimizer.step()
assert fabric.world_size == 2
"""


def test_what_a_launcher_left_in_the_shell_is_no_matter(tmp_path):
    """As Kubernetes sets it, or SLURM: the script's processes find each other all the same."""
    script, results = tmp_path / "launched.py", tmp_path / "rows.json"
    script.write_text(LAUNCHED)
    left = {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "1"}
    left |= {"LOCAL_RANK": "0", "SLURM_NTASKS": "8", "SLURM_JOB_NAME": "training"}
    process = warm.run("rehearse.py", script, "--results", results, **left)
    assert process.returncode == 0, process.stdout
    [row] = json.loads(results.read_text())
    assert row["ranks"] == 2


def test_a_question_to_the_other_command_is_told():
    process = warm.run("rehearse.py", "03_bfloat16.py", "--gpu", "8")
    assert process.returncode == 2
    assert "GPU memory is predicted, by  python -m vramcast SCRIPT --gpu 8" in process.stderr


def test_an_unknown_script_is_told(tmp_path):
    process = warm.run("rehearse.py", "99_nothing.py", "--results", str(tmp_path / "rows.json"))
    assert process.returncode == 2
    assert "there is no script 99_nothing.py" in process.stderr
    assert "03_bfloat16.py" in process.stderr
    assert list(tmp_path.iterdir()) == []


MISHAPS = {  # what a script does, why it failed, and what its output shows
    "raises": (f"{STEP}raise ValueError('too hot')", "line 6: ValueError: too hot", "in <module>"),
    "syntax": ("def f(:", "line 1: SyntaxError: invalid syntax", "def f(:"),
    "latin": (b'x = "\xff"', "line 1: SyntaxError: (unicode error)", "can't decode byte 0xff"),
    "interrupts": ("raise KeyboardInterrupt", "line 1: KeyboardInterrupt", "in <module>"),
    "says_why": ("import sys; sys.exit('no data\\nget it')", "no data", "get it"),
    "exits": ("import sys; sys.exit(3)", "it ended itself with status 3", ""),
    "leaves": ("import os; os._exit(4)", "it ended itself with status 4", ""),
    "mute": (
        "class Mute(Exception):\n    def __str__(self): return 1 / 0\nraise Mute",
        "line 3: Mute: <exception str() failed>",
        "in <module>",
    ),
    "noted": (
        "e = ValueError('the\\nmessage')\ne.add_note('a note')\nraise e",
        "line 3: ValueError: the",
        "a note",
    ),
    "long": ("raise ValueError('m' * 10**6)", "line 1: ValueError: mmm", ""),
    "red": ("raise ValueError('\\x1b[31m')", "line 1: ValueError: \\x1b[31m", "\\x1b[31m"),
    "writes": (
        "import json, os\nopen(os.environ['DATA_DIR'] + '/rank-0.json', 'w').write('{}')\n"
        "os._exit(0)",
        "it ended itself before its last line",
        "",
    ),
    "quits": (f"{STEP}import os; os._exit(0)", "it ended itself before its last line", ""),
    "empty": ("", "it did not train: no optimizer took a step", ""),
    "shape": (
        "import torch; torch.ones(3, device='cuda') @ torch.ones(5)",
        "line 1: RuntimeError: inconsistent tensor size",
        "in <module>",
    ),
    "killed": (
        "import os, sys\nsys.stdout.buffer.write(b'seen \\xff\\n')\nsys.stdout.flush()\n"
        "os.kill(os.getpid(), 9)",
        "it was ended by signal 9 (Killed",
        "seen",
    ),
}


@pytest.fixture(scope="module")
def mishaps(tmp_path_factory):
    """One rehearsal of all of these, and of a script that trains: rows by name, and the output."""
    folder = tmp_path_factory.mktemp("mishaps")
    for name, (source, *_) in MISHAPS.items():
        source = source if isinstance(source, bytes) else source.encode()
        (folder / f"{name}.py").write_bytes(source + b"\n" if source else b"")
    (folder / "trains.py").write_text(STEP)
    scripts = [str(folder / f"{name}.py") for name in (*MISHAPS, "trains")]
    process = warm.run("rehearse.py", *scripts, "--results", str(folder / "rows.json"))
    assert process.returncode == 1
    rows = json.loads((folder / "rows.json").read_text())
    return {row["script"].rpartition("/")[2].removesuffix(".py"): row for row in rows}, process


@pytest.mark.parametrize("name", MISHAPS)
def test_a_script_that_fails_says_why(mishaps, name):
    rows, process = mishaps
    _, error, shown = MISHAPS[name]
    row = rows[name]
    assert list(row) == [*KEYS, "error"]
    assert row["error"].startswith(error)
    assert row["learned"] is None
    own = process.stdout.partition(f"{name}.py")[2].partition(".py  ")[0]
    assert shown in own
    assert f"Failed: {row['script']}: {row['error']}\n" in process.stdout


def test_scripts_that_fail_cost_the_others_nothing(mishaps):
    rows, process = mishaps
    assert list(rows["trains"]) == KEYS
    assert f"1 of {len(MISHAPS) + 1} scripts ran to the end" in process.stdout
    assert len(process.stdout) < 20_000
    assert "\x1b" not in process.stdout


def test_nothing_of_ours_and_no_library_s_warning_is_shown(mishaps):
    _, process = mishaps
    output = process.stdout + process.stderr
    for ours in (
        "rehearsal/",
        "ladder/",
        "runpy",
        "multiprocessing",
        "KernelPreference",
        "Process Fork",
    ):
        assert ours not in output, output


@pytest.mark.parametrize(
    ("accuracy", "targets", "loss", "expected"),
    [
        (0.93, dict.fromkeys(range(10), 36), 0.4, True),
        (0.089, dict.fromkeys(range(10), 36), 2.3, False),
        (0.38, dict.fromkeys(range(10), 36), 2.3, False),  # 0.1 + 3 * 0.0949 is 0.385
        (0.39, dict.fromkeys(range(10), 36), 2.3, True),
        (0.18, dict.fromkeys(range(100), 10), 4.6, True),  # of more classes
        (0.9, {0: 900, 1: 100}, 0.3, False),  # the most frequent class each time
        (1.0, {0: 500, 1: 500}, 0.1, None),  # of two classes, anybody may get both right
        (None, {}, 0.1, None),
        (None, {}, math.nan, False),
        (0.93, dict.fromkeys(range(10), 36), math.nan, False),
    ],
)
def test_what_counts_as_learned(accuracy, targets, loss, expected):
    assert learned(accuracy, Counter(targets), loss) is expected


DIGITS = """
import torch
from torchmetrics import Accuracy
from torchvision import datasets, transforms

data = datasets.CIFAR10("data", download=True, transform=transforms.ToTensor())
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr={rate})
accuracy = Accuracy(task="multiclass", num_classes=10).cuda()
for images, labels in torch.utils.data.DataLoader(data, 64):
    logits = model(images.cuda())
    torch.nn.functional.cross_entropy(logits, labels.cuda()).backward()
    optimizer.step()
    optimizer.zero_grad()
    accuracy.update(logits, labels.cuda())
accuracy.compute()
"""


def test_a_training_that_learns_nothing_is_said(tmp_path):
    """At a rate at which it cannot."""
    script, results = tmp_path / "too_slow.py", tmp_path / "rows.json"
    script.write_text(DIGITS.format(rate=0.0))
    process = warm.run("rehearse.py", str(script), "--results", str(results))
    assert process.returncode == 0, process.stdout
    [row] = json.loads(results.read_text())
    assert row["learned"] is False
    assert row["accuracy"] > 0
    assert re.search(r"^too_slow.py .* did not learn$", process.stdout, re.MULTILINE)
    assert f"\nDid not learn: {script}\n" in process.stdout


ACCURACY = """
import torch
from torchmetrics import Accuracy
from rehearsal.observer import Observer

observer = Observer()
observer.install()
metric = Accuracy(task="multiclass", num_classes=3)
metric.update(torch.tensor([0, 0]), torch.tensor([0, 1]))
metric.compute()
metric.reset()
for _ in range(2):  # which also updates, computes and resets
    metric(torch.tensor([2, 2, 1]), torch.tensor([2, 2, 2]))
metric.compute()
print(observer.accuracy, dict(observer.targets))
"""


def test_what_an_accuracy_was_computed_from_is_seen():
    """Of two batches since the last reset: four of six right, all of them of class 2."""
    process = warm.run("-c", ACCURACY)
    assert process.stdout == "0.6666666865348816 {'2': 6}\n", process.stderr


WORKERS = """
import torch
from torchvision import datasets, transforms

data = datasets.CIFAR10("data", download=True, transform=transforms.ToTensor())
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for images, labels in torch.utils.data.DataLoader(data, 64, num_workers=2):
    torch.nn.functional.cross_entropy(model(images.cuda()), labels.cuda()).backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_a_loader_may_have_workers(tmp_path):
    script, results = tmp_path / "workers.py", tmp_path / "rows.json"
    script.write_text(WORKERS)
    process = warm.run("rehearse.py", str(script), "--results", str(results))
    assert process.returncode == 0, process.stdout
    [row] = json.loads(results.read_text())
    assert row["loss_last"] < row["loss_first"]


def test_a_script_that_is_meant_to_fail_says_so():
    row = {"script": "03-2_float16-nan.py", "learned": False}
    assert "Did not learn: 03-2_float16-nan.py, as is its lesson: float16" in summary([row], 1.0)


def test_scripts_side_by_side_find_the_same_as_one_at_a_time(tmp_path):
    """To the last bit."""
    scripts, found = [tmp_path / f"{number}.py" for number in (1, 2, 3)], []
    for script, rate in zip(scripts, (0.1, 0.01, 0.001)):
        script.write_text(DIGITS.format(rate=rate))
    for jobs in (1, 3):
        results = tmp_path / f"{jobs}.json"
        process = warm.run("rehearse.py", *scripts, "--jobs", jobs, "--results", str(results))
        assert process.returncode == 0, process.stdout
        shown = re.findall(r"^(\S+\.py) ", process.stdout, re.MULTILINE)
        assert shown == [script.name for script in scripts]
        keys = ("script", "loss_first", "loss_last", "accuracy", "learned")
        found.append([[row[key] for key in keys] for row in json.loads(results.read_text())])
    assert found[0] == found[1]
    assert len({row[2] for row in found[0]}) == 3


def test_what_a_script_may_need(tmp_path):
    """As recorded; a stranger's script has no record, and may be no Python."""
    latin = tmp_path / "latin.py"
    latin.write_bytes(b'x = "\xff"')
    several, one = ROOT / "08-10-vit-h14/08a_fsdp-defaults.py", ROOT / "01_pytorch-fp32.py"
    found = needs([several, one, latin])
    assert [need.ranks for need in found.values()] == [2, 1, 1]
    recorded = by_script(ROOT / "results" / "rehearsed.json")[one.name]
    assert found[one].memory == recorded["host_gb"] * 1e9
    assert found[one].seconds == recorded["seconds"]
    assert found[latin].memory > found[one].memory


def test_the_line_on_progress_says_what_runs_and_what_is_left(monkeypatch, capsys):
    """Two slots, and scripts that were expected to take a minute take two."""
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    scripts = [Path(f"{name}.py") for name in "abcd"]
    expected = dict.fromkeys(scripts, Needs(1, 1e9, 60.0)) | {scripts[3]: Needs(2, 2e9, 60.0)}
    line = progress.Progress(expected, slots=2, shown=True)
    line.begins(scripts[0])
    line.begins(scripts[1])
    assert capsys.readouterr().out.endswith("\r\x1b[K4 of 4 left: a, b …")
    now = 220.0
    line.ends(scripts[0], seconds=120.0)
    line.begins(scripts[2])
    # half of b's rest (none) and of c's two minutes, and all of d's, which takes both slots
    assert capsys.readouterr().out.endswith("\r\x1b[K3 of 4 left, about 3 min: b, c …")
    with line.hidden():
        print("a row")
    assert capsys.readouterr().out.startswith("\r\x1b[Ka row\n\r\x1b[K3 of 4 left")
    line.ends(scripts[1], seconds=None)
    line.ends(scripts[2], seconds=None)
    assert capsys.readouterr().out.endswith("\r\x1b[K")


class Endless:
    """Two endless scripts, and one between them that ends before its turn."""

    def __init__(self, folder: Path, stubborn: bool) -> None:
        self.results, self._pids = folder / "rows.json", [folder / "pids-1", folder / "pids-3"]
        first, self.ends, third = scripts = [folder / f"{number}.py" for number in (1, 2, 3)]
        self.command = ("rehearse.py", *scripts, "--jobs", "3", "--results", self.results)
        self.ends.write_text(STEP)
        for script, file in zip((first, third), self._pids):
            script.write_text(
                "import os, signal, subprocess, sys, time\n"
                f"if {stubborn}: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                "child = subprocess.Popen(\n"
                f"    [sys.executable, '-c', 'import time; time.sleep({ASLEEP})'])\n"
                f"open({str(file)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}\\n')\n"
                f"time.sleep({ASLEEP})\n"
            )

    def started(self) -> list[str]:
        """The processes of the endless scripts."""
        return [pid for file in self._pids if file.exists() for pid in file.read_text().split()]

    def wait(self) -> None:
        """Until all of them run, and the other script has its row."""
        wait_until(lambda: len(self.started()) == 4 and self.results.exists())

    def kill(self) -> None:
        for pid in self.started():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def check(self, status: int, output: str) -> None:
        """That all have ended, and that the finished row is kept."""
        assert [pid for pid in self.started() if alive(pid)] == []
        assert status == 130
        assert f"\n{self.ends.name} " in output
        assert f"Stopped. 1 of 3 scripts ran.\nRows kept in {self.results}\n" in output
        rows = json.loads(self.results.read_text())
        assert [row["script"] for row in rows] == [str(self.ends)]


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_ends_every_process_and_keeps_finished_rows(tmp_path, presses):
    """Two for scripts that do not end when they are asked to."""
    scripts = Endless(tmp_path, stubborn=presses == 2)
    process = subprocess.Popen(
        [sys.executable, *map(str, scripts.command)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        scripts.wait()
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        output, _ = process.communicate(timeout=HANG)
        scripts.check(process.returncode, output)
    finally:
        process.kill()
        scripts.kill()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_as_ctrl_c_does(tmp_path, sign):
    scripts = Endless(tmp_path, stubborn=False)
    running = warm.Running(scripts.command, {}, tmp_path / "output")
    try:
        scripts.wait()
        os.kill(running.process.pid, sign)
        process = running.wait()
        scripts.check(process.returncode, process.stdout)
    finally:
        running.process.kill()
        scripts.kill()


def test_rows_of_other_scripts_stay(tmp_path):
    results = tmp_path / "rows.json"
    good = tmp_path / "good.py"
    good.write_text(STEP)
    old = {"script": "07_init-module.py"}
    results.write_text(json.dumps([old]))
    assert warm.run("rehearse.py", str(good), "--results", str(results)).returncode == 0
    assert json.loads(results.read_text())[0] == old


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("notes.json", "my notes", "is no file of rows"),
        ("numbers.json", "[1, 2]", "is no file of rows"),
        ("object.json", '{"script": 1}', "is no file of rows"),
        ("rows.json", "[{}]", "is no file of rows"),
        ("folder.json", None, "is no file of rows"),
        ("notes.json/rows.json", "", "cannot be written"),
    ],
)
def test_results_that_cannot_be_kept_are_told_before_any_work(tmp_path, name, content, why):
    results = tmp_path / name
    if content is None:
        results.mkdir()
    elif content:
        results.write_text(content)
    else:
        results.parent.write_text("a file, not a folder")
    process = warm.run("rehearse.py", "03_bfloat16", "--results", str(results))
    assert process.returncode == 2
    assert f"{results} {why}" in process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
    if content:
        assert results.read_text() == content


def test_what_a_user_finds_is_ignored_by_git():
    assert RESULTS.parent == LOCAL == ROOT / "results" / "local"
    assert "results/local/" in (ROOT / ".gitignore").read_text().splitlines()
