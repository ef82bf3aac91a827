"""What comes from a script's process is data: whatever a script writes, nothing of it runs."""

import base64
import contextlib
import io
import json
import math
import multiprocessing
import os
import pickle
from collections.abc import Iterator

import pytest
from rich.console import Console

from rehearsal import outcome
from tests.helpers import run
from tests.scripts import TRAINING
from tests.warm import predict
from vramcast import gpus
from vramcast.command import files, report
from vramcast.options import Options
from vramcast.prediction import Prediction, why
from vramcast.processes import messages, output
from vramcast.run import schema

FULL = os.open("/dev/full", os.O_WRONLY)
# Looks for the pipes that its process has, and writes a pickle into each that can be written.
# `Connection.recv` would read the length and unpickle the rest.
ATTACK = """
import os
import pickle
import stat
import struct

class Payload:
    def __reduce__(self):
        return exec, ("open({proof!r}, 'w')",)

code = pickle.dumps(Payload())
for name in os.listdir("/proc/self/fd"):
    try:
        if int(name) > 2 and stat.S_ISFIFO(os.fstat(int(name)).st_mode):
            os.write(int(name), struct.pack("!i", len(code)) + code + b"\\n")
    except OSError:
        pass
"""


class Code:
    """What a pickle can do: it is called when it is read."""

    def __reduce__(self):
        return print, ("called",)


def test_a_snapshot_is_data(tmp_path, capsys):
    path, row = tmp_path / "s.pickle", {"notes": []}
    for content in (pickle.dumps([Code()]), b"none", b""):
        files.write(row | {"snapshot": base64.b64encode(content).decode()}, None, path)
        assert "s.pickle was not written: what the script's process left" in row["notes"][-1]
        assert not path.exists()
    content = pickle.dumps({"segments": [(0, 0)]})
    files.write(row | {"snapshot": base64.b64encode(content).decode()}, None, path)
    assert path.read_bytes() == content
    assert capsys.readouterr().out == ""


def test_a_pickle_in_the_pipe_does_not_run(tmp_path):
    proof, script = tmp_path / "proof", tmp_path / "script.py"
    script.write_text(ATTACK.format(proof=str(proof)) + TRAINING)
    row = json.loads(run("-m", "vramcast", "--json", str(script)).stdout)
    assert not proof.exists()
    assert row["reserved_gb"] > 0
    assert any("messages of its process were none, and ignored" in note for note in row["notes"])


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[1, 2]", "it ended its own process, with status 0"),
        ("no JSON", "it ended its own process, with status 0"),
        ('{"reserved_gb": 1}', "its process has left no prediction: allocated_gb, "),
        ('{"error": {"a": 1}}', "{'a': 1}"),
    ],
)
def test_a_script_that_writes_its_own_result(tmp_path, written, told):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, tempfile\n"
        f"open(tempfile.gettempdir() + '/result.json', 'w').write({written!r})\nos._exit(0)\n"
    )
    process = predict(script)
    assert process.returncode == 2
    assert told in process.stderr
    assert "Traceback" not in process.stderr


def good() -> dict:
    """A result of the right form."""
    return {
        "reserved_gb": 1.5, "allocated_gb": 1, "host_gb": 0.0, "host_training_gb": 0.0,
        "breakdown_gb": dict.fromkeys(schema.KINDS, 0.1), "peak_phase": "", "peak_module": "",
        "created_gb": 0.0, "batch_size": None, "samples": 10, "notes": ["a"], "cost": None,
        "seconds": 1.0, "like": "plain", "groups": 0, "left_out": [],
    }  # fmt: skip


def test_what_has_the_form_of_a_prediction_is_taken():
    assert schema.checked(good()) == good()
    assert schema.checked(whole()) == whole()
    with pytest.raises(schema.Malformed, match="fits"):
        schema.checked(good(), ["fits"])


def test_what_a_rehearsal_left_is_looked_at_too():
    names = (*outcome.NUMBERS, "steps", "ended", "precision", "error", "targets", "stand_ins")
    good = dict.fromkeys(names, 1.5) | {
        "steps": 3,
        "precision": None,
        "error": "a",
        "accuracy": None,
    }
    good |= {"targets": {"7": 2}, "stand_ins": {"a": "b"}}
    assert outcome.found_in(good) == good
    wrong = [{name: []} for name in names]
    wrong += [{"targets": {"7": "2"}}, {"targets": {"7": 0}}, {"stand_ins": {"a": 1}}]
    for content in ([], None, {}, *(good | change for change in wrong)):
        assert outcome.found_in(content) is None, content


