"""Operators on sparse tensors (COO and CSR), whose parts are dense: their indices and values.

PyTorch's rules for shapes do not follow how many elements such a tensor has, so each operator is
written here in operators on its parts, as the CUDA kernels do it (`SparseCUDATensor.cu`,
`SparseCUDATensorMath.cu` and SparseTensorMath.cpp in aten/src/ATen/native/sparse). Where numbers
decide how many elements a result has, it has the most that it can. What cuSPARSE takes while it
runs is not known and not counted.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vramcast import compat
from vramcast.memory.storages import Storages
from vramcast.operators.registry import register
from vramcast.where import here

aten = torch.ops.aten
CSR = torch.sparse_csr
LAYOUTS = (torch.sparse_coo, CSR, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
INT = 4  # bytes of cuSPARSE's indices
# of which PyTorch's own rules are right: they only look at a sparse tensor, or make one of parts
KNOWN = {
    "_nnz", "_values", "_indices", "values", "indices", "crow_indices", "col_indices",
    "is_coalesced", "_coalesced_", "sparse_dim", "dense_dim", "_dimI", "_dimV", "zeros_like",
    "empty_like", "_sparse_coo_tensor_unsafe", "_sparse_coo_tensor_with_dims_and_tensors",
    "_sparse_compressed_tensor_unsafe", "_local_scalar_dense", "is_same_size", "_version",
}  # fmt: skip


class _Log:
    """Where these operators book what they take, and note what is not known; set by `install`."""

    storages: Storages
    notes: list[str]

    def note(self, text: str) -> None:
        self.notes.append(f"{here()}{text}")

    def take(self, beside: Tensor, *sizes: int) -> None:
        """Book blocks of these bytes beside a tensor, which are given back at once."""
        if beside.device.type == "cuda":
            self.storages.give_back(self.storages.take(sizes, beside))

    def wait(self, beside: Tensor) -> None:
        """Book that the CPU waited for a tensor's GPU, if it is on one."""
        if beside.device.type == "cuda":
            self.storages.wait_here(beside.device.index)


log = _Log()


def install(storages: Storages, notes: list[str]) -> None:
    """Book in this log of storages what they take, and add what is not known to `notes`."""
    log.storages, log.notes = storages, notes


def sparse(values: tuple) -> bool:
    """Whether one of these arguments is a sparse tensor, or a list with one."""
    for value in values:
        if isinstance(value, Tensor):
            if value.layout in LAYOUTS:
                return True
        elif type(value) in (list, tuple) and sparse(value):
            return True
    return False


def result(func: compat.OpOverload, args: tuple, kwargs: dict, rule: Callable | None) -> object:
    """The result of an operator on sparse tensors, or NotImplemented: PyTorch's rule is right.

    Raises UnsupportedOperatorException if there is no rule.
    """
    if rule is not None:
        return rule(*args, **kwargs)
    if compat.composite(func):  # it consists of others
        return compat.decomposed(func, *args, **kwargs)
    if func._opname.startswith("_foreach_"):
        return _each(func._opname.removeprefix("_foreach_"), args, kwargs)
    if func._opname not in KNOWN:
        raise compat.UnsupportedOperatorException(f"{func} of a sparse tensor")
    return NotImplemented


def _each(name: str, args: tuple, kwargs: dict) -> list | None:
    """What an operator on lists does with sparse tensors: one after the other."""
    lists = [one if isinstance(one, list) else [one] * len(args[0]) for one in args]
    results = [getattr(aten, name)(*row, **kwargs) for row in zip(*lists, strict=True)]
    return None if name.endswith("_") else results


def _rule(*names: str) -> Callable:
    """Register a function as the rule of operators on sparse tensors."""

    def add(function: Callable) -> Callable:
        for name in names:
            packet = getattr(aten, name.partition(".")[0], None)
            overload = name.partition(".")[2] or "default"
            if packet is not None and hasattr(packet, overload):
                register(getattr(packet, overload), sparse=function)
        return function

    return add


