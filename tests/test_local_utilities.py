"""Data, GPU checks, progress and report, without a GPU and without a network."""

import errno
import hashlib
import http.server
import io
import json
import multiprocessing
import os
import pickle
import pty
import resource
import runpy
import subprocess
import sys
import tarfile
import termios
import threading
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets.exceptions import DatasetGenerationError
from torch import distributed
from torchvision.datasets import CIFAR10
from torchvision.models import ViT_H_14_Weights, ViT_L_16_Weights
from torchvision.transforms import InterpolationMode, v2

import cifar10
import local_utilities
import messages
import several_gpus
from cifar10 import load_cifar10
from imdb import load_imdb
from ladder.rungs import ROOT, read_ladder
from local_utilities import ImageBatches, Progress, Report, cifar10_loaders
from rehearsal.data import Digits
from tests.helpers import HANG, run

# torchvision asks for a redirection first, and then for the archive
ONE_DOWNLOAD = 2

# what is advised
AGAIN = "Run the script again"
OTHER_FOLDER = "Set the environment variable {} to a folder that you may write to."
ROOM = "Make room on that disk, or set {} to a folder on another one."


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A small CIFAR-10 on a local web server: its requests so far, and the archive's bytes."""
    random = np.random.default_rng(0)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    files = {
        name: pickle.dumps(
            {"data": random.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": [0, 1, 2, 3]}
        )
        for name in names
    }
    files["batches.meta"] = pickle.dumps({"label_names": [str(digit) for digit in range(10)]})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    archive_bytes, requests = buffer.getvalue(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(archive_bytes)))
            self.end_headers()
            self.wfile.write(archive_bytes)

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{httpd.server_port}/cifar.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive_bytes))
    sums = [[name, md5(files[name])] for name in names]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(files["batches.meta"])})
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    yield SimpleNamespace(requests=requests, archive=archive_bytes)
    httpd.shutdown()


def test_a_damaged_archive_is_fetched_again(server, tmp_path):
    archive = tmp_path / "data" / CIFAR10.filename
    archive.parent.mkdir()
    archive.write_bytes(server.archive[:1000])  # as an interrupted download leaves it
    train, test = load_cifar10()
    assert (len(train), len(test)) == (20, 4)
    assert archive.read_bytes() == server.archive
    assert len(server.requests) == ONE_DOWNLOAD


def test_damaged_images_are_unpacked_again_without_a_download(server, tmp_path):
    load_cifar10()
    damaged = tmp_path / "data" / "cifar-10-batches-py" / "data_batch_3"
    damaged.write_bytes(b"")
    train, _ = load_cifar10()
    assert len(train) == 20
    assert len(server.requests) == ONE_DOWNLOAD


def test_a_missing_list_of_names_is_unpacked_again(server, tmp_path):
    load_cifar10()
    (tmp_path / "data" / "cifar-10-batches-py" / "batches.meta").unlink()
    train, _ = load_cifar10()
    assert len(train.classes) == 10
    assert len(server.requests) == ONE_DOWNLOAD


def test_processes_that_start_together_download_and_unpack_once(server, tmp_path, monkeypatch):
    fetch, fetched = cifar10.download_and_extract_archive, tmp_path / "fetched"

    def noted(*args, **options):
        with fetched.open("a") as file:
            file.write("once\n")
        fetch(*args, **options)

    monkeypatch.setattr(cifar10, "download_and_extract_archive", noted)
    fork = multiprocessing.get_context("fork")  # the children see the patched CIFAR10
    processes = [fork.Process(target=load_cifar10) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=HANG)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(server.requests) == ONE_DOWNLOAD
    assert fetched.read_text() == "once\n"


