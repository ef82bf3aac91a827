"""The GPUs that are known: what of their data has to agree, and how people write their names."""

import math

import pytest

from vramcast import gpus

LARGE, SMALL = 32 * 2**20, 8_519_680
# a hundredth of a GB around the total of an out-of-memory message of PyTorch
MESSAGES = [
    ("T4", 14.56),  # GiB; Zheng-Chong/CatVTON#133
    ("B200", 178.35),  # pytorch/ao#4002
    ("A100-40", 39.39),  # bottlerocket-os/bottlerocket#3873, in bytes
    ("RTX-4090", 23.52),  # ggml-org/llama.cpp#15860, in MiB
]
# MiB that others print than where the totals are from, of newer and of older drivers, which keep up
# to 200 MiB more for themselves: see the comments there
OTHERS = {
    "P100": 16_276, "V100-16": 16_151, "T4": 14.56 * 1024, "RTX-2080-Ti": 11_020,
    "RTX-3070": 7.78 * 1024, "RTX-3080": 9.78 * 1024, "RTX-3080-Ti": 12_045,
    "RTX-3090": 23.70 * 1024, "A30": 23.53 * 1024, "A100-40": 39.39 * 1024, "A100-80": 81_158,
    "RTX-4060-Ti-16": 15_948, "L4": 22_563, "L40S": 45_467, "H100": 81_079, "RTX-5090": 32_120,
    "B200": 178.35 * 1024,
}  # fmt: skip
CORES = {(6, 0): 64, (7, 0): 64, (7, 5): 64, (8, 0): 64}  # of a multiprocessor; later ones 128
# As data sheets print them: CUDA cores, bits of the memory's bus and GB/s of it, GB/s of PCIe in
# one direction (16 lanes of its generation, or 8), and GB/s of NVLink in both
SHEETS = {
    "GTX-1080-Ti": (3584, 352, 484, 16, 0), "P100": (3584, 4096, 732, 16, 160),
    "V100-16": (5120, 4096, 900, 16, 300), "V100-32": (5120, 4096, 900, 16, 300),
    "T4": (2560, 256, 320, 16, 0), "RTX-2080-Ti": (4352, 352, 616, 16, 100),
    "RTX-3060": (3584, 192, 360, 32, 0), "RTX-3070": (5888, 256, 448, 32, 0),
    "RTX-3080": (8704, 320, 760, 32, 0), "RTX-3080-Ti": (10240, 384, 912, 32, 0),
    "RTX-3090": (10496, 384, 936, 32, 112.5), "A10": (9216, 384, 600, 32, 0),
    "A10G": (10240, 384, 600, 32, 0), "A40": (10752, 384, 696, 32, 112.5),
    "RTX-A6000": (10752, 384, 768, 32, 112.5), "A30": (3584, 3072, 933, 32, 200),
    "A100-40": (6912, 5120, 1555, 32, 600), "A100-80": (6912, 5120, 2039, 32, 600),
    "RTX-4060": (3072, 128, 272, 16, 0), "RTX-4060-Ti-8": (4352, 128, 288, 16, 0),
    "RTX-4060-Ti-16": (4352, 128, 288, 16, 0), "RTX-4070": (5888, 192, 504, 32, 0),
    "RTX-4070-Ti-SUPER": (8448, 256, 672, 32, 0), "RTX-4080": (9728, 256, 717, 32, 0),
    "RTX-4090": (16384, 384, 1008, 32, 0), "L4": (7424, 192, 300, 32, 0),
    "L40S": (18176, 384, 864, 32, 0), "RTX-6000-Ada": (18176, 384, 960, 32, 0),
    "H100": (16896, 5120, 3350, 64, 900), "H100-PCIe": (14592, 5120, 2039, 64, 600),
    "H200": (16896, 6144, 4900, 64, 900), "GH200": (16896, 6144, 4000, 450, 900),
    "RTX-5070-Ti": (8960, 256, 896, 64, 0), "RTX-5080": (10752, 256, 960, 64, 0),
    "RTX-5090": (21760, 512, 1792, 64, 0), "RTX-PRO-6000": (24064, 512, 1792, 64, 0),
    "B200": (18944, 8192, 8000, 64, 1800),
}  # fmt: skip
# MiB of L2 cache of a whole chip, of which a kind may have a part
CACHES = {
    (6, 0): 4, (6, 1): 2.75, (7, 0): 6, (7, 5): 5.5, (8, 0): 40, (8, 6): 6, (8, 9): 96, (9, 0): 60,
    (10, 0): 126.5, (12, 0): 128,
}  # fmt: skip


