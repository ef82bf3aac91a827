"""Convolutions: what cuDNN is asked, what it answers, and what is taken and given back for it.

Which workspaces cuDNN wants depends on its version, so no figure of it stands here.
"""

import itertools
import json

import pytest
import torch

from tests.warm import run
from vramcast import gpus
from vramcast.operators import cudnn
from vramcast.operators.cudnn_devices import cudnn_properties

INSTANT, FALLBACK = 0, 2  # cuDNN's heuristics, in the order in which PyTorch asks them
NO_TF32, CONVERTS, VARIES = 0, 1, 4  # what cuDNN notes of an engine


def probe(code: str, *sizes: int) -> dict:
    process = run("-m", "tests.probes.convolutions", code, *sizes)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def library() -> cudnn.Library:
    """cuDNN, asked about an A100; skips the test if it cannot be."""
    try:
        return cudnn.Library(cudnn_properties(gpus.DEFAULT))
    except cudnn.Unanswered as reason:
        pytest.skip(str(reason))


def taken(found: dict) -> list[int]:
    """The bytes that were taken without a tensor, all of which were given back."""
    ours = [(what, size) for what, name, size in found["events"] if name == "library"]
    sizes = [size for what, size in ours if what == "allocate"]
    assert sorted(sizes) == sorted(size for what, size in ours if what == "free")
    return sizes


def test_a_workspace_is_taken_after_each_result_and_given_back_before_the_next():
    output, weight, input = 2 * 8 * 6 * 6 * 4, 8 * 3 * 3 * 3 * 4, 2 * 3 * 8 * 8 * 4
    code = "conv = Conv2d(3, 8, 3, bias=False); x = input(2, 3, 8, 8); y = conv(x); g = y.detach()"
    found = probe(f"{code}; y.backward(g)", 1000, 7000)
    assert [tuple(event) for event in found["events"][2:11]] == [
        ("allocate", "convolution", output),
        ("allocate", "library", 1000),
        ("free", "library", 1000),
        ("allocate", "convolution_backward", input),
        ("allocate", "library", 1000),
        ("free", "library", 1000),
        ("allocate", "convolution_backward", weight),
        ("allocate", "library", 1000),
        ("free", "library", 1000),
    ]
    assert found["notes"] == ["the workspaces of convolutions are those of cuDNN 0.0"]


@pytest.mark.parametrize(
    ("code", "operations", "shapes"),
    [
        ("Conv2d(3, 8, 3)(input(2, 3, 9, 9).detach())", "forward filter",
         [[2, 3, 9, 9], [8, 3, 3, 3], [2, 8, 7, 7]]),
        ("Conv1d(3, 8, 3, padding=1)(input(2, 3, 9))", "forward data filter",
         [[2, 3, 1, 9], [8, 3, 1, 3], [2, 8, 1, 9]]),
        ("Conv3d(4, 8, 3, groups=2)(input(2, 4, 9, 9, 9))", "forward data filter",
         [[2, 4, 9, 9, 9], [8, 2, 3, 3, 3], [2, 8, 7, 7, 7]]),
        ("ConvTranspose2d(3, 8, 3, stride=2)(input(2, 3, 9, 9))", "data forward filter",
         [[2, 8, 19, 19], [3, 8, 3, 3], [2, 3, 9, 9]]),
        ("Conv2d(3, 8, 3)(input(2, 3, 9, 9)).detach().requires_grad_()", "forward",
         [[2, 3, 9, 9], [8, 3, 3, 3], [2, 8, 7, 7]]),
        ("Conv2d(32, 32, 3, groups=32)(input(2, 32, 9, 9))", "", None),  # PyTorch's own kernel
        ("Conv2d(3, 8, 3)(input(0, 3, 9, 9))", "", None),
        ("Conv2d(3, 8, 3).cpu()(torch.empty(2, 3, 9, 9, device='cpu'))", "", None),
    ],
)  # fmt: skip
def test_which_passes_are_asked_for(code, operations, shapes):
    found = probe(f"({code}).sum().backward()", 1000)
    assert [one["operation"] for one in found["asked"]] == operations.split()
    assert all(one["shapes"] == shapes for one in found["asked"])
    assert not any(one["channels_last"] for one in found["asked"])
    assert taken(found).count(1000) == len(operations.split())


