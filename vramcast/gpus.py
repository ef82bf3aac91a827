"""GPUs by name: their properties, and how much of their memory a script can have."""

import re
from dataclasses import dataclass, replace

# Bytes of a CUDA context by a GPU's multiprocessors: 107 MiB of 34 (RTX 4060 Ti) and 555 MiB of 188
# (RTX PRO 6000) were measured in github.com/ggml-org/llama.cpp/pull/23604, 135 MiB of 40 (T4) by
# github.com/highwaterlabs/torch-preflight. Kernels are loaded into it when first used, which is not
# counted.
CONTEXT_PER_MULTIPROCESSOR = 3 * 2**20

ASSUMED = "the kernels, cuBLAS's workspace, the size of CUDA's context and the rates are an A100's"


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
    memory: int  # bytes, as CUDA and PyTorch report them: without what the driver keeps
    capability: tuple[int, int]
    multiprocessors: int
    speed: Speed
    cache: int  # bytes of the L2 cache
    clock: int  # kHz of the multiprocessors, at most
    memory_clock: int  # kHz, half of what a pin transfers a second
    assumed: str | None = None  # what is another kind's, if only the memory is known

    @property
    def bfloat16(self) -> bool:
        """Whether this GPU computes in bfloat16."""
        return self.capability >= (8, 0)

    @property
    def context(self) -> int:
        """Bytes that CUDA takes before there is any tensor; PyTorch's figures do not hold them."""
        return self.multiprocessors * CONTEXT_PER_MULTIPROCESSOR


def workspace(capability: tuple[int, int], config: str | None = None) -> int:
    """Bytes of cuBLAS's workspace; `config`: CUBLAS_WORKSPACE_CONFIG at the first product.

    Its pairs ":SIZE:COUNT" are summed, SIZE in KiB; without any pair in it, it is as if not set.
    From `parseChosenWorkspaceSize` in PyTorch's aten/src/ATen/cuda/CublasHandlePool.cpp. That only
    9 to 12 have the large one was read in 2.14.1's compiled library.
    """
    pairs = re.findall(r":([0-9]+):([0-9]+)", config or "")
    if pairs:
        return 1024 * sum(int(size) * int(count) for size, count in pairs)
    return 32 * 2**20 if 9 <= capability[0] <= 12 else 8_519_680


