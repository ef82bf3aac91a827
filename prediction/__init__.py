"""The GPU without data, on which `predict_memory.py` runs a script.

As a prediction passes through it:

command_line, options, gpus    what is asked, and of which GPU
process            one prediction in a process of its own
sandbox, landlock  what the script may not do there
run                runs the script and says what it would need
world              what the script finds, put together from what follows
batches            other batch sizes, and the largest that fits
own_number         the number in a script that becomes its batch size
when_imported      changes to a library once the script has imported it
torchvision_shapes, timm_shapes, transformers_shapes    models, data sets and weights by shapes
model_sizes        what a model's config.json says, by its name
datasets_shapes    data sets and metrics of the Hugging Face hub by shapes
bitsandbytes_shapes    4-bit weights and paged averages
triton_kernels     which are not run
example_data       what stands in for data that is not here
written_files      what the script writes, which goes to the scratch folder
loaders            one batch again and again
ignite_epochs      which end with it
gpu                runs operators on shapes alone
devices            where tensors are: "cuda" or the host
cuda               `torch.cuda`: properties, streams, events
autocast, composites, attention, recurrent, optimizers    what a GPU's own rules decide
readings           what is read from tensors without numbers
unknown_sizes      results whose size depends on numbers: the most that it can be
metrics            torchmetrics, which checks no numbers then
remembered         what operators returned, under a short key
buffers            what operators take for themselves
collectives        what process groups do, one after the other
as_of_2023         the rules of the published figures' PyTorch
ranks_of_many      one rank of many in one process
data_parallel      DistributedDataParallel's buckets
storages           when each is allocated and released, and on which stream
tracker            by which module, in which phase, and what for
order              what the CPU knows a GPU to have done
allocator, allocator_settings    PyTorch's caching allocator: reserved bytes from allocated ones
pinned             its sibling for pinned host memory
peaks              what the tracker's log amounts to
cost               arithmetic, kernels and traffic of a step, and what an epoch takes at least
lines              where in the script an allocation comes from
step               one step's course, and what holds its peak
snapshot           the history as PyTorch's memory viewer reads it
watched            how far it is, and when it has seen enough
answers, table, progress    predictions in words, many beside published ones, and how far they are
advice             which techniques help where it does not fit
files              what a prediction leaves in files
interface          the same for programs and notebooks
"""

from prediction.interface import NotPredicted, predict

__all__ = ["NotPredicted", "predict"]
