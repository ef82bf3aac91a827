"""What users set for PyTorch's allocator: the sources' rules, worked by hand."""

import pytest

from tests.warm import predict, predicted
from vramcast.memory.allocator import CachingAllocator
from vramcast.memory.blocks import rounded
from vramcast.memory.settings import Settings, parse

MIB = 2**20


def with_settings(text: str, **options) -> CachingAllocator:
    allocator = CachingAllocator(**options)
    allocator.settings = parse(text, Settings())[0]
    return allocator


@pytest.mark.parametrize(
    ("size", "divisions", "block"),
    [
        (1200 * MIB, 0, 1200 * MIB),
        (1200 * MIB, 1, 1200 * MIB),
        (1200 * MIB, 4, 1280 * MIB),  # PyTorch's documentation: 1024, 1280, 1536, 1792, 2048
        (1281 * MIB, 4, 1536 * MIB),
        (1800 * MIB, 4, 2048 * MIB),
        (1024 * MIB, 4, 1024 * MIB),
        (2000, 4, 2048),  # up to 512 bytes times the divisions, as ever: by 512
        (1100, 4, 1536),
        (2048, 4, 2048),
        (2049, 4, 2560),
        (1025, 2, 1536),
    ],
)
def test_sizes_are_rounded_to_parts_of_a_power_of_two(size, divisions, block):
    assert rounded(size, divisions) == block


