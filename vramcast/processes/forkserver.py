"""Makes the process that scripts are forked from end when its command ends.

That process imports this module first, because its other imports take seconds: without this, it
would live on during them if the command is killed.
"""

import os

from vramcast.processes.keeper import end_with_parent

end_with_parent()
if os.getppid() != int(os.environ.pop("FORKSERVER_OF")):  # it was killed before that held
    os._exit(1)
