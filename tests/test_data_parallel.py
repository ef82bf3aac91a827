"""Data-parallel training in one process: DistributedDataParallel's buckets, DataParallel's first
replica. Their rules, worked by hand."""

import pytest
import torch
from torch import nn

from vramcast.memory.tracker import Tracker
from vramcast.ranks import data_parallel, replicas

MIB = 2**20


def of(*sizes: int, dtype=torch.float32) -> list[nn.Parameter]:
    """Parameters of so many bytes, without memory."""
    return [nn.Parameter(torch.empty(size // dtype.itemsize, dtype=dtype, device="meta"))
            for size in sizes]  # fmt: skip


def sizes(buckets: list[list[nn.Parameter]]) -> list[list[int]]:
    return [[p.numel() * p.element_size() for p in bucket] for bucket in buckets]


def test_the_first_bucket_is_of_1_mib_and_the_others_of_the_cap():
    """`compute_bucket_assignment_by_size` in reducer.cpp: a bucket that has reached its limit is
    closed; gradients come in reverse order."""
    parameters = of(*[MIB // 2] * 12)
    found = data_parallel._buckets(parameters, 2 * MIB)
    assert sizes(found) == [[MIB // 2] * 2, [MIB // 2] * 4, [MIB // 2] * 4, [MIB // 2] * 2]
    assert found[0][0] is parameters[-1]
    assert found[-1][-1] is parameters[0]


def test_a_bucket_is_open_until_its_limit_is_reached():
    short, rest = MIB - 4, 8
    assert sizes(data_parallel._buckets(of(4, 4, rest, short), 8)) == [[short, rest], [4, 4]]
    assert sizes(data_parallel._buckets(of(4, MIB), 8)) == [[MIB], [4]]
    assert sizes(data_parallel._buckets(of(30 * MIB, 3 * MIB), MIB)) == [[3 * MIB], [30 * MIB]]


def test_each_data_type_has_buckets_of_its_own():
    half = of(MIB // 2, MIB // 2, dtype=torch.float16)
    mixed = [half[0], *of(MIB), half[1], *of(MIB)]
    found = data_parallel._buckets(mixed, MIB)
    assert [{p.dtype for p in bucket} for bucket in found] == [
        {torch.float32}, {torch.float32}, {torch.float16},
    ]  # fmt: skip


@pytest.fixture
def wrapped(monkeypatch):
    """DistributedDataParallel as it is put in the place of PyTorch's, and its buckets."""

    class Parallel(nn.Module):
        pass

    made = []
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", Parallel)
    monkeypatch.setattr(data_parallel, "_Bucket", lambda owner, *rest: made.append(rest[0]))
    data_parallel.install(Tracker(), [])
    return Parallel, made


def test_by_default_buckets_are_of_25_mib(wrapped):
    """`bucket_cap_mb` is of 2**20 bytes."""
    parallel, made = wrapped
    model = nn.ParameterList(of(*[MIB] * 40))
    for parameter in list(model)[:5]:
        parameter.requires_grad = False  # has no gradient, and is in no bucket
    parallel(model)
    assert [len(bucket) for bucket in made] == [1, 25, 9]
    made.clear()
    parallel(model, bucket_cap_mb=10)
    assert [len(bucket) for bucket in made] == [1, 10, 10, 10, 4]


def test_parameters_that_are_left_out_and_models_without_any(wrapped):
    parallel, made = wrapped
    model = nn.ParameterDict({"a": of(4)[0], "b": of(4)[0]})
    model._ddp_params_and_buffers_to_ignore = ["a"]
    parallel(model)
    assert made == [[model["b"]]]
    with pytest.raises(RuntimeError, match="not needed"):
        parallel(nn.Sequential())


# ----------------------------------------------------------------------------------- DataParallel


@pytest.fixture
def parallel(monkeypatch):
    """DataParallel as it is put in the place of PyTorch's, on the CPU, for four GPUs; its notes."""

    class Parallel(nn.Module):
        def __init__(self, module, device_ids, dim=0) -> None:
            super().__init__()
            self.module, self.device_ids, self.dim = module, device_ids, dim

        def forward(self, *inputs, **kwargs):
            inputs, kwargs = self.scatter(inputs, kwargs, self.device_ids)
            copies = self.replicate(self.module, self.device_ids[: len(inputs)])
            return self.gather(self.parallel_apply(copies, inputs, kwargs), 0)

    monkeypatch.setattr(nn, "DataParallel", Parallel)
    monkeypatch.setattr(replicas, "CUDA", torch.device("cpu"))
    notes = []
    replicas.install(notes)
    return Parallel, notes


def test_the_first_gpu_has_its_share_of_a_batch_and_the_outputs_of_all(parallel):
    made, notes = parallel
    seen = []

    class Model(nn.Linear):
        def forward(self, x, flag=None):
            seen.append((list(x.shape), flag))
            return super().forward(x)

    model = Model(3, 5)
    for batch, share, outputs in ((8, 2, 8), (10, 3, 12), (2, 1, 2)):
        result = made(model, [0, 1, 2, 3])(torch.ones(batch, 3), flag="kept")
        assert seen.pop() == ([share, 3], "kept")
        assert list(result.shape) == [outputs, 5]
        result.sum().backward()
        assert model.weight.grad.shape == model.weight.shape
    assert ["first of 4 GPUs" in note for note in notes] == [True]  # once


def test_losses_of_replicas_are_a_tensor_of_them(parallel):
    made, _ = parallel

    class Loss(nn.Linear):
        def forward(self, x):
            return super().forward(x).sum()

    result = made(Loss(3, 1), [0, 1, 2, 3])(torch.ones(8, 3))
    assert list(result.shape) == [4]
    result.mean().backward()


def test_along_another_dimension(parallel):
    made, _ = parallel
    result = made(nn.Linear(3, 5), [0, 1], dim=1)(torch.ones(7, 8, 3))
    assert list(result.shape) == [7, 8, 5]
    result.sum().backward()


def test_gradients_are_added_up_in_10_mib_next_to_the_replicas_own(monkeypatch):
    """`reduce_add_coalesced`: a flat tensor of at most 10 MiB, and a sum for each gradient."""

    class Context:
        pass

    taken = []
    empty_like, new_empty = torch.empty_like, torch.Tensor.new_empty
    monkeypatch.setattr(
        torch, "empty_like", lambda one: taken.append(one.nbytes) or empty_like(one)
    )
    monkeypatch.setattr(
        torch.Tensor, "new_empty",
        lambda one, size: taken.append(size * one.element_size()) or new_empty(one, size),
    )  # fmt: skip
    small, large = torch.empty(100), torch.empty(5 * MIB, device="meta")
    assert replicas._Shared.backward(Context(), small, None)[1] is None
    assert taken == [400, 400]
    taken.clear()
    sums = replicas._Shared.backward(Context(), large, large)
    assert taken == [10 * MIB, 20 * MIB, 20 * MIB]
    assert [one.shape for one in sums] == [large.shape] * 2
