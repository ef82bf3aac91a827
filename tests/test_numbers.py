"""Numbers that are known, or whose range is, and the sizes that they decide."""

import json
from array import array

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from tests.warm import predicted, run

LENGTHS = [3, 10, 7, 1]  # as in the probe
CANNOT = "a size depends on a number of a tensor, which is not known here"


@pytest.fixture(scope="module")
def found() -> dict:
    process = run("-m", "tests.probes.numbers")
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_small_tensors_on_the_host_are_computed(found):
    """Against the same functions on real tensors, and properties of random numbers."""
    known = found["known"]
    torch.manual_seed(0)
    places = torch.randint(100_000 - 8, (3,)).tolist()
    assert known["places"] == places
    assert known["rows"] == [list(range(place, place + 8)) for place in places]
    assert (known["count"], known["all"], known["in place"]) == (3, [False, True], [4, 2])
    assert sorted(known["shuffled"]) == [*range(5)]
    assert known["drawn"] == [1, 1, 1]
    assert known["spread"] == [0, 0.5, 1]
    assert 0 < known["chance"] < 1
    assert known["chosen"] == [[[0], [2], [3]], [1, 1, 1], [0, 1]]
    assert known["repeated"] == [0, 2, 3]
    assert known["masked"] == [3, 2]
    assert found["written"] is True


def test_known_numbers_are_those_that_a_script_finds(found):
    """In NumPy, in lists, and the greatest of them on a GPU."""
    assert found["handed over"] == [6000, [0, 1, 2]]
    assert found["of tensors"] == [[2, 3, 1.5], [[2, 3]]]
    assert found["of unknown"] == [True, "torch.float32"]
    assert found["again"] == [2, 3]
    assert found["greatest"] == [10, 0]


def test_what_is_rightly_empty_stays_so(found):
    assert found["empty"] == [0]
    assert found["still empty"] == [[0], [0, 16]]


def test_a_size_is_at_most_the_upper_end_of_its_range(found):
    """8 × 16 truth values; classes from 3 to 8; places among 8 or 16."""
    assert found["bounds"] == {
        "sum": 8 * 16 + 1, "slice": [8, 8], "rest": [8, 16 - 3], "argmax": 15, "topk": 15,
        "all": [8, 16], "parts": [8, 8], "repeated": [8 * 3, 16], "given": [40, 16],
        "classes": [4, 9], "counted": [9],
    }  # fmt: skip
    notes = found["notes"]
    assert all(note.startswith("line ") or "cuDNN" in note for note in notes)
    assert any("is taken to be 129, the most it can be" in note for note in notes)


def test_what_is_asserted_of_unknown_numbers_is_so(found):
    """The probe asserts two things; elsewhere, what is not known is False."""
    assert found["asserted"] is False


def test_a_size_without_a_bound_is_refused_in_plain_words(found):
    assert found["refused"] == [CANNOT] * 4
    assert found["value"] == [True]


def test_packed_sequences_have_the_rows_that_pytorch_packs(found):
    """Against the same on real tensors; unknown lengths are all of them."""
    real = pack_padded_sequence(torch.zeros(4, 10, 16), LENGTHS, True, enforce_sorted=False)
    for rows, sizes, output, padded, grad in found["packed"].values():
        assert (rows, sizes) == (list(real.data.shape), real.batch_sizes.tolist())
        assert (output, padded, grad) == ([sum(LENGTHS), 64], [4, 10, 64], [4, 10, 16])
    rows, sizes, *_ = found["packed, unknown"]
    assert (rows, sizes) == ([40, 16], [4] * 10)
    assert any("packed are taken to have equal lengths" in note for note in found["notes"])


def test_ctc_loss_keeps_two_states_for_each_label_and_one(found):
    """Or the gradient, which cuDNN computes at once."""
    assert found["ctc"] == {
        "rows": ["CtcLossBackward0", [4, 50, 2 * 10 + 1]],
        "lists": ["CtcLossBackward0", [4, 50, 2 * 12 + 1]],
        "cuDNN": ["CudnnCtcLossBackward0", [50, 4, 20]],
        "unknown": ["CtcLossBackward1", [4, 50, 2 * 40 + 1]],
    }
    alpha = torch._ctc_loss(
        torch.randn(50, 4, 20).log_softmax(2), torch.ones(40).long(), [50] * 4, [12, 8, 10, 10]
    )[1]
    assert list(alpha.shape) == found["ctc"]["lists"][1]


