"""Predict published training scripts: python -m benchmarks.public_scripts FOLDER [WORD …]

FOLDER holds the projects' unpacked releases (source archives of PyPI and Debian, named as below),
and a few samples in the formats of three data sets, made for this trial (`data/coco`, `data/flow`,
`data/names`). Packages: those of the projects, today's versions. Writes
results/public_scripts.json.

The scripts were chosen before any was tried. The projects are those whose releases contain training
scripts and can be installed beside today's PyTorch. Of each, at most six scripts were taken that
train a network by gradients on one GPU, with the options that its README names or that are
required. Then what had been missing was built. LATER holds more scripts of these projects, chosen
and tried after that. Each row keeps whether the script was predicted when it was first tried. With
words, only scripts whose repository or path has one of them are tried; the other rows stay.
"""

import json
import subprocess
import sys
from pathlib import Path

from ladder.rungs import ROOT
from vramcast.processes.supervisor import write_json

RESULTS = ROOT / "results" / "public_scripts.json"
IMAGES, TEXTS = "--example images:3x256x256", "--example tokens:512"
SMALL = "--model_name_or_path Qwen/Qwen2.5-0.5B --per_device_train_batch_size 2 --output_dir out"
PAIRS = f"{SMALL} --dataset_name trl-lib/ultrafeedback_binarized"

# Repository and release, its folder, and of each script: path, own options, and ours.
PROJECTS = {
    ("pytorch/vision", "v0.21.0", "vision-0.21.0/references"): [
        ("classification/train.py", "--data-path imagenet --batch-size 32 --amp", IMAGES),
        ("segmentation/train.py", "--data-path voc --dataset voc --model fcn_resnet50", IMAGES),
        ("detection/train.py", "--data-path DATA/coco --model fasterrcnn_resnet50_fpn", ""),
        ("similarity/train.py", "--dataset-dir fmnist", ""),
        ("video_classification/train.py", "--data-path kinetics --batch-size 8", IMAGES),
        (
            "optical_flow/train.py",
            "--dataset-root DATA/flow --name raft --model raft_large --train-dataset chairs",
            "",
        ),
    ],
    ("pytorch/ignite", "v0.5.1", "ignite-0.5.1/examples"): [
        ("mnist/mnist.py", "", ""),
        ("cifar10/main.py", "run", ""),
        ("gan/dcgan.py", "--dataset cifar10 --dataroot cifar10 --output-dir out", ""),
        ("siamese_network/siamese_network.py", "", ""),
        ("super_resolution/main.py", "--crop_size 180 --upscale_factor 3 --cuda", IMAGES),
        ("transformers/main.py", "run", TEXTS),
    ],
    ("pytorch/audio", "v2.6.0", "audio-2.6.0/examples"): [
        (
            "pipeline_wav2letter/main.py",
            "--dataset-train train-clean-100 --dataset-valid dev-clean --batch-size 128",
            "",
        ),
        (
            "pipeline_tacotron2/train.py",
            "--dataset ljspeech --dataset-path lj --epochs 2 "
            "--text-preprocessor english_characters",
            "",
        ),
    ],
    ("huggingface/trl", "v1.16.0", "trl-1.16.0/trl/scripts"): [
        ("sft.py", f"{SMALL} --dataset_name trl-lib/Capybara", TEXTS),
        ("dpo.py", PAIRS, TEXTS),
        ("reward.py", PAIRS, TEXTS),
    ],
    ("pytorch/opacus", "v1.6.0", "opacus-1.6.0/examples"): [
        ("mnist.py", "--device cuda", ""),
        ("cifar10.py", "--device cuda", ""),
        ("dcgan.py", "--data-root mnist", ""),
    ],
    ("mlfoundations/open_clip", "v3.3.0", "open_clip_torch-3.3.0/src/open_clip_train"): [
        (
            "main.py",
            "--dataset-type synthetic --train-num-samples 10000 --model ViT-B-32 --batch-size 64 "
            "--workers 0 --precision amp",
            "",
        ),
    ],
    ("facebookresearch/schedule_free", "v1.4.1", "schedulefree-1.4.1/examples"): [
        ("mnist/main.py", "", ""),
    ],
    ("kozistr/pytorch_optimizer", "v4.1.0", "pytorch_optimizer-4.1.0/examples"): [
        (
            "huggingface_trainer_example.py",
            "",
            f"{TEXTS} --config minpeter/webtext-tokenizer-32k=DATA/webtext.json",
        ),
        ("pytorch_lightning_example.py", "", ""),
    ],
    ("jettify/pytorch-optimizer", "v0.3.0", "torch-optimizer-0.3.0/examples"): [
        ("mnist.py", "", ""),
    ],
    ("e3nn/e3nn", "0.6.0", "e3nn-0.6.0/examples"): [("tetris.py", "", "")],
}
LATER = {
    ("pytorch/vision", "v0.21.0", "vision-0.21.0/references"): [
        ("classification/train_quantization.py", "--data-path imagenet --device cuda", IMAGES),
    ],
    ("pytorch/ignite", "v0.5.1", "ignite-0.5.1/examples"): [
        ("mnist/mnist_save_resume_engine.py", "", ""),
        ("cifar10_qat/main.py", "run", ""),
    ],
    ("pytorch/audio", "v2.6.0", "audio-2.6.0/examples"): [
        ("source_separation/lightning_train.py", "--root-dir librimix", ""),
    ],
    ("huggingface/trl", "v1.16.0", "trl-1.16.0/trl/scripts"): [
        (
            "kto.py",
            f"{SMALL} --dataset_name trl-lib/kto-mix-14k",
            f"{TEXTS} --columns prompt,completion,label",
        ),
        (
            "rloo.py",
            f"{SMALL} --dataset_name trl-lib/DeepMath-103K",
            f"{TEXTS} --columns prompt,solution",
        ),
    ],
    ("pytorch/opacus", "v1.6.0", "opacus-1.6.0/examples"): [
        ("char-lstm-classification.py", "--data-root DATA/names --device cuda", ""),
        ("imdb.py", "--device cuda", TEXTS),
        ("mnist_lightning.py", "fit", ""),
    ],
    ("kozistr/pytorch_optimizer", "v4.1.0", "pytorch_optimizer-4.1.0/examples"): [
        ("pytorch_lightning_manual_backward_example.py", "", ""),
    ],
}


