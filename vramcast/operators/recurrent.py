"""LSTM, GRU and RNN as on a GPU: cuDNN computes a whole stack of layers in one call.

A stack is one call of `_cudnn_rnn` (aten/src/ATen/native/RNN.cpp asks `cudnn_is_acceptable`, and
cudnn/RNN.cpp calls it). A single cell is one fused kernel (RNN.cpp, cuda/RNN.cu). PyTorch has no
rules for the shapes of all their results in training; those rules are here.

Not known and not counted are cuDNN's workspace, the state and the masks of its dropout, and its
copies of inputs that are not contiguous. Stacks that cuDNN refuses (if it is switched off, or for
bfloat16 before compute capability 8) are computed as on a CPU, which counts too much.
Packed sequences keep as much as if all were as long as the longest: cuDNN is asked by the batch and
the longest length alone (cudnnGetRNNTempSpaceSizes).
"""

import torch
import torch.nn.functional as F

from vramcast.operators.ranges import listed
from vramcast.operators.registry import put, shape, unfused

aten = torch.ops.aten

# cuDNN's `cudnnRNNMode_t`, and the numbers of a hidden size that each layer, direction and step of
# a sequence leave for the backward pass; on top come the outputs of all layers but the last. There
# is no published formula. The three sizes that cuDNN itself told, in 2017, agree with this one
# exactly: 801,177,600 bytes for one bidirectional GRU of 800, 326 steps, 64 sequences, float32
# (github.com/SeanNaren/deepspeech.pytorch/issues/172); and, for four layers of 320, 736,000,000
# bytes for LSTM and 864,000,000 for GRU (github.com/pytorch/pytorch/issues/2895), which are
# 4 * 5 + 3 and 4 * 6 + 3 times the same number. Today's cuDNN was not asked. Of plain RNNs nothing
# is known; counted is the one number that a step's backward pass needs.
MODES = {"rnn_relu": (0, 1), "rnn_tanh": (1, 1), "lstm": (2, 5), "gru": (3, 6)}
KEPT = dict(MODES.values())
NOTE = (
    "what cuDNN keeps of an LSTM, GRU or RNN for the backward pass is counted by sizes that it "
    "told in 2017"
)


def _forward(
    input, weight, weight_stride0, weight_buf, hx, cx, mode, hidden_size, proj_size, num_layers,
    batch_first, dropout, train, bidirectional, batch_sizes, dropout_state,
):  # fmt: skip
    """Results of `_cudnn_rnn`: output, last states, reserve (bytes), and the weights as one piece.

    If the weights are one piece already, `weight_buf` is given and takes no bytes.
    """
    steps, batch = (input.shape[1], input.shape[0]) if batch_first else input.shape[:2]
    if batch_sizes:
        steps, batch = len(batch_sizes), batch_sizes[0]
    directions = 2 if bidirectional else 1
    width = proj_size or hidden_size
    rows = input.shape[:1] if batch_sizes else (steps, batch)
    output = input.new_empty(*rows, width * directions)
    numbers = KEPT[mode] * num_layers * hidden_size + (num_layers - 1) * width
    reserve = numbers * directions * steps * batch * input.element_size() if train else 0
    if weight_buf is None:
        weight_buf = input.new_empty(sum(one.numel() for one in weight))
    return (
        output.transpose(0, 1) if batch_first else output,
        torch.empty_like(hx),
        input.new_empty(0) if cx is None else torch.empty_like(cx),
        input.new_empty(reserve, dtype=torch.uint8),
        torch.empty_like(weight_buf),
    )


def _backward(
    input, weight, weight_stride0, weight_buf, hx, cx, output, grad_output, grad_hy, grad_cy, mode,
    hidden_size, proj_size, num_layers, batch_first, dropout, train, bidirectional, batch_sizes,
    dropout_state, reserve, output_mask,
):  # fmt: skip
    """Results of `_cudnn_rnn_backward`: the gradients of all weights are parts of one piece."""
    pieces = []
    if output_mask[3]:
        whole = input.new_empty(sum(one.numel() for one in weight))
        sizes = [one.numel() for one in weight]
        pieces = [
            part.view(one.shape) for part, one in zip(whole.split(sizes), weight, strict=True)
        ]
    return (
        torch.empty_like(input),
        torch.empty_like(hx),
        None if cx is None else torch.empty_like(cx),
        pieces,
    )