def _made(like: Tensor, indices: Tensor, values: Tensor, coalesced: bool | None = None) -> Tensor:
    """A COO tensor as large as another one, of these parts."""
    return aten._sparse_coo_tensor_with_dims_and_tensors(
        indices.shape[0], values.dim() - 1, like.shape, indices, values, dtype=values.dtype,
        layout=torch.sparse_coo, device=values.device,
        is_coalesced=like.is_coalesced() if coalesced is None else coalesced,
    )  # fmt: skip


def _csr(rows: Tensor, columns: Tensor, values: Tensor, shape) -> Tensor:
    return aten._sparse_compressed_tensor_unsafe(
        rows, columns, values, shape, dtype=values.dtype, layout=CSR, device=values.device
    )


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    if tensor.layout == CSR:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    return tensor._indices(), tensor._values()


def _with_values(tensor: Tensor, change: Callable, shared: bool = False) -> Tensor:
    """A tensor of the same indices, a copy of them unless `shared`, and of other values."""
    *indices, values = _parts(tensor)
    indices = indices if shared else [one.clone() for one in indices]
    if tensor.layout == CSR:
        return _csr(*indices, change(values), tensor.shape)
    return _made(tensor, *indices, change(values))


def _into(tensor: Tensor, other: Tensor) -> Tensor:
    """The tensor, which now has the parts of another one."""
    with compat.in_kernel(tensor):
        aten.copy_sparse_to_sparse_(tensor, other)
    return tensor


def _flat(tensor: Tensor, clone: bool = False) -> Tensor:
    """One number for each index (`flatten_indices`)."""
    indices = tensor._indices()
    if indices.shape[0] > 1:
        return indices.mul(1).sum(0)
    return indices.squeeze(0).clone() if clone else indices.squeeze(0)


# ------------------------------------------------------------------------- elements and copies


@_rule("_coalesce")
def coalesce(tensor):
    """Sorted by index, and each once: sorting takes both lists again (thrust's merge sort)."""
    indices, values = _parts(tensor)
    count = tensor._nnz()
    if count < 2:
        return _made(tensor, indices.clone(), values.clone(), True)
    most = min(count, math.prod(tensor.shape[: tensor.sparse_dim()]))
    log.note("coalesce is taken to find as many different indices as there may be")
    flat = _flat(tensor, clone=True)
    places, offsets = torch.empty_like(flat), torch.empty_like(flat)
    log.take(flat, 2 * flat.numel() * flat.element_size())
    log.wait(flat)
    new_values = values.new_empty(most, *values.shape[1:])
    new_indices = flat[None, :most]
    if indices.shape[0] > 1:
        new_indices = indices.new_empty(indices.shape[0], most)
    del places, offsets
    return _made(tensor, new_indices, new_values, True)


@_rule("clone")
def clone(tensor, memory_format=None):
    return _with_values(tensor, torch.clone)


@_rule("detach", "alias", "lift_fresh")
def detach(tensor):
    return _with_values(tensor, lambda values: values.detach(), shared=True)


@_rule("_to_copy")
def to_copy(tensor, *, dtype=None, device=None, layout=None, non_blocking=False, **_):
    if layout not in (None, tensor.layout):
        raise compat.UnsupportedOperatorException(f"a copy of a sparse tensor as {layout}")
    device = tensor.device if device is None else device
    *indices, values = _parts(tensor)
    indices = [one.to(device, copy=True, non_blocking=non_blocking) for one in indices]
    values = values.to(device, dtype or values.dtype, copy=True, non_blocking=non_blocking)
    if tensor.layout == CSR:
        return _csr(*indices, values, tensor.shape)
    return _made(tensor, *indices, values)


@_rule("copy_")
def copy(tensor, source, non_blocking=False):
    return _into(tensor, to_copy(source, dtype=tensor.dtype, device=tensor.device))