def test_what_has_no_business_in_a_prediction_is_left_out_and_told():
    row = schema.checked(good() | {"__class__": "x"})
    assert "__class__" not in row
    assert row["notes"][-1] == "its process also sent ['__class__'], which was ignored"


@pytest.mark.parametrize(
    "wrong",
    [
        {"reserved_gb": "1.5"}, {"reserved_gb": math.nan}, {"reserved_gb": -1},
        {"reserved_gb": True}, {"notes": "a"}, {"notes": [1]}, {"breakdown_gb": {"parameters": 1}},
        {"batch_size": 1.5}, {"fits": 1}, {"cost": {}}, {"timeline": {"course": 1}},
        {"samples": -1},
    ],
)  # fmt: skip
def test_what_has_another_form_is_refused(wrong):
    with pytest.raises(schema.Malformed, match=next(iter(wrong))):
        schema.checked(good() | wrong)


def whole() -> dict:
    """A result with all that can be in one."""
    kinds = dict.fromkeys(schema.KINDS, 0.125)
    gpu = {
        "reserved_gb": 2.0, "allocated_gb": 1.5, "breakdown_gb": kinds, "peak_phase": "backward",
        "peak_module": "a", "created_gb": 0.5, "reserved_least_gb": 1.5, "fits": True,
        "may_fit": True, "reserved_within_gb": 1.0, "room_gb": 1.0, "after_step_gb": kinds,
        "largest": [{"gb": 0.5, "count": 2, "kind": "parameters", "what": "a"}],
    }  # fmt: skip
    group = {"module": "a", "op": "b", "bytes": 10**9, "line": 3, "count": 2}
    step = {
        "course": [["forward", dict.fromkeys(schema.KINDS, 10**9)]] * 3, "activations": [group],
        "peak": {"place": 1, "bytes": 10**9, "phase": "forward", "module": "a", "line": None},
    }  # fmt: skip
    cost = dict.fromkeys(("kernels_per_sample", "to_gpu_gb_per_step", "to_host_gb_per_step"), 1.0)
    cost |= {"between_gpus_gb_per_step": 1.0, "samples_per_step": 8}
    cost |= {"tflop_per_sample": {"float32": 1.0}, "least_minutes_per_epoch": {"arithmetic": 2.0}}
    loop = {"what": "batches", "place": "line 3", "done": 2, "left": 5}
    more = {"devices": [gpu | {"device": "cuda:0"}], "timeline": step, "cost": cost}
    return good() | gpu | more | {"left_out": [loop], "batch_size": 8}


OTHER = (None, 0, -1, 1.5, 1e300, 10**400, math.nan, "x", True, [], {}, [1], {"x": "y"})


def changes(value: object) -> Iterator[object]:
    """A result with one thing changed, left out or added, wherever that can be."""
    yield from OTHER
    if isinstance(value, list):
        for place, one in enumerate(value):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in changes(one))
    elif isinstance(value, dict):
        yield value | {"strange": "x"}
        for key, one in value.items():
            yield {other: value[other] for other in value if other != key}
            yield from (value | {key: other} for other in changes(one))


def test_what_is_taken_can_be_printed(monkeypatch):
    """Also on a terminal with colours; whatever one part of it is changed to."""
    terminal = Console(force_terminal=True, color_system="truecolor", file=io.StringIO())
    monkeypatch.setattr(report, "console", lambda: terminal)
    options = Options(gpu=gpus.find("A100-80"), capacity=True, why=True, timeline=True)
    taken = 0
    for change in [whole(), *changes(whole())]:
        try:
            row = {"script": "a.py"} | schema.checked(change, ("fits", "largest", "timeline"))
        except schema.Malformed:
            continue
        taken += 1
        found = Prediction.of(row, options)
        report.show(found)
        assert "\n".join(why(found)) + str(found)
        step = row["timeline"]
        assert not step or step["course"][step["peak"]["place"]][1].keys() == set(schema.KINDS)
    assert taken > 100


