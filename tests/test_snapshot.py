"""The history of a prediction as PyTorch's viewer of memory snapshots reads it."""

import json
import pickle
import pickletools
import random

import pytest

from tests.warm import predict, run
from vramcast.kinds import KINDS
from vramcast.memory.storages import Storage
from vramcast.step.lines import Lines
from vramcast.step.snapshot import PROTOCOL, History, without

# What `unpickle` in PyTorch's torch/utils/viz/MemoryViz.js reads; it ends at any other.
READ = """
    PROTO FRAME STOP MARK APPEND APPENDS SETITEM SETITEMS DICT LIST TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_DICT EMPTY_LIST EMPTY_TUPLE MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET NONE NEWTRUE
    NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT SHORT_BINUNICODE BINUNICODE
"""
ODD = 1_000_003  # numbers of a tensor that no other is as large as
SCRIPT = f"""
import torch

model = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU()).cuda()
optimizer = torch.optim.Adam(model.parameters())


def odd():
    return torch.ones({ODD}, device="cuda")


for _ in range(4):
    model(torch.ones(1024, 512, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    odd()
    torch.cuda.empty_cache()
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A script, its prediction and its snapshot's path."""
    folder = tmp_path_factory.mktemp("snapshot")
    script, path = folder / "script.py", folder / "history.pickle"
    script.write_text(SCRIPT)
    process = predict("--json", script, "--snapshot", path)
    assert process.returncode == 0, process.stderr
    return script, json.loads(process.stdout), path


def replay(trace: list[dict]) -> tuple[dict, dict, set, int]:
    """Segments, blocks and blocks that wait, after a trace; and the most bytes of segments."""
    segments, blocks, waiting, most = {}, {}, set(), 0
    for entry in trace:
        action, address, size = entry["action"], entry["addr"], entry["size"]
        if action == "segment_alloc":
            assert address not in segments
            segments[address] = size
        elif action == "segment_free":
            assert segments.pop(address) == size
        elif action == "segment_map":
            before = next((a for a, length in segments.items() if a + length == address), None)
            size += segments.pop(address + size, 0)  # what follows
            assert address not in segments
            segments[address if before is None else before] = size + segments.get(before, 0)
        elif action == "segment_unmap":
            base = next(a for a, n in segments.items() if a <= address < address + size <= a + n)
            end = base + segments.pop(base)
            segments |= {base: address - base} if address > base else {}
            segments |= {address + size: end - address - size} if end > address + size else {}
        elif action == "alloc":
            assert address not in blocks
            assert any(a <= address < a + length for a, length in segments.items())
            blocks[address] = size
        elif action == "free_requested":
            assert blocks[address] == size
            waiting.add(address)
        else:
            assert action == "free_completed"
            waiting.remove(address)
            assert blocks.pop(address) == size
        most = max(most, sum(segments.values()))
    return segments, blocks, waiting, most


def agrees(snapshot: dict) -> int:
    """The end state is what the history leads to, as the viewer needs it; the most reserved."""
    (trace,) = snapshot["device_traces"]
    segments, blocks, waiting, most = replay(trace)
    assert {s["address"]: s["total_size"] for s in snapshot["segments"]} == segments
    there = {}
    for segment in snapshot["segments"]:
        address = segment["address"]
        for block in segment["blocks"]:
            assert block["address"] == address < 2**53
            address += block["size"]
            if block["state"] != "inactive":
                there[block["address"]] = block["requested_size"]
            assert (block["state"] == "active_pending_free") == (block["address"] in waiting)
        assert address == segment["address"] + segment["total_size"] < 2**53
    assert there == blocks
    return most


def test_the_end_agrees_with_the_history(written):
    _, row, path = written
    assert agrees(pickle.loads(path.read_bytes())) == round(row["reserved_gb"] * 1e9)


def test_the_viewer_can_read_it(written):
    content = written[2].read_bytes()
    assert {opcode.name for opcode, _, _ in pickletools.genops(content)} <= set(READ.split())
    assert content[:2] == bytes([0x80, PROTOCOL])
    categories = {entry["category"] for entry in pickle.loads(content)["device_traces"][0]}
    assert {"parameters", "gradients", "optimizer", "activations", "unknown"} <= categories
    assert categories <= {*KINDS, "unknown"}