@_rule("zero_")
def zero(tensor):
    indices, values = _parts(tensor)
    return _into(tensor, _made(tensor, indices[:, :0], values[:0]))


@_rule("t", "transpose.int")
def transpose(tensor, first=0, second=1):
    """A copy with other indices (`transpose` of a clone, in place)."""
    shape = list(tensor.shape)
    shape[first], shape[second] = shape[second], shape[first]
    if tensor.layout == CSR:
        raise compat.UnsupportedOperatorException("a transposed CSR tensor")
    like = torch.empty(shape, device="meta")
    return _made(like, tensor._indices().clone(), tensor._values().clone(), False)


@_rule("cat")
def cat(tensors, dim=0):
    """Indices and values one after the other."""
    shape = list(tensors[0].shape)
    shape[dim] = sum(one.shape[dim] for one in tensors)
    indices = torch.cat([one._indices() for one in tensors], 1)
    values = torch.cat([one._values() for one in tensors])
    return _made(torch.empty(shape, device="meta"), indices, values, False)


# -------------------------------------------------------------------------- to and from dense


@_rule("_to_dense", "to_dense")
def to_dense(tensor, dtype=None, masked_grad=None):
    values = _parts(tensor)[-1]
    dense = torch.zeros(tensor.shape, dtype=dtype or values.dtype, device=values.device)
    if tensor.layout != CSR:
        _flat(tensor)
    return dense


def _dense_to_sparse(tensor: Tensor, sparse_dim: int) -> Tensor:
    log.note("a sparse tensor made of a dense one is taken to have all elements")
    count = math.prod(tensor.shape[:sparse_dim])
    found = torch.empty(count, sparse_dim, dtype=torch.long, device=tensor.device)
    log.wait(found)
    return _made(tensor, found.t(), tensor.reshape(count, *tensor.shape[sparse_dim:]).clone(), True)


def to_sparse(tensor, *, layout=None, blocksize=None, dense_dim=None):
    """Of a dense tensor: an index and a value for each element that is not 0."""
    if layout == CSR or (layout is None and tensor.layout == CSR):
        return to_csr(tensor)
    if layout not in (None, torch.sparse_coo) or tensor.layout == CSR:
        raise compat.UnsupportedOperatorException(f"a tensor made sparse as {layout}")
    if tensor.layout == torch.sparse_coo:
        return tensor
    return _dense_to_sparse(tensor, tensor.dim() - (dense_dim or 0))


def to_csr(tensor, dense_dim=None):
    """Sorted by rows, whose beginnings take the place of their indices."""
    if tensor.layout == CSR:
        return tensor
    if tensor.layout == torch.strided:
        tensor = _dense_to_sparse(tensor, 2)
    tensor = tensor.coalesce()
    rows = torch.empty(tensor.shape[0] + 1, dtype=torch.long, device=tensor.device)
    return _csr(rows, tensor._indices()[1], tensor._values(), tensor.shape)


_rule("_to_sparse")(to_sparse)
_rule("_to_sparse_csr")(to_csr)
_rule("_to_sparse.sparse_dim")(lambda tensor, sparse_dim: _dense_to_sparse(tensor, sparse_dim))
for _operator in (aten._to_sparse.default, aten._to_sparse_csr.default, aten._to_sparse.sparse_dim):
    register(_operator, makes_sparse=True)


@_rule(
    "sparse_compressed_tensor.comp_plain_value_size", "sparse_compressed_tensor.comp_plain_value"
)
def compressed(rows, columns, values, shape=None, *, layout=None, **_):
    if layout != CSR or shape is None:
        raise compat.UnsupportedOperatorException(f"a tensor that is sparse as {layout}")
    return _csr(rows, columns, values, shape)


register(aten.sparse_compressed_tensor.comp_plain_value_size, makes_sparse=True)
register(aten.sparse_compressed_tensor.comp_plain_value, makes_sparse=True)