def test_reports_are_checked_too():
    report = {"phase": "setup", "steps": 1, "reserved_gb": 0.5}
    assert schema.report(report | {"more": 1}) == report
    for other in (None, 1, [], {}, report | {"steps": "1"}):
        assert schema.report(other) is None


def test_lines_are_read_as_they_come_and_what_is_none_is_none():
    reader, writer = multiprocessing.Pipe(duplex=False)
    received = messages.Receiver(reader)
    messages.send({"a": [1]}, writer)
    os.write(writer.fileno(), b'\x80\x04.\n{"b"')
    assert received.read() == [{"a": [1]}, None]
    os.write(writer.fileno(), b": 2}\n" + b"[" * 60_000 + b"\n")
    assert received.read() == [{"b": 2}, None]
    for _ in range(3):  # an endless line
        os.write(writer.fileno(), b"x" * 40_000)
        found = received.read()
    assert None in found or len(received._rest) <= messages.LONGEST
    writer.close()
    while True:
        try:
            received.read()
        except EOFError:
            break


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "nothing"])
def test_a_result_has_to_be_a_file(tmp_path, kind):
    path = tmp_path / "result.json"
    (tmp_path / "other.json").write_text(json.dumps({"secret": 1}))
    if kind == "link":
        path.symlink_to(tmp_path / "other.json")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    assert messages.read_file(path) is None
    assert messages.read_file(tmp_path / "other.json") == {"secret": 1}


def test_texts_do_nothing_to_a_terminal(tmp_path):
    """Whatever a script sends: keys, too, and in lists."""
    sent = {"a\x1b[2J": ["\x07", {"b": "c\r\nd\te\u202ef\x9b1m é × \ud800"}], "n": 1}
    (tmp_path / "result.json").write_text(json.dumps(sent))
    assert messages.read_file(tmp_path / "result.json") == {
        "a\\x1b[2J": ["\\x07", {"b": "c\nd\te\\u202ef\\x9b1m é × \\ud800"}], "n": 1,
    }  # fmt: skip


def test_what_an_exception_says_is_one_line_whatever_it_does():
    class Mute(Exception):
        def __str__(self):
            raise KeyError

    assert messages.text_of(Mute()) == "<its text cannot be made: KeyError>"
    assert messages.brief("\n first \nsecond") == "first"
    short = messages.brief("m" * 10**6)
    assert len(short) < messages.LINE + 50
    assert short.endswith("… (1,000,000 characters)")


def test_of_long_output_the_end_is_kept_and_the_file_bounded(tmp_path, monkeypatch):
    """Of a link that a script puts in its place, nothing is read or dropped."""
    monkeypatch.setattr(output, "MOST", 10_000)
    monkeypatch.setattr(output, "END", 100)
    path, other = tmp_path / "output.txt", tmp_path / "other"
    other.write_text("o" * 20_000)
    pid = os.fork()
    with output.Output(path) if pid else contextlib.nullcontext() as kept:
        if pid == 0:  # the script's process, in which it is there a moment later
            while not path.exists():
                pass
            output.to_file(path, 1)
            for number in range(5000):
                os.write(1, b"line %d\n" % number)
            path.unlink()
            path.symlink_to(other)
            os.write(1, b"\x1b[31mthe end " + b"x" * 70)
            os._exit(0)
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            kept.bound()
        kept.bound()
        assert os.fstat(kept._descriptor).st_size <= output.MOST
        assert kept.last(1)[0].endswith(r"\x1b[31mthe end " + "x" * 70)
        assert len(kept.last(3)) <= 3
    assert other.read_text() == "o" * 20_000


def test_output_that_was_dropped_still_ends_with_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "MOST", 10)
    with output.Output(tmp_path / "output.txt") as kept:
        (tmp_path / "output.txt").write_text("first\nsecond\nthird\n")
        kept.bound()
        assert (tmp_path / "output.txt").read_text() == ""
        assert kept.last(2) == ["second", "third"]


def test_a_folder_that_is_full_is_told(tmp_path, monkeypatch):
    assert not output.full(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(output.Path, "write_bytes", lambda *_: os.write(FULL, b"x"))
    assert output.full(tmp_path)
    assert "TMPDIR" in output.no_room(tmp_path)