def test_no_network_ends_with_one_clear_message(server, tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    precious = tmp_path / "data" / "notes.txt"
    precious.parent.mkdir()
    precious.write_text("kept")
    with pytest.raises(SystemExit) as stopped:
        load_cifar10()
    message = str(stopped.value)
    for part in (CIFAR10.filename, CIFAR10.url, str(precious.parent), AGAIN, "rehearse.py"):
        assert part in message
    assert precious.read_text() == "kept"


def test_intact_data_need_no_lock_and_so_no_folder_to_write_to(server, monkeypatch):
    load_cifar10()
    monkeypatch.setattr(cifar10, "FileLock", None)
    train, _ = load_cifar10()
    assert len(train) == 20


NO_FOLDERS = {"a file": "file", "below a file": "file/data", "not to be written": "/sys/data"}
no_folder = pytest.mark.parametrize("name", NO_FOLDERS.values(), ids=NO_FOLDERS)


@no_folder
def test_without_a_folder_for_cifar10_another_one_is_advised(server, tmp_path, monkeypatch, name):
    (tmp_path / "file").write_text("kept")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / name))
    with pytest.raises(SystemExit) as stopped:
        load_cifar10()
    message = str(stopped.value)
    assert f"could not be downloaded to {tmp_path / name}" in message
    assert OTHER_FOLDER.format("DATA_DIR") in message
    assert AGAIN not in message
    assert (tmp_path / "file").read_text() == "kept"


def test_on_a_full_disk_room_for_cifar10_is_advised(server, tmp_path):
    archive = tmp_path / "data" / CIFAR10.filename
    archive.parent.mkdir()
    archive.symlink_to("/dev/full")
    with pytest.raises(SystemExit) as stopped:
        load_cifar10()
    message = str(stopped.value)
    assert "No space left on device" in message
    assert ROOM.format("DATA_DIR") in message
    assert AGAIN not in message


@no_folder
def test_without_a_folder_for_imdb_another_one_is_advised(tmp_path, monkeypatch, name):
    """The library meets the folder, with a data set of one line."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "reviews.csv").write_text("text,label\nwell done,1\n")
    load, files = datasets.load_dataset, str(tmp_path / "reviews.csv")
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, **options: load("csv", data_files=files, **options)
    )
    monkeypatch.setenv("DATA_DIR", str(tmp_path / name))
    with pytest.raises(SystemExit) as stopped:
        load_imdb()
    message = str(stopped.value)
    assert f"IMDb could not be downloaded to {tmp_path / name}" in message
    assert OTHER_FOLDER.format("DATA_DIR") in message
    assert AGAIN not in message


FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = DatasetGenerationError("An error occurred while generating the dataset")
BROKEN.__cause__ = FULL


@pytest.mark.parametrize(
    ("error", "advice", "reason"),
    [
        (ConnectionError("Couldn't reach 'stanfordnlp/imdb' on the Hub"), AGAIN, "reach"),
        (OSError("Not enough disk space. Needed: 200 MiB"), ROOM, "Not enough disk space"),
        (BROKEN, ROOM, "No space left on device"),
    ],
)
def test_what_the_datasets_library_raises_for_imdb(monkeypatch, error, advice, reason):
    """As seen without a network, and on a disk of one megabyte."""

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(SystemExit) as stopped:
        load_imdb()
    message = str(stopped.value)
    assert reason in message
    assert advice.format("DATA_DIR") in message
    assert [other in message for other in (AGAIN, "Make room")].count(True) == 1
    assert "Without IMDb:  python rehearse.py" in message


def test_errors_of_writing_and_what_helps():
    full = (errno.ENOSPC, errno.EDQUOT)
    refused = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
    for numbers, advice in [(full, ROOM), (refused, OTHER_FOLDER), ([errno.ECONNRESET], "")]:
        for number in numbers:
            said = messages.remedy(OSError(number, ""), "DATA_DIR")
            assert said == advice.format("DATA_DIR"), errno.errorcode[number]
    assert messages.remedy(RuntimeError("File not found or corrupted."), "DATA_DIR") == ""


@pytest.fixture
def full_size(monkeypatch):
    """Data of CIFAR-10's size, all black."""
    train, test = (
        SimpleNamespace(data=np.zeros((size, 32, 32, 3), np.uint8), targets=[0] * size)
        for size in (50_000, 10_000)
    )
    monkeypatch.setattr(local_utilities, "load_cifar10", lambda: (train, test))


