"""Call all functions of PyTorch that the rehearsal replaces, by position and by keyword.

Prints a list of what is wrong; tests/test_intercepted.py expects it to be empty.
"""

import inspect

import torch
import torch.nn.functional as F

from rehearsal import arithmetic
from rehearsal.observer import Observer

PLACES = {
    "torch": torch, "F": F, "Tensor": torch.Tensor, "_VF": torch._VF, "autograd": torch.autograd,
}  # fmt: skip


def numbers(*sizes: int) -> torch.Tensor:
    """Multiples of 1/8, whose products and sums are exact in 16 bits as well."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-4, 5, sizes, generator=generator) / 8


def layer(gates: int) -> dict:
    """The arguments of a recurrent layer for inputs and states of width 2."""
    wide = 2 * gates
    weights = [numbers(wide, 2), numbers(wide, 2), numbers(wide), numbers(wide)]
    state = numbers(1, 3, 2)
    return {
        "input": numbers(4, 3, 2), "hx": (state, state) if gates == 4 else state,
        "params": weights, "has_biases": True, "num_layers": 1, "dropout": 0.0, "train": False,
        "bidirectional": False, "batch_first": False,
    }  # fmt: skip


def cell(gates: int) -> dict:
    wide, state = 2 * gates, numbers(3, 2)
    return {
        "input": numbers(3, 2), "hx": (state, state) if gates == 4 else state,
        "w_ih": numbers(wide, 2), "w_hh": numbers(wide, 2), "b_ih": numbers(wide),
        "b_hh": numbers(wide),
    }  # fmt: skip


def calls() -> dict[str, dict]:
    """All arguments of each function that is replaced, in the order of its signature."""
    a, b, batch = numbers(2, 4), numbers(4, 3), numbers(5, 2, 4)

    def adam() -> dict:
        return {
            "self": [numbers(2)], "grads": [numbers(2)], "exp_avgs": [numbers(2)],
            "exp_avg_sqs": [numbers(2).abs()], "max_exp_avg_sqs": [],
            "state_steps": [torch.ones(())], "lr": 0.1, "beta1": 0.9, "beta2": 0.999,
            "weight_decay": 0.5, "eps": 1e-8, "amsgrad": False, "maximize": False,
        }  # fmt: skip

    return {
        "F.linear": {"input": a, "weight": b.T, "bias": numbers(3)},
        "F.conv2d": {
            "input": numbers(2, 3, 4, 6), "weight": numbers(5, 3, 2, 2), "bias": numbers(5),
            "stride": 2, "padding": 0, "dilation": 1, "groups": 1,
        },
        "F.scaled_dot_product_attention": {
            "query": batch, "key": batch, "value": batch, "attn_mask": None, "dropout_p": 0.0,
            "is_causal": True,
        },
        "F.cross_entropy": {
            "input": a, "target": torch.tensor([0, 3]), "weight": torch.ones(4),
            "size_average": None, "ignore_index": 3, "reduce": None, "reduction": "sum",
            "label_smoothing": 0.25,
        },
        "torch.matmul": {"input": batch, "other": b},
        "torch.mm": {"input": a, "mat2": b},
        "torch.bmm": {"input": batch, "mat2": batch.mT},
        "torch._fused_adam_": adam(),
        "torch._fused_adamw_": adam(),
        "Tensor.matmul": {"self": a, "other": b},
        "Tensor.mm": {"self": a, "mat2": b},
        "Tensor.bmm": {"self": batch, "mat2": batch.mT},
        "Tensor.__matmul__": {"self": a, "other": b},
        "_VF.lstm": layer(4), "_VF.gru": layer(3), "_VF.rnn_tanh": layer(1),
        "_VF.rnn_relu": layer(1), "_VF.lstm_cell": cell(4), "_VF.gru_cell": cell(3),
        "_VF.rnn_tanh_cell": cell(1), "_VF.rnn_relu_cell": cell(1),
    }  # fmt: skip


def everything(name: str, place) -> dict:
    """What a module or class holds, as it is kept there."""
    if name == "_VF":  # which looks for each anew
        return {key: getattr(place, key) for key in arithmetic.RECURRENT}
    return {key: inspect.getattr_static(place, key) for key in dir(place)}


def found(name: str):
    place, _, function = name.partition(".")
    return getattr(PLACES[place], function)


def flat(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [one for part in value or () for one in flat(part)]


def same(results, others, tolerance: float = 1e-6) -> bool:
    pairs = list(zip(flat(results), flat(others), strict=True))
    return all(
        torch.allclose(one.float(), other.float(), atol=tolerance, equal_nan=True)
        for one, other in pairs
    )


def in_type(value, dtype: torch.dtype):
    """Arguments with all real numbers in this type."""
    if isinstance(value, dict):
        return {key: in_type(one, dtype) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(in_type(one, dtype) for one in value)
    real = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.to(dtype) if real else value


def by_position(function, call: dict):
    """Called with all arguments by position that may be; in place, what was changed."""
    values = list(call.values())
    if "lr" in call:
        rest = {key: value for key, value in call.items() if list(call).index(key) > 5}
        function(*values[:6], **rest)
        return values[0]
    return function(*values)


def by_keyword(function, call: dict):
    """The same by keyword; a method's own tensor has none."""
    call = dict(call)
    if "lr" in call:
        return by_position(function, call)  # PyTorch's optimizers name no more than these
    first = [call.pop("self")] if "self" in call else []
    return function(*first, **call)


