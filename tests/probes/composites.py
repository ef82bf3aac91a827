"""Call composite operators and print which others each consists of, as JSON: see
test_composites.py.

cuda  as PyTorch's CUDA build dispatches them: tensors without data that say "cuda" to its C++. That
      needs no GPU, but ends where a kernel asks for one.
ours  on the GPU without data
"""

import json
import sys
import warnings

import torch
import torch.nn.functional as F
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

warnings.simplefilter("ignore")
IMAGE, HALF, BF16 = (2, 4, 8, 8), torch.float16, torch.bfloat16
LAST = torch.channels_last
# these only make inputs, or are views
UNSEEN = {
    "detach", "empty.memory_format", "fill_.Scalar", "lift_fresh", "new_empty", "ones", "randn",
    "squeeze.dim", "t", "transpose.int", "uniform_", "unsqueeze", "view", "zeros", "_unsafe_view",
}  # fmt: skip


def r(*shape, **options):
    return torch.randn(*shape, device="cuda", **options)


def image(**options):
    return r(*IMAGE).to(memory_format=LAST, **options)


def numbers(*shape):
    return torch.zeros(*shape, dtype=torch.long, device="cuda")


def stack(kind, gates, dtype=torch.float32):
    weights = [r(gates * 16, 8, dtype=dtype), r(gates * 16, 16, dtype=dtype)]
    weights += [r(gates * 16, dtype=dtype), r(gates * 16, dtype=dtype)]
    state = r(1, 3, 16, dtype=dtype)
    states = (state, state) if kind is torch.lstm else state
    return kind(r(5, 3, 8, dtype=dtype), states, weights, True, 1, 0.0, True, False, False)


def norm(input, training=True, dtype=torch.float32):
    statistics = (r(4, dtype=dtype) for _ in range(4))
    return F.batch_norm(input, *statistics, training=training)


