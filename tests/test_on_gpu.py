"""benchmarks/on_gpu.py, as far as it needs no GPU."""

import importlib.util
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from benchmarks import on_gpu
from ladder.rungs import ROOT, read_ladder
from tests.warm import run
from vramcast import gpus
from vramcast.run.process import NoPrediction

MEASURED = {
    "gpu": "A GPU", "gpus": 1, "date": "now", "versions": {}, "reserved_gb": 10.0,
    "allocated_gb": 8.0,
}  # fmt: skip


def predicted(reserved: float, allocated: float) -> dict:
    return {"script": "03_bfloat16.py", "reserved_gb": reserved, "allocated_gb": allocated}


@pytest.mark.parametrize(
    ("reserved", "allocated", "off"),
    [(10.0, 8.0, False), (10.29, 7.77, False), (10.31, 8.0, True), (9.69, 8.0, True),
     (10.0, 8.25, True)],
)  # fmt: skip
def test_an_error_of_more_than_three_percent_is_told(reserved, allocated, off):
    row = on_gpu.compare(MEASURED, predicted(reserved, allocated))
    assert row["reserved_error"] == pytest.approx(reserved / 10 - 1)
    assert row["allocated_error"] == pytest.approx(allocated / 8 - 1)
    assert on_gpu.is_off(row) is off
    assert on_gpu.line(row).endswith("OFF") is off


def test_a_failure_is_told():
    row = {"script": "03_bfloat16.py", "error": "CUDA out of memory"}
    assert on_gpu.is_off(row)
    assert "03_bfloat16.py" in on_gpu.line(row)
    assert "out of memory" in on_gpu.line(row)


def test_the_prediction_is_for_this_very_gpu(monkeypatch):
    found = SimpleNamespace(
        name="NVIDIA L4", total_memory=23 * 2**30, major=8, minor=9, multi_processor_count=58
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    here = on_gpu.here()
    assert (here.name, here.memory, here.capability) == ("NVIDIA L4", 23 * 2**30, (8, 9))
    assert here.context == 58 * gpus.CONTEXT_PER_MULTIPROCESSOR


def test_what_can_run_depends_on_the_gpus():
    scripts = [rung.script for rung in read_ladder()]
    new, old = gpus.KNOWN["A100-80"], gpus.KNOWN["T4"]
    for script in scripts:
        several = any(name in script for name in ("fsdp", "_ddp", "_zero"))
        language = script.startswith("bonus")
        assert on_gpu.can_run(script, new, 1) == (not several and not language)
        assert on_gpu.can_run(script, new, 4) == (not language)
    assert on_gpu.can_run("02_mixed-precision.py", old, 1)
    assert not on_gpu.can_run("03_bfloat16.py", old, 1)


def test_all_scripts_have_their_place_and_the_most_telling_come_first():
    order = on_gpu.in_order_of_value()
    assert sorted(order) == sorted(rung.script for rung in read_ladder())
    assert order[:2] == ["03_bfloat16.py", "01_pytorch-fp32.py"]


def test_a_package_that_is_missing_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torchao" else find(name)
    )
    assert on_gpu.missing("11-16-under-1gb/14_adamw-8bit.py") == ["torchao"]
    assert on_gpu.missing("03_bfloat16.py") == []


def test_carried_packages_are_unpacked_if_they_are_not_here(tmp_path, monkeypatch):
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    for name in ("carried_thing-1.0-py3-none-any", "tqdm-0.1-py3-none-any"):
        package = name.partition("-")[0]
        (tmp_path / name / package).mkdir(parents=True)
        (tmp_path / name / package / "__init__.py").write_text("")
        shutil.make_archive(str(wheels / name), "zip", tmp_path / name)
        (wheels / f"{name}.zip").rename(wheels / f"{name}.whl")
    target.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "before")
    on_gpu.unpack(wheels, target)
    assert sorted(path.name for path in target.iterdir()) == ["carried_thing"]
    assert os.environ["PYTHONPATH"] == f"before{os.pathsep}{target}"
    assert importlib.util.find_spec("carried_thing")


def test_what_was_measured_stays_without_a_prediction():
    def fail():
        raise NoPrediction("03_bfloat16.py", "too new")

    with ThreadPoolExecutor(1) as pool:
        row = on_gpu.joined(ROOT / "03_bfloat16.py", MEASURED, pool.submit(fail))
    assert (row["reserved_gb"], row["error"]) == (10.0, "no prediction: too new")


def test_without_a_gpu_it_says_so():
    process = run("benchmarks/on_gpu.py")
    assert process.returncode == 2
    assert "there is no CUDA GPU here" in process.stderr


SCRIPT = """
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.models import ViT_B_16_Weights, vit_b_16
model = vit_b_16(weights=ViT_B_16_Weights.IMAGENET1K_V1)
loader = DataLoader(CIFAR10("nowhere", transform=lambda image: image.size), batch_size=4)
print(len(loader), sum(1 for _ in loader), sum(1 for _ in loader))
print(model.heads.head.weight.std().item() >= 0, model.conv_proj.weight.std().item() > 0)
"""


def test_a_script_runs_on_few_batches_of_made_up_images_with_random_weights(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = run("benchmarks/on_gpu.py", "--run", script)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == ["12500 26 26", "True True"]
    assert not (ROOT / "nowhere").exists()


def test_a_script_that_fails_leaves_its_last_line(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("raise ValueError('no room')")
    assert on_gpu.measure(script) == {"error": "ValueError: no room"}
