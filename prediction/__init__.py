"""The simulated GPU, without data, on which `predict_memory.py` runs a script.

In the order in which a prediction passes through the modules:

command_line, options, gpus    what is asked, and about which GPU
which              which scripts of the ladder fit a GPU, from recorded predictions
process            runs one prediction in a process of its own
sandbox, landlock  what the script may not do there
run                runs the script and says what it would need
world              sets up all that the script finds, from the modules below
batches            other batch sizes, and the largest that fits
own_number         finds the number in a script that is its batch size
when_imported      changes a library as soon as the script imports it
torchvision_shapes, timm_shapes, transformers_shapes    models, data sets, weights without numbers
model_sizes        the sizes of a model by its name, from its config.json
datasets_shapes    data sets and metrics of the Hugging Face hub
bitsandbytes_shapes    4-bit weights and paged optimizer states
triton_kernels     Triton's kernels, which are not run
example_data       examples for data that is not here
written_files      what the script writes goes to the scratch folder
loaders            data loaders give one batch again and again
ignite_epochs      PyTorch-Ignite's epochs end with the loader
gpu                runs operators on shapes alone
devices            where tensors are: "cuda" or the host
cuda               `torch.cuda`: properties, streams, events
autocast, composites, attention, recurrent, optimizers    what differs on a GPU from a CPU
readings           numbers that a script reads from tensors without numbers
unknown_sizes      results whose size depends on numbers: the largest possible one
metrics            torchmetrics without its checks of numbers
remembered         remembers the results of operators, to be fast
buffers            memory that operators need while they run
collectives        the collective operators of a process group, one after the other
as_of_2023         the rules of PyTorch in 2023, for the published figures
ranks_of_many      one rank of many, in one process
data_parallel      DistributedDataParallel's buckets
storages           when each storage is allocated and released, and on which stream
tracker            by which module, in which phase and what for it is allocated
order              which work on a stream the CPU knows to be done
allocator, blocks, allocator_settings    PyTorch's caching allocator: when blocks are free
pinned             the same for pinned host memory
peaks              finds the peaks in the tracker's log, and what they consist of
cost, cost_rules   arithmetic, kernels and traffic of a step, and the least time of an epoch
lines              the line of the script that an allocation comes from
step               the memory of one step over time, and what its peak consists of
snapshot           the history in the format of PyTorch's memory viewer
watched            ends the script once its peak no longer changes
answers, table, progress    answers in words, the ladder's table, the line on progress
advice             which techniques would help if the script does not fit
files              pictures and snapshots, if asked for
interface          predictions from Python
"""

from prediction.interface import NotPredicted, predict

__all__ = ["NotPredicted", "predict"]
