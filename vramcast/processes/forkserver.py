"""Makes the process that scripts are forked from end when its command ends.

That process imports this module first, because its other imports take seconds: without this, it
would live on during them if the command is killed. It also adopts what a killed keeper leaves, so
that the command finds it (see keeper.py).
"""

import os
import warnings

from vramcast.processes.keeper import adopt_orphans, end_with_parent

end_with_parent()
adopt_orphans()
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")  # which need not be here
warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")  # adopted
if os.getppid() != int(os.environ.pop("FORKSERVER_OF")):  # it was killed before that held
    os._exit(1)