def _gru_cell(input_gates, hidden_gates, hx, input_bias=None, hidden_bias=None):
    """Results of `_thnn_fused_gru_cell`, with a workspace of GRU_WORKSPACE_MULTIPLIER states."""
    return torch.empty_like(hx), hx.new_empty(hx.shape[0], 5 * hx.shape[1])


def _gru_cell_backward(grad_hy, workspace, has_bias):
    """Results of `_thnn_fused_gru_cell_backward`: gradients of gates, state and biases."""
    batch, hidden = grad_hy.shape
    gates = [workspace.new_empty(batch, 3 * hidden) for _ in range(2)]
    biases = [workspace.new_empty(3 * hidden) if has_bias else None for _ in range(2)]
    return *gates, torch.empty_like(grad_hy), *biases


def _stacks(name: str, capability: tuple[int, int], notes: list[str]) -> dict:
    """The kernels for one kind of stack, also of packed sequences: cuDNN's, if it accepts them."""
    mode = MODES[name][0]
    types = {torch.float16, torch.float32, torch.float64}
    acceptable = types | ({torch.bfloat16} if capability >= (8, 0) else set())

    def stack(
        input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first,
        batch_sizes=None,
    ):  # fmt: skip
        if not (torch.backends.cudnn.enabled and input.dtype in acceptable and input.numel()):
            if batch_sizes is not None:
                raise NotImplementedError("there is no rule for packed sequences without cuDNN")
            return unfused(
                getattr(aten, name).input, input, hx, params, has_biases, num_layers, dropout,
                train, bidirectional, batch_first,
            )  # fmt: skip
        if NOTE not in notes:
            notes.append(NOTE)
        states = list(hx) if name == "lstm" else [hx, None]
        # nn.RNNBase.flatten_parameters, but not for bfloat16 (torch.backends.cudnn.is_acceptable)
        flat = params[0].dtype in types
        if torch.is_autocast_enabled("cuda") and params[0].dtype != torch.float64:
            # always to float16, and into one piece (aten/src/ATen/cudnn/AutocastRNN.cpp)
            input, *params = (one.half() for one in (input, *params))
            states = [None if one is None else one.half() for one in states]
            flat = True
        with torch.autocast("cuda", enabled=False):
            results = aten._cudnn_rnn(
                input, params, len(params) // (num_layers * (2 if bidirectional else 1)),
                params[0].new_empty(0) if flat else None, *states, mode,
                params[1].shape[0] // {"lstm": 4, "gru": 3}.get(name, 1),
                0 if states[1] is None or states[0].shape == states[1].shape
                else states[0].shape[2],
                num_layers, batch_first, dropout, train, bidirectional,
                [] if batch_sizes is None else listed(batch_sizes), None,
            )  # fmt: skip
        return results[:3] if name == "lstm" else results[:2]

    def packed(input, batch_sizes, hx, params, *options):
        return stack(input, hx, params, *options, False, batch_sizes)

    return {f"{name}.input": stack, f"{name}.data": packed}


def lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """Two products and one fused kernel (`LSTMCell` in aten/src/ATen/native/RNN.cpp)."""
    gates = F.linear(input, w_ih), F.linear(hx[0], w_hh)
    return aten._thnn_fused_lstm_cell(*gates, hx[1], b_ih, b_hh)[:2]


def gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """Two products and one fused kernel (`GRUCell` in aten/src/ATen/native/RNN.cpp)."""
    gates = F.linear(input, w_ih), F.linear(hx, w_hh)
    return aten._thnn_fused_gru_cell(*gates, hx, b_ih, b_hh)[0]


def install(capability: tuple[int, int], notes: list[str]) -> None:
    """Compute recurrent layers as a GPU of this compute capability.

    What is not known of them is added to `notes`, once.
    """
    for name in MODES:
        put(_stacks(name, capability, notes))
    put({"lstm_cell": lstm_cell, "gru_cell": gru_cell})
    for name, rule in (
        ("_cudnn_rnn", _forward),
        ("_cudnn_rnn_backward", _backward),
        ("_thnn_fused_gru_cell", _gru_cell),
        ("_thnn_fused_gru_cell_backward", _gru_cell_backward),
    ):
        shape(name, rule)
