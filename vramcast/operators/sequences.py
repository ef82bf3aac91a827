"""Sequences of different lengths: packed ones, and connectionist temporal classification.

Lengths on the host are known, and so are these sizes (aten/src/ATen/native/PackedSequence.cpp).
Where they are not, each sequence is taken to be as long as it can be.
"""

import torch

from vramcast import compat
from vramcast.memory.blocks import rounded
from vramcast.operators.ranges import keep_numbers, listed
from vramcast.operators.registry import Exact, put, register

aten = torch.ops.aten
CTC_NOTE = "what cuDNN takes for ctc_loss meanwhile is not known, and not counted"


def _host(values: list[int]) -> torch.Tensor:
    """A tensor on the host of these known numbers."""
    tensor = torch.empty(len(values), dtype=torch.long)
    with compat.no_dispatch():
        real = torch.tensor(values)
    keep_numbers(tensor, real)
    return tensor


def _runs(lengths: list[int]) -> list[tuple[int, int]]:
    """For each length that occurs: by how much it is longer than the next, and how many are so.

    `lengths` are sorted, the longest first, as `pack_padded_sequence` wants them.
    """
    found, before = [], 0
    for place, length in enumerate(reversed(lengths)):
        if length > before:
            found.append((length - before, len(lengths) - place))
            before = length
    return found


def _packed(input, lengths, batch_first):
    """`_pack_padded_sequence`: the rows of all sequences, and how many there are at each time."""
    batch, time = input.shape[:2] if batch_first else input.shape[1::-1]
    known = listed(lengths)
    sizes = [many for more, many in _runs(known or [time] * batch) for _ in range(more)]
    result = input.new_empty(sum(sizes), *input.shape[2:]), _host(sizes)
    return Exact(result) if known else result


def _pieces(args: tuple) -> list[int]:
    """The bytes of what is put together: a piece for each length, if it is not contiguous."""
    input, lengths, batch_first = args
    batch, time = input.shape[:2] if batch_first else input.shape[1::-1]
    runs = _runs(listed(lengths) or [time] * batch)
    row = input.shape[2:].numel() * input.element_size()
    whole = input.transpose(0, 1) if batch_first else input
    copied = [(more, many) for more, many in runs if many < batch or not whole.is_contiguous()]
    return [rounded(more * many * row) for more, many in copied if more > 1 or batch_first]


def _packed_backward(grad, input_size, batch_sizes, batch_first):
    """The gradient of the padded sequences, with zeros between."""
    return grad.new_zeros(input_size)


