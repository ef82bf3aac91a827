"""The techniques that can be applied to a script from outside, as data."""

import importlib.util
from dataclasses import dataclass

SAME = "the same training"  # up to rounding, and to the order of random numbers
MICRO_BATCHES = 4  # of which accumulation makes a batch


@dataclass(frozen=True)
class Technique:
    """A technique, under the name that `--with` takes."""

    name: str
    what: str  # is done, in a few words
    changes: str  # about the training: SAME, or what differs
    lines: int  # to write or change in a script, about as many as in the ladder's
    page: str  # of docs/
    slot: str  # of two in the same slot, only one can be applied
    kinds: tuple[str, ...] = ()  # of memory (kinds.py) that it makes less, or UNUSED, or STEP
    package: str = ""  # that it needs
    several: bool = False  # whether it can be applied to one rank of many

    @property
    def missing(self) -> bool:
        """Whether its package is not installed here."""
        return bool(self.package) and importlib.util.find_spec(self.package) is None


ROUNDED = "another rounding"
LARGER = "a batch per GPU"
OTHER = "another training"
LEARNED = ("parameters", "gradients", "optimizer")
ALL = (*LEARNED, "activations")
UNUSED = "unused"  # memory that is reserved and not allocated
STEP = "optimizer step"  # the phase in which a step's temporaries can be the peak
KNOWN = {
    one.name: one
    for one in (
        Technique(
            "bf16-autocast", "matrix products in bfloat16, by autocast", ROUNDED, 2,
            "ladder/02-2_bf16-mixed", "precision", ("activations",),
        ),
        Technique(
            "bf16", "bfloat16 throughout: weights, gradients and states", ROUNDED, 2,
            "ladder/03_bfloat16", "precision", ALL,
        ),
        Technique(
            "free-gradients", "gradients freed right after the step", SAME, 1,
            "ladder/04-2_free-gradients", "gradients", ("gradients",), several=True,
        ),
        Technique(
            "in-backward", "each parameter's step within the backward pass", SAME, 8,
            "ladder/12_optimizer-in-backward", "gradients", ("gradients",),
        ),
        Technique(
            "accumulate", "four micro-batches, each a quarter of the batch", SAME, 5,
            "ladder/05_gradient-accum", "batch", ("activations", "inputs"),
        ),
        Technique(
            "checkpointing", "of the repeated blocks, only the input is kept", SAME, 2,
            "ladder/11_act-checkp", "activations", ("activations",),
        ),
        Technique(
            "selective-checkpointing", "checkpointing, with attention's results kept", SAME, 8,
            "ladder/11-2_selective-checkp", "activations", ("activations",),
        ),
        Technique(
            "offload", "checkpointing, and the blocks' inputs wait on the host", SAME, 3,
            "ladder/14-3_activation-offload", "activations", ("activations",),
        ),
        Technique(
            "chunked-loss", "logits of a language model for some tokens at a time", SAME, 8,
            "combining", "logits", ("activations",),
        ),
        Technique(
            "fused", "the optimizer's step in one kernel", SAME, 1,
            "ladder/05-2_fused-adam", "step", (STEP,), several=True,
        ),
        Technique(
            "foreach-off", "the optimizer's step parameter by parameter", SAME, 1,
            "ladder/05-2_fused-adam", "step", (STEP,), several=True,
        ),
        Technique(
            "adamw-8bit", "AdamW with optimizer states in 8 bits", ROUNDED, 2,
            "ladder/14_adamw-8bit", "optimizer", ("optimizer",), "torchao",
        ),
        Technique(
            "adamw-4bit", "AdamW with optimizer states in 4 bits", ROUNDED, 2,
            "ladder/14-2_adamw-4bit", "optimizer", ("optimizer",), "torchao",
        ),
        Technique(
            "adafactor", "Adafactor, with next to no optimizer states", OTHER, 1,
            "ladder/06-2_adafactor", "optimizer", ("optimizer",),
        ),
        Technique(
            "sgd", "SGD, without optimizer states", OTHER, 1,
            "ladder/06_sgd-with-scheduler", "optimizer", ("optimizer",),
        ),
        Technique(
            "last-blocks", "only the last quarter of the blocks is trained", OTHER, 2,
            "ladder/03-3_last-blocks", "weights", ALL,
        ),
        Technique(
            "lora", "LoRA: adapters of rank 16 beside frozen weights", OTHER, 3,
            "ladder/15-2_lora-peft", "weights", LEARNED,
        ),
        Technique(
            "qlora", "QLoRA: LoRA, with the frozen weights in 4 bits", OTHER, 6,
            "ladder/16_qlora", "weights", LEARNED, "bitsandbytes",
        ),
        Technique(
            "fsdp2", "each of several GPUs holds a part of the model", LARGER, 6,
            "ladder/09-2_fsdp2-act-checkp", "sharding", LEARNED,
        ),
        Technique(
            "expandable-segments", "segments that grow (PYTORCH_CUDA_ALLOC_CONF)", SAME, 1,
            "ladder/08-2_expandable-segments", "allocator", (UNUSED,), several=True,
        ),
    )
}  # fmt: skip
# What the matrix of pairs (docs/combining.md) calls wrong without a message; and options of one
# optimizer that another one, in its place, does not take from it.
APART = {
    frozenset(pair)
    for pair in (
        ("fused", "adamw-8bit"), ("fused", "adamw-4bit"), ("fused", "adafactor"),
        ("foreach-off", "adamw-8bit"), ("foreach-off", "adamw-4bit"),
        ("accumulate", "in-backward"), ("fused", "sgd"), ("foreach-off", "sgd"),
        ("foreach-off", "adafactor"), ("fsdp2", "in-backward"),
    )
}  # fmt: skip


def of_slot(slot: str) -> set[str]:
    """The names of the techniques in a slot."""
    return {one.name for one in KNOWN.values() if one.slot == slot}


def together(*names: str) -> bool:
    """Whether techniques can be applied at the same time."""
    slots = [KNOWN[name].slot for name in names]
    pairs = {frozenset((one, other)) for one in names for other in names if one != other}
    return len(set(slots)) == len(slots) and not pairs & APART


def read(text: str) -> tuple[str, ...]:
    """The names of techniques in a text, with commas between them.

    Raises ValueError if one is not known, needs a package that is not here, or if two of them
    exclude each other.
    """
    names = tuple(dict.fromkeys(filter(None, text.split(","))))
    for name in names:
        if name not in KNOWN:
            raise ValueError(f"no technique is called {name!r}; there are {', '.join(KNOWN)}")
        if KNOWN[name].missing:
            raise ValueError(f"{name} needs {KNOWN[name].package}, which is not installed here")
    if not together(*names):
        raise ValueError(f"{' and '.join(names)} cannot be applied at the same time")
    return names
