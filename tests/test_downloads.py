"""CIFAR-10 and IMDb: downloads that go wrong, without a network."""

import errno
import hashlib
import http.server
import io
import multiprocessing
import pickle
import tarfile
import threading
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from datasets.exceptions import DatasetGenerationError
from torchvision.datasets import CIFAR10

import cifar10
import messages
from cifar10 import load_cifar10
from imdb import load_imdb
from tests.helpers import HANG

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
    monkeypatch.setattr(cifar10, "locked", None)
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


def test_a_lock_that_somebody_holds_is_waited_for_with_a_word(server, tmp_path, monkeypatch):
    lock = tmp_path / "data" / "cifar10.lock"
    lock.parent.mkdir()
    held = messages.FileLock(lock)
    held.acquire()
    said = []
    monkeypatch.setattr(messages, "PATIENCE", 0)
    monkeypatch.setattr(
        messages, "print", lambda text, **_: said.append(text) or held.release(), raising=False
    )
    load_cifar10()
    assert len(said) == 1
    assert f"waits for another process that downloads the same data, as {lock}" in said[0]
