"""The ranges of numbers, and the largest results that they lead to: rules on tensors, by hand.

What a script meets of them is in test_numbers.py.
"""

import pytest
import torch

from vramcast.device import unknown
from vramcast.operators import ranges, unknown_sizes
from vramcast.operators.registry import Exact

aten = torch.ops.aten


def of(low: int, high: int, *shape: int) -> torch.Tensor:
    """A tensor of whole numbers that are not known, in this range."""
    tensor = torch.empty(shape, dtype=torch.long, device="meta")
    ranges.keep(tensor, (low, high))
    return tensor


@pytest.fixture(autouse=True)
def _unknown(monkeypatch):
    """Tensors without memory are those whose numbers are not known."""
    real = ranges.numbers
    monkeypatch.setattr(ranges, "numbers", lambda one: None if one.is_meta else real(one))
    monkeypatch.setattr(unknown_sizes, "numbers", ranges.numbers)


def ends(name: str, *args: object, shape: tuple[int, ...] = ()) -> tuple | None:
    """The range of an operator's first result, which has this shape."""
    return ranges.RULES[name](args, torch.empty(shape, device="meta"))


def places(name: str, *args: object) -> tuple:
    return ranges.PLACES[name](args, None)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("argmax", (of(0, 1, 3, 5),), (0, 14)),
        ("argmax", (of(0, 1, 3, 5), 0), (0, 2)),
        ("argmax", (of(0, 1),), (0, 0)),
        ("argmax", (of(0, 1, 0),), (0, 0)),
        ("multinomial", (of(0, 1, 3, 5), 2), (0, 4)),
        ("argsort", (of(0, 1, 3, 5),), (0, 4)),
        ("argsort", (of(0, 1, 3, 5), 0), (0, 2)),
        ("argsort", (of(0, 1, 3, 5), True, 0), (0, 2)),
        ("argsort", (of(0, 1),), (0, 0)),
        ("randint", (7, [3]), (0, 6)),
        ("randint", (2, 7, [3]), (2, 6)),
        ("randperm", (7,), (0, 6)),
        ("randperm", (0,), (0, 0)),
        ("arange", (7,), (0, 6)),
        ("arange", (2, 7), (2, 7)),
        ("arange", (7, 2, -1), (2, 7)),
        ("arange", (2.5,), None),
        ("full", ([3], 4), (4, 4)),
        ("full", ([3], 4.5), None),
        ("sum", (of(2, 3, 8),), (0, 24)),
        ("sum", (of(-2, 3, 8),), (-16, 24)),
        ("sum", (of(-5, -2, 8),), (-40, 0)),
        ("cumsum", (of(-2, 3, 8, 5), 1), (-10, 15)),
        ("cumsum", (of(2, 3), 0), (0, 3)),
        ("repeat_interleave", (of(1, 2, 6),), (0, 5)),
        ("nonzero", (of(0, 1, 3, 5),), (0, 14)),
        ("nonzero", (of(0, 1, 0),), (0, 0)),
        ("count_nonzero", (of(0, 1, 3, 5),), (0, 15)),
        ("where", (of(0, 1, 3), of(2, 9, 3), of(-4, 3, 3)), (-4, 9)),
        ("where", (of(0, 1, 3),), None),
        ("cat", ([of(2, 9, 3), of(-4, 3, 3)],), (-4, 9)),
        ("zeros", ([3],), (0, 0)),
        ("ones", ([3],), (1, 1)),
        ("zeros_like", (of(2, 3),), (0, 0)),
        ("ones_like", (of(2, 3),), (1, 1)),
        ("add", (of(2, 3), of(10, 20)), (12, 23)),
        ("add", (of(2, 3), 4), (6, 7)),
        ("sub", (of(2, 3), of(10, 20)), (-18, -7)),
        ("mul", (of(-2, 3), of(-10, 20)), (-40, 60)),
        ("mul", (of(-2, 3), 2.5), None),
        ("clamp", (of(-2, 30), 0), (0, 30)),
        ("clamp", (of(-2, 30), None, 7), (-2, 7)),
        ("clamp", (of(-2, 30), 0, 7), (0, 7)),
        ("clamp", (of(2, 3), 5, 7), (5, 5)),
        ("select", (of(2, 3, 4), 0, 1), (2, 3)),
        ("masked_select", (of(2, 3, 4), of(0, 1, 4)), (2, 3)),
    ],
)  # fmt: skip
def test_the_range_of_a_result(name, args, expected):
    assert ends(name, *args) == expected


