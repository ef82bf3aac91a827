"""What a GPU's own rules decide, against PyTorch's CUDA build, its sources, and by hand."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend
from torch.utils._python_dispatch import TorchDispatchMode

from tests.warm import predicted, run
from vramcast.operators import attention, recurrent

# Operators of CUDA that were not taken until this was held against the dispatcher, and where
# PyTorch's C++ (aten/src/ATen/native) chooses them.
MENDED = {
    "dropout": ("native_dropout", "Dropout.cpp, is_fused_kernel_acceptable"),
    "attention, plain": ("native_dropout", "transformers/attention.cpp, at::dropout"),
    "multi-head attention": ("native_dropout", "torch.nn.functional.multi_head_attention_forward"),
    "softmax, float16": ("_softmax", "SoftMax.cpp, softmax: half_to_float"),
    "log_softmax, float16": ("_log_softmax", "SoftMax.cpp, log_softmax: half_to_float"),
    "batch_norm": ("cudnn_batch_norm", "Normalization.cpp, _select_batch_norm_backend"),
    "batch_norm, channels last": ("cudnn_batch_norm", "the same"),
    "conv2d, channels last": ("convolution", "ConvUtils.h, cudnn_conv_suggest_memory_format"),
    "lstm_cell": ("_thnn_fused_lstm_cell", "RNN.cpp, LSTMCell"),
    "gru_cell": ("_thnn_fused_gru_cell", "RNN.cpp, GRUCell"),
}
# Calls that end in CUDA's kernels where there is no GPU: what the dispatcher had called until then
# (nothing: cuDNN itself, which takes the whole stack), what is called here, and why.
ENDED = {
    "lstm": ([], ["_cudnn_rnn"], "RNN.cpp, cudnn_is_acceptable; cudnn/RNN.cpp"),
    "lstm, float16": ([], ["_cudnn_rnn"], "the same"),
    "gru": ([], ["_cudnn_rnn"], "the same"),
    "rnn_tanh": ([], ["_cudnn_rnn"], "the same"),
    "rnn_relu": ([], ["_cudnn_rnn"], "the same"),
    "gru_cell": (["mm", "mm", "_thnn_fused_gru_cell"], ["mm", "mm", "_thnn_fused_gru_cell"], ""),
    "grid_sampler, aligned": (
        ["cudnn_grid_sampler"], ["grid_sampler_2d"],
        "GridSampler.cpp, cond_cudnn_grid_sampler: both make the output and keep the inputs",
    ),
    "ctc_loss": (
        ["add.Tensor", "_use_cudnn_ctc_loss.Tensor"],
        ["add.Tensor", "_ctc_loss", "_to_copy", "clamp_min", "div.Tensor", "mean"],
        "LossCTC.cpp: lengths on the host decide which kernel, and how much it keeps",
    ),
}  # fmt: skip


@pytest.mark.skipif(torch.version.cuda is None, reason="PyTorch's CUDA build is what is asked")
def test_composite_operators_are_those_that_cuda_dispatches():
    found = {}
    for how in ("cuda", "ours"):
        process = run("-m", "tests.probes.composites", how)
        assert process.returncode == 0, process.stderr
        found[how] = json.loads(process.stdout)
    assert len(found["cuda"]) > 60
    for name, (operator, _) in MENDED.items():
        assert operator in found["ours"][name]["calls"], name
    for name, cuda in found["cuda"].items():
        ours = found["ours"][name]
        if isinstance(cuda["makes"], str):  # a kernel asked for the GPU
            assert (cuda["calls"], ours["calls"]) == ENDED[name][:2], name
        else:
            assert name not in ENDED
            assert ours == cuda, name


# ---------------------------------------------------------------------------------------- attention

A100, H100, T4, RTX_4090 = (8, 0), (9, 0), (7, 5), (8, 9)
HALF, FLOAT = torch.float16, torch.float32


@pytest.mark.parametrize(
    ("capability", "dtype", "options", "kernel"),
    [
        (A100, HALF, {}, "flash"),
        (A100, FLOAT, {}, "efficient"),  # check_dtypes_low_precision
        (A100, torch.float64, {}, "math"),
        (A100, HALF, {"mask": (1, 1, 6, 6)}, "efficient"),  # check_for_attn_mask
        (A100, HALF, {"width": 60}, "flash"),  # padded
        (A100, HALF, {"width": 60, "mask": (1, 1, 6, 6)}, "math"),  # not padded there
        (A100, HALF, {"width": 264}, "efficient"),  # check_head_dim_size_flash
        (A100, HALF, {"causal": True, "keys": 7}, "efficient"),  # ..._causal_non_square_seqlens
        (A100, HALF, {"heads": 2}, "math"),  # not said to be grouped: the kernel will complain
        (A100, HALF, {"heads": 2, "gqa": True}, "flash"),
        (A100, HALF, {"dropout": 0.1}, "flash"),
        (T4, HALF, {}, "efficient"),  # check_flash_attention_hardware_support
        (T4, torch.bfloat16, {}, "math"),  # less_than_sm80_mem_efficient_dtypes
        (T4, FLOAT, {"width": 3}, "efficient"),  # minimum_gemm_alignment
        (A100, FLOAT, {"width": 3}, "math"),
        (RTX_4090, HALF, {"width": 256}, "flash"),
        (RTX_4090, HALF, {"width": 200}, "efficient"),  # ..._head_dim_gt192_..._sm86_89
        (H100, HALF, {}, "cudnn"),  # check_prefer_cudnn_attention
        (H100, HALF, {"mask": (1, 1, 6, 6)}, "cudnn"),
        (H100, HALF, {"dropout": 0.1}, "flash"),  # check_cudnn_dropout: sixteenths
        (H100, HALF, {"dropout": 0.125}, "cudnn"),
        (H100, HALF, {"width": 60}, "flash"),  # check_cudnn_tensor_shapes
        (H100, FLOAT, {}, "efficient"),
        (A100, HALF, {"width": 256}, "flash"),
        (A100, HALF, {"causal": True}, "flash"),
        (A100, HALF, {"keys": 0}, "math"),  # check_nonzero_sequence_lengths_dense
        (A100, HALF, {"heads": 3, "gqa": True}, "math"),
        (A100, HALF, {"value": 32}, "efficient"),  # flash: of equal widths
        (A100, HALF, {"value": 36}, "math"),
        (A100, FLOAT, {"width": 60, "value": 36}, "efficient"),
        (T4, HALF, {"width": 60}, "math"),
        ((6, 1), HALF, {"width": 3}, "efficient"),
        ((7, 0), HALF, {"width": 60}, "math"),
        (A100, torch.bfloat16, {"mask": (1, 1, 6, 6)}, "efficient"),
        (RTX_4090, HALF, {"width": 192}, "flash"),
        (RTX_4090, HALF, {"width": 224}, "efficient"),
        (RTX_4090, HALF, {"width": 232}, "flash"),
        (RTX_4090, HALF, {"width": 232, "dropout": 0.1}, "efficient"),
        (RTX_4090, HALF, {"width": 232, "dropout": 0.1, "grad": False}, "flash"),
        (RTX_4090, HALF, {"width": 200, "grad": False}, "flash"),
        ((8, 6), HALF, {"width": 200}, "efficient"),
        (A100, HALF, {"width": 200}, "flash"),
        ((12, 0), HALF, {"width": 200}, "efficient"),
        ((12, 0), HALF, {}, "flash"),
        ((10, 0), HALF, {}, "cudnn"),
        (H100, torch.bfloat16, {}, "cudnn"),
        (H100, HALF, {"keys": 1}, "flash"),
        (H100, HALF, {"keys": 2}, "cudnn"),
    ],
)
def test_attention_takes_the_kernel_that_its_sources_say(capability, dtype, options, kernel):
    width = options.get("width", 64)
    query = torch.empty(2, 4, 6, width, dtype=dtype, requires_grad=options.get("grad", True))
    heads, keys = options.get("heads", 4), options.get("keys", 6)
    key, value = (
        torch.empty(2, heads, keys, size, dtype=dtype)
        for size in (width, options.get("value", width))
    )
    mask = torch.empty(options["mask"], dtype=dtype) if "mask" in options else None
    call = attention.Call(
        query, key, value, mask, options.get("dropout", 0.0), options.get("causal", False),
        options.get("gqa", False),
    )  # fmt: skip
    usual = [int(number) for number in torch._C._get_sdp_priority_order()]
    names = {
        "cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH,
    }  # fmt: skip
    assert attention.choose(call, capability, usual) == names[kernel]


def test_a_script_may_choose_the_kernel():
    query = torch.empty(2, 4, 6, 64, dtype=HALF)
    usual = [int(number) for number in torch._C._get_sdp_priority_order()]
    call = attention.Call(query, query, query, None, 0.0, False, False)
    with torch.nn.attention.sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        assert attention.choose(call, H100, usual) == SDPBackend.EFFICIENT_ATTENTION


def test_what_is_not_laid_out_densely_has_no_fused_kernel():
    """`check_last_dim_stride_equals_1_dense`, and `check_tensor_shapes`."""
    usual = [int(number) for number in torch._C._get_sdp_priority_order()]

    def kernel(query, key, capability=A100, mask=None):
        call = attention.Call(query, key, key, mask, 0.0, False, False)
        return attention.choose(call, capability, usual)

    plain, turned = torch.empty(2, 4, 64, 64, dtype=HALF), torch.empty(2, 4, 64, 64, dtype=HALF).mT
    assert kernel(plain, plain) == SDPBackend.FLASH_ATTENTION
    assert kernel(turned, plain) == kernel(plain, turned) == SDPBackend.MATH
    mask = turned[:, :1]
    assert kernel(plain, plain, mask=mask) == SDPBackend.MATH
    assert kernel(plain, plain, mask=mask.mT) == SDPBackend.EFFICIENT_ATTENTION
    assert kernel(plain[0], plain[0]) == kernel(plain, plain[:1]) == SDPBackend.MATH
    # a single number a row needs no order, but to the memory-efficient kernel
    column = torch.empty(2, 4, 64, 8, dtype=HALF)[..., ::8]
    assert kernel(column, column) == SDPBackend.FLASH_ATTENTION
    floats = torch.empty(2, 4, 64, 8)[..., ::8]
    assert kernel(floats, floats, (6, 1)) == SDPBackend.MATH
    whole = floats.contiguous()
    assert kernel(whole, whole, (6, 1)) == SDPBackend.EFFICIENT_ATTENTION


def test_deterministic_algorithms_are_not_cudnns():
    query = torch.empty(2, 4, 6, 64, dtype=HALF)
    usual = [int(number) for number in torch._C._get_sdp_priority_order()]
    call = attention.Call(query, query, query, None, 0.0, False, False)
    torch.use_deterministic_algorithms(True)
    try:
        assert attention.choose(call, H100, usual) == SDPBackend.FLASH_ATTENTION
        torch.use_deterministic_algorithms(True, warn_only=True)
        assert attention.choose(call, H100, usual) == SDPBackend.CUDNN_ATTENTION
    finally:
        torch.use_deterministic_algorithms(False)


class Calls(TorchDispatchMode):
    """Notes the operators, and what they are called with."""

    def __init__(self) -> None:
        super().__init__()
        self.of = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        names = [argument.name for argument in func._schema.arguments]
        self.of[func._opname] = dict(zip(names, args)) | (kwargs or {})
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("capability", "options", "width", "operator"),
    [
        (A100, {}, 64, "flash"),
        (A100, {"is_causal": True}, 60, "flash"),
        (A100, {"attn_mask": (1, 1, 6, 6)}, 64, "efficient"),
        (A100, {"attn_mask": (1, 1, 6, 6), "boolean": True}, 64, "efficient"),
        (H100, {}, 64, "cudnn"),
        (H100, {"attn_mask": (1, 1, 6, 6), "boolean": True}, 64, "cudnn"),
        (A100, {"dropout_p": 0.1, "attn_mask": (1, 1, 6, 6)}, 60, "math"),
    ],
)
def test_what_a_kernel_is_given(monkeypatch, capability, options, width, operator):
    """As in attention.cpp: flash attention's rows are padded to multiples of 8 numbers.

    The scale stays theirs. Masks of truth values become numbers, in rows of multiples of 8.
    """
    kernels, options = {}, dict(options)
    monkeypatch.setattr(attention, "put", kernels.update)
    monkeypatch.setattr(attention, "register", lambda *operators, **rules: None)
    attention.install(capability, 108)
    kind = torch.bool if options.pop("boolean", False) else HALF
    if "attn_mask" in options:
        options["attn_mask"] = torch.empty(options["attn_mask"], dtype=kind, device="meta")
    query = torch.empty(2, 4, 6, width, dtype=HALF, device="meta")
    with Calls() as calls:
        result = kernels["scaled_dot_product_attention"](query, query, query, **options)
    assert result.shape == query.shape
    names = [name for name in calls.of if name.startswith("_scaled_dot_product")]
    if operator == "math":  # consists of others
        assert names == []
        return
    assert names == [f"_scaled_dot_product_{operator}_attention"]
    given = {"is_causal": False, "dropout_p": 0.0, "scale": None} | calls.of[names[0]]
    assert given["is_causal"] == options.get("is_causal", False)
    assert given["dropout_p"] == 0.0
    assert given["query"].shape[-1] == (64 if operator == "flash" else width)
    assert given["scale"] == (None if width == 64 else pytest.approx(60**-0.5))
    if options.get("attn_mask") is not None:
        mask = given["attn_bias"]
        assert mask.dtype == HALF
        assert mask.shape == ((2, 4, 6, 6) if operator == "efficient" else (1, 1, 6, 6))
        assert mask.stride(-2) == (8 if operator == "efficient" else 6)


def test_older_versions_share_no_heads_and_ask_for_no_alignment(monkeypatch):
    usual = [int(number) for number in torch._C._get_sdp_priority_order()]

    def kernel(**changed):
        query = torch.empty(2, 4, 6, 64)
        key = torch.empty(2, 2, 6, 64)
        call = attention.Call(query, key, key, None, 0.0, False, True)
        call.tensors = changed.get("tensors", call.tensors)
        return attention.choose(call, A100, usual)

    odd = torch.empty(2 * 4 * 6 * 64 + 1)[1:].view(2, 4, 6, 64)
    for new, shared, placed in ((True, "EFFICIENT", "MATH"), (False, "MATH", "EFFICIENT")):
        monkeypatch.setattr(attention.compat, "EFFICIENT_SHARES_HEADS", new)
        monkeypatch.setattr(attention.compat, "EFFICIENT_NEEDS_ALIGNMENT", new)
        assert kernel().name.startswith(shared)
        assert kernel(tensors=(odd, odd, odd)).name.startswith(placed)


def test_a_mask_is_padded_to_multiples_of_8_numbers():
    """`pad_bias` in attention.cpp: the last dimension, of which the part in use is a view."""
    mask = torch.empty(2, 1, 6, 13, dtype=HALF)
    found = attention._aligned(mask)
    assert (found.shape, found.stride()) == (mask.shape, (96, 96, 16, 1))
    aligned = torch.empty(2, 1, 6, 16, dtype=HALF)
    assert attention._aligned(aligned) is aligned
    assert attention._aligned(aligned.mT).stride(-1) == 1


def test_attention_on_sequences_of_different_lengths_takes_room_for_each():
    """`mha_varlen_bwd`: 128 rows more for each of 3 sequences; in the memory-efficient kernel, as
    many as the longest of 100 has, in tiles of 64."""
    offsets = torch.tensor([0, 10, 110, 150])
    query = torch.empty(150, 8, 80, dtype=HALF)
    args = [query, query, query, query, query, query, offsets]
    rows = (150 + 3 * 128) * 8
    assert attention.varied_flash_backward(args) == [rows * 4, rows * 96 * 4]
    wide = torch.empty(150, 8, 160, dtype=HALF)
    assert attention.varied_flash_backward([wide, wide, *args[2:]])[1] == rows * 192 * 4
    one = query.unsqueeze(0)
    args = [one, one, one, one, one, one, offsets, offsets, 100]
    assert attention.varied_efficient_backward(args) == [150 * 8 * 4, 3 * 8 * 128 * 128 * 4]
    args[6] = None
    assert attention.varied_efficient_backward(args) == attention.varied_flash_backward(args) == []


def by_tokens(batch: int, heads: int, tokens: int, size: int, dtype=HALF) -> torch.Tensor:
    """A tensor as `nn.MultiheadAttention` and others make it: in memory, tokens before heads."""
    return torch.empty(batch, tokens, heads, size, dtype=dtype).transpose(1, 2)


def test_flash_attention_takes_what_its_backward_pass_allocates():
    """mha_bwd in flash_api.cpp, worked by hand: 300 tokens become 384, 160 numbers become 192."""
    query, key = by_tokens(2, 8, 300, 64), by_tokens(2, 2, 300, 64)
    rows = 2 * 8 * 384
    alike = [rows * 4, rows * 64 * 4]
    args = query, query, query, query, query
    assert attention.flash_backward(108, args) == alike
    expanded = 2 * 300 * 8 * 64 * 2  # of keys, and of values
    grouped = query, query, key, key, query
    assert attention.flash_backward(108, grouped) == [*alike, expanded, expanded]
    wide = by_tokens(2, 8, 300, 160)
    assert attention.flash_backward(108, (wide,) * 5) == [rows * 4, rows * 192 * 4]
    other = query.contiguous()
    assert attention.flash_backward(108, (other, *args[1:])) == [2 * 8 * 300 * 64 * 2, *alike]


def test_deterministic_flash_attention_sums_in_parts():
    """108 multiprocessors have 16 heads to work on: 7 parts."""
    args = (by_tokens(2, 8, 300, 64),) * 5
    once = attention.flash_backward(108, args)
    torch.use_deterministic_algorithms(True)
    try:
        assert attention.flash_backward(108, args) == [once[0], 7 * once[1]]
        torch.use_deterministic_algorithms(True, warn_only=True)
        assert attention.flash_backward(108, args) == once
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("dtype", "size"), [(FLOAT, 80), (HALF, 80), (HALF, 136)])
def test_efficient_attention_takes_accumulators(dtype, size):
    query = by_tokens(2, 8, 300, size, dtype)
    rows = 2 * 8 * 300
    wide = [rows * size * 4] if size > 128 else []
    assert attention.efficient_forward((query,) * 4) == wide
    columns = 128 if size == 80 else 192
    assert attention.efficient_backward((query,) * 6) == [rows * 4, 2 * 8 * 320 * columns * 4]


# ------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize(
    ("mode", "layers", "hidden", "bidirectional", "steps", "batch", "bytes_"),
    [
        ("gru", 1, 800, True, 326, 64, 801_177_600),
        ("lstm", 4, 320, False, 25_000, 1, 736_000_000),
        ("gru", 4, 320, False, 25_000, 1, 864_000_000),
    ],
)
def test_what_recurrent_layers_keep_is_what_cudnn_told(
    mode, layers, hidden, bidirectional, steps, batch, bytes_
):
    """Sizes that users printed: see vramcast/operators/recurrent.py."""
    like = SimpleNamespace(
        shape=(steps, batch, 8),
        element_size=lambda: 4,
        new_empty=lambda *shape, **_: torch.empty(*shape, device="meta"),
    )
    directions = 2 if bidirectional else 1
    state = torch.empty(layers * directions, batch, hidden, device="meta")
    result = recurrent._forward(
        like, [], 4, state, state, None, recurrent.MODES[mode][0], hidden, 0, layers, False, 0.0,
        True, bidirectional, [], None,
    )  # fmt: skip
    assert result[3].numel() == bytes_


SCRIPT = """
import torch
from torch import nn
import torch.nn.functional as F
model = nn.Linear(256, 1024, bias=False).cuda()
optimizer = torch.optim.SGD(model.parameters(), 0.1, foreach=False)
x = torch.randn(2**14, 256).cuda()
for _ in range(3):
    y = model(x)
    y = {}
    y.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def test_dropout_keeps_a_byte_a_number(tmp_path):
    """2**24 numbers: their mask is there at the peak, when their gradient is made.

    Without it, the peak comes later, with the weights' gradient of 2**20 bytes.
    """
    found = []
    for name, line in (("without", "y * 2"), ("with", "F.dropout(y, 0.1)")):
        script = tmp_path / f"{name}.py"
        script.write_text(SCRIPT.format(line))
        found.append(predicted(script)["allocated_gb"])
    assert found[1] - found[0] == pytest.approx((2**24 - 2**20) / 1e9, abs=1e-5)


PINNED = """
import torch
kept = [torch.empty(5 * 2**20, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
kept = torch.empty(6 * 2**20, dtype=torch.uint8).pin_memory()
model = torch.nn.Linear(8, 8).cuda()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(3):
    model(torch.ones(4, 8).cuda()).sum().backward()
    optimizer.step()
"""


def test_pinned_memory_comes_in_powers_of_two_and_is_kept(tmp_path):
    """Two blocks of 8 MiB for 5, and, before they are free, a third one for 6, beside 6 unpinned.

    Later, there are the three blocks, two of them free, and a few numbers.
    """
    script = tmp_path / "script.py"
    script.write_text(PINNED)
    found = predicted(script)
    assert found["host_gb"] == pytest.approx((3 * 8 + 6) * 2**20 / 1e9, abs=1e-5)
    assert found["host_training_gb"] == pytest.approx(3 * 8 * 2**20 / 1e9, abs=1e-5)