@pytest.mark.parametrize(("name", "gib"), MESSAGES)
def test_a_memory_is_what_cuda_reports(name, gib):
    assert gpus.KNOWN[name].memory / 2**30 == pytest.approx(gib, abs=0.005)


@pytest.mark.parametrize("model", gpus.KNOWN.values(), ids=gpus.KNOWN)
def test_the_data_of_a_gpu_agree_with_each_other(model):
    sold = next(size for size in gpus.SOLD if size >= model.memory / 2**30)
    assert 0.9 * sold <= model.memory / 2**30 <= sold  # ECC takes a sixteenth of a memory
    rates = model.speed.tflops
    cycles = model.multiprocessors * model.clock / 1e9  # of all, 1e12 a second
    cores = CORES.get(model.capability, 128)
    assert rates["float32"] == pytest.approx(2 * cores * cycles, rel=0.01)
    if model.capability >= (7, 0):  # 16-bit products a cycle: a power of 2, but for slower clocks
        power = math.log2(rates["float16"] / cycles)
        assert power == pytest.approx(round(power), abs=0.12)
    assert (rates["bfloat16"] == rates["float16"]) == (model.bfloat16 or model.capability < (7, 0))


@pytest.mark.parametrize("name", OTHERS)
def test_a_memory_is_near_what_others_print_and_rather_less(name):
    more = OTHERS[name] - gpus.KNOWN[name].memory / 2**20
    assert -6 <= more <= 200  # 0.005 GiB, to which some of them are rounded


@pytest.mark.parametrize(
    ("name", "mib"), [("RTX-4060-Ti-8", 107), ("RTX-PRO-6000", 555), ("T4", 135)]
)
def test_a_context_is_about_what_was_measured(name, mib):
    """llama.cpp's pull request 23604, and torch-preflight."""
    assert gpus.KNOWN[name].context / 2**20 == pytest.approx(mib, rel=0.12)


def test_the_data_are_a_data_sheets():
    """Half of both directions of NVLink; without it, GPUs meet over PCIe."""
    assert set(SHEETS) == set(gpus.KNOWN)
    for name, (cores, bits, rate, to_host, linked) in SHEETS.items():
        model = gpus.KNOWN[name]
        assert cores == model.multiprocessors * CORES.get(model.capability, 128), name
        assert 2 * model.memory_clock * 1000 * bits / 8e9 == pytest.approx(rate, rel=0.025), name
        assert model.speed.host == to_host, name
        assert model.speed.gpus == (linked / 2 or to_host), name
        cache = model.cache / 2**20
        assert 0.2 * CACHES[model.capability] < cache <= CACHES[model.capability], name
        assert model.cache % 2**18 == 0, name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("RTX 4090", "RTX-4090"),
        ("rtx4090", "RTX-4090"),
        ("4090", "RTX-4090"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("geforce rtx 3060", "RTX-3060"),
        ("RTX 3060 12GB", "RTX-3060"),
        ("3080", "RTX-3080"),
        ("4060 ti 16gb", "RTX-4060-Ti-16"),
        ("Tesla T4", "T4"),
        ("nvidia l4", "L4"),
        ("a10", "A10"),
        ("a6000", "RTX-A6000"),
        ("6000 ada", "RTX-6000-Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("Tesla V100-SXM2-16GB", "V100-16"),
        ("Tesla P100-PCIE-16GB", "P100"),
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA A100 80GB PCIe", "A100-80"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("h100 80gb pcie", "H100-PCIe"),
    ],
)
def test_gpus_as_people_write_them(text, name):
    assert gpus.find(text) == gpus.KNOWN[name]