def test_the_range_of_a_sum_and_a_count_along_a_dimension():
    assert ends("sum", of(2, 3, 8, 5), [1], shape=(8,)) == (0, 15)
    assert ends("count_nonzero", of(2, 3, 8, 5), 1, shape=(8,)) == (0, 5)
    assert ends("clamp", torch.empty(3, dtype=torch.long, device="meta"), 0) is None
    assert ranges.RULES["clamp"]((torch.empty(3, device="meta"), 0, 7), None) == (0, 7)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("max", (of(0, 1, 3, 5), 1), (0, 4)),
        ("topk", (of(0, 1, 3, 5), 2), (0, 4)),
        ("topk", (of(0, 1, 3, 5), 2, 0), (0, 2)),
        ("topk", (of(0, 1), 1), (0, 0)),
        ("sort", (of(0, 1, 3, 5), 0), (0, 2)),
        ("_unique2", (of(0, 1, 3, 5),), (0, 15)),
    ],
)
def test_the_range_of_places(name, args, expected):
    assert places(name, *args) == expected


def test_what_is_written_to_loses_its_range():
    tensor = torch.zeros(3, dtype=torch.long, device="meta")
    assert ranges.of(tensor) is None
    ranges.keep(tensor, (2, 5))
    assert ranges.of(tensor) == (2, 5)
    tensor.add_(1)
    assert ranges.of(tensor) is None
    assert ranges.of(torch.empty(3, dtype=torch.bool, device="meta")) == (0, 1)
    assert ranges.of(torch.tensor([4, -2, 3])) == (-2, 4)
    assert ranges.of(torch.tensor([], dtype=torch.long)) is None


def test_results_keep_their_range():
    """Numbers in float have none, nor have truth values one of their own, nor products by alpha."""

    def kept(dtype, name="add", **kwargs):
        result = torch.empty(3, dtype=dtype, device="meta")
        func = getattr(aten, name).Tensor
        ranges.track(ranges.rule(func), func, (of(1, 2, 3), of(3, 4, 3)), kwargs, result)
        return vars(result).get("range_of_numbers", (0, None))[1]

    assert kept(torch.long) == (4, 6)
    assert kept(torch.int, "mul") == (3, 8)
    assert kept(torch.long, alpha=2) is None
    assert kept(torch.float) is None
    assert kept(torch.complex64) is None
    assert kept(torch.bool) is None
    both = [torch.empty(3, dtype=torch.long, device="meta") for _ in range(2)]
    func = aten.topk.default
    ranges.track(ranges.rule(func), func, (of(7, 9, 3, 5), 3), {}, both)
    assert [ranges.of(one) for one in both] == [(7, 9), (0, 4)]


# ------------------------------------------------------------------------- the largest results


LARGEST = {
    "bincount": unknown_sizes._bincount, "masked_select": unknown_sizes._masked_select,
    "repeat_interleave": unknown_sizes._repeat_interleave, "nonzero": unknown_sizes._nonzero,
    "index": unknown_sizes._index, "nms": unknown_sizes._nms,
}  # fmt: skip
LONG, FLOAT = torch.long, torch.float32


def largest(operator: str, *args: object) -> tuple | None:
    """The shape and data type of the largest result, and whether it is known to be that one."""
    found = LARGEST[operator](*args)
    if found is None:
        return None
    exact = isinstance(found, Exact)
    result = found.result if exact else found
    return (*result.shape,), result.dtype, exact