def test_divisions_by_interval():
    settings, _ = parse("roundup_power2_divisions:[256:1, 512:2, 2048:4, >:8]", Settings())
    assert [settings.division(size * MIB) for size in (1, 255, 256, 511, 512, 1023)] == [
        1, 1, 1, 1, 2, 2,
    ]  # fmt: skip
    assert settings.division(1024 * MIB) == 0  # between two that are named
    assert [settings.division(size * MIB) for size in (2048, 4096, 2**20)] == [4, 8, 8]
    assert settings.division(100) == 1  # below 1 MiB: as from there on
    assert parse("roundup_power2_divisions:4", Settings())[0].division(5 * MIB) == 4
    settings, _ = parse("roundup_power2_divisions:[1:1,2:2,4:4,16384:6,32768:8]", Settings())
    sizes = [MIB // 2, MIB, 2 * MIB - 1, 2 * MIB, 4 * MIB, 2**35 - 1, 2**35, 2**40]
    assert [settings.division(size) for size in sizes] == [1, 1, 1, 2, 4, 6, 8, 8]


def test_divisions_change_what_is_reserved():
    allocator = with_settings("roundup_power2_divisions:4")
    allocator.allocate("a", 1200 * MIB)
    assert allocator.reserved == allocator.allocated == 1280 * MIB


def test_large_blocks_are_not_split_for_small_requests():
    usual, other = CachingAllocator(), with_settings("max_split_size_mb:64")
    for allocator in (usual, other):
        allocator.allocate("a", 100 * MIB)
        allocator.free("a")
        allocator.allocate("b", 30 * MIB)
    assert usual.reserved == 100 * MIB
    assert other.reserved == 130 * MIB


def test_large_requests_take_large_blocks_whole_if_little_is_wasted():
    for size, reserved, allocated in ((90, 100, 100), (80, 180, 80)):
        allocator = with_settings("max_split_size_mb:64")  # wastes less than 20 MiB
        allocator.allocate("a", 100 * MIB)
        allocator.free("a")
        allocator.allocate("b", size * MIB)
        assert allocator.reserved == reserved * MIB
        assert allocator.allocated == allocated * MIB
    allocator = with_settings("max_split_size_mb:64,max_non_split_rounding_mb:40")
    allocator.allocate("a", 100 * MIB)
    allocator.free("a")
    allocator.allocate("b", 80 * MIB)
    assert allocator.reserved == 100 * MIB


@pytest.mark.parametrize(
    ("free", "size", "taken"),
    [
        (62, 30, 30),  # split
        (64, 30, None),  # of max_split_size: not for smaller ones
        (64, 62, None),
        (82, 64, 82),  # whole, though more than half is left
        (84, 64, None),  # by max_non_split_rounding or more
        (64, 64, 64),
        (62, 62, 62),
    ],
)
def test_the_edges_of_large_blocks(free, size, taken):
    """`get_free_block`: with 64 MiB as the limit, what of a free block is given, if any."""
    allocator = with_settings("max_split_size_mb:64")
    allocator.allocate("a", free * MIB)
    allocator.free("a")
    allocator.allocate("b", size * MIB)
    assert allocator.reserved == (free if taken else free + size) * MIB
    assert allocator.allocated == (taken or size) * MIB


@pytest.mark.parametrize(
    ("sizes", "request_", "reserved"),
    [
        ((100, 66, 12), 76, 66 + 12 + 76),  # the block of 100 suffices
        ((70, 66, 40), 130, 40 + 130),  # none does: the largest ones, until it is enough
        ((70, 66, 40), 150, 150),  # nor do all of them: whatever is unused
    ],
)
def test_a_full_gpu_gives_back_unsplit_blocks_first(sizes, request_, reserved):
    allocator = with_settings("max_split_size_mb:64", capacity=200 * MIB)
    for size in sizes:
        allocator.allocate(size, size * MIB)
    for size in sizes:
        allocator.free(size)
    allocator.allocate("new", request_ * MIB)
    assert allocator.reserved == reserved * MIB


def test_segments_that_may_not_grow_any_more_are_passed_over():
    allocator = with_settings("expandable_segments:True")
    allocator.allocate("a", 30 * MIB)
    assert allocator.reserved == 40 * MIB  # pages of 20 MiB
    allocator.free("a")
    allocator.settings = parse("expandable_segments:False", allocator.settings)[0]
    allocator.allocate("b", 30 * MIB)
    assert allocator.reserved == 70 * MIB


def test_some_settings_stay_and_some_do_not():
    """As in `parseArgs`."""
    first, _ = parse("expandable_segments:True,max_split_size_mb:64", Settings())
    second, unknown = parse("pinned_use_background_threads:True", first)
    assert (first.expandable, second.expandable) == (True, True)
    assert (first.max_split, second.max_split) == (64 * MIB, float("inf"))
    assert unknown == []


SCRIPT = """
import os, torch
{before}
kept = torch.empty(30 * 2**20, dtype=torch.uint8, device="cuda")
{after}
more = torch.empty(30 * 2**20, dtype=torch.uint8, device="cuda")
model = torch.nn.Linear(8, 8).cuda()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(3):
    model(torch.ones(4, 8).cuda()).sum().backward()
    optimizer.step()
"""
ENVIRONMENT = 'os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"'
CALL = 'torch._C._accelerator_setAllocatorSettings("expandable_segments:True")'
# besides: 2 MiB for the pool of small blocks, and two workspaces of 8.125 MiB for cuBLAS


@pytest.mark.parametrize(
    ("before", "after", "environment", "mib"),
    [
        ("", "", {}, 2 * 30 + 20 + 2),
        ("", "", {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, 80 + 2),
        ("", "", {"PYTORCH_CUDA_ALLOC_CONF": "roundup_power2_divisions:2"}, 2 * 32 + 2 * 12 + 2),
        (ENVIRONMENT, "", {}, 80 + 2),
        ("", ENVIRONMENT, {}, 2 * 30 + 20 + 2),  # too late
        ("", CALL, {}, 30 + 60 + 2),
    ],
)
def test_where_a_script_is_told(tmp_path, before, after, environment, mib):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(before=before, after=after))
    found = predicted(script, **environment)
    assert found["notes"] == []
    assert found["reserved_gb"] * 1e9 == pytest.approx(mib * MIB)


def test_what_is_malformed_ends_as_in_pytorch(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(before="", after=""))
    process = predict(script, PYTORCH_ALLOC_CONF="max_split_size_mb:5")
    assert process.returncode == 2
    assert "line 4: ValueError" in process.stderr
    assert "max_split_size_mb too small" in process.stderr


def test_what_is_not_simulated_is_said(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(before="", after=""))
    found = predicted(script, PYTORCH_ALLOC_CONF="garbage_collection_threshold:0.8")
    assert ["garbage_collection_threshold" in note for note in found["notes"]] == [True]