def test_dilation_is_cudnns_and_bfloat16_from_compute_capability_8_on():
    found = probe("Conv2d(3, 8, 3, dilation=2)(input(2, 3, 9, 9))", 1000)
    assert found["asked"][0]["dilation"] == [2, 2]
    code = "Conv2d(3, 8, 3).bfloat16()(input(2, 3, 9, 9, dtype=torch.bfloat16))"
    assert probe(code, 1000)["asked"][0]["dtype"] == "bfloat16"
    turing = "torch.cuda.get_device_capability = lambda: (7, 5)"
    found = probe(f"{turing}; {code}", 1000)
    assert not found["asked"]
    assert taken(found) == [3 * 3 * 3 * 7 * 7 * 2]  # columns


def test_padding_stride_and_dilation_in_one_dimension_become_those_in_two():
    found = probe("Conv1d(3, 8, 3, stride=2, padding=4, dilation=3)(input(2, 3, 19))", 1000)
    (one,) = found["asked"]
    assert (one["padding"], one["stride"], one["dilation"]) == ([0, 4], [1, 2], [1, 3])


def test_channels_that_come_last_are_cudnns_layout_and_what_comes_first_is_copied():
    module = "Conv2d(4, 8, 3).to(memory_format=torch.channels_last)"
    found = probe(f"{module}(input(2, 4, 9, 9))", 1000)
    (one,) = found["asked"]
    assert one["channels_last"]
    assert taken(found) == [2 * 4 * 9 * 9 * 4, 1000]
    last = "input(2, 4, 9, 9, memory_format=torch.channels_last)"
    assert taken(probe(f"{module}({last})", 1000)) == [1000]


def test_the_data_type_is_that_of_the_tensors():
    code = "with torch.autocast('cuda', torch.bfloat16): Conv2d(3, 8, 3)(input(2, 3, 9, 9))"
    (one,) = probe(code, 1000)["asked"]
    assert one["dtype"] == "bfloat16"


def test_data_that_begins_in_the_middle_of_a_tensor_is_aligned_less():
    found = probe("Conv2d(3, 8, 3)(input(5, 3, 9, 9)[1:])", 1000)  # after 972 = 4 * 243 bytes
    assert found["asked"][0]["alignments"] == [4, 32, 32]


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ("", [CONVERTS]),
        ("torch.backends.cudnn.deterministic = True", [CONVERTS, VARIES]),
        ("torch.use_deterministic_algorithms(True)", [CONVERTS, VARIES]),
        ("torch.backends.cudnn.allow_tf32 = False", [NO_TF32, CONVERTS]),
    ],
)
def test_engines_that_pytorch_does_not_use_are_left_out(settings, refused):
    found = probe(f"{settings}\nConv2d(3, 8, 3)(input(2, 3, 9, 9))", 1000)
    assert found["asked"][0]["refused"] == refused


def test_a_workspace_that_does_not_fit_makes_place_for_another_plan():
    found = probe("Conv2d(3, 8, 3)(input(2, 3, 9, 9))", 10**12, 7000)
    assert taken(found) == [7000]
    assert [one["mode"] for one in found["asked"]] == [INSTANT]


def test_where_none_fits_the_least_is_taken():
    found = probe("Conv2d(3, 8, 3)(input(2, 3, 9, 9))", 10**13, 10**12)
    assert taken(found) == [10**12]
    assert [one["mode"] for one in found["asked"]] == [INSTANT, FALLBACK]


def test_where_the_heuristics_have_no_plan_the_fallback_counts_and_a_note_says_so():
    library()
    ask = "ask = cudnn.Library.workspaces"
    without = (
        "lambda one, question, mode, refused: ask(one, question, mode, refused) if mode else []"
    )
    code = "Conv2d(64, 64, 3)(input(128, 64, 56, 56))"
    found = probe(f"{ask}; cudnn.Library.workspaces = {without}; {code}")
    assert [one["mode"] for one in found["asked"]] == [FALLBACK]
    assert taken(found) == [size for size in found["asked"][0]["said"][:1] if size]
    assert found["notes"][-1].startswith("cuDNN's heuristics have no plan")


def test_benchmarking_takes_the_largest_workspace_once_and_empties_the_cache():
    code = "conv = Conv2d(3, 8, 3); conv(input(2, 3, 9, 9)); conv(input(2, 3, 9, 9))"
    found = probe(f"torch.backends.cudnn.benchmark = True; {code}", 1000, 10**12, 7000)
    happened = [(w, s) for w, name, s in found["events"] if name == "library" or w == "empty"]
    assert happened == [
        ("allocate", 7000), ("free", 7000), ("empty", 0),
        ("allocate", 1000), ("free", 1000), ("allocate", 1000), ("free", 1000),
    ]  # fmt: skip