def test_splits_are_disjoint_and_complete(full_size):
    train, val, test = cifar10_loaders(batch_size=64)
    assert [len(loader.dataset) for loader in (train, val, test)] == [45_000, 5_000, 10_000]
    assert sorted([*train.dataset.indices, *val.dataset.indices]) == list(range(50_000))


def test_every_script_gets_the_same_batches(monkeypatch):
    monkeypatch.setattr(local_utilities, "load_cifar10", lambda: (Digits(), Digits(train=False)))
    torch.manual_seed(1)
    first = next(iter(cifar10_loaders(batch_size=16)[0]))
    torch.manual_seed(2)
    second = next(iter(cifar10_loaders(batch_size=16)[0]))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert len(set(first[1].tolist())) > 1  # shuffled


def test_images_are_what_the_pretrained_weights_expect():
    preset = ViT_L_16_Weights.IMAGENET1K_V1.transforms()
    assert preset.mean == ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1.transforms().mean
    assert preset.std == ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1.transforms().std
    one_by_one = v2.Compose(
        [
            v2.Resize((224, 224), InterpolationMode.BILINEAR),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(preset.mean, preset.std),
        ]
    )
    digits = Digits(transform=one_by_one)
    expected = torch.stack([digits[index][0] for index in range(8)])
    images, labels = ImageBatches(digits).__getitems__(list(range(8)))
    ours = F.interpolate(images, size=224, mode="bilinear")
    one_level = 1 / 255 / min(preset.std)  # PIL rounds to whole pixel values, we do not
    assert (ours - expected).abs().max() < one_level
    assert labels.tolist() == digits.targets[:8]


def test_a_batch_is_prepared_as_a_whole(full_size, monkeypatch):
    prepare, sizes = ImageBatches.__getitems__, []

    def noted(self, indices):
        sizes.append(len(indices))
        return prepare(self, indices)

    monkeypatch.setattr(ImageBatches, "__getitems__", noted)
    for loader in cifar10_loaders(batch_size=64):
        images, labels = next(iter(loader))
        assert (images.shape, labels.shape) == ((64, 3, 32, 32), (64,))
    assert sizes == [64, 64, 64]


def test_the_benchmark_of_data_loading_prints_ratios_and_what_is_copied():
    process = run("benchmarks/dataloading.py", "--seconds", "0.1")
    assert process.returncode == 0, process.stderr
    rows = [line.split() for line in process.stdout.splitlines()[1:]]
    copied = {(row[0], " ".join(row[1:-3])): int(row[-1].replace(",", "")) for row in rows}
    for size in (224, 518):
        assert copied[f"{size}", "one by one"] == 4 * 3 * size**2
        assert copied[f"{size}", "whole batches, enlarged as uint8"] == 3 * size**2
        assert copied[f"{size}", "whole batches, for the GPU to enlarge"] == 4 * 3 * 32**2
    assert [row[-2] for row in rows if row[1:4] == ["one", "by", "one"]] == ["1.0", "1.0"]


def test_without_a_gpu_a_script_stops(tmp_path):
    process = run(
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
    assert record == {
        "script": "02_mixed-precision.py",
        "gpu": "Tesla T4",
        "gpus": 1,
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
        "import time, torch; torch.cuda.synchronize = lambda: None\n"
        "from local_utilities import Progress\n"
        "progress = Progress([(None, torch.zeros(4))] * 3, 'Epoch 1/1')\n"
        "for _ in progress: progress.show(torch.tensor(1.25)); time.sleep(0.6)\n"
    )
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 80))
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=inside,
        text=True,
        timeout=HANG,
    )
    os.set_blocking(terminal, False)
    bar = os.read(terminal, 100_000).decode()
    os.close(inside)
    os.close(terminal)
    assert process.returncode == 0
    assert "Epoch 1/1" in bar
    assert "/3" in bar
    assert "loss 1.25" in bar
    assert process.stdout.count("\n") == 1  # the line that stays
