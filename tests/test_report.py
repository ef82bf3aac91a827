"""GPU checks, progress and report, without a GPU."""

import hashlib
import json
import multiprocessing
import os
import pty
import resource
import runpy
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import distributed

import local_utilities
import messages
import several_gpus
from ladder.rungs import ROOT, read_ladder
from local_utilities import Progress, Report
from tests import warm
from tests.helpers import HANG
from tests.test_downloads import NO_FOLDERS, OTHER_FOLDER, ROOM


def test_without_a_gpu_a_script_stops(tmp_path):
    process = warm.run(
        "03_bfloat16.py", DATA_DIR=str(tmp_path / "data"), RESULTS_DIR=str(tmp_path / "results")
    )
    assert process.returncode == 1
    assert "needs 1 CUDA GPU" in process.stderr
    assert "python rehearse.py 03_bfloat16.py" in process.stderr
    assert "python -m vramcast 03_bfloat16.py" in process.stderr
    assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_every_script_stops(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for rung in read_ladder():
        monkeypatch.setattr(sys, "argv", [rung.script])
        with pytest.raises(SystemExit, match=f"python rehearse.py {rung.script}"):
            runpy.run_path(str(ROOT / rung.script), run_name="__main__")


def test_too_few_gpus_are_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("leave_at_once_on_error", "share_cores", "end_with_first_process"):
        monkeypatch.setattr(several_gpus, name, lambda *args: None)  # they change this process
    assert local_utilities.check_gpus(2) == 2
    with pytest.raises(SystemExit, match="needs 4 CUDA GPUs, and PyTorch finds 2"):
        local_utilities.check_gpus(4)


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for processes in (3, 16):
        several_gpus.share_cores(processes)
    assert threads == [2, 1]
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_what_can_be_done_is_named_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "08-10-vit-h14")
    monkeypatch.setattr(sys, "argv", ["08_baseline.py"])
    assert messages.rehearsal() == "python ../rehearse.py 08-10-vit-h14/08_baseline.py"
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "own.py")])
    assert messages.rehearsal() == f"python ../rehearse.py {tmp_path / 'own.py'}"


@pytest.fixture
def old_gpu(monkeypatch):
    """A GPU without bfloat16, as far as a report asks for it."""
    gpu = SimpleNamespace(name="Tesla T4", total_memory=15.8e9)
    answers = {
        "is_bf16_supported": lambda including_emulation: False,
        "get_device_name": lambda: gpu.name,
        "get_device_properties": lambda index: gpu,
        "synchronize": lambda: None,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)


def fabric(precision):
    """As much of a Fabric as a report looks at."""
    return SimpleNamespace(strategy=SimpleNamespace(precision=SimpleNamespace(precision=precision)))


def test_without_bfloat16_a_script_that_needs_it_stops(old_gpu):
    for precision in ("bf16-true", "bf16-mixed"):
        with pytest.raises(SystemExit, match=r"bfloat16.*Tesla T4") as stopped:
            Report(fabric(precision))
        assert "11-3_float16-mixed.py" in str(stopped.value)
    Report(fabric("16-mixed"))
    Report()


def test_processes_that_slurm_did_not_start_are_told(monkeypatch):
    """Fabric takes SLURM's number for the one that is meant, and would train on one of the GPUs."""
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    with pytest.raises(SystemExit, match="at least 2 processes, and SLURM started 1"):
        several_gpus.prepare(2, found=4)


@pytest.fixture(autouse=True)
def script(monkeypatch):
    """What runs is a script of the ladder, as a report of it takes for granted."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / "01_pytorch-fp32.py")])


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until its `seconds` are changed."""
    clock = SimpleNamespace(seconds=1000.0)
    clock.perf_counter = lambda: clock.seconds
    monkeypatch.setattr(local_utilities, "time", clock)
    return clock


def set_peaks(monkeypatch, reserved: float, allocated: float, host: float | None) -> None:
    """Let a report find these peaks, in GB."""
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: round(reserved * 1e9))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: round(allocated * 1e9))
    monkeypatch.setattr(local_utilities, "host_peak", lambda: host)


