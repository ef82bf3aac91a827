"""Samples for benchmarks/public_scripts.py: python -m benchmarks.public_samples FOLDER

Where a script's data has an open format and does not come with its repository, a few samples of the
real sizes are written to where the script looks for them: random tokens, gray pictures, words by
number. Vocabularies, graphs and pictures have the published sizes, since memory depends on them;
there are fewer of them, since it does not depend on that. FOLDER is that of the repositories.
"""

import gzip
import json
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import scipy.sparse
from PIL import Image


def words(file: Path, vocabulary: int, tokens: int, line: int) -> None:
    """Texts of so many words, each of the vocabulary at least once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    numbers = [*range(vocabulary), *random.choices(range(vocabulary), k=tokens - vocabulary)]
    with file.open("w") as out:
        for at in range(0, tokens, line):
            out.write(" ".join(f"w{number}" for number in numbers[at : at + line]) + "\n")


def pictures(names: list[Path], width: int, height: int, mode: str = "RGB") -> None:
    """Pictures of one size, of one color: a file for each name."""
    image = Image.new(mode, (width, height), 1 if mode == "L" else (128, 128, 128))
    for name in names:
        name.parent.mkdir(parents=True, exist_ok=True)
        image.save(name)


def tokens(file: Path, vocabulary: int, number: int) -> None:
    """A file of numbers below the vocabulary's size in 16 bits, bare or as NumPy's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.random.randint(0, vocabulary, number).astype(np.uint16)
    np.save(file, numbers) if file.suffix == ".npy" else numbers.tofile(file)


def cora() -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """A graph of Cora's size: 2,708 papers of 1,433 words and 7 classes, and 5,429 citations."""
    features = (np.random.rand(2708, 1433) < 0.0127).astype(np.float32)
    citing = [(n, (n + step) % 2708) for step in (1, 2) for n in range(2708)] + [
        (n, n + 3) for n in range(13)
    ]
    return features, np.arange(2708) % 7, citing


def cora_as_text(folder: Path) -> None:
    """cora.content and cora.cites, as LINQS publishes them."""
    features, classes, citing = cora()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cora.content").open("w") as out:
        for paper, (row, number) in enumerate(zip(features, classes, strict=True)):
            out.write("\t".join([str(paper), *(str(int(n)) for n in row), f"class{number}"]) + "\n")
    (folder / "cora.cites").write_text("".join(f"{one}\t{other}\n" for one, other in citing))


def cora_as_planetoid(folder: Path) -> None:
    """The files of Planetoid's split of Cora: 140 papers to train on, the last 1,000 to test."""
    features, classes, citing = cora()
    onehot = np.eye(7, dtype=np.int32)[classes]
    graph = {paper: [] for paper in range(2708)}
    for one, other in citing:
        graph[one].append(other)
        graph[other].append(one)
    parts = {"x": slice(140), "allx": slice(1708), "tx": slice(1708, None)}
    files = {name: scipy.sparse.csr_matrix(features[part]) for name, part in parts.items()}
    files |= {name.replace("x", "y"): onehot[part] for name, part in parts.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (files | {"graph": graph}).items():
        (folder / f"ind.cora.{name}").write_bytes(pickle.dumps(value))
    (folder / "ind.cora.test.index").write_text("".join(f"{n}\n" for n in range(1708, 2708)))


def language_models(folder: Path) -> None:
    """Texts and tokens."""
    gpt = folder / "karpathy+nanoGPT/data"
    for part in ("train", "val"):
        tokens(gpt / "shakespeare_char" / f"{part}.bin", 65, 100_000)
        tokens(gpt / "openwebtext" / f"{part}.bin", 50257, 1_000_000)
        shard = f"edufineweb_{part}_00000{0 if part == 'val' else 1}.npy"
        tokens(folder / "karpathy+build-nanogpt/edu_fineweb10B" / shard, 50257, 4_000_000)
    letters = [chr(start + n) for start in (65, 97) for n in range(26)]
    characters = [*"\n !$&',-.3:;?", *letters]
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters))}
    meta["stoi"] = {character: number for number, character in meta["itos"].items()}
    (gpt / "shakespeare_char" / "meta.pkl").write_bytes(pickle.dumps(meta))
    text = "".join(random.choices(characters, k=1_000_000))
    (folder / "karpathy+minGPT/projects/chargpt/input.txt").write_text(text)
    wikitext = folder / "pytorch+examples/word_language_model/data/wikitext-2"
    there = {word for part in ("valid", "test") for word in (wikitext / f"{part}.txt").read_text(
        encoding="utf-8").split()} | {"<eos>"}  # fmt: skip
    words(wikitext / "train.txt", 33_278 - len(there), 2_000_000, 50)
    tutorial = folder / "yunjey+pytorch-tutorial/tutorials/02-intermediate/language_model"
    words(tutorial / "data/train.txt", 9_999, 929_589, 22)  # and <eos>
    lines = (json.dumps({"text": "a sentence of some words. " * 100}) for _ in range(2000))
    c4 = folder / "pytorch+torchtitan/tests/assets/c4_test/data.json"
    c4.parent.mkdir(parents=True, exist_ok=True)
    c4.write_text("\n".join(lines))
    with gzip.open(folder / "lucidrains+x-transformers/data/enwik8.gz", "wb", 1) as out:
        out.write(bytes(100_000_000))
    words(folder / "data/sentences.txt", 5_000, 200_000, 20)
    examples = folder / "Lightning-AI+pytorch-lightning/examples"
    for place in ("fabric/language_model", "pytorch/basics"):
        words(examples / place / "data/wikitext-2.txt", 33_277, 2_000_000, 50)  # and <eos>
    question = {"ctx": "a sentence of some words", "label": 0, "endings": ["and its end"] * 4}
    hellaswag = folder / "karpathy+build-nanogpt/hellaswag/hellaswag_val.jsonl"
    hellaswag.parent.mkdir(parents=True, exist_ok=True)
    hellaswag.write_text(f"{json.dumps(question)}\n" * 100)


