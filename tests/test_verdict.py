"""What makes a verdict of a prediction: limits, what fits, the largest batch, its cost, what helps.

Expected values are worked by hand.
"""

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ladder import fits
from ladder.rungs import ROOT
from vramcast import evidence, gpus, prediction
from vramcast.command import side_by_side, what_if
from vramcast.command.batches import Search, _alike, _power
from vramcast.cost import counter
from vramcast.cost.rules import Counts
from vramcast.device import compiler
from vramcast.kinds import KINDS
from vramcast.memory.allocators import Allocators
from vramcast.memory.storages import STREAMS, Storage
from vramcast.memory.tracker import Tracker
from vramcast.options import Options
from vramcast.run import result
from vramcast.techniques.catalog import KNOWN, Technique

MIB = 2**20
CONTEXT, KERNELS, GROUP = 100 * 3 * MIB, 500_000_000, 688 * MIB
GPU = replace(gpus.DEFAULT, name="GPU", memory=10 * 10**9, multiprocessors=100)
EXACT = 10 * 10**9 - CONTEXT
SURE = (EXACT - KERNELS) / 1.25  # with the margin below, of plain scripts without groups


@pytest.fixture(autouse=True)
def margins(monkeypatch):
    """Margins that are easy to work with."""
    known = {"plain": {"margin": 0.25}, "sharded": {"margin": 1.0}}
    monkeypatch.setattr(evidence, "_margins", lambda: known)


def allocated(*sizes: int, freed: bool = False) -> list[tuple]:
    """The log of tensors of these sizes, one after the other; `freed`: each before the next."""
    events = []
    for size in sizes:
        storage = Storage(size, "cuda", "forward", "", "op")
        events.append(("allocate", storage, 0))
        events += [("free", storage, None)] * freed
    return events


# ------------------------------------------------------------------------------------- what fits


def test_what_is_left_out_is_named():
    assert evidence.left_out(GPU, 0) == {"CUDA's context": CONTEXT, "its kernels": KERNELS}
    assert evidence.left_out(GPU, 2)["NCCL's buffers"] == 2 * GROUP


def test_limits_leave_room_for_the_context_and_for_sure_for_all_else():
    assert evidence.limits(GPU, "plain", 0) == (EXACT, pytest.approx(SURE))
    sure = (EXACT - KERNELS - 2 * GROUP) / 2
    assert evidence.limits(GPU, "sharded", 2) == (EXACT, pytest.approx(sure))
    assert evidence.limits(replace(GPU, memory=10**9), "plain", 1)[1] == 0


