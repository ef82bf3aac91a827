"""What cuDNN is told of a GPU: the values are the known ones, and there are some for every kind."""

from dataclasses import replace

import pytest

from vramcast import gpus
from vramcast.operators.cudnn_devices import cudnn_properties


@pytest.mark.parametrize("model", gpus.KNOWN.values(), ids=gpus.KNOWN)
def test_every_gpu_has_properties_that_cudnn_chooses_for(model):
    if model.capability < (7, 5):
        with pytest.raises(ValueError, match="none of its own"):
            cudnn_properties(model)
        return
    found = cudnn_properties(model)
    assert (found["totalGlobalMem"], found["l2CacheSize"]) == (model.memory, model.cache)
    assert found["maxSharedMemoryPerBlockOptin"] >= found["maxSharedMemoryPerBlock"]
    assert found["maxThreadsPerSM"] >= found["maxThreadsPerBlock"]


def test_an_a100_as_devicequery_prints_it():
    """The values of an A100-SXM4-80GB, but for its name and its memory."""
    assert cudnn_properties(gpus.KNOWN["A100-80"]) | {"deviceName": "", "totalGlobalMem": 0} == {
        "deviceName": "", "deviceVer": 800, "driverVer": 13000, "cudaDeviceId": 0,
        "pciDeviceId": 0, "totalGlobalMem": 0, "multiProcessorCount": 108,
        "l2CacheSize": 41943040, "warpSize": 32, "maxGridSize": [2147483647, 65535, 65535],
        "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "maxRegistersPerSM": 65536,
        "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 166912,
        "reservedSharedMemoryPerBlock": 1024, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024,
        "maxThreadsPerSM": 2048, "smClockRateKHz": 1410000, "memClockRateKHz": 1593000,
        "isTccDriver": 0, "supportCoopLaunch": 1,
    }  # fmt: skip


def test_no_properties_of_an_unknown_capability():
    model = replace(gpus.DEFAULT, capability=(8, 7))
    with pytest.raises(ValueError, match=r"8\.7"):
        cudnn_properties(model)
