"""What libraries do differently in a prediction: one module for each, with one `install`.

A library that a script never imports costs nothing: changes are made when it is imported
(`vramcast.when_imported`). So the order does not matter, and a new library is a new module here.

loaders                torch.utils.data: loaders give one batch again and again
whole_batches          batches of tensors are made at once
torchvision_data       its data sets without data: CIFAR, MNIST, CelebA, and examples for others
torch_hub              weights and models of torch.hub
torchvision_models     its pretrained weights, and what detection models choose by numbers
transformers, model_sizes    models, tokenizers and image processors by their config.json
datasets, evaluate     data sets and metrics of the Hugging Face hub
huggingface_hub        there is no network
accelerate, lightning, ignite    training loops
timm                   pretrained models, and folders of images
diffusers              parts of pretrained models, by their config.json
tiktoken               encodings whose files are not here
safetensors            files by their headers
torchao, bitsandbytes  quantized weights and optimizer states
triton                 kernels are not run
torchmetrics           no checks of numbers
wandb                  runs without its service
tqdm                   no lock that outlives a process
numpy                  histograms of zeros
typeshed_client        parameters of classes, for command lines (jsonargparse)
example_data           examples for data that is not here (--example)
context                what all of them are given
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # since it imports PyTorch
    from vramcast.libraries.context import Context


def install(context: "Context") -> None:
    """Let every library that the script may import do so in a prediction."""
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        if hasattr(module, "install"):
            module.install(context)
