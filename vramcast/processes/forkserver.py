"""Makes the process that scripts are forked from end when its command ends.

That process imports this module first, because its other imports take seconds: without this, it
would live on during them if the command is killed.
"""

import os
import warnings

from vramcast.processes.keeper import end_with_parent

end_with_parent()
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")  # which need not be here
if os.getppid() != int(os.environ.pop("FORKSERVER_OF")):  # it was killed before that held
    os._exit(1)
