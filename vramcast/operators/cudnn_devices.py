"""GPUs as cuDNN describes them."""

from vramcast.gpus import Model


def cudnn_properties(model: Model) -> dict:
    """The properties of a GPU, by the names of cuDNN's description of a device."""
    return {
        "deviceName": "NVIDIA A100-SXM4-80GB",
        "deviceVer": 800,
        "driverVer": 13000,
        "cudaDeviceId": 0,
        "pciDeviceId": 0,
        "totalGlobalMem": model.memory,
        "multiProcessorCount": 108,
        "l2CacheSize": 41943040,
        "warpSize": 32,
        "maxGridSize": [2147483647, 65535, 65535],
        "maxBlockSize": [1024, 1024, 64],
        "regsPerBlock": 65536,
        "maxRegistersPerSM": 65536,
        "maxSharedMemoryPerBlock": 49152,
        "maxSharedMemoryPerBlockOptin": 166912,
        "reservedSharedMemoryPerBlock": 1024,
        "maxCtasPerSM": 32,
        "maxThreadsPerBlock": 1024,
        "maxThreadsPerSM": 2048,
        "smClockRateKHz": 1410000,
        "memClockRateKHz": 1593000,
        "isTccDriver": 0,
        "supportCoopLaunch": 1,
    }
