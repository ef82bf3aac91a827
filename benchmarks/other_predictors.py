"""What other tools predict for the memory of 01 to 04: python -m benchmarks.other_predictors

Each tool is asked in its own terms: torch-kitsune takes a model, a shape and a precision;
accelerate and DeepSpeed take a model's parameters; PyTorch's MemTracker follows the training step
itself, without data and on the CPU. Each question has a process of its own, and its time counts
from the start of that. Writes results/other_predictors.json. Packages: benchmarks/requirements.txt
"""

import json
import subprocess
import sys
import time

from ladder.rungs import ROOT
from vramcast.processes.supervisor import write_json

RESULTS = ROOT / "results" / "other_predictors.json"
SCRIPTS = {  # script: batch, precision
    "01_pytorch-fp32.py": (64, "32"),
    "02_mixed-precision.py": (64, "mixed"),
    "03_bfloat16.py": (64, "bf16"),
    "04_lower-batchsize.py": (16, "bf16"),
}


def model(precision: str):
    """The scripts' ViT-L/16 with ten classes, in the precision of its parameters."""
    import torch
    from torchvision.models import vit_l_16

    torch.set_default_dtype(torch.bfloat16 if precision == "bf16" else torch.float32)
    return vit_l_16(num_classes=10)


def kitsune(batch: int, precision: str) -> float:
    """GB by torch-kitsune; it does not know mixed precision, so that is asked as 16-bit inputs."""
    import torch
    from kitsune.predict import predict_memory

    dtype = {"32": "float32", "mixed": "float16", "bf16": "bfloat16"}[precision]
    with torch.no_grad():  # it runs the model on the CPU, whose activations would fill the host
        answer = predict_memory(
            model(precision), (3, 224, 224), batch_size=batch, dtype=dtype, optimizer="adam"
        )
    return answer.total_bytes / 1e9


def accelerate(batch: int, precision: str) -> float:
    """GB of "Training using Adam" in the table of `accelerate estimate-memory`.

    The command itself wants a model of the Hub. It knows float32 and float16.
    """
    from accelerate.commands.estimate import estimate_training_usage
    from accelerate.utils import calculate_maximum_sizes

    size, _ = calculate_maximum_sizes(model("32"))
    parts = estimate_training_usage(size, "float32" if precision == "32" else "float16")
    return max(parts.values()) / 1e9


def deepspeed(batch: int, precision: str) -> float:
    """GB by DeepSpeed's estimator for ZeRO 2 on one GPU; it always assumes mixed precision."""
    from deepspeed.runtime.zero import stage_1_and_2 as zero

    count = sum(parameter.numel() for parameter in model("32").parameters())
    return zero.estimate_zero2_model_states_mem_needs(count, cpu_offload=False)[1] / 1e9


def mem_tracker(batch: int, precision: str) -> float:
    """GB that PyTorch's MemTracker counts in three steps on tensors without data, on the CPU."""
    import torch
    import torch.nn.functional as F
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    torch.nn.init.trunc_normal_ = lambda tensor, **options: tensor  # it looks at the numbers
    tracker = MemTracker()
    with FakeTensorMode():
        made = model(precision)
        optimizer = torch.optim.Adam(made.parameters(), lr=5e-5, foreach=True)
        tracker.track_external(made, optimizer)
        with tracker:
            for _ in range(3):
                images = torch.ones(batch, 3, 224, 224)
                labels = torch.zeros(batch, dtype=torch.long)
                with torch.autocast("cpu", torch.float16, enabled=precision == "mixed"):
                    loss = F.cross_entropy(made(images), labels)
                optimizer.zero_grad()  # where the scripts have it
                loss.backward()
                optimizer.step()
                tracker.reset_mod_stats()
    return tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"] / 1e9


TOOLS = {
    "torch-kitsune": kitsune,
    "accelerate estimate-memory": accelerate,
    "DeepSpeed's estimator": deepspeed,
    "MemTracker, FakeTensorMode": mem_tracker,
}
OURS = {
    "vramcast": ["-m", "vramcast", "--json"],
    "vramcast --as-of 2023": ["-m", "vramcast", "--json", "--as-of", "2023"],
}


def asked(command: list[str]) -> tuple[dict, float]:
    """The last line of a Python command's output, which is JSON, and the seconds that it took."""
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(process.stdout.splitlines()[-1]), time.perf_counter() - start


def main() -> None:
    published = json.loads((ROOT / "results" / "published.json").read_text())["rows"]
    known = {row["script"]: row["gb"] for row in published}
    rows = []
    for script in SCRIPTS:
        for tool in [*TOOLS, *OURS]:
            if tool in OURS:
                answer, seconds = asked([*OURS[tool], script])
                size = answer["reserved_gb"]
            else:
                size, seconds = asked(["-m", "benchmarks.other_predictors", tool, script])
            rows.append(
                {
                    "tool": tool, "script": script, "published_gb": known[script],
                    "predicted_gb": size, "seconds": round(seconds, 1),
                }
            )  # fmt: skip
            print(f"{script}, {tool}: {size:.2f} GB, {seconds:.1f} s", flush=True)
    write_json(rows, RESULTS)


if __name__ == "__main__":
    if len(sys.argv) == 3:  # one question
        print(json.dumps(TOOLS[sys.argv[1]](*SCRIPTS[sys.argv[2]])))
    else:
        main()