def main(folder: Path, words: list[str]) -> None:
    rows, before = [], {}
    if RESULTS.exists():
        before = {(row["repository"], row["path"]): row for row in json.loads(RESULTS.read_text())}
    some = [(*key, scripts, False) for key, scripts in PROJECTS.items()]
    some += [(*key, scripts, True) for key, scripts in LATER.items()]
    for repository, release, inside, scripts, later in some:
        for path, own, ours in scripts:
            name = str(Path(*Path(inside).parts[1:]) / path)
            if words and not any(word in f"{repository} {name}" for word in words):
                rows += [before[repository, name]] if (repository, name) in before else []
                continue
            own, ours = (text.replace("DATA", str(folder / "data")) for text in (own, ours))
            command = [
                "-m",
                "vramcast",
                "--json",
                "--time-limit",
                "240",
                *ours.split(),
                str(folder / inside / path),
            ]
            command += ["--", *own.split()] if own else []
            process = subprocess.run(
                [sys.executable, *command], cwd=ROOT, capture_output=True, text=True
            )
            answer = json.loads(process.stdout)
            row = {"repository": repository, "release": release, "later": later}
            row["path"] = name
            for key in ("reserved_gb", "seconds", "error", "notes"):
                if key in answer:
                    row[key] = answer[key]
            if "error" in row:
                row["error"] = row["error"].replace(f"{folder}/", "")
            earlier = before.get((repository, name), {})
            row["at_first"] = earlier.get("at_first", "error" not in row)
            rows.append(row)
            said = row.get("error") or f"{row['reserved_gb']:.2f} GB, {row['seconds']:.0f} s"
            print(f"{repository} {name}: {said}", flush=True)
            write_json(rows, RESULTS)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
