"""What the scripts for several GPUs do, seen by running them unmodified in two processes."""

import json
import re

import pytest
import torch
import torch.nn.functional as F
from torch.distributed.fsdp.wrap import _recursive_wrap, size_based_auto_wrap_policy
from torchvision.models import vit_h_14

from ladder.rungs import ROOT
from rehearsal import language
from tests import warm

FOLDER = "08-10-vit-h14/"
SHARDED = [
    "08a_fsdp-defaults",
    "08b_fsdp-custom",
    "08c_fsdp-size-wrap",
    "09_fsdp-act-checkp",
    "09-2_fsdp2-act-checkp",
    "10_fsdp-with-cpu-offload",
]
COPIED = ["08-3_ddp", "08-4_zero-1"]
EXACT = {"precision": "32-true"}
NO_OVERFLOW = {"scale": 256.0}  # so that no float16 step is skipped, by neither script
each_sharded = pytest.mark.parametrize("script", SHARDED)


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """What a script's processes saw; each combination of arguments runs once."""
    known = {}

    def probe(script: str, ranks: int = 2, **options) -> list[dict]:
        key = (script, ranks, json.dumps(options))
        if key not in known:
            out = tmp_path_factory.mktemp("ranks")
            command = ("-m", "tests.probes.ranks", script, out, json.dumps(options))
            folders = {"DATA_DIR": str(out), "RESULTS_DIR": str(out)}
            if ranks > 1:
                processes = warm.torchrun(ranks, *command, **folders)
            else:
                processes = [warm.run(*command, **folders)]
            for process in processes:
                assert process.returncode == 0, process.stdout + process.stderr
            known[key] = [
                torch.load(out / f"rank-{rank}.pt") | {"output": process.stdout}
                for rank, process in enumerate(processes)
            ]
        return known[key]

    return probe


@pytest.fixture(scope="module")
def sharded(probe):
    """The ranks of one of these scripts, with its own precision."""
    return lambda script: probe(f"{FOLDER}{script}.py", activations=True, **NO_OVERFLOW)


@each_sharded
def test_each_rank_keeps_its_part_of_parameters_and_optimizer(sharded, script):
    ranks = sharded(script)
    whole = ranks[0]["whole"]
    for rank in ranks:
        assert rank["parameters"] == pytest.approx(whole / 2, rel=0.01)
        assert rank["state"] == 2 * rank["parameters"]  # Adam's two moments
    assert sum(rank["parameters"] for rank in ranks) == whole


def test_the_baseline_keeps_all(probe):
    (alone,) = probe(f"{FOLDER}08_baseline.py", ranks=1, batch=8)
    assert alone["parameters"] == alone["whole"]
    assert alone["units"] == []


def test_by_default_the_model_is_one_unit(sharded):
    (unit,) = sharded("08a_fsdp-defaults")[0]["units"]
    assert unit[2] == sharded("08a_fsdp-defaults")[0]["whole"]


@pytest.mark.parametrize(
    "script", sorted(set(SHARDED) - {"08a_fsdp-defaults", "08c_fsdp-size-wrap"})
)
def test_each_block_is_a_unit(sharded, script):
    root, *blocks = sharded(script)[0]["units"]
    assert len(blocks) == 4
    assert all("layers.encoder_layer_" in name for name, _, _ in blocks)
    assert {numbers for _, _, numbers in blocks} == {12 * 96**2 + 13 * 96}
    assert root[2] + sum(numbers for _, _, numbers in blocks) == sharded(script)[0]["whole"]


def test_units_by_size_are_large_enough(sharded):
    root, *units = sharded("08c_fsdp-size-wrap")[0]["units"]
    scaled = 2_000_000 * (12 * 96**2 + 13 * 96) / (12 * 1280**2 + 13 * 1280)
    assert all(numbers >= scaled for _, _, numbers in units)
    in_first_block = [kind for name, kind, _ in units if "encoder_layer_0" in name]
    assert in_first_block == ["MultiheadAttention", "Linear", "Linear"]
    whole = sharded("08c_fsdp-size-wrap")[0]["whole"]
    assert root[2] + sum(numbers for _, _, numbers in units) == whole


def test_units_by_size_in_the_real_model_are_three_a_block():
    """With the same policy on ViT-H/14 itself, without its numbers."""

    class Unit(torch.nn.Module):
        def __init__(self, module, **options) -> None:
            super().__init__()
            self.module = module

    with torch.device("meta"):
        model = vit_h_14(image_size=518)
    model.heads.head = torch.nn.Linear(1280, 10, device="meta")

    def policy(**options):
        return size_based_auto_wrap_policy(**options, min_num_params=2_000_000)

    _recursive_wrap(model, policy, Unit, ignored_modules=set(), ignored_params=set())
    units = [name for name, module in model.named_modules() if isinstance(module, Unit)]
    assert len(units) == 3 * 32
    assert all("encoder_layer" in name for name in units)


@pytest.mark.parametrize("script", [*COPIED, *SHARDED])
def test_losses_are_those_of_the_unsharded_script(probe, script):
    """On the same batches, in float32, where only the order of additions differs."""
    (alone,) = probe(f"{FOLDER}08_baseline.py", ranks=1, batch=8, **EXACT)
    ranks = probe(f"{FOLDER}{script}.py", **EXACT)
    assert len(alone["losses"]) == 4
    for rank in ranks:
        assert rank["losses"] == pytest.approx(alone["losses"], abs=1e-4)


@each_sharded
def test_losses_are_those_of_the_unsharded_script_also_in_float16(probe, sharded, script):
    """To the rounding of float16, 2^-11 of each number, as it adds up over four steps."""
    (alone,) = probe(f"{FOLDER}08_baseline.py", ranks=1, batch=8, **NO_OVERFLOW)
    for rank in sharded(script):
        assert rank["losses"] == pytest.approx(alone["losses"], abs=5e-3)


