"""The first module of the process that scripts are forked from, which ends with its command.

Without this, a command that is killed while that process imports would leave it for seconds.
"""

import os

from ladder.keeper import end_with_parent

end_with_parent()
if os.getppid() != int(os.environ.pop("FORKSERVER_OF")):  # it was killed before that held
    os._exit(1)