def test_bincount_has_a_count_for_each_number_up_to_the_largest():
    """And for none too, so one more than the largest; at least `minlength` of them."""
    classes = of(3, 8, 20)
    unknown = torch.empty(20, dtype=LONG, device="meta")
    assert largest("bincount", classes) == ((9,), LONG, False)
    assert largest("bincount", classes, None, 9) == ((9,), LONG, False)
    assert largest("bincount", classes, None, 12) == ((12,), LONG, False)
    assert largest("bincount", classes, torch.empty(20)) == ((9,), FLOAT, False)
    assert largest("bincount", unknown, None, 5) == ((5,), LONG, False)
    assert largest("bincount", unknown) is None
    real = torch.tensor([3, 8])
    assert unknown_sizes._bincount(real).shape == torch.bincount(real).shape


def test_a_mask_may_keep_all_of_what_both_make_together():
    mask = torch.empty(4, 1, dtype=torch.bool, device="meta")
    assert largest("masked_select", torch.empty(3, device="meta"), mask) == ((12,), FLOAT, False)
    assert largest("masked_select", of(0, 1, 5, 4, 3), mask) == ((60,), LONG, False)


def test_a_mask_among_indices_may_keep_all_its_places():
    tensor = torch.empty(4, 6, 5, device="meta")
    mask = torch.empty(4, 6, dtype=torch.bool, device="meta")
    assert largest("index", tensor, [mask]) == ((24, 5), FLOAT, False)
    assert largest("index", tensor, [torch.zeros(2, dtype=LONG, device="meta")]) is None
    known = torch.tensor([True, False, True, True])
    rows = torch.empty(4, 5, device="meta")
    assert largest("index", rows, [known]) == ((3, 5), FLOAT, True)


def test_writing_where_a_mask_says_changes_no_size():
    tensor, mask = torch.empty(4, 5), torch.ones(4, dtype=torch.bool)
    found = unknown_sizes._masked_put(tensor, [mask], torch.ones(()))
    assert isinstance(found, Exact)
    assert found.result is tensor
    assert unknown_sizes._masked_put(tensor, [None, torch.tensor([1])], torch.ones(())) is None


def test_repeated_places_are_as_many_as_the_repeats():
    assert largest("repeat_interleave", torch.tensor([1, 0, 4])) == ((5,), LONG, True)
    assert largest("repeat_interleave", of(1, 3, 6)) == ((18,), LONG, False)
    assert largest("repeat_interleave", of(1, 3, 6), 11) == ((11,), LONG, True)
    assert largest("repeat_interleave", torch.empty(6, dtype=LONG, device="meta")) is None


def test_places_that_are_found_are_at_most_all():
    assert largest("nonzero", torch.empty(3, 4)) == ((12, 2), LONG, False)
    assert largest("nms", torch.empty(7, 4), torch.empty(7), 0.5) == ((7,), LONG, False)
    values, inverse, counts = unknown_sizes._unique(torch.empty(3, 4), True, True, False)
    assert [list(one.shape) for one in (values, inverse, counts)] == [[12], [3, 4], [0]]
    values, inverse, counts = unknown_sizes._unique(torch.empty(3, 4), True, False, True)
    assert [list(one.shape) for one in (values, inverse, counts)] == [[12], [3, 4], [12]]
    assert [one.numel() for one in unknown_sizes._unique(torch.empty(3, 4))] == [12, 0, 0]
    found = unknown_sizes._unique_consecutive(torch.empty(3, 4), True, False, 1)
    assert [list(one.shape) for one in found] == [[3, 4], [4], [0]]
    found = unknown_sizes._unique_consecutive(torch.empty(3, 4))
    assert [list(one.shape) for one in found] == [[12], [0], [0]]
    found = unknown_sizes._unique_dim(torch.empty(3, 4), 0, True, False, True)
    assert [list(one.shape) for one in found] == [[3, 4], [0], [3]]


def test_a_whole_number_remembers_that_it_is_not_known():
    """What a script's `int(…)` becomes (vramcast/loops/marks.py); all else stays as it is."""
    number = unknown.Unknown(0)
    assert unknown.whole(int, number) is number
    assert type(unknown.whole(float, number)) is float
    assert [unknown.whole(int, one) for one in ("7", 7.5, torch.tensor(7), True)] == [7, 7, 7, 1]
    assert unknown.whole(str, 7) == "7"
