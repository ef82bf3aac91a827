"""rehearse.py: what the ladder reaches on the CPU, and what happens when something goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from stand_ins.ladder import ROOT, read_ladder
from tests.conftest import run

SCRIPTS = [rung.script for rung in read_ladder()]
PRECISIONS = {
    "02_mixed-precision.py": "float16 mixed, GradScaler",
    "02-2_bf16-mixed.py": "bfloat16 mixed",
    "03-2_float16-nan.py": "float16",
}
KEYS = [
    "script",
    "precision",
    "seconds",
    "images_per_second",
    "loss_first",
    "loss_last",
    "accuracy",
    "host_gb",
    "ok",
]


def test_every_script_ran_to_its_end(rehearsed):
    assert list(rehearsed) == SCRIPTS
    for row in rehearsed.values():
        assert list(row) == KEYS
        assert row["ok"]
        assert row["images_per_second"] > 0
        assert 0 < row["host_gb"] < 8


def test_the_trunk_learns(rehearsed):
    assert rehearsed["01_pytorch-fp32.py"]["accuracy"] >= 0.90


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_other_rung_learns_as_well(rehearsed, script):
    row = rehearsed[script]
    if script == "03-2_float16-nan.py":
        assert row["loss_first"] > 0
        assert row["loss_last"] is None  # NaN
        assert row["accuracy"] < 0.2
    else:
        assert row["loss_last"] < row["loss_first"]
        assert abs(row["accuracy"] - rehearsed["01_pytorch-fp32.py"]["accuracy"]) <= 0.05


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_precision_asked_for_is_the_one_that_ran(rehearsed, script):
    expected = "float32" if script.startswith("01") else "bfloat16"
    assert rehearsed[script]["precision"] == PRECISIONS.get(script, expected)


def test_the_nan_is_explained(tmp_path):
    process = run(
        "rehearse.py", "--show", "03-2_float16-nan.py", "--results", str(tmp_path / "rows.json")
    )
    assert "The loss is NaN" in process.stdout
    assert "smallest_normal=6.10352e-05" in process.stdout
    assert "eps of 1e-08 became 0e+00" in process.stdout
    assert "03_bfloat16.py" in process.stdout


def test_an_unknown_script_is_told(tmp_path):
    process = run("rehearse.py", "99_nothing.py", "--results", str(tmp_path / "rows.json"))
    assert process.returncode == 2
    assert "there is no script 99_nothing.py" in process.stderr
    assert "03_bfloat16.py" in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_script_that_raises_fails_alone(tmp_path):
    results = tmp_path / "rows.json"
    bad, good = tmp_path / "bad.py", tmp_path / "good.py"
    bad.write_text("import torch\nraise ValueError('too hot')\n")
    good.write_text("print('fine')\n")
    process = run("rehearse.py", str(bad), str(good), "--results", str(results))
    assert process.returncode == 1
    assert "ValueError: too hot" in process.stdout
    assert f"Failed: {bad}" in process.stdout
    rows = {row["script"]: row for row in json.loads(results.read_text())}
    assert rows[str(bad)]["ok"] is False
    assert rows[str(good)]["ok"] is True


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_every_process_and_keeps_finished_rows(tmp_path, sign):
    results, pids = tmp_path / "rows.json", tmp_path / "pids"
    first, endless = tmp_path / "first.py", tmp_path / "endless.py"
    first.write_text("print('fine')\n")
    endless.write_text(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "rehearse.py", str(first), str(endless), "--results", str(results)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (pids.exists() and pids.read_text().count(" ")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(sign)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Stopped. 1 of 2 scripts ran" in output
    assert [row["script"] for row in json.loads(results.read_text())] == [str(first)]
    time.sleep(0.5)
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


def test_rows_of_other_scripts_stay(tmp_path):
    results = tmp_path / "rows.json"
    good = tmp_path / "good.py"
    good.write_text("print('fine')\n")
    old = {"script": "07_init-module.py", "ok": True}
    results.write_text(json.dumps([old]))
    assert run("rehearse.py", str(good), "--results", str(results)).returncode == 0
    assert json.loads(results.read_text())[0] == old
