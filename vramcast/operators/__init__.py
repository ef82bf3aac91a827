"""What is known of single operators; all rules of an operator stand in one place.

registry        the rules of each operator
products        matrix products
convolutions    which kernel computes them, and what it takes meanwhile
cudnn           the library that computes most of them, asked for what it takes
cudnn_devices   a GPU as cuDNN is told of it where there is none
attention       scaled dot product attention: which kernel runs, what it needs and computes
recurrent       LSTM, GRU and RNN, which cuDNN computes in one call
lists           norms of lists of tensors
synchronized    batch norm over the batches of all ranks
composites      dropout, softmax and batch norm, which consist of other operators on CUDA
sparse          sparse tensors, by operators on their indices and values
sequences       packed sequences, and ctc_loss
ranges          which numbers are known, and the range of others
unknown_sizes   results whose size depends on numbers: the largest possible one
"""

from vramcast.gpus import Model
from vramcast.operators import (
    attention,
    composites,
    convolutions,
    lists,
    products,
    recurrent,
    sequences,
    synchronized,
    unknown_sizes,
)

__all__ = ["install", "lists", "products", "unknown_sizes"]


def install(model: Model, notes: list[str]) -> None:
    """Let operators do what they do on a GPU of this model.

    What is not known of them is added to `notes`, once.
    """
    composites.install()
    recurrent.install(model.capability, notes)
    sequences.install(notes)
    unknown_sizes.install()
    attention.install(model.capability, model.multiprocessors)
    convolutions.install(model, notes)
    synchronized.install(notes)