def finished_report(clock, loss: float) -> None:
    """Of one epoch: 3 batches of 4 images, in 2 s each."""
    report = Report()
    report.model_created()
    progress = Progress([(None, torch.zeros(4))] * 3, "Epoch 1/1")
    for _ in progress:
        progress.show(torch.tensor(loss))
        clock.seconds += 2
    report.end_epoch(progress, 0.5)
    report.finish(0.75)


def test_a_report_of_one_gpu(old_gpu, clock, tmp_path, monkeypatch, capsys):
    """Two epochs of 3 batches of 4 images, which take 10 s each; then 30 s of validation."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(ROOT / "02_mixed-precision.py")])
    report = Report(fabric("16-mixed"))
    clock.seconds += 1000  # to create the model
    set_peaks(monkeypatch, reserved=1.24, allocated=1.21, host=3.1)
    report.model_created()
    for epoch, losses in enumerate([(2.5, 2.25, 2.0), (1.5, 1.25, 1.0)]):
        progress = Progress([(None, torch.zeros(4))] * 3, f"Epoch {epoch + 1}/2")
        for _, loss in zip(progress, losses, strict=False):
            progress.show(torch.tensor(loss))
            clock.seconds += 10
        clock.seconds += 30
        report.end_epoch(progress, 0.5 + epoch / 4)
    clock.seconds += 1000  # to test it
    set_peaks(monkeypatch, reserved=5.69, allocated=5.37, host=4.2)
    report.finish(0.875)

    lines = capsys.readouterr().out.splitlines()
    assert "GPU: Tesla T4, 15.8 GB, bfloat16: False" in lines
    peaks = "GPU peak {} GB reserved, {} GB allocated, host peak {} GB"
    assert f"Creating the model: {peaks.format('1.24', '1.21', '3.10')}" in lines
    assert "Epoch 2/2: batch 3/3, loss 1.0000, 0.4 images/s" in lines
    assert "Epoch 1: loss 2.0000, validation accuracy 50.00%" in lines
    assert "Training and validation: 2.00 min, training 0.4 images/s" in lines
    assert f"Whole run: {peaks.format('5.69', '5.37', '4.20')}" in lines
    assert lines[-1] == "Test accuracy: 87.50%"

    record = json.loads((tmp_path / "measured.jsonl").read_text())
    assert {"torch", "lightning"} <= set(record.pop("versions"))
    assert record.pop("date")
    script = Path(sys.argv[0])
    assert record.pop("sha256") == hashlib.sha256(script.read_bytes()).hexdigest()
    assert record == {
        "script": "02_mixed-precision.py",
        "gpu": "Tesla T4",
        "gpus": 1,
        "driver": local_utilities.driver(),
        "precision": "16-mixed",
        "model_reserved_gb": 1.24,
        "model_allocated_gb": 1.21,
        "model_host_gb": 3.1,
        "minutes": 2.0,
        "loss_first": 2.5,
        "loss_last": 1.0,
        "val_accuracy": 0.75,
        "images_per_second": 0.4,
        "test_accuracy": 0.875,
        "reserved_gb": 5.69,
        "allocated_gb": 5.37,
        "host_gb": 4.2,
    }


# of three ranks, in GB: the largest is not the first, nor always of the same rank
RESERVED, ALLOCATED, HOST = [3.25, 5.5, 5.0], [3.0, 4.5, 4.75], [2.0, 7.5, 2.25]


def report_of_a_rank(rank: int, folder, monkeypatch, clock) -> None:
    """In a process of its own."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=3
    )
    set_peaks(monkeypatch, RESERVED[rank], ALLOCATED[rank], HOST[rank])
    finished_report(clock, loss=rank + 1.0)