# Two lines for each kind: name, MiB, capability, multiprocessors, rates; links, cache, clocks.
#
# MiB: the total that CUDA reports, from deviceQuery's output, from PyTorch's properties and
# out-of-memory messages, and from llama.cpp's list of devices, all published by users; the smallest
# that is seen again and again on Linux. Newer drivers keep more for themselves, so of a GeForce up
# to 200 MiB more were seen, and on Windows the whole memory. ECC, where it can be chosen: on for
# A10, A10G, A30, A40, L4 and L40S, off for RTX A6000 and RTX 6000 Ada (which has 44.43 GiB with it,
# DINGYANB/MTVCrafter#21). Behind each: one place where such a total can be read, of issues on
# GitHub and of openxla/xla's xla/backends/gpu/target_config/specs ("xla"); "PyTorch", "llama.cpp",
# "deviceQuery" and "nvbench" without a place are logs in files of repositories.
#
# Rates (1e12 operations a second), multiprocessors, cache (KiB) and clocks (MHz): NVIDIA's data
# sheets and whitepapers (GA102, Ada and Blackwell: appendix A); of several boards of a kind the
# fastest, of NVIDIA's own. Cache and clocks are those that CUDA reports, but for the clocks of
# A10G, RTX 3080 Ti, 4060, 4070, 4070 Ti SUPER, 4080, 5070 Ti, 5080, 6000 Ada and PRO 6000 and the
# cache of RTX 4060, 4070, 4080, 5070 Ti and 6000 Ada, of which no such report was found.
# Rates are without sparsity, and for 16-bit products summed in float32, as PyTorch asks for; where
# there is no TF32, bfloat16 or such a product in float16, float32's rate stands in its place. Links
# (GB/s, to the host and to other GPUs): half of what the sheets give for both directions of PCIe
# and, if there is one, NVLink.
KNOWN = {
    name: Model(
        name, int(mebibytes * 2**20), capability, multiprocessors,
        Speed(dict(zip(("float32", "tf32", "bfloat16", "float16"), rates, strict=True)), *links),
        cache * 1024, round(clock * 1000), memory_clock * 1000,
    )
    for name, mebibytes, capability, multiprocessors, rates, links, cache, clock, memory_clock in (
        # Pascal, Volta, Turing
        ("GTX-1080-Ti", 11_172, (6, 1), 28, (11.34, 11.34, 11.34, 11.34),
         (16, 16), 2816, 1582, 5505),  # deviceQuery
        ("P100", 16_269, (6, 0), 56, (10.6, 10.6, 10.6, 10.6),
         (16, 80), 4096, 1480.5, 715),  # PyTorch; xla has 16,276
        ("V100-16", 16_128, (7, 0), 80, (15.7, 15.7, 15.7, 125),
         (16, 150), 6144, 1530, 877),  # deviceQuery; xla has 16,151
        ("V100-32", 32_480.5, (7, 0), 80, (15.7, 15.7, 15.7, 125),
         (16, 150), 6144, 1530, 877),  # deviceQuery
        ("T4", 14_912, (7, 5), 40, (8.1, 8.1, 8.1, 65),
         (16, 16), 4096, 1590, 5001),  # 14.56 GiB: Zheng-Chong/CatVTON#133
        ("RTX-2080-Ti", 10_825, (7, 5), 68, (14.2, 14.2, 14.2, 56.9),
         (16, 50), 5632, 1635, 7000),  # PyTorch; older drivers 10,986 to 11,020
        # Ampere
        ("RTX-3060", 11_906, (8, 6), 28, (12.7, 12.7, 25.5, 25.5),
         (32, 32), 2304, 1777, 7501),  # GenerelSchwerz/llama.cpp#102
        ("RTX-3070", 7_817, (8, 6), 46, (20.3, 20.3, 40.6, 40.6),
         (32, 32), 4096, 1725, 7001),  # deviceQuery; 7.78 GiB: akshitac8/OW-DETR#46
        ("RTX-3080", 9_984, (8, 6), 68, (29.8, 29.8, 59.5, 59.5),
         (32, 32), 5120, 1710, 9501),  # deviceQuery; 9.78 GiB: zai-org/CogVideo#34
        ("RTX-3080-Ti", 11_910.625, (8, 6), 80, (34.1, 34.1, 68.2, 68.2),
         (32, 32), 6144, 1665, 9501),  # PyTorch; deviceQuery 12,045
        ("RTX-3090", 24_123, (8, 6), 82, (35.6, 35.6, 71, 71),
         (32, 56.25), 6144, 1695, 9751),  # llama.cpp; 23.70 GiB: Lightning-AI/lit-llama#137
        ("A10", 22_515.75, (8, 6), 72, (31.2, 62.5, 125, 125),
         (32, 32), 6144, 1695, 6251),  # deviceQuery
        ("A10G", 22_587, (8, 6), 80, (35, 35, 70, 70),
         (32, 32), 6144, 1710, 6251),  # PyTorch, as TorchCodec's documentation prints it
        ("A40", 45_403, (8, 6), 84, (37.4, 74.8, 149.7, 149.7),
         (32, 56.25), 6144, 1740, 7251),  # deviceQuery
        ("RTX-A6000", 48_676, (8, 6), 84, (38.7, 77.4, 154.8, 154.8),
         (32, 56.25), 6144, 1800, 8001),  # xla
        ("A30", 24_060, (8, 0), 56, (10.3, 82, 165, 165),
         (32, 100), 24_576, 1440, 1215),  # nvbench; 23.53 GiB: google/RB-Modulation#5
        ("A100-40", 40_339, (8, 0), 108, (19.5, 156, 312, 312),
         (32, 300), 40_960, 1410, 1215),  # bottlerocket-os/bottlerocket#3873
        ("A100-80", 81_038, (8, 0), 108, (19.5, 156, 312, 312),
         (32, 300), 40_960, 1410, 1593),  # deviceQuery; xla has 81,158
        # Ada
        ("RTX-4060", 7_807, (8, 9), 24, (15.1, 15.1, 30.2, 30.2),
         (16, 16), 24_576, 2460, 8501),  # PyTorch
        ("RTX-4060-Ti-8", 7_797, (8, 9), 34, (22.1, 22.1, 44.1, 44.1),
         (16, 16), 32_768, 2535, 9001),  # PyTorch
        ("RTX-4060-Ti-16", 15_944, (8, 9), 34, (22.1, 22.1, 44.1, 44.1),
         (16, 16), 32_768, 2535, 9001),  # llama.cpp; deviceQuery 15,948
        ("RTX-4070", 11_866, (8, 9), 46, (29.1, 29.1, 58.3, 58.3),
         (32, 32), 36_864, 2475, 10_501),  # llama.cpp
        ("RTX-4070-Ti-SUPER", 15_934, (8, 9), 66, (44.1, 44.1, 88.2, 88.2),
         (32, 32), 49_152, 2610, 10_501),  # PyTorch
        ("RTX-4080", 16_049, (8, 9), 76, (48.7, 48.7, 97.5, 97.5),
         (32, 32), 65_536, 2505, 11_201),  # PyTorch
        ("RTX-4090", 24_080, (8, 9), 128, (82.6, 82.6, 165.2, 165.2),
         (32, 32), 73_728, 2520, 10_501),  # ggml-org/llama.cpp#15860
        ("L4", 22_518, (8, 9), 58, (30.3, 60, 121, 121),
         (32, 32), 49_152, 2040, 6251),  # deviceQuery; PyTorch 22,563
        ("L40S", 45_373, (8, 9), 142, (91.6, 183, 362, 362),
         (32, 32), 98_304, 2520, 9001),  # deviceQuery; llama.cpp 45,467
        ("RTX-6000-Ada", 48_497, (8, 9), 142, (91.1, 182.1, 364.2, 364.2),
         (32, 32), 98_304, 2505, 10_001),  # PyTorch
        # Hopper
        ("H100", 81_008, (9, 0), 132, (67, 494.7, 989.4, 989.4),
         (64, 450), 51_200, 1980, 2619),  # xla; deviceQuery 81,079 to 81,106
        ("H100-PCIe", 81_008, (9, 0), 114, (51.2, 378, 756, 756),
         (64, 300), 51_200, 1755, 1593),  # xla
        ("H200", 143_156, (9, 0), 132, (67, 494.7, 989.4, 989.4),
         (64, 450), 61_440, 1980, 3201),  # PyTorch
        ("GH200", 96_768, (9, 0), 132, (67, 494.7, 989.4, 989.4),
         (450, 450), 61_440, 1980, 2619),  # deviceQuery, of the one with 96 GB of HBM3
        # Blackwell
        ("RTX-5070-Ti", 15_808, (12, 0), 70, (43.9, 43.9, 87.9, 87.9),
         (64, 64), 49_152, 2452, 14_001),  # llama.cpp
        ("RTX-5080", 15_840, (12, 0), 84, (56.3, 56.3, 112.6, 112.6),
         (64, 64), 65_536, 2617, 15_001),  # PyTorch
        ("RTX-5090", 32_101, (12, 0), 170, (104.8, 104.8, 209.5, 209.5),
         (64, 64), 98_304, 2407, 14_001),  # deviceQuery; 32,120: NVIDIA/nccl#1637
        ("RTX-PRO-6000", 97_247, (12, 0), 188, (126, 251.9, 503.8, 503.8),
         (64, 64), 131_072, 2617, 14_001),  # llama.cpp, of the workstation's
        ("B200", 182_631, (10, 0), 148, (75, 1125, 2250, 2250),
         (64, 900), 129_536, 1965, 3996),  # PyTorch; 178.35 GiB: pytorch/ao#4002
    )
}  # fmt: skip
DEFAULT = KNOWN["A100-80"]  # the published figures' kind


