"""A notebook's figures of convolution nets and a ViT, in PyTorch 2.0.1, both counters.

All its PyTorch models but the last are here (UNETR, whose library pins another PyTorch).
"""

from benchmarks.measured_by_others.case import Case, Table


def cases() -> list[Case]:
    """A small net, VGG-16, ResNet-50 and ViT-B/16."""
    table = Table(
        {
            "project": "vramexp",
            "source": "WSShiro/vramexp, vramexp1.ipynb, commit 12ad23c",
            "conditions": "RTX 4090, PyTorch 2.0.1, cuDNN 8.9, float32, batch 128 at 224 pixels, "
            "SGD; max_memory_allocated() and memory_reserved()",
            "quantity": "", "unit_name": "MiB", "unit": 2**20, "gpu": "RTX-4090", "as_of": 2023,
        }
    )  # fmt: skip
    later = {
        "note": "reserved behind models that were trained before it, whose segments it takes over; "
        "here they were trained with one image, so that their peak is not the highest"
    }
    # Without any workspaces, VGG-16 was 20 % and ResNet-50 7 % above what was reserved.
    newer = "; cuDNN 8.9 had smaller workspaces, too"
    why = {
        "vgg16_bn": "with other programs' 4.3 GiB, 22.6 of the GPU's 24 were in use: PyTorch gives "
        "unused segments back when there is no more" + newer,
        "resnet50": "it took over segments of the models before, 7,160 MiB after the cache was "
        "emptied, which are not here" + newer,
    }
    for what, name, allocated, reserved in (
        ("one convolution", "cnn", 530.9, 604),
        ("VGG-16 with batch norm", "vgg16_bn", 17_231.9, 18_752),
        ("ResNet-50", "resnet50", 11_738.2, 12_982),
        ("ViT-B/16", "vit_b_16", 17_218.1, 18_142),
    ):
        own = {} if name == "cnn" else later | {"explanation": why.get(name, "")}
        table.add_both(what, allocated, reserved, "vramexp_steps.finetune", {"name": name}, **own)
    return table.cases
