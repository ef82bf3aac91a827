"""A GPU as cuDNN is told of it where there is none, for its choice of kernels.

cuDNN 9.8 and newer take a device's properties as JSON ("deviceless ahead-of-time compilation").
"""

from vramcast.gpus import Model

# By capability: threads and blocks of a multiprocessor, and KiB of shared memory that a block can
# ask for. From the table of technical specifications in NVIDIA's CUDA C Programming Guide. Older
# ones are left out: cuDNN 9.24, which PyTorch 2.14 brings, has no choice of its own for them, and
# answers as for a capability that does not exist.
LIMITS = {
    (7, 5): (1024, 16, 64),
    (8, 0): (2048, 32, 163),
    (8, 6): (1536, 16, 99),
    (8, 9): (1536, 24, 99),
    (9, 0): (2048, 32, 227),
    (10, 0): (2048, 32, 227),
    (12, 0): (1536, 24, 99),
}


def cudnn_properties(model: Model) -> dict:
    """The properties of a GPU by the names that cuDNN's descriptor of a device has for them.

    Bytes and kHz. Raises ValueError if cuDNN has no choice of its own for the GPU's capability.
    """
    major, minor = model.capability
    if model.capability not in LIMITS:
        raise ValueError(f"cuDNN has none of its own for compute capability {major}.{minor}")
    threads, blocks, shared = LIMITS[model.capability]
    return {
        "deviceName": f"NVIDIA {model.name.replace('-', ' ')}",
        "deviceVer": 100 * major + 10 * minor,
        "driverVer": 13000,
        "cudaDeviceId": 0,
        "pciDeviceId": 0,
        "totalGlobalMem": model.memory,
        "multiProcessorCount": model.multiprocessors,
        "l2CacheSize": model.cache,
        "warpSize": 32,
        "maxGridSize": [2**31 - 1, 65535, 65535],
        "maxBlockSize": [1024, 1024, 64],
        "regsPerBlock": 65536,
        "maxRegistersPerSM": 65536,
        "maxSharedMemoryPerBlock": 48 * 1024,
        "maxSharedMemoryPerBlockOptin": shared * 1024,
        "reservedSharedMemoryPerBlock": 1024 if major >= 8 else 0,
        "maxCtasPerSM": blocks,
        "maxThreadsPerBlock": 1024,
        "maxThreadsPerSM": threads,
        "smClockRateKHz": model.clock,
        "memClockRateKHz": model.memory_clock,
        "isTccDriver": 0,
        "supportCoopLaunch": 1,
    }