def _padded(data, batch_sizes, batch_first, padding_value, total_length):
    """`_pad_packed_sequence`: sequences as rows again, copied length by length, and the lengths."""
    sizes = listed(batch_sizes)
    time, batch = max(total_length, len(sizes)), sizes[0]
    output = torch.full(
        (time, batch, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device
    )
    start = offset = 0
    for place in range(1, len(sizes) + 1):
        if place == len(sizes) or sizes[place] != sizes[start]:
            rows = (place - start) * sizes[start]
            piece = data[offset : offset + rows].view(place - start, sizes[start], *data.shape[1:])
            output[start:place, : sizes[start]].copy_(piece)
            start, offset = place, offset + rows
    lengths = _host([sum(many > row for many in sizes) for row in range(batch)])
    return output.transpose(0, 1) if batch_first else output, lengths


# --------------------------------------------------------------------------------- ctc_loss


def _lengths(lengths) -> list[int] | None:
    return listed(lengths) if isinstance(lengths, torch.Tensor) else list(lengths)


def _ctc(log_probs, targets, input_lengths, target_lengths, blank=0, zero_infinity=False):
    """`_ctc_loss`: a loss for each sequence, and the logarithms that the backward pass needs.

    Two states for each label of the longest target, and one (aten/src/ATen/native/LossCTC.cpp and
    cuda/LossCTC.cu). Targets in rows are as long as the rows, at most.
    """
    known = _lengths(target_lengths)
    time, *batch = log_probs.shape[:-1]
    most = targets.shape[-1] if known is None or targets.dim() > 1 else max(known, default=0)
    many = batch[0] if batch else 1
    result = log_probs.new_empty(batch), log_probs.new_empty(many, time, 2 * most + 1)
    return Exact(result) if known is not None or targets.dim() > 1 else result


def _ctc_backward(
    grad, log_probs, targets, input_lengths, target_lengths, neg_log_likelihood, log_alpha, blank,
    zero_infinity=False,
):  # fmt: skip
    return Exact(torch.empty_like(log_probs, memory_format=torch.contiguous_format))


def _beta(args: tuple) -> list[int]:
    """What the backward pass takes meanwhile: as much as the forward pass has left."""
    return [rounded(args[6].numel() * args[6].element_size())]


def _cudnn_ctc(log_probs, targets, input_lengths, target_lengths, blank, deterministic, infinity):
    """`_cudnn_ctc_loss`: the losses, and the gradient at once."""
    return Exact((log_probs.new_empty(log_probs.shape[1]), torch.empty_like(log_probs)))


def _uses_cudnn(log_probs, targets, input_lengths, target_lengths, blank) -> bool:
    """Whether cuDNN computes it: `_use_cudnn_ctc_loss` in aten/src/ATen/native/cudnn/LossCTC.cpp.

    If lengths are tensors whose numbers are not known, it is not taken to.
    """
    inputs, labels = _lengths(input_lengths), _lengths(target_lengths)
    fits = (
        torch.backends.cudnn.enabled and blank == 0 and log_probs.dim() == 3 and targets.dim() == 1
        and log_probs.dtype == torch.float32 and targets.dtype == torch.int32
        and targets.is_contiguous() and inputs is not None and labels is not None
    )  # fmt: skip
    if not fits or any(label >= 256 or label > input for label, input in zip(labels, inputs)):
        return False
    if isinstance(input_lengths, torch.Tensor):
        return input_lengths.dtype == target_lengths.dtype == torch.int32
    return targets.device.type == "cpu" and set(inputs) == {log_probs.shape[0]}


def _ctc_loss(
    log_probs, targets, input_lengths, target_lengths, blank=0, reduction=1, zero_infinity=False
):
    """`ctc_loss`, whose C++ code reads lengths and writes them into tensors itself.

    The other kernel than cuDNN's takes lists of lengths, and moves targets that are on the host
    (aten/src/ATen/native/LossCTC.cpp).
    """
    given = input_lengths, target_lengths, blank

    def overload(operator):  # a tensor would be taken for a list
        tensors = isinstance(given[0], torch.Tensor)
        return operator.Tensor if tensors else operator.default

    if overload(aten._use_cudnn_ctc_loss)(log_probs, targets, *given):
        loss, _ = overload(aten._cudnn_ctc_loss)(
            log_probs, targets, *given, torch.are_deterministic_algorithms_enabled(), zero_infinity
        )
    else:
        moved = targets.to(log_probs.device, torch.long)
        lists = [_lengths(one) for one in given[:2]]
        given = given if None in lists else (*lists, blank)
        loss, _ = overload(aten._ctc_loss)(log_probs, moved, *given, zero_infinity)
    if zero_infinity:
        loss = torch.where(loss == torch.inf, torch.zeros_like(loss), loss)
    if reduction == 1:
        lengths = torch.as_tensor(target_lengths).to(loss.device, loss.dtype)
        return (loss / lengths.clamp_min(1)).mean()
    return loss.sum() if reduction == 2 else loss


def install(notes: list[str]) -> None:
    """Compute on sequences of different lengths as a GPU."""

    def uses_cudnn(*args) -> bool:
        taken = _uses_cudnn(*args)
        if taken and CTC_NOTE not in notes:
            notes.append(CTC_NOTE)
        return taken

    register(aten._pack_padded_sequence.default, largest=_packed, buffers=_pieces)
    put({"_pad_packed_sequence": _padded, "_pack_padded_sequence_backward": _packed_backward})
    register(aten._ctc_loss.default, aten._ctc_loss.Tensor, largest=_ctc)
    register(
        aten._ctc_loss_backward.default, aten._ctc_loss_backward.Tensor,
        largest=_ctc_backward, buffers=_beta,
    )  # fmt: skip
    register(aten._cudnn_ctc_loss.default, aten._cudnn_ctc_loss.Tensor, largest=_cudnn_ctc)
    put({"ctc_loss.IntList": _ctc_loss, "ctc_loss.Tensor": _ctc_loss})
    put({"_use_cudnn_ctc_loss": uses_cudnn, "_use_cudnn_ctc_loss.Tensor": uses_cudnn})
