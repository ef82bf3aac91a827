"""IMDb's reviews, for the language models."""

import datasets
import torch
from torch.utils.data import DataLoader, Dataset

from local_utilities import loaders
from messages import data_folder, leave_without


def load_imdb() -> tuple[Dataset, Dataset]:
    """IMDb's 25,000 reviews for training and 25,000 for testing, downloaded where missing.

    They are kept where CIFAR-10 is. Only one of several processes downloads. If there is no
    network or no room, the script ends with a message (exit status 1).
    """
    try:
        reviews = datasets.load_dataset("stanfordnlp/imdb", cache_dir=str(data_folder()))
    except (OSError, datasets.exceptions.DatasetGenerationError) as error:
        cause = error.__cause__ or error
        leave_without("IMDb", cause, "Run the script again to retry: what is complete is kept.")
    return reviews["train"], reviews["test"]


def review_batch(reviews: list[dict]) -> tuple[list[str], torch.Tensor]:
    """A batch of B reviews: their texts, and labels [B] int64, 1 for a positive one."""
    texts, labels = zip(*((review["text"], review["label"]) for review in reviews))
    return list(texts), torch.tensor(labels)


def imdb_loaders(batch_size: int) -> tuple[DataLoader, DataLoader, DataLoader]:
    """Loaders of training, validation (a tenth of the training set) and test reviews, as text.

    Scripts turn each batch into tokens, padded to the longest text in the batch.
    """
    return loaders(*load_imdb(), batch_size, review_batch)