def images(folder: Path) -> None:
    """Pictures, with masks and boxes."""
    bsds = folder / "pytorch+examples/super_resolution/dataset/BSDS300/images"
    pictures([bsds / "train" / f"{n}.jpg" for n in range(200)], 481, 321)
    pictures([bsds / "test" / f"{n}.jpg" for n in range(100)], 481, 321)
    pictures([folder / f"data/pets/Breed{n % 37}_{n}.jpg" for n in range(370)], 500, 375)
    coco = folder / "datasets/coco128"
    pictures([coco / "images/train2017" / f"{n:012}.jpg" for n in range(128)], 640, 480)
    (coco / "labels/train2017").mkdir(parents=True, exist_ok=True)
    for n in range(128):
        boxes = "".join(f"{(n + box) % 80} 0.5 0.5 0.{box + 1} 0.{box + 1}\n" for box in range(7))
        (coco / "labels/train2017" / f"{n:012}.txt").write_text(boxes)
    font = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    shutil.copy(font, folder / "ultralytics+yolov5/Arial.ttf")  # which it would download
    camvid = folder / "qubvel-org+segmentation_models.pytorch/examples/examples"
    camvid /= "binary_segmentation_data/dataset/CamVid"
    for part, number in (("train", 367), ("val", 101), ("test", 233)):
        pictures([camvid / part / f"{n:03}.png" for n in range(number)], 480, 360)
        pictures([camvid / f"{part}annot" / f"{n:03}.png" for n in range(number)], 480, 360, "L")
    monet = folder / "eriklindernoren+PyTorch-GAN/data/monet2photo"
    for part in ("train/A", "train/B", "test/A", "test/B"):
        pictures([monet / part / f"{n}.jpg" for n in range(20)], 256, 256)
    carvana = folder / "milesial+Pytorch-UNet/data"
    pictures([carvana / "imgs" / f"{n}.jpg" for n in range(20)], 1918, 1280)
    pictures([carvana / "masks" / f"{n}_mask.gif" for n in range(20)], 1918, 1280, "L")


def main(folder: Path) -> None:
    """Write the samples for all scripts below the folder."""
    language_models(folder)
    images(folder)
    cora_as_text(folder / "pytorch+examples/gat/cora")
    cora_as_text(folder / "pytorch+examples/gcn/cora")
    cora_as_planetoid(folder / "pyg-team+pytorch_geometric/data/Planetoid/Cora/raw")
    waves = folder / "pytorch+examples/time_sequence_prediction"
    subprocess.run([sys.executable, "generate_sine_wave.py"], cwd=waves, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