def test_a_report_of_three_gpus(old_gpu, clock, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    fork, fixtures = multiprocessing.get_context("fork"), [tmp_path, monkeypatch, clock]
    ranks = [
        fork.Process(target=report_of_a_rank, args=[rank, *fixtures], daemon=True)
        for rank in range(3)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=HANG)
    assert [rank.exitcode for rank in ranks] == [0, 0, 0]

    lines = capfd.readouterr().out.splitlines()
    assert "GPU: 3 × Tesla T4, 15.8 GB, bfloat16: False" in lines
    for title in ("Creating the model", "Whole run"):
        assert [line for line in lines if line.startswith(title)] == [
            f"{title}, rank 0: GPU peak 3.25 GB reserved, 3.00 GB allocated, host peak 2.00 GB",
            f"{title}, rank 1: GPU peak 5.50 GB reserved, 4.50 GB allocated, host peak 7.50 GB",
            f"{title}, rank 2: GPU peak 5.00 GB reserved, 4.75 GB allocated, host peak 2.25 GB",
        ]
    for line in (  # the mean of their losses, the sum of their images
        "Epoch 1/1: batch 3/3, loss 2.0000, 6.0 images/s",
        "Epoch 1: loss 2.0000, validation accuracy 50.00%",
        "Training and validation: 0.10 min, training 6.0 images/s",
        "Test accuracy: 75.00%",
    ):
        assert lines.count(line) == 1, line

    record = json.loads((tmp_path / "measured.jsonl").read_text())  # one line, of one rank
    assert record["gpus"] == 3
    assert (record["loss_first"], record["loss_last"]) == (2.0, 2.0)
    assert record["images_per_second"] == 6.0
    for prefix in ("model_", ""):
        assert record[f"{prefix}reserved_gb"] == 5.5
        assert record[f"{prefix}allocated_gb"] == 4.75
        assert record[f"{prefix}host_gb"] == 7.5
        assert record[f"{prefix}reserved_gb_by_rank"] == RESERVED
        assert record[f"{prefix}allocated_gb_by_rank"] == ALLOCATED
        assert record[f"{prefix}host_gb_by_rank"] == HOST


def test_the_hosts_peak_is_in_bytes_on_a_mac_and_unknown_on_windows(old_gpu, monkeypatch, capsys):
    usage = SimpleNamespace(ru_maxrss=2_000_000)
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(sys, "platform", "linux")
    assert local_utilities.host_peak() == 2.048
    monkeypatch.setattr(sys, "platform", "darwin")
    assert local_utilities.host_peak() == 0.002
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    report = Report()
    report.model_created()
    assert report.record["model_host_gb"] is None
    assert capsys.readouterr().out.endswith("GB allocated\n")


def test_each_run_appends_a_record(old_gpu, clock, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "new"))
    finished_report(clock, 2.5)
    finished_report(clock, float("nan"))
    first, second = (tmp_path / "new" / "measured.jsonl").read_text().splitlines()
    record = json.loads(first)
    assert record["gpu"] == "Tesla T4"
    assert (record["loss_last"], record["test_accuracy"]) == (2.5, 0.75)
    assert "NaN" not in second
    assert json.loads(second)["loss_last"] is None


def test_records_lie_where_git_does_not_look(old_gpu, clock, tmp_path, monkeypatch):
    monkeypatch.delenv("RESULTS_DIR", raising=False)
    monkeypatch.setattr(local_utilities, "ROOT", tmp_path)
    finished_report(clock, 2.5)
    assert (tmp_path / "results" / "local" / "measured.jsonl").is_file()
    assert "results/local/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", [*NO_FOLDERS.values(), "full"])
def test_a_record_that_cannot_be_written_is_printed(
    old_gpu, clock, tmp_path, monkeypatch, capsys, name
):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "measured.jsonl").symlink_to("/dev/full")
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / name))
    finished_report(clock, 2.5)
    *_, problem, _, line = capsys.readouterr().out.splitlines()
    assert problem.startswith("The record could not be written (")
    advice = ROOM if name == "full" else OTHER_FOLDER
    assert advice.format("RESULTS_DIR") in problem
    assert json.loads(line)["test_accuracy"] == 0.75


def test_progress_prints_lines_in_a_log_file(old_gpu, clock, capsys):
    progress = Progress([(None, torch.zeros(4))] * 3, "Epoch 1/1")
    for _ in progress:
        progress.show(torch.tensor(1.25))
        clock.seconds += 30
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Epoch 1/1: batch 1/3, loss 1.2500, ")
    assert lines[-1].startswith("Epoch 1/1: batch 3/3, loss 1.2500, ")
    assert (progress.samples, progress.batches) == (12, 3)


