"""vramcast as a user meets it: what it is asked, what it answers, and when it cannot."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading

import pytest

from ladder.rungs import ROOT
from tests.helpers import HANG
from tests.scripts import DEEP, HEAD, LOOP
from tests.warm import predict, predicted
from vramcast import evidence, gpus
from vramcast.command import batches
from vramcast.options import Options

TRAINING = """
import torch

model = torch.nn.Linear(64, 64).cuda()
optimizer = torch.optim.SGD(model.parameters())


def step():
    model(torch.ones(8, 64).cuda()).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


"""
BATCHES = """
import argparse

import torch
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=128)
number = parser.parse_args().batch_size
micro = {micro}
data = TensorDataset(torch.zeros(1000, 256), torch.zeros(1000).long())
model = torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(9)]).cuda()
optimizer = torch.optim.SGD(model.parameters())
for images, labels in DataLoader(data, batch_size={size}):
    for some, targets in zip(images.split(micro), labels.split(micro)):
        loss = torch.nn.functional.cross_entropy(model(some.cuda()), targets.cuda())
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture
def script(tmp_path):
    """A function that writes a script and returns its path."""

    def write(text: str, name: str = "script.py"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


# --------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothere.py"], "there is no script nothere.py"),
        (["03_bfloat16.py", "--gpu", "eight"], "'eight' is no GPU"),
        (["03_bfloat16.py", "--gpu="], "'' is no GPU"),
        (["03_bfloat16.py", "--fits="], "'' is no GPU"),
        (["03_bfloat16.py", "--gpu=--"], "argument --gpu: expected one argument"),
        (["a" * 300], "there is no script aaa"),
        (["03_bfloat16.py", "--gpu", "8", "--fits", "8"], "choose one"),
        (["03_bfloat16.py", "--batch-size", "0"], "has to be at least 1"),
        (["03_bfloat16.py", "--time-limit", "-1"], "-1 is no number of seconds above 0"),
        (["03_bfloat.py"], "Did you mean 03_bfloat16.py"),
        (["README.md"], "README.md is no Python file"),
        (["03_bfloat16.py", "--lr", "0.2"], "The script's own options come after --"),
        (["03_bfloat16.py", "--timeline", "no/such/folder.png"], "cannot be written"),
        (["03_bfloat16.py", "--timeline", "step.xyz"], "has to end in one of"),
        ([], "the following arguments are required: script"),
        (["no/such.py"], "there is no script no/such.py"),
        (["03_bfloat16.py", "--gpu", "3050"], "'3050' is no GPU"),
    ],
)
def test_what_is_asked_is_checked_before_any_work(arguments, message, tmp_path):
    process = predict("--json", *arguments, TMPDIR=str(tmp_path))
    assert process.returncode == 2
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert message in json.loads(process.stdout)["error"]
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_an_object_too(script):
    process = predict("--json", script("raise ValueError('too hot')"))
    assert process.returncode == 2
    answer = json.loads(process.stdout)
    assert answer == {
        "schema": 1,
        "script": str(script("raise ValueError('too hot')")),
        "error": "line 1: ValueError: too hot",
    }


# ------------------------------------------------------------------------------ does it fit?


def test_a_gpu_that_is_too_small_is_told_what_would_help(script):
    loop = LOOP.replace("images.cuda()", "images.cuda()[:, None].expand(-1, 64, -1)")
    process = predict(script(HEAD + DEEP + loop.replace("32", "500")), "--gpu", "1 GB")
    assert process.returncode == 1, process.stderr
    assert "does not fit, by" in process.stdout
    assert re.search("  accumulate +[0-9.]+ ", process.stdout)
    assert "the largest batch that fits: " in process.stdout
    assert "batches of 128: 0.37 GB" in process.stdout  # the search shows its tries


@pytest.mark.parametrize(
    ("command", "remedy"),
    [(["-m", "vramcast"], "pip install torch rich"), (["rehearse.py"], "make ladder")],
)
def test_missing_packages_are_told(command, remedy):
    """By a Python without any: -S leaves out the folder that they are in."""
    process = subprocess.run(
        [sys.executable, "-S", *command, "03_bfloat16.py"],
        cwd=ROOT, capture_output=True, text=True, timeout=HANG,
    )  # fmt: skip
    assert process.returncode == 2
    assert "not installed here: torch," in process.stderr
    assert remedy in process.stderr


def test_a_script_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "script.py").symlink_to("/proc/self/mem")  # which nobody can read at 0
    process = predict(tmp_path / "script.py")
    assert process.returncode == 2
    assert "cannot be read" in process.stderr
    assert "Traceback" not in process.stderr