def test_each_allocation_names_the_scripts_lines(written):
    script, _, path = written
    trace = pickle.loads(path.read_bytes())["device_traces"][0]
    lines = SCRIPT.splitlines()

    def number(text):
        return next(number for number, line in enumerate(lines, 1) if text in line)

    made = [e for e in trace if e["size"] == 4 * ODD and e["action"] == "alloc"]
    assert len(made) >= 3
    for entry in made:
        assert entry["frames"][1:] == [
            {"name": "odd", "filename": str(script), "line": number("return torch.ones")},
            {"name": "<module>", "filename": str(script), "line": number("    odd()")},
        ]
    gradient = next(e for e in trace if e["category"] == "gradients")
    assert gradient["frames"][0]["filename"] == "0 (Linear)"
    assert gradient["frames"][1]["line"] == number(".backward()")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["stats"], "total_allocated"), (["trace"], "cudaMalloc"), (["trace_plot"], None)],
)
def test_pytorchs_own_command_takes_it(written, tmp_path, arguments, says):
    page = tmp_path / "page.html"
    more = ["-o", str(page)] if says is None else []
    process = run("-m", "torch.cuda._memory_viz", *arguments, str(written[2]), *more)
    assert process.returncode == 0, process.stderr
    assert "add_local_files" in page.read_text() if says is None else says in process.stdout


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("expandable", [False, True])
def test_random_histories_agree_with_their_ends(seed, expandable):
    """With blocks that another stream uses, and segments that come, grow and go."""
    chance = random.Random(seed)
    history = History(
        Lines("script.py", print), lambda storage: "temporaries", expandable=expandable,
        prompt=False,
    )  # fmt: skip
    alive, pending = [], 0
    for _ in range(400):
        what = chance.choices(("allocate", "free", "use", "wait", "empty"), (50, 40, 20, 5, 2))[0]
        if what == "allocate":
            alive.append(
                Storage(chance.randrange(2 ** chance.randrange(1, 26)), "cuda", "", "", "")
            )
            history.follow((what, alive[-1], chance.randrange(2)))
        elif what in ("free", "use") and alive:
            place = chance.randrange(len(alive))
            storage = alive.pop(place) if what == "free" else alive[place]
            history.follow((what, storage, None if what == "free" else 1))
        elif what == "wait":
            stream = chance.choice((None, 0, 1))
            history.follow(("record", None, ("event", stream or 0)))
            history.follow((what, None, None if stream is None else "event"))
        elif what == "empty":
            history.follow((what, None, None))
        snapshot = history.snapshot()
        if chance.random() < 0.1:
            agrees(snapshot)
            assert sum(s["total_size"] for s in snapshot["segments"]) == history.allocator.reserved
        pending += any(
            block["state"] == "active_pending_free"
            for segment in snapshot["segments"]
            for block in segment["blocks"]
        )
    assert pending > 10
    assert any(entry["action"] in ("segment_free", "segment_unmap") for entry in history.trace)


def test_sizes_are_those_asked_for_and_streams_are_named():
    """As CUDACachingAllocator.cpp calls `record_trace`, and as its `snapshot` sums.

    A block that another stream may use is active, and not allocated. All has its pool's stream.
    """
    history = History(Lines("script.py", print), lambda storage: "temporaries", prompt=False)
    kept, freed, small = (Storage(size, "cuda", "", "", "") for size in (3_000_001, 5_000_001, 7))
    history.follow(("allocate", kept, 0))
    history.follow(("allocate", freed, 0))
    history.follow(("allocate", small, 3))
    history.follow(("use", freed, 3))
    history.follow(("free", freed, None))

    def seen(entry):
        return entry["action"], entry["size"], entry["stream"]

    assert list(map(seen, history.trace)) == [
        ("segment_alloc", 20 * 2**20, 0), ("alloc", 3_000_001, 0), ("alloc", 5_000_001, 0),
        ("segment_alloc", 2 * 2**20, 3), ("alloc", 7, 3), ("free_requested", 5_000_001, 0),
    ]  # fmt: skip
    large, other = history.snapshot()["segments"]
    one, two = 3_000_320, 5_000_192  # up to multiples of 512
    keys = ("size", "requested_size", "state")
    assert [tuple(block[key] for key in keys) for block in large["blocks"]] == [
        (one, 3_000_001, "active_allocated"), (two, 5_000_001, "active_pending_free"),
        (20 * 2**20 - one - two, 0, "inactive"),
    ]  # fmt: skip
    sums = ("total_size", "allocated_size", "active_size", "requested_size")
    assert [large[key] for key in sums] == [20 * 2**20, one, one + two, 8_000_002]
    assert [other[key] for key in sums] == [2 * 2**20, 512, 512, 7]
    assert [(s["stream"], s["segment_type"]) for s in (large, other)] == [
        (0, "large"),
        (3, "small"),
    ]
    assert other["address"] >= large["address"] + large["total_size"]
    history.follow(("wait", None, None))
    history.follow(("empty", None, None))
    assert list(map(seen, history.trace[6:])) == [("free_completed", 5_000_001, 0)]
    history.follow(("free", small, None))
    history.follow(("empty", None, None))
    assert list(map(seen, history.trace[7:])) == [
        ("free_requested", 7, 3), ("free_completed", 7, 3), ("segment_free", 2 * 2**20, 3),
    ]  # fmt: skip


def test_memory_that_goes_and_comes_at_once_is_written_down():
    """Where the GPU is full, an allocation gives another segment back first."""
    history = History(Lines("script.py", print), lambda storage: "", capacity=40 * 2**20)
    first, second = (Storage(mib * 2**20, "cuda", "", "", "") for mib in (30, 32))
    for event in (("allocate", first, 0), ("free", first, None), ("allocate", second, 0)):
        history.follow(event)
    found = [(entry["action"], entry["size"] // 2**20) for entry in history.trace]
    assert found[-3:] == [("segment_free", 30), ("segment_alloc", 32), ("alloc", 32)]


@pytest.mark.parametrize(
    ("some", "others", "left"),
    [
        ([(0, 10)], [], [(0, 10)]),
        ([(0, 10)], [(0, 10)], []),
        ([(0, 10), (20, 30)], [(5, 25)], [(0, 5), (25, 30)]),
        ([(0, 10)], [(2, 4), (6, 8)], [(0, 2), (4, 6), (8, 10)]),
        ([(0, 10)], [(10, 20)], [(0, 10)]),
        ([(10, 20)], [(0, 10), (15, 30)], [(10, 15)]),
    ],
)
def test_what_is_new_of_ranges(some, others, left):
    assert without(some, others) == left


@pytest.mark.parametrize("name", ["no/such/folder.pickle", "03_bfloat16.py", "step.pkl"])
def test_a_file_that_cannot_be_is_refused_before_any_work(name):
    process = predict("03_bfloat16.py", "--snapshot", name)
    assert process.returncode == 2
    assert "cannot be written" in process.stderr or "has to end in one of" in process.stderr
    assert "reserved" not in process.stdout
