"""Sequences of different lengths: the rules on real tensors, against PyTorch's own functions."""

import pytest
import torch

from vramcast.memory.blocks import multiple
from vramcast.operators import sequences
from vramcast.operators.registry import Exact

LENGTHS = [[10, 7, 7, 3, 1], [4, 4, 4], [5], [9, 1]]
INT = torch.int32


@pytest.fixture(autouse=True)
def _real(monkeypatch):
    """Tensors have numbers here; those of tensors without memory are not known."""
    monkeypatch.setattr(sequences, "keep_numbers", lambda tensor, real: tensor.copy_(real))
    monkeypatch.setattr(
        sequences, "listed", lambda tensor: None if tensor.is_meta else tensor.tolist()
    )


def padded(lengths: list[int], batch_first: bool) -> torch.Tensor:
    batch, time = len(lengths), max(lengths)
    shape = (batch, time, 3) if batch_first else (time, batch, 3)
    return torch.arange(batch * time * 3).float().view(shape)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_rows_are_pytorchs(lengths, batch_first):
    """And the other way round, their numbers too."""
    rows, given = padded(lengths, batch_first), torch.tensor(lengths)
    data, sizes = torch._pack_padded_sequence(rows, given, batch_first)
    found = sequences._packed(rows, given, batch_first)
    assert isinstance(found, Exact)
    assert found.result[0].shape == data.shape
    assert found.result[1].tolist() == sizes.tolist()
    for total in (max(lengths), max(lengths) + 2):
        expected = torch._pad_packed_sequence(data, sizes, batch_first, 0.5, total)
        for ours, theirs in zip(
            sequences._padded(data, sizes, batch_first, 0.5, total), expected, strict=True
        ):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("batch_first", [False, True])
def test_unknown_lengths_are_taken_to_be_whole(batch_first):
    rows = padded([10, 7, 3], batch_first)
    data, sizes = sequences._packed(rows, torch.empty(3, device="meta"), batch_first)
    assert (list(data.shape), sizes.tolist()) == ([30, 3], [3] * 10)


def test_pieces_are_copied_before_they_are_put_together():
    """`input.slice(…).contiguous()` of each length, [steps, sequences that are as long, …].

    A view where it is contiguous already (PackedSequence.cpp).
    """
    rows, given = padded([10, 7, 7, 1], False), torch.tensor([10, 7, 7, 1])
    # step 0 has 4 of 4 sequences, and is contiguous; the next 6 have 3, the last 3 have 1
    assert sequences._pieces((rows, given, False)) == [512, 512]
    wide, turned = torch.empty(10, 4, 100), torch.empty(4, 10, 100)
    pieces = [multiple(steps * many * 400, 512) for steps, many in ((1, 4), (6, 3), (3, 1))]
    assert sequences._pieces((wide, given, False)) == pieces[1:]
    assert sequences._pieces((turned, given, True)) == pieces
    assert sequences._pieces((turned[:1], given[:1], True)) == []  # one sequence: a view


def test_gradients_are_those_of_the_padded_sequences():
    found = sequences._packed_backward(torch.ones(7, 3), [4, 5, 3], None, True)
    assert torch.equal(found, torch.zeros(4, 5, 3))


# ------------------------------------------------------------------------------------- ctc_loss


@pytest.mark.parametrize("batch", [(), (4,)])
def test_ctc_keeps_two_states_for_each_label_and_one(batch):
    """As PyTorch's own kernel on the CPU; its sizes are the same (LossCTC.cpp)."""
    scores = torch.randn(50, *batch, 20).log_softmax(-1)
    many = 4 if batch else 1
    lengths = [12, 8, 10, 10][:many]
    labels = torch.ones(sum(lengths), dtype=torch.long)
    given = scores, labels, [50] * many, lengths
    found = sequences._ctc(*given)
    assert isinstance(found, Exact)
    if batch:
        expected = torch._ctc_loss(*given)
        assert [one.shape for one in found.result] == [one.shape for one in expected]
    assert list(found.result[1].shape) == [many, 50, 25]


def test_targets_in_rows_are_as_long_as_the_rows():
    scores, rows = torch.empty(50, 4, 20), torch.ones(4, 7)
    unknown = torch.empty(4, device="meta")
    assert sequences._ctc(scores, rows, unknown, unknown).result[1].shape == (4, 50, 15)
    flat = sequences._ctc(scores, torch.ones(28), unknown, unknown)
    assert not isinstance(flat, Exact)  # one target may have all labels
    assert flat[1].shape == (4, 50, 57)
    assert sequences._beta((0, 0, 0, 0, 0, 0, torch.empty(4, 50, 25))) == [20_480]


def uses(**changed: object) -> bool:
    """Whether cuDNN computes it, where the arguments are those that it takes, but for some."""
    given = {
        "log_probs": torch.empty(50, 4, 20), "targets": torch.ones(40, dtype=INT),
        "input_lengths": [50] * 4, "target_lengths": [10] * 4, "blank": 0,
    }  # fmt: skip
    return sequences._uses_cudnn(*(given | changed).values())


def test_which_ctc_losses_are_cudnns():
    """`_use_cudnn_ctc_loss` in cudnn/LossCTC.cpp."""
    assert uses()
    assert not uses(blank=1)
    assert not uses(log_probs=torch.empty(50, 20))
    assert not uses(log_probs=torch.empty(50, 4, 20, dtype=torch.double))
    assert not uses(targets=torch.ones(40))
    assert not uses(targets=torch.ones(4, 10, dtype=INT))
    assert not uses(targets=torch.ones(80, dtype=INT)[::2])
    assert not uses(target_lengths=[10, 10, 10, 256], input_lengths=[500] * 4)
    assert uses(
        log_probs=torch.empty(500, 4, 20), target_lengths=[255] * 4, input_lengths=[500] * 4
    )
    assert not uses(target_lengths=[51, 10, 10, 10])  # longer than its input
    assert uses(target_lengths=[50, 10, 10, 10])
    assert not uses(input_lengths=[50, 50, 50, 49])
    some, whole = (torch.full((4,), 10, dtype=kind) for kind in (INT, torch.long))
    assert uses(input_lengths=torch.full((4,), 50, dtype=INT), target_lengths=some)
    assert not uses(input_lengths=torch.full((4,), 50, dtype=INT), target_lengths=whole)
    assert not uses(target_lengths=torch.empty(4, dtype=INT, device="meta"))
    with torch.backends.cudnn.flags(enabled=False):
        assert not uses()