@_rule("sparse_mask")
def sparse_mask(tensor, mask):
    """The elements of a tensor at the places of a mask's (a product with ones in its places)."""
    if tensor.layout != torch.strided:
        tensor = tensor.coalesce()
        values = tensor._values().new_empty(mask._nnz(), *tensor._values().shape[1:])
    else:
        values = _gathered(tensor, mask)
    return _made(mask, mask._indices().clone(), values)


def _gathered(dense: Tensor, like: Tensor) -> Tensor:
    """The elements of a dense tensor that a sparse one has."""
    return aten.index(dense, [like._indices()[dim] for dim in range(like.sparse_dim())])


# --------------------------------------------------------------------------------- arithmetic


@_rule("add.Tensor", "sub.Tensor")
def add(tensor, other, *, alpha=1):
    """Two sparse ones: their elements one after the other. A dense one: a dense result."""
    if tensor.layout == torch.strided:
        _flat(other)
        return tensor.clone()
    if other.layout == torch.strided:
        raise compat.UnsupportedOperatorException("a sum of a sparse and a dense tensor")
    if tensor.layout == CSR:
        log.note("a sum of CSR tensors is taken to have all elements of both")
        values = torch.cat([tensor.values(), other.values()])
        columns = torch.cat([tensor.col_indices(), other.col_indices()])
        return _csr(tensor.crow_indices().clone(), columns, values, tensor.shape)
    values = other._values() if alpha == 1 else other._values().mul(alpha)
    indices = torch.cat([tensor._indices(), other._indices()], 1)
    total = _made(tensor, indices, torch.cat([tensor._values(), values]), False)
    return total.coalesce() if values.numel() + tensor._values().numel() > tensor.numel() else total


@_rule("add_.Tensor", "sub_.Tensor")
def add_in_place(tensor, other, *, alpha=1):
    if tensor.layout == torch.strided:
        _flat(other)
        return tensor
    return _into(tensor, add(tensor, other, alpha=alpha))


@_rule("mul.Tensor", "mul.Scalar", "div.Tensor", "div.Scalar")
def multiply(tensor, other, **_):
    """By a number: other values. By a dense tensor: by its elements in the same places."""
    if not isinstance(tensor, Tensor) or tensor.layout == torch.strided:
        tensor, other = other, tensor
    if not isinstance(other, Tensor) or other.dim() == 0:
        return _with_values(tensor, lambda values: values.mul(other))
    if tensor.layout == CSR:
        raise compat.UnsupportedOperatorException("a product of CSR tensors by elements")
    if other.layout == torch.strided:
        if other.dim() != tensor.dim() or other.shape != tensor.shape:
            raise compat.UnsupportedOperatorException("a sparse product of other shapes")
        return _with_values(tensor, lambda values: values.mul(_gathered(other, tensor)))
    tensor, other = tensor.coalesce(), other.coalesce()
    log.note("a product of sparse tensors is taken to have all elements of the smaller one")
    fewer = min(tensor, other, key=lambda one: one._nnz())
    return _with_values(fewer, torch.zeros_like)


@_rule("mul_.Tensor", "mul_.Scalar", "div_.Tensor", "div_.Scalar")
def multiply_in_place(tensor, other, **_):
    if isinstance(other, Tensor) and other.dim():
        return _into(tensor, multiply(tensor, other))
    return tensor


_UNARY = (
    "neg", "abs", "sqrt", "sin", "tanh", "relu", "sign", "square", "log1p", "expm1", "floor",
    "ceil", "round", "pow.Tensor_Scalar",
)  # fmt: skip


@_rule(*_UNARY)
def unary(tensor, *_):
    """Of each value, once equal indices are summed (`coalesced_unary_ufunc`)."""
    if tensor.layout != CSR:
        tensor = tensor.coalesce()
    return _with_values(tensor, torch.empty_like)


