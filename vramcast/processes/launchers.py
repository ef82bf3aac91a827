"""What torchrun, SLURM and MPI tell the processes that they start, by environment variables.

They may be left in a shell, or in a container, whose commands nobody launches.
"""

import os
import re

# torchrun (and Kubernetes' PyTorchJob, which sets some of the same), Lightning, SLURM, and MPI:
# Open MPI, PMI and PMIx (MPICH, Intel MPI), MVAPICH2, oneCCL
TOLD = re.compile(
    r"(NODE_|LOCAL_|GROUP_|ROLE_)?RANK|(LOCAL_|GROUP_|ROLE_)?WORLD_SIZE|ROLE_NAME|NNODES|"
    r"MASTER_(ADDR|PORT)|LADDER_MAIN_PID|(TORCHELASTIC|PET|LT|SLURM|OMPI|PMI|PMIX|MV2|CCL|MPI)_\w+"
)


def forget(environment: "os._Environ[str] | dict[str, str]" = os.environ) -> list[str]:
    """Remove these variables, as if nobody had launched this process; which these were."""
    told = sorted(name for name in environment if TOLD.fullmatch(name))
    for name in told:
        del environment[name]
    return told