def test_another_batch_size_is_that_of_the_script_written_with_it(script):
    text = BATCHES.format(micro="number", size="number")
    own = predicted(script(text), "--batch-size", "512")
    written = predicted(script(text.replace("128", "512")))
    for key in ("reserved_gb", "allocated_gb", "breakdown_gb"):
        assert own[key] == written[key]


def searched(own: int, base: float, each: float, gpu: str, exact: bool = False) -> list[int]:
    """The sizes that a search tries if GB are `base` and `each` for a sample, of 5000."""
    options = Options(gpus.find(gpu))
    _, limit = evidence.limits(options.gpu, "plain", 0)
    search = batches.Search(options, 5000)

    def ask(size: int) -> None:
        needs = base + each * size
        search.tried[size] = {
            "fits": needs * 1e9 <= limit, "reserved_gb": needs, "allocated_gb": needs,
            "like": "plain", "groups": 0, "notes": [],
        }  # fmt: skip

    ask(own)
    for size in search.sizes(exact):
        ask(size)
    return list(search.tried)


@pytest.mark.parametrize("own", [1, 20, 32, 64, 1000, 4096])
@pytest.mark.parametrize(("base", "each"), [(1, 0.02), (0.2, 0.3), (4, 0.004), (0.1, 2.9)])
@pytest.mark.parametrize("gpu", ["8", "24", "80"])
def test_a_search_tries_round_sizes_and_few(own, base, each, gpu):
    tried = searched(own, base, each, gpu)
    _, limit = evidence.limits(gpus.find(gpu), "plain", 0)
    right = min(int((limit / 1e9 - base) / each), 5000)
    step = 8 if right >= 8 else 1
    assert len(tried) <= 8
    for size in tried[:4]:
        assert size < 8 or size % 8 == 0 or size.bit_count() == 1 or size in (own, 5000)
    best = max((size for size in tried if size <= right), default=0)
    assert right // step * step <= best <= right
    exact = searched(own, base, each, gpu, exact=True)
    assert max((size for size in exact if size <= right), default=0) == right


def test_a_search_ends_where_batches_make_no_difference():
    assert max(searched(4, 2, 0, "24")) <= 4 * batches.FOLD**2


def test_the_largest_batch_that_fits(script):
    """A multiple of 8, of which the next does not surely fit."""
    file = script(BATCHES.format(micro="number", size="number"))
    row = predicted(file, "--fits", "0.87 GB")
    assert row["fits"]
    assert row["batch_size"] % 8 == 0
    assert 128 < row["batch_size"] < 1000
    more = predict("--json", file, "--gpu", "0.87 GB", "--batch-size", row["batch_size"] + 8)
    assert json.loads(more.stdout)["fits"] is False


def test_a_scripts_own_number_is_what_another_batch_size_changes(script):
    """Micro-batches of a quarter: twice the number is twice the activations."""
    file = script(BATCHES.format(micro="number // 4", size="number"))
    one = predicted(file)["breakdown_gb"]["activations"]
    row = predicted(file, "--batch-size", "512")
    assert row["breakdown_gb"]["activations"] == pytest.approx(4 * one, rel=0.1)
    assert row["notes"] == []
    assert "(the number in line 8)" in predict(file, "--batch-size", "512").stdout


def test_a_script_that_checks_its_number_has_it_found_too(script):
    """`own + 1` would end it before the loader is there."""
    check = "assert number % 4 == 0\nmicro ="
    text = BATCHES.format(micro="number // 4", size="number").replace("micro =", check, 1)
    assert "batch_size_line" not in predicted(script(text))
    assert "(the number in line 8)" in predict(script(text), "--batch-size", "512").stdout


def test_what_another_batch_size_does_not_reach_is_said(script):
    computed = script(BATCHES.format(micro="number // 4", size="number * 1 + 1"))
    notes = predicted(computed, "--batch-size", "512")["notes"]
    assert any("which number of the script they come from is not known" in note for note in notes)
    fixed = script(BATCHES.format(micro="16", size="number"))
    notes = predicted(fixed, "--batch-size", "256")["notes"]
    assert any("batches of 128 allocate as much" in note for note in notes)
    assert any(
        "has only 1000 samples" in note
        for note in predicted(fixed, "--batch-size", "2000")["notes"]
    )


def test_the_search_ends_with_the_data_set(script):
    row = predicted(script(BATCHES.format(micro="number", size="number")), "--fits", "80")
    assert row["batch_size"] == 1000
    assert any("the whole data set, 1000 samples" in note for note in row["notes"])