def test_every_gpu_is_found_by_its_name():
    assert {name: gpus.find(name) for name in gpus.KNOWN} == gpus.KNOWN


@pytest.mark.parametrize(
    ("text", "name", "memory"),
    [
        ("24", "24 GB", 24 * 10**9),
        ("24GB", "24GB", 24 * 10**9),
        ("24 GB", "24 GB", 24 * 10**9),
        ("24 GiB", "24 GiB", 24 * 2**30),
        ("0.5", "0.5 GB", 10**9 // 2),
        ("24576 MiB", "24576 MiB", 24 * 2**30),
        ("24000MB", "24000MB", 24 * 10**9),
        ("24g", "24g", 24 * 10**9),
        (".5 GB", ".5 GB", 10**9 // 2),
        ("1000 GB", "1000 GB", 10**12),
    ],
)
def test_a_memory_alone_is_an_a100s_and_says_so(text, name, memory):
    model = gpus.find(text)
    assert (model.name, model.memory, model.capability) == (name, memory, (8, 0))
    assert "an A100's" in model.assumed
    assert gpus.find("A100-80").assumed is None


@pytest.mark.parametrize(
    ("text", "name", "memory"),
    [
        ("T4:14.5GiB", "T4", 29 * 2**29),
        ("RTX-3090:23.6 GiB", "RTX-3090", int(23.6 * 2**30)),
        ("rtx 4090:48", "RTX-4090", 48 * 10**9),
        ("A100:20", "A100-40", 20 * 10**9),
        ("A100:60", "A100-80", 60 * 10**9),
        ("A100:90", "A100-80", 90 * 10**9),
    ],
)
def test_a_kind_with_another_memory(text, name, memory):
    model, kind = gpus.find(text), gpus.KNOWN[name]
    assert (model.name, model.memory, model.assumed) == (name, memory, None)
    assert (model.capability, model.speed, model.cache) == (
        kind.capability,
        kind.speed,
        kind.cache,
    )


@pytest.mark.parametrize(
    "text",
    [
        "1001 GB",
        "0.0000000001",
        "",
        " ",
        "GB",
        "-8",
        "0",
        "nan",
        "inf",
        "1e400",
        "RTX",
        "8 TB",
        "T4:",
        "T4:x",
        ":24",
        "X9:24",
    ],
)
def test_what_is_no_gpu(text):
    with pytest.raises(ValueError, match=r"is no GPU .* T4, .*T4:14.5GiB"):
        gpus.find(text)


@pytest.mark.parametrize(
    "text", ["l40", "4070 ti", "4070 super", "3080 12gb", "NVIDIA GeForce RTX 4060 Laptop GPU"]
)
def test_another_gpu_is_not_taken_for_one_of_a_similar_name(text):
    with pytest.raises(ValueError, match="is no GPU"):
        gpus.find(text)


@pytest.mark.parametrize(
    ("text", "both"),
    [
        ("a100", "A100-40 or A100-80"),
        ("Tesla V100", "V100-16 or V100-32"),
        ("4060 ti", "RTX-4060-Ti-8 or RTX-4060-Ti-16"),
    ],
)
def test_a_name_of_two_lists_them(text, both):
    with pytest.raises(ValueError, match=f"is {both}: say which"):
        gpus.find(text)


@pytest.mark.parametrize(
    ("major", "size"),
    [(7, SMALL), (8, SMALL), (9, LARGE), (10, LARGE), (11, LARGE), (12, LARGE), (13, SMALL)],
)
def test_cublas_workspace_by_capability(major, size):
    assert gpus.workspace((major, 0)) == size


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (":4096:8", 4096 * 8 * 1024),
        (":16:8", 16 * 8 * 1024),
        (":4096:2:16:8", SMALL),
        (":0:0", 0),
        ("", LARGE),
        ("4096", LARGE),
    ],
)
def test_cublas_workspace_as_the_variable_says(config, size):
    assert gpus.workspace((9, 0), config) == size