@pytest.mark.parametrize(
    ("size", "fits_", "may_fit"),
    [
        (SURE // (2 * MIB) * 2 * MIB, True, True),
        (SURE // (2 * MIB) * 2 * MIB + 2 * MIB, False, True),
        (EXACT // (2 * MIB) * 2 * MIB, False, True),
        (EXACT // (2 * MIB) * 2 * MIB + 2 * MIB, False, False),
    ],
)
def test_a_script_fits_up_to_the_limit_with_its_margin(size, fits_, may_fit):
    """Segments are multiples of 2 MiB. The ladder's command judges the same by the room."""
    size = int(size)
    found = result._fit(allocated(size), Options(GPU), "plain", 0)
    within = size / 1e9 if may_fit else None
    assert found == {"fits": fits_, "may_fit": may_fit, "reserved_within_gb": within}
    row = {"script": "01_pytorch-fp32.py", "like": "plain", "groups": 0, "room_gb": size / 1e9}
    told = "fits" if fits_ else "may not fit" if may_fit else "does not fit"
    assert fits.verdict(row, GPU) == told
    search = SimpleNamespace(fits=fits_, may_fit=may_fit)
    assert prediction.verdict(search) == told


def test_groups_and_kinds_of_scripts_count_in_what_fits():
    size = 4 * 10**9 // (2 * MIB) * 2 * MIB  # below (10 - 0.3 - 0.5) / 2, above that less groups
    for groups, expected in ((0, True), (2, False)):
        found = result._fit(allocated(size), Options(GPU), "sharded", groups)
        assert (found["fits"], found["may_fit"]) == (expected, True)


def test_what_fits_is_judged_with_unused_memory_given_back():
    """And with blocks that another stream may still use as taken."""
    found = result._fit(allocated(3000 * MIB, 7000 * MIB, freed=True), Options(GPU), "plain", 0)
    assert found == {"fits": True, "may_fit": True, "reserved_within_gb": 7000 * MIB / 1e9}
    events = allocated(3000 * MIB, 3000 * MIB, freed=True)
    events.insert(1, ("use", events[0][1], 1))
    found = result._fit(events, Options(GPU), "plain", 0)
    assert found["reserved_within_gb"] == 6000 * MIB / 1e9


def test_the_least_room_is_found_to_a_thousandth_of_a_gb():
    events = allocated(30 * MIB, 32 * MIB, freed=True)  # 33.55 MB, if the first one is given back
    assert result._room(events, 32 * MIB, 62 * MIB) == 0.034
    assert result._room(allocated(32 * MIB), 32 * MIB, 32 * MIB) == 0.034


@pytest.mark.parametrize(
    ("compiled", "groups", "quantized", "convolutions", "like"),
    [
        (True, True, True, True, "compiled"),
        (False, True, True, True, "sharded"),
        (False, False, True, True, "quantized"),
        (False, False, False, True, "convolutions"),
        (False, False, False, False, "plain"),
    ],
)
def test_a_script_is_of_the_last_kind_that_applies(
    compiled, groups, quantized, convolutions, like
):  # fmt: skip
    tracker = SimpleNamespace(groups={"0"} if groups else set())
    notes = [compiler.COMPILED] if compiled else ["another"]
    watched = SimpleNamespace(notes=notes, quantized=quantized, compiled=False)
    cost = SimpleNamespace(mostly_convolutions=lambda: convolutions)
    assert result._like(tracker, watched, cost) == like
    assert like in evidence.LIKE


def test_of_several_gpus_the_fullest_is_one_that_fits_least():
    rows = [
        {"reserved_gb": 5.0, "fits": True, "may_fit": True},
        {"reserved_gb": 3.0, "fits": False, "may_fit": True},
        {"reserved_gb": 2.0, "fits": False, "may_fit": False},
    ]
    assert [row["reserved_gb"] for row in sorted(rows, key=result._fullness)] == [5, 3, 2]
    plain = [{"reserved_gb": 1.0}, {"reserved_gb": 2.0}]
    assert max(plain, key=result._fullness) == plain[1]


# ------------------------------------------------------------------------------------ the figures


def figures(events: list[tuple], options: Options | None = None, **watched: object) -> dict:
    """The result of a prediction with this log, in which no loop was left out."""
    tracker, allocators = Tracker(), Allocators(prompt=False)
    tracker.events = events
    for event in events:
        allocators.feed(*event)
    seen = {
        "notes": [],
        "quantized": False,
        "compiled": False,
        "unseen": {},
        "unfinished": {},
        "created": {0: 7e6},
    }
    return result.of(
        tracker,
        SimpleNamespace(**seen | watched, allocators=allocators),
        SimpleNamespace(batch_size=8, samples=100),
        SimpleNamespace(mostly_convolutions=lambda: False, emulated=lambda model: False),
        options or Options(GPU),
    )


def on(gpu: int, *sizes: int) -> list[tuple]:
    events = allocated(*sizes)
    for _, storage, _ in events:
        storage.gpu = gpu
    return [(what, storage, gpu * STREAMS) for what, storage, _ in events]


def test_figures_are_those_of_the_log():
    events = allocated(30 * MIB, 3 * MIB)
    events[0][1].kind, events[1][1].module = "parameters", "head"
    host = Storage(5 * MIB, "cpu", "setup", "", "op")
    events += [("allocate", host, 0), ("free", host, None), ("mark", None, "step")]
    found = figures(events)
    assert found["reserved_gb"] == 50 * MIB / 1e9
    assert found["allocated_gb"] == 33 * MIB / 1e9
    assert found["breakdown_gb"] == dict.fromkeys(KINDS, 0) | {
        "parameters": 30 * MIB / 1e9, "temporaries": 3 * MIB / 1e9,
    }  # fmt: skip
    assert (found["host_gb"], found["host_training_gb"]) == (5 * MIB / 1e9, 0)
    assert (found["peak_phase"], found["peak_module"]) == ("forward", "head")
    assert (found["created_gb"], found["batch_size"], found["samples"]) == (0.007, 8, 100)
    assert (found["like"], found["groups"], found["notes"]) == ("plain", 0, [])
    assert set(found).isdisjoint({"devices", "reserved_least_gb", "fits", "room_gb"})
    both = figures(events, Options(GPU, capacity=True, room=True))
    assert (both["fits"], both["room_gb"]) == (True, 0.053)  # 50 MiB are 52.43 MB
    empty = figures([])
    assert (empty["reserved_gb"], empty["peak_phase"], empty["peak_module"]) == (0, "", "")


def test_streams_that_share_memory_give_a_range():
    """At least what a GPU reserves that is done at once, at most what CUDA's order allows."""
    events = allocated(30 * MIB, 30 * MIB, freed=True)
    events.insert(1, ("use", events[0][1], 1))
    found = figures(events)
    assert (found["reserved_least_gb"], found["reserved_gb"]) == (30 * MIB / 1e9, 60 * MIB / 1e9)


def test_of_several_gpus_each_has_its_figures():
    events = on(0, 30 * MIB) + on(1, 50 * MIB, 20 * MIB)
    found = figures(events, Options(GPU, capacity=True))
    assert found["reserved_gb"] == 70 * MIB / 1e9
    first, second = found["devices"]
    assert (first["device"], first["reserved_gb"]) == ("cuda:0", 30 * MIB / 1e9)
    assert (second["device"], second["allocated_gb"]) == ("cuda:1", 70 * MIB / 1e9)
    assert (first["created_gb"], second["created_gb"]) == (0.007, 0)


@pytest.mark.parametrize(
    ("sizes", "note"),
    [
        ((600, 700, 800, 900, 1000), "1.05 GB reserved suffice"),  # instead of 4 GB
        ((500, 600, 1100), None),  # exactly twice as much
        ((500, 602, 1100), "1.16 GB reserved suffice"),
        ((200, 300, 400), None),  # less than 1 GB more
        ((10, 452, 490, 500), None),  # 0.9983 GB more
        ((12, 452, 490, 500), "0.52 GB reserved suffice"),  # 1.0003 GB
    ],
)
def test_much_that_is_unused_is_noted(sizes, note):
    """Of tensors that grow, each in a segment of its own; MiB."""
    found = figures(allocated(*(size * MIB for size in sizes), freed=True))
    assert [text.rpartition(": ")[2] for text in found["notes"]] == ([note] if note else [])


def test_what_was_not_run_is_told():
    found = figures(
        [], unseen={"line 3": 1000}, unfinished={("batches", "line 5"): (4, 96)},
        notes=["twice", "twice"],
    )  # fmt: skip
    assert found["left_out"] == [{"what": "batches", "place": "line 5", "done": 4, "left": 96}]
    assert found["notes"][0] == "twice"
    assert found["notes"][1].startswith("line 3: its condition changes after 1,000 more")
    assert len(found["notes"]) == 2


# ----------------------------------------------------------------------------- the largest batch


def search(most: float = float("inf"), **reserved: float) -> Search:
    """A search in which batches (`of_8=2.5`) need so many GB."""
    found = Search(Options(GPU), most)
    for name, gb in reserved.items():
        found.tried[int(name[3:])] = {
            "reserved_gb": gb, "allocated_gb": gb, "like": "plain", "groups": 0, "notes": [],
            "fits": gb * 1e9 <= SURE,
        }  # fmt: skip
    return found


def test_the_next_batch_is_guessed_with_the_margin():
    """1 GB at 8, 2 GB at 16: at 58, the limit of 7.35 GB is reached; at 77, that without margin."""
    assert search(of_8=1.0, of_16=2.0)._guess(8, 16) == 58
    assert search(of_8=1.0, of_16=2.0).next(8) == 32  # a power of two
    assert search(of_8=1.0).next(8) == 16
    assert search(of_8=2.0, of_16=2.0)._guess(8, 16) == 16 * 16  # no slope


def test_a_search_ends_between_what_fits_and_what_does_not():
    assert search(of_16=6.0, of_24=8.0).next(8) is None
    assert search(of_16=6.0, of_24=8.0).next(1) == 20  # halves, then by the line between
    assert search(of_16=6.0, of_24=8.0, of_8=5.0).next(1) == 16 + int(1.348 * 4)
    assert search(of_64=9.0).next(8) == 32
    assert search(of_64=9.0, of_32=8.0).next(8) == 8  # 16 would need 7.5 GB
    assert search(of_1=9.0).next(8) is None
    assert search(of_4=1.0, of_8=9.0).next(8) == 6  # below 8, any
    assert search(of_16=3.0, of_64=9.0).next(8) == 40
    assert search(of_100=1.0, most=100).next(8) is None
    assert search(of_64=1.0, most=100).next(8) == 100


def test_a_search_ends_where_larger_batches_need_no_more():
    still = search(of_8=1.0, of_128=1.0)
    assert still.next(8) is None
    assert "batches of 8 need as much" in still.tried[128]["notes"][0]
    assert search(of_8=1.0, of_64=1.0).next(8) == 1024  # eight times as large is not enough


def test_at_most_twenty_batches_are_tried(monkeypatch):
    for exact, many in ((False, 8), (True, 20)):
        tried = search(of_1=1.0)
        monkeypatch.setattr(Search, "next", lambda self, step: len(self.tried) + 1)
        for size in tried.sizes(exact):
            tried.tried[size] = {}
        assert len(tried.tried) == many


def test_powers_of_two_and_likeness():
    assert [_power(size) for size in (1, 2, 3, 4, 7, 8, 1023)] == [1, 2, 2, 4, 4, 8, 512]
    assert _alike({"allocated_gb": 2.0}, {"allocated_gb": 2.001})
    assert not _alike({"allocated_gb": 2.0}, {"allocated_gb": 2.0021})


# ---------------------------------------------------------------------------------------- its cost


def step(**counts: object) -> Counts:
    """A step of 10 samples of 600 in an epoch."""
    found = Counts()
    found.samples, found.epoch = 10, 600
    for name, value in counts.items():
        setattr(found, name, value)
    return found


def test_the_least_minutes_are_those_of_a_data_sheets_rates():
    """60 steps. An A100: 156 and 312 TFLOP/s, 32 GB/s to the host and 300 GB/s to others."""
    work = Counter(tf32=156e12, bfloat16=312e12, complex64=1e20)  # the last one has no rate
    found = step(operations=work, to_gpu=64e9, to_host=96e9, between=1500e9)
    expected = {"arithmetic": 2, "host link": 3, "GPU link": 5}
    assert counter.least_minutes(found, gpus.DEFAULT) == pytest.approx(expected)
    half = {what: minutes / 2 for what, minutes in expected.items()}
    assert counter.least_minutes(found, gpus.DEFAULT, 2) == pytest.approx(half)
    other = step(to_gpu=96e9, to_host=64e9)
    assert counter.least_minutes(other, gpus.DEFAULT)["host link"] == pytest.approx(3)


def follow(*moves: object) -> counter.Cost:
    """The cost after these moves: samples of a batch, "step" or "interrupt"; 3 kernels a batch."""
    tracker = SimpleNamespace(steps=0)
    cost = counter.Cost(tracker)

    def kernel(counts, args, kwargs, result):
        counts.kernels += 3
        counts.operations["bfloat16"] += 5e12

    for move in moves:
        if move == "step":
            tracker.steps += 1
        elif move == "interrupt":
            cost.interrupt()
        else:
            cost.batch(move, 600)
            cost.count(kernel, (), {}, None)
    return cost


def test_a_step_that_is_counted_is_a_whole_one():
    """From an optimizer's step to the next, with no loader's begin or end in between."""
    assert follow(4, "step", 10).result(gpus.DEFAULT) is None
    found = follow(4, "step", 10, "step").result(gpus.DEFAULT)
    assert (found["samples_per_step"], found["kernels_per_sample"]) == (10, 0.3)
    assert found["tflop_per_sample"] == {"bfloat16": 0.5}
    assert found["least_minutes_per_epoch"]["arithmetic"] == pytest.approx(60 * 5 / 312 / 60)
    both = follow(4, "step", 10, 10, "step", 7).result(gpus.DEFAULT)  # accumulated
    assert (both["samples_per_step"], both["kernels_per_sample"]) == (20, 0.3)
    assert follow(4, "step", 10, "interrupt", 500, "step", 7).result(gpus.DEFAULT) is None
    again = follow(4, "step", 10, "step", "interrupt", 500, "interrupt", 7, "step")
    assert again.result(gpus.DEFAULT)["samples_per_step"] == 10
    twice = follow(4, "step", 10, "step", "step")  # two optimizers: both are one
    assert twice.result(gpus.DEFAULT)["samples_per_step"] == 10


def test_bytes_of_a_step_are_told_in_gb():
    cost = follow()
    cost.step = step(to_gpu=2e9, to_host=3e9, between=4e9)
    found = cost.result(gpus.DEFAULT)
    keys = ("to_gpu_gb_per_step", "to_host_gb_per_step", "between_gpus_gb_per_step")
    assert [found[key] for key in keys] == [2, 3, 4]
    assert "at least 1.7 minutes" not in prediction.describe_cost(found, gpus.DEFAULT)


def test_the_cost_that_is_told_is_the_one_that_limits():
    cost = follow()
    cost.step = step(
        operations=Counter(tf32=156e12, bfloat16=312e12), to_gpu=64e9, to_host=96e9, kernels=30
    )
    told = prediction.describe_cost(cost.result(gpus.DEFAULT), gpus.DEFAULT)
    assert told == (
        "cost: 46.8 TFLOP a sample, 30 kernels a step, 64.00 GB a step to the GPU, 96.00 GB a step "
        "to the host; at least 3 minutes an epoch on A100-80 (limited by host link)"
    )


@pytest.mark.parametrize(("convolved", "mostly"), [(5.0, False), (5.1, True)])
def test_a_script_is_of_convolutions_if_most_of_its_arithmetic_is(convolved, mostly):
    cost = follow()
    cost.step = step(operations=Counter(tf32=8.0, bfloat16=2.0), convolved=convolved)
    assert cost.mostly_convolutions() == mostly
    cost.step, cost.now = None, cost.step
    assert cost.mostly_convolutions() == mostly


# ------------------------------------------------------------------------------------------ advice

ROW = {
    "breakdown_gb": {"parameters": 0.9, "gradients": 0.1, "optimizer": 3, "activations": 5,
                     "inputs": 1, "temporaries": 0},
    "allocated_gb": 10.0, "reserved_gb": 12.5, "peak_phase": "backward", "batch_size": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("checkpointing", 0.5),
        ("accumulate", 0.6),
        ("adamw-8bit", 0.3),
        ("lora", 0.4),
        ("bf16", 0.9),
        ("free-gradients", 0.01),
        ("expandable-segments", 0.2),  # of what is reserved
        ("fused", 0),
    ],
)
def test_what_a_technique_could_save_is_a_share_of_the_peak(name, share):
    assert what_if._share(KNOWN[name], ROW) == pytest.approx(share)


def test_techniques_that_cannot_save_are_not_tried():
    """Those of which a hundredth of the peak is not made, or that need what is not there."""
    found, others = what_if.candidates(ROW, Options(GPU))
    assert {"checkpointing", "accumulate", "free-gradients", "lora"} <= set(found)
    assert others["fused"] == "the peak is not in the optimizer step"
    little = ROW | {"breakdown_gb": ROW["breakdown_gb"] | {"gradients": 0.09}, "batch_size": None}
    found, others = what_if.candidates(little, Options(GPU, gpus=2))
    assert others["free-gradients"] == "next to no gradients at the peak"
    assert "several GPUs" in others["checkpointing"]
    assert "several GPUs" in others["accumulate"]
    assert "no DataLoader" in what_if.candidates(little, Options(GPU))[1]["accumulate"]
    step = what_if.candidates(ROW | {"peak_phase": "optimizer step"}, Options(GPU))[0]
    assert {"fused", "foreach-off"} <= set(step)
    some = what_if.candidates(ROW, Options(GPU, techniques=("offload",)))[0]
    assert not {"offload", "checkpointing", "selective-checkpointing"} & set(some)


SAVED = {
    "checkpointing": 0.6, "offload": 0.55, "accumulate": 0.5, "free-gradients": 0.9, "bf16": 0.4,
    "last-blocks": 0.7,
}  # fmt: skip


@pytest.fixture
def search_of(monkeypatch):
    """A search in which techniques save these shares, and so many GB fit; "lora" is refused."""

    def made(limit: float) -> what_if.WhatIf:
        def answers(asked, told, own):
            for _, options in asked:
                gb = 11.0 * math.prod(SAVED.get(name, 1) for name in options.techniques)
                row = ROW | {"reserved_gb": gb, "fits": gb <= limit}
                yield {"error": "it is refused"} if "lora" in options.techniques else row

        monkeypatch.setattr(what_if, "answers", answers)
        monkeypatch.setattr(Technique, "missing", False)
        row = ROW | {"reserved_gb": 11.0, "fits": False}
        return what_if.WhatIf(ROOT / "script.py", Options(GPU), row, lambda done, of: None)

    return made


def test_the_most_useful_technique_comes_first(search_of):
    tried = search_of(1.0).each(["free-gradients", "lora", "bf16", "fused", "checkpointing"])
    names = [one.techniques for one in tried]
    order = ["bf16", "checkpointing", "free-gradients", "fused", "lora"]
    assert names == [(name,) for name in order]
    assert (tried[-1].row, tried[-1].error, tried[-1].fits) == (None, "it is refused", False)


@pytest.mark.parametrize(
    ("limit", "names"),
    [
        (6.0, {"accumulate"}),
        (3.5, {"accumulate", "checkpointing"}),  # offload saves more, and takes more lines
        (1.5, {"accumulate", "offload", "bf16"}),  # without the gradients that were freed before
        (0.8, {"accumulate", "offload", "free-gradients", "bf16", "last-blocks"}),
    ],
)
def test_the_smallest_set_changes_the_training_least(search_of, limit, names):
    """First what leaves it as it is, then what rounds otherwise, then all; each is needed."""
    *_, best = search_of(limit).smallest([])
    assert set(best.techniques) == names
    assert best.fits


def test_a_search_that_finds_nothing_ends_with_the_best(search_of):
    found = list(search_of(0.1).smallest([]))
    assert not any(one.fits for one in found)
    assert set(found[-1].techniques) == {*SAVED} - {"checkpointing"}
    needs = [one.reserved for one in found]
    assert needs == sorted(needs, reverse=True)


def test_all_gpus_are_judged_with_the_margin():
    for room, expected in ((7.348, (True, True)), (7.349, (False, True)), (9.686, (False, False))):
        found = side_by_side._verdict(GPU, {"like": "plain", "groups": 0, "room_gb": room})
        assert (found["fits"], found["may_fit"]) == expected
        word = side_by_side._word(found)
        assert word == prediction.verdict(SimpleNamespace(**found))
