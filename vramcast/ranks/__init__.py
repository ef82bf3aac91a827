"""One rank of many, in one process.

one_of_many      the script joins a group whose other ranks do not exist
data_parallel    DistributedDataParallel's buckets of gradients
replicas         DataParallel: one process, a replica on each GPU
checkpoints      torch.distributed.checkpoint, without numbers
collectives      the collective operators of a group, one after the other
"""
