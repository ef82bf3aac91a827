"""GPUs by name: their properties, and how much of their memory a script can have."""

import re
from dataclasses import dataclass, replace

# Bytes of a CUDA context by a GPU's multiprocessors: 107 MiB of 34 (RTX 4060 Ti) and 555 MiB of 188
# (RTX PRO 6000) were measured in github.com/ggml-org/llama.cpp/pull/23604. Kernels are loaded into
# it when first used, which is not counted.
CONTEXT_PER_MULTIPROCESSOR = 3 * 2**20


@dataclass(frozen=True)
class Speed:
    """The rates in a GPU's data sheet; no program reaches them."""

    tflops: dict[str, float]  # 1e12 operations a second, dense, summed in float32, by precision
    host: float  # GB/s to or from the host, one direction
    gpus: float  # GB/s to other GPUs, one direction


@dataclass(frozen=True)
class Model:
    """A kind of GPU."""

    name: str
    memory: int  # bytes
    capability: tuple[int, int]
    multiprocessors: int
    speed: Speed

    @property
    def bfloat16(self) -> bool:
        """Whether this GPU computes in bfloat16."""
        return self.capability >= (8, 0)

    @property
    def context(self) -> int:
        """Bytes that CUDA takes before there is any tensor; PyTorch's figures do not hold them."""
        return self.multiprocessors * CONTEXT_PER_MULTIPROCESSOR

    @property
    def workspace(self) -> int:
        """Bytes that cuBLAS takes for each thread that uses it; PyTorch's figures hold them.

        From `parseChosenWorkspaceSize` in PyTorch's aten/src/ATen/cuda/CublasHandlePool.cpp.
        """
        return 32 * 2**20 if self.capability[0] in (9, 10, 12) else 8_519_680


# A line for each. Memory: the total that nvidia-smi shows, in MiB there. The rest is from NVIDIA's
# data sheets and, for the two RTX, its whitepapers on Turing and Ada (appendix A); of several
# boards of a kind the fastest. Rates (1e12 operations a second) are without sparsity, and for
# 16-bit products summed in float32, as PyTorch asks for; where there is no TF32 or bfloat16,
# float32's rate stands in its place. Links (GB/s, to the host and to other GPUs): half of what the
# sheets give for both directions of PCIe x16 and, if there is one, NVLink.
KNOWN = {
    name: Model(
        name, mebibytes * 2**20, capability, multiprocessors,
        Speed(dict(zip(("float32", "tf32", "bfloat16", "float16"), rates, strict=True)), *links),
    )
    for name, mebibytes, capability, multiprocessors, rates, links in (
        ("T4", 15_360, (7, 5), 40, (8.1, 8.1, 8.1, 65), (16, 16)),
        ("V100-16", 16_160, (7, 0), 80, (15.7, 15.7, 15.7, 125), (16, 150)),
        ("V100-32", 32_480, (7, 0), 80, (15.7, 15.7, 15.7, 125), (16, 150)),
        ("RTX-2080-Ti", 11_264, (7, 5), 68, (14.2, 14.2, 14.2, 56.9), (16, 50)),
        ("A10G", 23_028, (8, 6), 80, (31.52, 35, 70, 70), (32, 32)),
        ("RTX-4090", 24_564, (8, 9), 128, (82.6, 82.6, 165.2, 165.2), (32, 32)),
        ("A100-40", 40_960, (8, 0), 108, (19.5, 156, 312, 312), (32, 300)),
        ("A100-80", 81_920, (8, 0), 108, (19.5, 156, 312, 312), (32, 300)),
        ("H100", 81_559, (9, 0), 132, (67, 494.7, 989.4, 989.4), (64, 450)),
        ("H200", 143_771, (9, 0), 132, (67, 494.7, 989.4, 989.4), (64, 450)),
    )
}  # fmt: skip
DEFAULT = KNOWN["A100-80"]  # the published figures' kind


UNITS = {"": 1e9, "g": 1e9, "gb": 1e9, "gib": 2**30, "mb": 1e6, "mib": 2**20}
MAKER = re.compile("nvidia|geforce|tesla")


def find(text: str) -> Model:
    """The GPU of a name or part of one, or an A100 with as much memory (24, 24GiB).

    Raises ValueError if the text is neither.
    """
    plain = re.sub(r"\s", "", text.lower())
    names = {name.lower().replace("-", ""): model for name, model in KNOWN.items()}
    wanted = MAKER.sub("", re.sub("[_-]", "", plain))
    if wanted in names:
        return names[wanted]
    size = re.fullmatch(r"(\d+\.?\d*|\.\d+)(g|[gm]i?b)?", plain)
    memory = float(size[1]) * UNITS[size[2] or ""] if size else 0.0
    if 0 < memory <= 1e12:  # more is part of a name ("4090") and no memory
        name = text.strip() if size[2] else f"{text.strip()} GB"
        return replace(DEFAULT, name=name, memory=int(memory))
    part = [model for name, model in names.items() if plain in name]
    if len(part) == 1:
        return part[0]
    raise ValueError(
        f"{text!r} is neither a GPU's memory (24, 24GB, 24 GiB; up to 1000 GB) nor one of "
        f"{', '.join(KNOWN)}"
    )