def test_pytorchs_own_kernel_takes_the_columns_of_an_image():
    """github.com/pytorch/pytorch/issues/128947: "Tried to allocate 161.37 GiB"."""
    off = "torch.backends.cudnn.enabled = False"
    found = probe(f"{off}; Conv3d(256, 64, 3)(torch.empty(1, 256, 5, 1090, 1922))", 1000)
    assert not found["asked"]
    assert [round(size / 2**30, 2) for size in taken(found)] == [161.37]
    found = probe(f"{off}; ConvTranspose2d(3, 8, 3)(torch.empty(2, 3, 9, 9))", 1000)
    assert taken(found) == [8 * 3 * 3 * 9 * 9 * 4]


@pytest.mark.parametrize(
    ("spoiled", "told"),
    [
        ("cudnn.LIBRARY = 'no-such-library'", "cuDNN is not installed"),
        ("cudnn.OLDEST = 10**9", "answers only where the GPU is"),
    ],
)
def test_without_an_answer_no_workspace_is_taken_and_a_note_says_so(spoiled, told):
    library()
    code = "Conv2d(3, 8, 3)(input(2, 3, 9, 9).detach())"
    found = probe(f"{spoiled}; {code}; {code}")
    assert not taken(found)
    (note,) = found["notes"]
    assert note.startswith("cuDNN's workspaces for convolutions are not counted: ")
    assert note.endswith(told)


# ------------------------------------------------------------------------- cuDNN itself


def test_what_is_taken_is_what_cudnn_says():
    library()
    code = "Conv2d(64, 64, 3, padding=1, bias=False)(input(128, 64, 56, 56))"
    found = probe(f"y = {code}; y.backward(y.detach())")
    assert len(found["asked"]) == 3
    assert taken(found) == [one["said"][0] for one in found["asked"] if one["said"][0]]
    assert taken(found), "float32 with channels first takes some on an A100, in 9.17 and in 9.24"


def question(**other) -> cudnn.Question:
    usual = {
        "operation": cudnn.FORWARD, "dtype": torch.float32,
        "shapes": ((8, 64, 56, 56), (64, 64, 3, 3), (8, 64, 56, 56)), "alignments": (32, 32, 32),
        "channels_last": False, "padding": (1, 1), "stride": (1, 1), "dilation": (1, 1),
    }  # fmt: skip
    return cudnn.Question(**usual | other)


@pytest.mark.parametrize("operation", [cudnn.FORWARD, cudnn.DATA, cudnn.FILTER])
def test_cudnn_has_plans_for_each_pass(operation):
    cudnn_here = library()
    for mode, dtype, last in itertools.product(
        (INSTANT, FALLBACK), (torch.float32, torch.bfloat16), (False, True)
    ):
        asked = question(operation=operation, dtype=dtype, channels_last=last)
        sizes = list(cudnn_here.workspaces(asked, mode, frozenset()))
        assert min(sizes, default=-1) >= 0
        assert list(cudnn_here.workspaces(asked, mode, frozenset())) == sizes


def test_engines_with_a_refused_note_are_left_out():
    cudnn_here = library()
    everything = list(cudnn_here.workspaces(question(), INSTANT, frozenset()))
    exact = list(cudnn_here.workspaces(question(), INSTANT, frozenset({cudnn.TENSOR_CORE})))
    assert len(exact) < len(everything)  # an A100's tensor cores multiply in TF32


def test_cudnn_answers_for_the_gpu_that_it_is_told_of():
    library()
    large = question(shapes=((128, 64, 56, 56), (64, 64, 3, 3), (128, 64, 56, 56)))
    answers = {
        name: tuple(
            cudnn.Library(cudnn_properties(gpus.find(name))).workspaces(large, INSTANT, frozenset())
        )
        for name in ("A100-80", "T4")
    }
    assert answers["A100-80"] != answers["T4"]


def test_a_convolution_that_is_none_has_no_plan():
    wrong = question(shapes=((8, 64, 56, 56), (64, 64, 3, 3), (8, 64, 99, 99)))
    assert list(library().workspaces(wrong, INSTANT, frozenset())) == []


def test_a_device_that_is_not_described_is_not_known():
    library()
    with pytest.raises(cudnn.Unanswered, match="does not know this GPU"):
        cudnn.Library({})


@pytest.mark.parametrize(("last", "strides"), [(False, (24, 12, 4, 1)), (True, (24, 1, 8, 2))])
def test_strides_without_gaps(last, strides):
    assert cudnn.packed((5, 2, 3, 4), last) == strides
    layout = torch.channels_last if last else torch.contiguous_format
    assert torch.empty(5, 2, 3, 4).contiguous(memory_format=layout).stride() == strides