UNITS = {"": 1e9, "g": 1e9, "gb": 1e9, "gib": 2**30, "mb": 1e6, "mib": 2**20}
SIZE = re.compile(r"^(\d+)gi?b$")
SOLD = (8, 10, 11, 12, 16, 24, 32, 40, 48, 80, 96, 141, 180)  # GB, as in "RTX 3060 12GB"
# What CUDA's and the makers' names have besides: "Tesla V100-SXM2-16GB", "NVIDIA H100 80GB HBM3"
BESIDES = re.compile(
    r"nvidia|geforce|tesla|[rg]tx|sxm\d?|hbm\d\w?|generation|blackwell|workstation|server|edition"
)


def find(text: str) -> Model:
    """The GPU of a name ("rtx 4090", "NVIDIA H100 80GB HBM3"), of a name and another memory
    ("T4:14.5GiB", "A100:20"), or an A100 with as much memory ("24", "24GiB").

    Raises ValueError if the text is none of these, or if several kinds have the name.
    """
    kind, other, size = text.rpartition(":")
    memory = _bytes(size)
    if other:
        models = sorted(_named(kind), key=lambda model: model.memory)
        if not models or memory is None:
            raise ValueError(_possible(text))
        enough = [model for model in models if model.memory >= memory]
        return replace((enough or models[-1:])[0], memory=memory)  # its name stays the kind's
    models = _named(size)
    if len(models) == 1:
        return models[0]
    if models:
        raise ValueError(f"{text!r} is {' or '.join(model.name for model in models)}: say which")
    if memory is None:
        raise ValueError(_possible(text))
    name = text.strip() if re.search("[a-zA-Z]", text) else f"{text.strip()} GB"
    return replace(DEFAULT, name=name, memory=memory, assumed=ASSUMED)


