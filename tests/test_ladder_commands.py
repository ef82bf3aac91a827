"""The ladder's own commands: which scripts fit a GPU, and the predictions of all."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from ladder.fits import suggested
from ladder.rungs import ROOT, read_ladder
from tests.helpers import HANG
from tests.scripts import TRAINING
from tests.warm import predict, predicted, run


def fits(*arguments: object) -> subprocess.CompletedProcess:
    return run("-m", "ladder.fits", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eight"], "'eight' is no GPU"),
        (["8", "03_bfloat.py"], "Did you mean:\n  03_bfloat16.py"),
        (["8", "rehearse.py"], "is no script of the ladder"),
    ],
)
def test_what_is_asked_is_checked(arguments, message):
    process = fits(*arguments)
    assert process.returncode == 2
    assert message in process.stderr


@pytest.mark.parametrize(
    ("gpu", "first"),
    [
        ("6", {64: "11-16-under-1gb/13_batch-64.py", 16: "04-2_free-gradients.py"}),
        ("8", {64: "11-16-under-1gb/13_batch-64.py", 16: "04_lower-batchsize.py"}),
        ("T4", {16: "11-16-under-1gb/11-3_float16-mixed.py"}),
        ("4090", {64: "02_mixed-precision.py", 16: "04_lower-batchsize.py"}),
        ("1.4", {16: "11-16-under-1gb/16-2_activation-offload.py"}),
        ("1", {}),
    ],
)
def test_which_scripts_fit_a_gpu(gpu, first):
    """The first of each batch, the larger batch first."""
    process = fits(gpu)
    assert process.returncode == (not first), process.stderr
    found = re.findall(
        r"^  ViT-L/16, batches of (\d+), FLOPs × [\d.]+: python (\S+)$", process.stdout, re.M
    )
    assert found == [(str(batch), script) for batch, script in first.items()]
    assert ("beside CUDA's context and kernels):\n  none\n" in process.stdout) == (not first)
    assert "03-2_float16-nan" not in process.stdout  # which is a lesson


def test_the_first_that_fits_is_the_one_of_which_vramcast_says_so():
    """And of the script before it, it says the contrary."""
    order = [rung.script for rung in suggested(read_ladder(), "ViT-L/16")]
    first = order.index("04_lower-batchsize.py")
    for script, fits in ((order[first], True), (order[first - 1], False)):
        process = predict("--json", script, "--gpu", "8")
        assert json.loads(process.stdout)["fits"] is fits


def test_the_first_later_script_that_fits_is_one_that_the_gpu_can_run():
    process = fits("T4", "11")
    assert process.returncode == 0, process.stderr
    assert "scripts in bfloat16, in which a T4 does not compute" in process.stdout
    found = re.search(r"The first later script that fits: (\S+), (\S+) GB", process.stdout)
    assert found[1] == "11-16-under-1gb/11-3_float16-mixed.py"  # a variant: no other fits
    assert predicted(found[1], "--gpu", "T4")["reserved_gb"] == pytest.approx(float(found[2]), 0.01)


def test_a_results_file_that_cannot_be_used(tmp_path):
    process = run("-m", "ladder.predict", "--results", "/dev/null/rows.json")
    assert process.returncode == 2
    assert "cannot be written" in process.stderr
    file = tmp_path / "rows.json"
    file.write_text("[1, 2]")
    process = run("-m", "ladder.predict", "--results", file)
    assert process.returncode == 2
    assert "no file of rows" in process.stderr
    assert file.read_text() == "[1, 2]"


def test_one_script_that_fails_costs_its_own_row_only(tmp_path):
    good, bad, results = (tmp_path / name for name in ("good.py", "bad.py", "rows.json"))
    good.write_text(TRAINING)
    bad.write_text("1 / 0")
    process = run("-m", "ladder.predict", bad, good, "--results", results)
    assert process.returncode == 2
    assert "1 of 2 could not be predicted" in process.stdout
    assert "line 1: ZeroDivisionError" in process.stdout
    rows = {row["script"]: row for row in json.loads(results.read_text())}
    assert rows[str(bad)]["error"] == "line 1: ZeroDivisionError: division by zero"
    assert rows[str(good)]["reserved_gb"] > 0
    again = run("-m", "ladder.predict", bad, good, "--results", results, "--resume")
    assert again.returncode == 2  # a failure is tried again
    (line,) = [line for line in again.stdout.splitlines() if line.startswith("good.py")]
    assert line.endswith("kept")
    assert "Left as before: 1" in again.stdout
    good.write_text(TRAINING + "# another script\n")
    again = run("-m", "ladder.predict", good, "--results", results, "--resume")
    assert "Left as before" not in again.stdout


def test_ctrl_c_ends_the_ladder_and_keeps_what_is_done(tmp_path):
    done, endless, results = (tmp_path / name for name in ("done.py", "endless.py", "rows.json"))
    done.write_text(TRAINING)
    endless.write_text("while True: pass\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "ladder.predict", done, endless, "--results", results],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    while "done.py" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=HANG)
    assert process.returncode == 130
    assert "Stopped." in errors
    assert "Rows kept in" in output
    assert [row["script"] for row in json.loads(results.read_text())] == [str(done)]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"done.py", "endless.py", "rows.json", "steps.json"}