def test_progress_prints_a_line_each_half_minute(old_gpu, clock, capsys):
    for _ in Progress([(["good", "bad"], torch.zeros(2))] * 7, "Epoch 1/1"):
        clock.seconds += 10
    assert capsys.readouterr().out.splitlines() == [
        f"Epoch 1/1: batch {number}/7, 0.2 reviews/s" for number in (3, 6, 7)
    ]


def test_progress_shows_a_bar_on_a_terminal():
    program = (
        "import os, sys, time, torch; torch.cuda.synchronize = lambda: None\n"
        "os.dup2(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY), 2)\n"
        "from local_utilities import Progress\n"
        "progress = Progress([(None, torch.zeros(4))] * 3, 'Epoch 1/1')\n"
        "for _ in progress: progress.show(torch.tensor(1.25)); time.sleep(0.6)\n"
    )
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 80))
    process = warm.run("-c", program, os.ttyname(inside))
    os.set_blocking(terminal, False)
    bar = os.read(terminal, 100_000).decode()
    os.close(inside)
    os.close(terminal)
    assert process.returncode == 0, bar
    assert "Epoch 1/1" in bar
    assert "/3" in bar
    assert "loss 1.25" in bar
    assert process.stdout.count("\n") == 1  # the line that stays


def test_an_epoch_without_a_batch_has_no_loss(old_gpu, clock, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    report = Report()
    progress = Progress([], "Epoch 1/1")
    for _ in progress:
        pass
    report.end_epoch(progress, 0.5)
    report.finish(0.5)
    assert "Epoch 1: no batch, validation accuracy 50.00%" in capsys.readouterr().out
    record = json.loads((tmp_path / "measured.jsonl").read_text())
    assert (record["loss_first"], record["loss_last"]) == (None, None)


def test_half_a_line_does_not_swallow_the_next_record(old_gpu, clock, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    file = tmp_path / "measured.jsonl"
    file.write_text('{"script": "01')
    finished_report(clock, 2.5)
    finished_report(clock, 1.5)
    half, *lines = file.read_text().splitlines()
    assert half == '{"script": "01'
    assert [json.loads(line)["loss_last"] for line in lines] == [2.5, 1.5]


def test_a_folder_may_be_named_from_the_home(monkeypatch):
    monkeypatch.setenv("DATA_DIR", "~/data")
    monkeypatch.setenv("HOME", "/home/me")
    assert messages.data_folder() == Path("/home/me/data")
    monkeypatch.delenv("DATA_DIR")
    assert messages.data_folder() == ROOT / "data"


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ({"LOCAL_RANK": "0"}, "unset LOCAL_RANK"),
        ({"LOCAL_RANK": "1", "RANK": "1"}, "unset RANK LOCAL_RANK"),
        ({"TORCHELASTIC_RUN_ID": "none"}, "but not GROUP_WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE"),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "two"}, "unset WORLD_SIZE"),
        ({"SLURM_JOB_NAME": "a", "SLURM_NTASKS": "4"}, "SLURM_LOCALID, SLURM_NODEID, SLURM_PROCID"),
        ({"SLURM_JOB_NAME": "a", "SLURM_NTASKS": "x"}, "unset SLURM_NTASKS"),
    ],
)
def test_what_a_launcher_left_in_the_shell_is_told(monkeypatch, left, told):
    """Otherwise a script waits for processes that nobody has started, or ends in a KeyError."""
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=told):
        several_gpus.prepare(2, found=4)


def test_a_process_that_nobody_launched_speaks_for_itself(monkeypatch):
    """Those that were launched are silent but for the first."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs 1 CUDA GPU"):
        local_utilities.check_gpus()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr(messages.time, "sleep", lambda seconds: None)
    with pytest.raises(SystemExit) as silent:
        local_utilities.check_gpus()
    assert silent.value.code == 1