def faults(name: str, wanted) -> list[str]:
    """What is wrong with a replaced function, of which this result is wanted."""
    wrong = []
    halves = () if "fused" in name or "cross" in name else arithmetic.HALF
    for dtype in (torch.float32, *halves):
        for way in (by_position, by_keyword):
            results = flat(way(found(name), in_type(calls()[name], dtype)))
            if not same(results, wanted, 0.02 if dtype in halves else 1e-6):
                wrong.append(f"{name} {way.__name__} in {dtype}")
            if {one.dtype for one in results} != {dtype}:
                wrong.append(f"{name} {way.__name__} not in {dtype}")
    return wrong


def raises(function, *args, **kwargs) -> bool:
    """Whether that raises RuntimeError, as it does without the rehearsal."""
    try:
        function(*args, **kwargs)
    except RuntimeError:
        return True
    return False


def other_forms() -> list[str]:
    """What is wrong with products that are written in other ways, or that are not of 16 bits."""
    a, b = numbers(2, 4).bfloat16(), numbers(4, 3).bfloat16()
    exact, wrong = a.double() @ b.double(), []
    places = (a, [0, 1], b, [1, 2])
    for form in (("ij,jk", a, b), ("ij,jk", [a, b]), places, (*places, [0, 2])):
        result = torch.einsum(*form)
        if not same(result, exact) or result.dtype != torch.bfloat16:
            wrong.append(f"einsum {form}")
    for name, one, other in (("mm", a, b), ("matmul", a, b), ("bmm", a[None], b[None])):
        product, out = getattr(torch, name), torch.zeros(0, dtype=torch.bfloat16)
        if product(one, other, out=out) is not out or not same(out.view(2, 3), exact):
            wrong.append(f"{name} with out")
        if not raises(product, one, other, out=torch.zeros(2, 3)):
            wrong.append(f"{name} with out of another type")
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in (torch.int64, torch.complex64, torch.float64):  # which autocast leaves alone
            result = torch.matmul((8 * a).to(dtype), (8 * b).to(dtype))
            if result.dtype != dtype or not same(result.real, 64 * exact):
                wrong.append(f"autocast of {dtype}")
    if not raises(torch.mm, a, b.float()):
        wrong.append("mm of two types")
    images, weight = numbers(2, 3, 4, 4), numbers(5, 3, 2, 2)
    if not F.conv2d(images, weight, stride=2).is_contiguous():
        wrong.append("conv2d: not in order")
    last = torch.channels_last
    if not F.conv2d(images.to(memory_format=last), weight, stride=2).is_contiguous(
        memory_format=last
    ):
        wrong.append("conv2d: channels not last")
    if F.conv2d(images[:0], weight, stride=2).shape != (0, 5, 2, 2):
        wrong.append("conv2d of an empty batch")
    return wrong


def main() -> None:
    before = {name: everything(name, place) for name, place in PLACES.items()}
    wanted = {name: by_position(found(name), call) for name, call in calls().items()}
    named = {name: by_keyword(found(name), call) for name, call in calls().items()}
    wrong = [f"{name}: not its signature" for name in wanted if not same(named[name], wanted[name])]
    arithmetic.install()
    Observer().install()

    replaced = {
        f"{name}.{key}"
        for name, place in PLACES.items()
        for key, value in everything(name, place).items()
        if before[name][key] is not value
    }
    tried = {*calls(), "torch.einsum", "autograd.backward", "autograd.grad"}
    wrong += [f"{name} is replaced, and not tried here" for name in replaced - tried]
    wrong += [f"{name} is tried here, and not replaced" for name in tried - replaced]
    for name, result in wanted.items():
        wrong += faults(name, result)
    print(wrong + other_forms())


if __name__ == "__main__":
    main()