def test_fsdp2_trains_as_fsdp1_does(probe):
    """Also where a float16 step overflows: all ranks skip it, with either."""
    first, second = (
        probe(f"{FOLDER}{script}.py") for script in ("09_fsdp-act-checkp", "09-2_fsdp2-act-checkp")
    )
    for rank in (*first, *second):
        assert rank["losses"] == pytest.approx(first[0]["losses"], abs=1e-4)


def test_data_parallel_training_copies_the_model_and_zero_shares_out_the_states(probe):
    for script in COPIED:
        ranks = probe(f"{FOLDER}{script}.py", **EXACT)
        whole = ranks[0]["whole"]
        states = [rank["state"] for rank in ranks]
        assert sum(states) == 2 * whole * (1 if script == "08-4_zero-1" else 2)
        assert all(rank["units"] == [] for rank in ranks)


@each_sharded
def test_one_process_fetches_the_weights_before_the_others_look(sharded, script):
    first, second = sharded(script)
    assert second["created"][0] >= first["created"][1]


@each_sharded
def test_loss_is_the_same_on_all_ranks(sharded, script):
    first, second = sharded(script)
    assert first["losses"] == second["losses"]


@each_sharded
def test_checkpointing_runs_each_block_twice_and_keeps_less(sharded, script):
    rank, parent = sharded(script)[0], sharded("08b_fsdp-custom")[0]
    checkpointed = script[:2] in ("09", "10")
    assert rank["forwards"] == (8 if checkpointed else 4)
    if checkpointed:
        one_input = 2 * 4 * 50 * 96  # bytes: float16, batch, tokens, width
        assert rank["kept"] < parent["kept"] - 4 * 4 * one_input


@each_sharded
def test_offload_keeps_every_unit_on_the_host(sharded, script):
    rank = sharded(script)[0]
    units = len(rank["units"]) if script.startswith("10") else 0
    assert rank["offload"] == {"parameters": units, "gradients": units}
    assert rank["pinned"] == 2 * units  # its parameters and its gradients, for quick transfers


def bigbird_losses(texts: list[list[tuple]]) -> list[float]:
    """BigBird's losses in plain PyTorch, on the reviews of all ranks: one list per step."""
    torch.manual_seed(123)
    tokenizer = language.small_tokenizer("bigbird", model_max_length=3840)
    model = language.small_model(None, "bigbird").train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    losses = []
    for reviews in texts:
        optimizer.zero_grad()
        losses.append(0.0)
        for text, label in reviews:
            tokens = tokenizer([text], padding=True, pad_to_multiple_of=768, return_tensors="pt")
            loss = F.cross_entropy(model(**tokens).logits, torch.tensor([label])) / len(reviews)
            loss.backward()
            losses[-1] += loss.item()
        optimizer.step()
    return losses


def test_bigbird_accumulates_the_gradient_of_all_reviews(probe, monkeypatch):
    """Over twelve reviews on each of two ranks, with CPU offload, and over the shorter last step.

    That one shows that it begins anew; without `no_backward_sync`, each review's gradient would
    take the place of the last one's.
    """
    ranks = probe("bonus_bigbird.py", sgd=0.001, reviews=34, **EXACT)
    assert all(rank["sparse"] for rank in ranks)
    assert ranks[0]["offload"] == {"parameters": 3, "gradients": 3}
    steps = [
        [review for texts, labels in step for review in zip(texts, labels, strict=True)]
        for step in zip(ranks[0]["texts"], ranks[1]["texts"], strict=True)
    ]
    assert [len(step) for step in steps] == [24, 8]
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        monkeypatch.setitem(language.SIZES["big_bird"], name, 0.0)
    losses = ranks[0]["losses"]
    assert losses == pytest.approx(bigbird_losses(steps), abs=1e-4)
    assert losses == sorted(losses, reverse=True)


def test_distilbert_accumulates_the_gradient_of_the_whole_batch(probe, monkeypatch):
    """`after` in float32 with SGD: its losses are those of plain steps on whole batches."""
    (after,) = probe("bonus_distilbert-after.py", ranks=1, **EXACT)
    for name in ("dropout", "attention_dropout", "seq_classif_dropout"):
        monkeypatch.setitem(language.SIZES["distilbert"], name, 0.0)
    torch.manual_seed(123)
    tokenizer = language.small_tokenizer("distilbert")
    model = language.small_model(None, "distilbert").train()
    steps = len(after["texts"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    losses = []
    for texts, labels in after["texts"]:
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        loss = F.cross_entropy(model(**tokens).logits, torch.tensor(labels))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert len(losses) == 18
    assert after["losses"] == pytest.approx(losses, abs=1e-3)


def test_each_script_says_its_lines_once(sharded):
    """What a rank reports is printed by one, for all of them."""
    output = "".join(rank["output"] for rank in sharded("08a_fsdp-defaults"))
    for line in ("torchmetrics", "GPU: 2 ×", "Epoch 1: loss", "Test accuracy", ", training "):
        assert output.count(line) == 1, line
    # a loop's last line; those before it come every 30 seconds, which a slow machine may need
    ended = re.findall(r"^(.*): batch (\d+)/\2, .* images/s$", output, re.MULTILINE)
    assert [title for title, _ in ended] == ["Epoch 1/1", "Validation", "Test"]
    for rank in (0, 1):
        assert f"Whole run, rank {rank}: GPU peak" in output
    for name in ("local_utilities.py", "cifar10.py", "messages.py", "several_gpus.py"):
        assert (ROOT / FOLDER / name).is_symlink()