@_rule(*(f"{name.partition('.')[0]}_.{name.partition('.')[2]}".rstrip(".") for name in _UNARY))
def unary_in_place(tensor, *_):
    return tensor


# -------------------------------------------------------------------------------------- sums


@_rule("sum", "norm.Scalar", "norm.ScalarOpt_dtype", "norm.ScalarOpt_dim", "native_norm")
def total(tensor, *args, **_):
    """Over all elements."""
    if any(args[1:]):
        raise compat.UnsupportedOperatorException("a norm of a sparse tensor's dimension")
    values = _parts(tensor if tensor.layout == CSR else tensor.coalesce())[-1]
    return values.new_empty(())


@_rule("_sparse_sum.dim")
def sum_dims(tensor, dims):
    """Over all sparse dimensions: a dense result. Else: a sparse one, whose elements stay apart."""
    dims = {dim % tensor.dim() for dim in dims}
    values, width = tensor._values(), tensor.sparse_dim()
    inner = [dim - width + 1 for dim in dims if dim >= width]
    values = values.sum(inner) if inner else values
    kept = [dim for dim in range(width) if dim not in dims]
    if not kept:
        return values.sum(0)
    if len(kept) == width:
        indices = tensor._indices().clone()
    else:
        indices = tensor._indices().new_empty(len(kept), tensor._nnz())
    shape = [size for dim, size in enumerate(tensor.shape) if dim not in dims]
    return _made(torch.empty(shape, device="meta"), indices, values, len(kept) == width)


@_rule("_sparse_sum_backward")
def sum_backward(gradient, tensor, dims):
    tensor = tensor.coalesce()
    return _with_values(tensor, torch.empty_like)


@_rule("_sparse_softmax", "_sparse_log_softmax")
def softmax(tensor, dim, half_to_float):
    return _with_values(tensor.coalesce(), torch.empty_like)


@_rule("_sparse_softmax_backward_data", "_sparse_log_softmax_backward_data")
def softmax_backward(gradient, output, dim, tensor):
    return _with_values(output, torch.empty_like)


# ---------------------------------------------------------------------------------- products


def _product(tensor: Tensor, dense: Tensor) -> Tensor:
    """A sparse and a dense matrix.

    Of a COO one, cuSPARSE gets rows and columns as short numbers, and the result is turned over:
    it writes columns (`s_addmm_out_sparse_dense_cuda`).
    """
    if tensor.layout == torch.strided or dense.layout != torch.strided:
        raise compat.UnsupportedOperatorException("a product with a sparse second factor")
    made = dense.new_empty(tensor.shape[0], *dense.shape[1:])
    if tensor.layout == CSR:
        return made
    tensor = tensor.coalesce()
    count = tensor._nnz()
    taken = [(tensor.shape[0] + 1) * INT, count * INT, made.numel() * made.element_size()]
    log.take(made, *taken)
    return made


@_rule("mm", "mv", "_sparse_mm", "_sparse_sparse_matmul")
def product(tensor, other):
    if tensor.layout == torch.sparse_coo == other.layout:
        return _both(tensor.coalesce(), other.coalesce())
    return _product(tensor, other)


def _both(tensor: Tensor, other: Tensor) -> Tensor:
    """Two sparse matrices: each element of one meets at most a whole row of the other."""
    log.note("a product of sparse matrices is taken to have all elements")
    rows, columns = tensor.shape[0], other.shape[1]
    count = min(rows * columns, tensor._nnz() * columns, tensor._nnz() * other._nnz())
    indices = tensor._indices().new_empty(2, count)
    like = torch.empty(rows, columns, device="meta")
    return _made(like, indices, tensor._values().new_empty(count), True)


@_rule("addmm", "_sparse_addmm")
def product_and_sum(base, tensor, dense, *, beta=1, alpha=1):
    return _product(tensor, dense)


@_rule("addmm_")
def product_and_sum_in_place(base, tensor, dense, *, beta=1, alpha=1):
    _product(tensor, dense)
    return base