def test_not_even_one_fits(script):
    file = script(BATCHES.format(micro="number", size="number"))
    process = predict("--json", file, "--fits", "0.85 GB")
    assert process.returncode == 1
    assert "not even a batch of 1 fits" in json.loads(process.stdout)["error"]


# --------------------------------------------------------------------- how long, and the end


def test_a_peak_that_rises_for_ever_is_told(script):
    file = script(
        TRAINING + "kept = []\nwhile True:\n    step()\n    kept.append(model(model.weight))"
    )
    process = predict(file)
    assert process.returncode == 2
    told = (
        "line 15: memory grows by 16.4 kB with each iteration (line 17: addmm in model (Linear), "
    )
    assert f"{told}[64, 64] float32)" in process.stderr
    assert "how many there will be is not known" in process.stderr


def test_work_without_an_optimizer_step_is_bounded(script):
    """By passes through the model: a loop that only evaluates, and one that steps by hand."""
    process = predict(script(TRAINING + "while True:\n    model(torch.ones(8, 64).cuda())"))
    assert process.returncode == 0
    assert "ended after 2000 passes" in process.stdout
    assert "the memory of inference" in process.stdout
    process = predict(script(TRAINING + "while True:\n    model(model.weight).sum().backward()"))
    assert process.returncode == 0
    assert "no optimizer of torch.optim took a step" in process.stdout
    assert "not run: the rest after 103 iterations (line 14)" in process.stdout


def test_a_loader_without_a_batch_is_told(script):
    text = BATCHES.format(micro="number", size="number, drop_last=True")
    process = predict(script(text), "--batch-size", "2000")
    assert process.returncode == 2
    assert "the data set has only 1000 samples" in process.stderr
    assert "a loader has no batch: fewer samples than one, and drop_last?" in process.stderr


def test_a_few_numbers_kept_of_each_step_are_no_growth(script):
    kept = "kept = []\nwhile True:\n    step()\n    kept.append(model.weight.sum().detach())"
    assert predicted(script(TRAINING + kept))["reserved_gb"] > 0


def test_a_time_limit_is_an_option_and_says_what_was_known(script):
    file = script(TRAINING + "import time\nstep()\nwhile True: time.sleep(1)")
    process = predict(file, "--time-limit", "10")
    assert process.returncode == 2
    assert "it was not done after 10 s (--time-limit): 1 optimizer step" in process.stderr


@pytest.mark.parametrize("limit", ["0.5", "0.53", "0.56", "0.59"])
def test_a_time_limit_holds_wherever_it_finds_the_script(script, limit):
    """Python swallows what is raised while an object is released."""
    endless = "while True: model(torch.ones(8, 64).cuda()).sum()"
    process = predict(script(TRAINING + endless), "--time-limit", limit)
    if process.returncode == 0:  # it was faster
        assert "ended after 2000 passes" in process.stdout
    else:
        assert process.returncode == 2
        assert "--time-limit" in process.stderr


def test_a_time_limit_holds_for_a_script_that_does_without_alarms(script):
    """The clock is in another process."""
    ignored = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
    process = predict(script(ignored + "while True: pass"), "--time-limit", "1")
    assert process.returncode == 2
    assert "it was not done after 1 s (--time-limit)" in process.stderr


def start(*arguments: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "vramcast", *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def test_ctrl_c_says_what_was_known(script):
    process = start(script(TRAINING + "step()\nprint('there')\nwhile True: step"), "--show")
    while "there" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=HANG)
    assert process.returncode == 130
    assert "Stopped." in errors
    assert "Traceback" not in errors + output


def test_a_terminal_shows_how_far_it_is(script):
    own, theirs = pty.openpty()
    seen = []

    def read() -> None:
        try:
            while chunk := os.read(own, 4096):
                seen.append(chunk)
        except OSError:  # the last writer has gone
            pass

    reader = threading.Thread(target=read)
    reader.start()
    loop = "import time\nfor _ in range(99):\n    step()\n    time.sleep(0.1)"
    process = subprocess.Popen(
        [sys.executable, "-m", "vramcast", str(script(TRAINING + loop))],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, text=True,
    )  # fmt: skip
    os.close(theirs)
    output, _ = process.communicate(timeout=HANG)
    reader.join()
    os.close(own)
    assert process.returncode == 0
    assert re.search(
        rb"script.py: \w+, \d+ optimizer steps?, 0.\d\d GB reserved so far", b"".join(seen)
    )
    assert "predicted peak" in output