def _possible(text: str) -> str:
    return (
        f"{text!r} is no GPU that is known here. Known are {', '.join(KNOWN)}, each also with "
        "another memory (T4:14.5GiB). Of any other, give the memory: 24 (GB, up to 1000) or 24GiB"
    )


def _bytes(text: str) -> int | None:
    """Bytes of "24", "24GB", "24 GiB", "24576 MiB"; None if it is none of these."""
    plain = re.sub(r"\s", "", text.lower())
    size = re.fullmatch(r"(\d+\.?\d*|\.\d+)(g|[gm]i?b)?", plain)
    memory = float(size[1]) * UNITS[size[2] or ""] if size else 0.0
    return int(memory) if 1 <= memory <= 1e12 else None  # more is part of a name ("4090")


def _words(name: str) -> list[str]:
    """What tells a name from others, the size at the end and without its unit: ["a100", "80"]."""
    words = [re.sub("^[rg]tx(?=.)", "", word) for word in re.split(r"[\s_-]+", name.lower())]
    words.sort(key=lambda word: bool(SIZE.fullmatch(word)))
    return [SIZE.sub(r"\1", word) for word in words if not BESIDES.fullmatch(word)]


def _spelled(model: Model) -> set[str]:
    """The ways to write a kind's name, as `_words` leaves them: with the memory and without."""
    words = _words(model.name)
    if re.search(r"-(8|16|32|40|80)$", model.name):
        return {"".join(words), "".join(words[:-1])}
    sold = next(size for size in SOLD if size >= model.memory / 2**30)
    return {"".join(words), f"{''.join(words)}{sold}"}


def _named(text: str) -> list[Model]:
    """The kinds that have this name; several if it leaves out a memory that tells them apart."""
    words = _words(text)
    for wanted in (words, [word for word in words if word != "pcie"]):  # one of a kind's boards
        if found := [model for model in KNOWN.values() if "".join(wanted) in _spelled(model)]:
            return found
    return []
