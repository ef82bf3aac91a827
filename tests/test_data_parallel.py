"""Data-parallel training in one process: DistributedDataParallel's buckets, DataParallel's first
replica. Their rules, worked by hand."""

import contextlib
from types import SimpleNamespace
from typing import NamedTuple

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


class Wrapped(NamedTuple):
    """DistributedDataParallel as it is put in the place of PyTorch's, its buckets and its notes."""

    parallel: type
    made: list
    notes: list


@pytest.fixture
def wrapped(monkeypatch) -> Wrapped:
    """It, in the place of no class of PyTorch's."""

    class Parallel(nn.Module):
        def _inside_ddp_forward(self):
            return contextlib.nullcontext()

    made, notes = [], []
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", Parallel)
    monkeypatch.setattr(data_parallel, "_Bucket", lambda owner, *rest: made.append(rest[0]))
    data_parallel.install(Tracker(), notes)
    return Wrapped(Parallel, made, notes)


def test_by_default_buckets_are_of_25_mib(wrapped):
    """`bucket_cap_mb` is of 2**20 bytes."""
    parallel, made, _ = wrapped
    model = nn.ParameterList(of(*[MIB] * 40))
    for parameter in list(model)[:5]:
        parameter.requires_grad = False  # has no gradient, and is in no bucket
    parallel(model)
    assert [len(bucket) for bucket in made] == [1, 25, 9]
    made.clear()
    parallel(model, bucket_cap_mb=10)
    assert [len(bucket) for bucket in made] == [1, 10, 10, 10, 4]


def test_parameters_that_are_left_out_and_models_without_any(wrapped):
    parallel, made, _ = wrapped
    model = nn.ParameterDict({"a": of(4)[0], "b": of(4)[0]})
    model._ddp_params_and_buffers_to_ignore = ["a"]
    parallel(model)
    assert made == [[model["b"]]]
    with pytest.raises(RuntimeError, match="not needed"):
        parallel(nn.Sequential())


@pytest.mark.parametrize("views", [False, True])
def test_a_full_bucket_is_added_up_and_gradients_are_its_parts_if_asked(monkeypatch, views):
    """Once all of its gradients have come, in each backward pass but those without sync."""
    parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))]
    owner = SimpleNamespace(_views=views, require_backward_grad_sync=True, process_group="group")
    tracker, sums = Tracker(), []
    monkeypatch.setattr(
        data_parallel.dist, "all_reduce", lambda flat, group: sums.append((flat.numel(), group))
    )
    bucket = data_parallel._Bucket(owner, parameters, tracker)
    assert bucket.flat.shape == (7,)
    for passes in (1, 2):
        parameters[0].sum().backward()
        assert len(sums) == passes - 1
        parameters[1].sum().backward()
        assert sums == [(7, "group")] * passes
    owner.require_backward_grad_sync = False
    sum(parameter.sum() for parameter in parameters).backward()
    assert len(sums) == 2
    places = [parameter.grad.storage_offset() for parameter in parameters]
    shared = [parameter.grad.untyped_storage()._cdata == bucket.flat.untyped_storage()._cdata
              for parameter in parameters]  # fmt: skip
    assert (places, shared) == (([0, 3], [True] * 2) if views else ([0, 0], [False] * 2))
    assert parameters[1].grad.shape == (2, 2)


def test_a_buckets_memory_is_of_gradients(monkeypatch):
    tracker, owner = Tracker(), SimpleNamespace()
    labels = []
    monkeypatch.setattr(tracker, "label", lambda tensors, kind: labels.append((tensors, kind)))
    bucket = data_parallel._Bucket(owner, of(4, 8), tracker)
    assert [(tensor is bucket.flat, kind) for (tensor,), kind in labels] == [(True, "gradients")]
    assert bucket.flat.shape == (3,)
    assert data_parallel._Bucket(owner, of(4), tracker).flat.shape == (1,)


def test_other_ways_of_a_model_on_several_gpus(wrapped):
    """`no_sync` holds within itself alone; a hook's memory is told not to be counted, once."""
    parallel, _, _ = wrapped
    model = parallel(nn.ParameterList(of(4)), static_graph=False)
    with model.no_sync():
        with model.no_sync():
            assert not model.require_backward_grad_sync
        assert not model.require_backward_grad_sync
    assert model.require_backward_grad_sync
    model._set_static_graph()
    assert model.static_graph
    with model.join():
        model.register_comm_hook(None, None)
        model.register_comm_hook(None, None)
    assert wrapped.notes == [data_parallel.HOOKED]
    assert parallel(nn.Linear(2, 2))(torch.ones(1, 2)).shape == (1, 2)


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
