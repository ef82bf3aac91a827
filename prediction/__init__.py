"""The GPU without data, on which `predict_memory.py` runs a script.

As a prediction passes through it:

options, gpus      what is asked, and of which GPU
process            one prediction in a process of its own
sandbox, landlock  what the script may not do there
predict            runs the script and says what it would need
batches            other batch sizes, and the largest that fits
own_number         the number in a script that becomes its batch size
torchvision_shapes, transformers_shapes    data sets, weights and models by their shapes
loaders            one batch again and again
gpu                runs operators on shapes alone
devices            where tensors are: "cuda" or the host
cuda               `torch.cuda`: properties, streams, events
autocast, composites, attention, recurrent, optimizers    what a GPU's own rules decide
readings           what is read from tensors without numbers
remembered         what operators returned, under a short key
adam_2023          Adam as the published figures had it
ranks_of_many      one rank of many in one process
tracker            when each storage is allocated and released, and what for
allocator, allocator_settings    PyTorch's caching allocator: reserved bytes from allocated ones
pinned             its sibling for pinned host memory
peaks              what the tracker's log amounts to
watched            how far it is, and when it has seen enough
answers, table, progress    predictions in words, many beside published ones, and how far they are
"""