CALLS = {
    "dropout": lambda: F.dropout(r(4, 8), 0.1),
    "dropout of all": lambda: F.dropout(r(4, 8), 1.0),
    "dropout in evaluation": lambda: F.dropout(r(4, 8), 0.1, training=False),
    "dropout in place": lambda: F.dropout(r(4, 8), 0.1, inplace=True),
    "feature_dropout": lambda: F.dropout2d(r(*IMAGE), 0.1),
    "alpha_dropout": lambda: F.alpha_dropout(r(4, 8), 0.1, training=True),
    "feature_alpha_dropout": lambda: F.feature_alpha_dropout(r(*IMAGE), 0.1, training=True),
    "lstm": lambda: stack(torch.lstm, 4),
    "lstm, float16": lambda: stack(torch.lstm, 4, HALF),
    "gru": lambda: stack(torch.gru, 3),
    "rnn_tanh": lambda: stack(torch.rnn_tanh, 1),
    "rnn_relu": lambda: stack(torch.rnn_relu, 1),
    "lstm_cell": lambda: torch.nn.LSTMCell(8, 16, device="cuda")(r(3, 8)),
    "gru_cell": lambda: torch.nn.GRUCell(8, 16, device="cuda")(r(3, 8)),
    "rnn_tanh_cell": lambda: torch.nn.RNNCell(8, 16, device="cuda")(r(3, 8)),
    "batch_norm": lambda: norm(r(*IMAGE)),
    "batch_norm in evaluation": lambda: norm(r(*IMAGE), training=False),
    "batch_norm, 1-d": lambda: norm(r(8, 4)),
    "batch_norm, float16": lambda: norm(r(*IMAGE, dtype=HALF)),
    "batch_norm, all float16": lambda: norm(r(*IMAGE, dtype=HALF), dtype=HALF),
    "batch_norm, bfloat16": lambda: norm(r(*IMAGE, dtype=BF16), dtype=BF16),
    "batch_norm, channels last": lambda: norm(image()),
    "batch_norm, not contiguous": lambda: norm(r(8, 4, 2, 8).transpose(0, 2)),
    "instance_norm": lambda: F.instance_norm(r(*IMAGE)),
    "layer_norm": lambda: F.layer_norm(r(4, 8), [8]),
    "group_norm": lambda: F.group_norm(r(*IMAGE), 2),
    "rms_norm": lambda: F.rms_norm(r(4, 8), [8], r(8)),
    "weight_norm": lambda: torch._weight_norm(r(4, 8), r(4, 1), 0),
    "embedding": lambda: F.embedding(numbers(3), r(10, 4)),
    "embedding_bag": lambda: F.embedding_bag(numbers(3, 2), r(10, 4)),
    "grid_sampler": lambda: F.grid_sample(r(*IMAGE), r(2, 8, 8, 2), align_corners=False),
    "grid_sampler, aligned": lambda: F.grid_sample(r(*IMAGE), r(2, 8, 8, 2), align_corners=True),
    "ctc_loss": lambda: F.ctc_loss(
        r(12, 2, 5), numbers(2, 3) + 1, torch.tensor([12, 12]), torch.tensor([3, 3])
    ),
    "conv1d": lambda: F.conv1d(r(2, 4, 8), r(4, 4, 3)),
    "conv2d": lambda: F.conv2d(r(*IMAGE), r(4, 4, 3, 3)),
    "conv2d, depthwise": lambda: F.conv2d(r(*IMAGE), r(4, 1, 3, 3), groups=4),
    "conv2d, padded": lambda: F.conv2d(r(*IMAGE), r(4, 4, 3, 3), padding="same"),
    "conv2d, channels last": lambda: F.conv2d(image(), r(4, 4, 3, 3)),
    "conv2d, channels last, float16": lambda: F.conv2d(
        image(dtype=HALF), r(4, 4, 3, 3, dtype=HALF)
    ),
    "conv2d, depthwise, channels last": lambda: F.conv2d(image(), r(4, 1, 3, 3), groups=4),
    "conv3d": lambda: F.conv3d(r(2, 4, 4, 8, 8), r(4, 4, 3, 3, 3)),
    "conv_transpose2d": lambda: F.conv_transpose2d(r(*IMAGE), r(4, 4, 3, 3)),
    "conv_transpose2d, channels last": lambda: F.conv_transpose2d(image(), r(4, 4, 3, 3)),
    "attention, plain": lambda: torch.ops.aten._scaled_dot_product_attention_math(
        r(2, 2, 4, 8), r(2, 2, 4, 8), r(2, 2, 4, 8), None, 0.1
    ),
    "multi-head attention": lambda: torch.nn.MultiheadAttention(8, 2, dropout=0.1, device="cuda")(
        *[r(4, 2, 8)] * 3
    ),
    "softmax": lambda: F.softmax(r(4, 8), -1),
    "softmax, float16": lambda: F.softmax(r(4, 8, dtype=HALF), -1, dtype=torch.float32),
    "softmax, bfloat16": lambda: F.softmax(r(4, 8, dtype=BF16), -1, dtype=torch.float32),
    "log_softmax, float16": lambda: F.log_softmax(r(4, 8, dtype=HALF), -1, dtype=torch.float32),
    "cross_entropy": lambda: F.cross_entropy(r(4, 8), numbers(4)),
    "cross_entropy, smoothed": lambda: F.cross_entropy(r(4, 8), numbers(4), label_smoothing=0.1),
    "linear": lambda: F.linear(r(4, 8), r(6, 8), r(6)),
    "linear, 3-d": lambda: F.linear(r(2, 4, 8), r(6, 8), r(6)),
    "linear, not contiguous": lambda: F.linear(r(4, 2, 8).transpose(0, 1), r(6, 8), r(6)),
    "matmul": lambda: r(2, 4, 8) @ r(8, 6),
    "bilinear": lambda: F.bilinear(r(4, 8), r(4, 6), r(3, 8, 6)),
    "einsum": lambda: torch.einsum("bij,bjk->bik", r(2, 4, 8), r(2, 8, 6)),
    "interpolate": lambda: F.interpolate(r(*IMAGE), scale_factor=2, mode="bilinear"),
    "interpolate, smoothed": lambda: F.interpolate(
        r(*IMAGE), scale_factor=2, mode="bilinear", antialias=True
    ),
    "interpolate, channels last": lambda: F.interpolate(image(), scale_factor=2),
    "max_pool2d": lambda: F.max_pool2d(r(*IMAGE), 2),
    "max_pool2d, channels last": lambda: F.max_pool2d(image(), 2),
    "adaptive_avg_pool2d": lambda: F.adaptive_avg_pool2d(r(*IMAGE), 2),
    "prelu": lambda: F.prelu(r(4, 8), r(1)),
    "rrelu": lambda: F.rrelu(r(4, 8), training=True),
    "cosine_similarity": lambda: F.cosine_similarity(r(4, 8), r(4, 8)),
    "cdist": lambda: torch.cdist(r(4, 8), r(5, 8)),
    "pad, circular": lambda: F.pad(r(*IMAGE), (1, 1, 1, 1), mode="circular"),
    "kl_div": lambda: F.kl_div(r(4, 8), r(4, 8), reduction="batchmean"),
    "stft": lambda: torch.stft(r(2, 400), 100, window=r(100), return_complex=True),
}


class Log(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).partition(".")[2].removesuffix(".default")
        if name not in UNSEEN and func.namespace == "aten":
            called.append(name)
        return func(*args, **(kwargs or {}))


if sys.argv[1] == "cuda":
    torch.cuda._lazy_init = lambda: None
    FakeTensorMode.avoid_device_init = property(lambda mode: True)
    fake_tensor.init_gpu_context = lambda device: None
    mode = FakeTensorMode()
else:
    from vramcast import gpus
    from vramcast.device import mode as gpu
    from vramcast.memory.tracker import Tracker

    mode = gpu.install(Tracker(), gpus.DEFAULT, 1)

found = {}
for name, call in CALLS.items():
    called: list[str] = []
    try:
        with mode, Log():
            result = call()
        made = [
            (str(one.dtype), tuple(one.shape), one.stride())
            for one in tree_leaves(result)
            if isinstance(one, torch.Tensor)
        ]
    except Exception as error:
        made = type(error).__name__
    found[name] = {"calls": called, "makes": made}
print(json.dumps(found))