SCRIPT = """
from torch.utils.data import DataLoader, TensorDataset
words, lengths = torch.ones(16384, 100, dtype=torch.long), torch.randint(1, 90, (16384,))
model = nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 1000)).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, n in DataLoader(TensorDataset(words, lengths), batch_size=64, shuffle=True):
    print("tokens", n.sum().item())
    x = x[:, : n.max().item()].cuda()
    start = torch.zeros(0, device="cuda")
    model(x).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
error, loss = 1.0, model(x).mean()
while loss.item() > 0.1:
    loss = model(x).mean()
while error > 0.1:
    error = float(model(x).mean())
"""


def test_a_batchs_numbers_are_bounds_and_loops_that_they_end_are_told(script):
    """Lengths below 90; the logits and their gradient are there at the peak, of 256 kB a word."""
    row = predicted(script(SCRIPT))
    assert row["allocated_gb"] == pytest.approx(2 * 89 * 64 * 1000 * 4 / 1e9, rel=0.2)
    assert row["reserved_gb"] == pytest.approx(
        predicted(script(SCRIPT.replace("n.max().item()", "89")))["reserved_gb"]
    )
    notes = row["notes"]
    assert "line 11: a slice by a number of a tensor is taken to be as large as it can be" in notes
    for line, times in ((17, 0), (19, 1)):
        told = f"line {line}: a loop ends by a number that is not known here: it ran {times} times"
        assert told in notes


DIVISORS = """
found = torch.rand(100, device="cuda") > 0.5
try:
    1 // (len([1]) - 1)
except ZeroDivisionError:
    numbers = [3, 4]
best = best_correct = 0
layer = nn.Linear(256, 256).cuda()
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for _ in range(2):
    loss = layer(torch.zeros(8, 256, device="cuda")).sum()
    loss.backward()
    optimizer.step()
    accuracy = int(found.sum()) / int(found.sum()) + 1 / loss.item()
    correct = int(found.sum())
    if correct > best_correct or accuracy < correct: raise ValueError("0 is not more than 0")
    if correct / 100 > best:
        best, kept_best = correct / 100, torch.zeros(25_000_000, device="cuda")
    with torch.inference_mode():
        accuracy /= found.sum().item() + torch.tensor(numbers).max().item() - 4
        assert torch.tensor(numbers).cuda().max().item() == 4
most = 100_000_000 // found.sum().item()
kept = torch.zeros(most, device="cuda"), torch.zeros(64 // numbers[1], device="cuda")
"""


def test_a_number_that_is_not_known_divides_as_one_and_is_once_better(script):
    """So a quotient is as large as it may be, and the best model is kept. The script's own are not
    touched: it divides by 0, and compares counts.
    """
    row = predicted(script(DIVISORS))
    notes = [note for note in row["notes"] if "in the place of a divisor" in note]
    lines = dict.fromkeys(note.partition(":")[0] for note in notes)
    assert list(lines) == ["line 17", "line 23", "line 25"]
    assert row["allocated_gb"] == pytest.approx(125_000_000 * 4 / 1e9, rel=0.1)


HEADER = """
header = torch.from_file("header.bin", False, 3, dtype=torch.int32)
assert header[0] == 7 and header.dtype == torch.int32
words = torch.tensor([3, 1, 2]).to(torch.uint16)
assert torch.cat([words[1:], words[:1]]).tolist() == [1, 2, 3]
assert torch.cat([words.to(torch.uint64)] * 2).tolist() == [3, 1, 2] * 2
size = torch.tensor(int(header[2]), dtype=torch.int32, pin_memory=True)
assert size.is_pinned() and size.cuda(non_blocking=True).is_cuda
count = torch.zeros((), dtype=torch.int32, device="cuda")
count.copy_(3)
kept = torch.zeros(size.item(), device="cuda")
"""


def test_the_numbers_of_a_file_are_known_and_pinned_ones_too(script):
    """As a loader of words reads the head of its files."""
    file = script(HEADER)
    (file.parent / "header.bin").write_bytes(array("i", [7, 1, 25_000_000]).tobytes())
    assert predicted(file)["allocated_gb"] == pytest.approx(0.1, rel=0.1)
