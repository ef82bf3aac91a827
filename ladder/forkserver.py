"""Makes the process that scripts are forked from end when its command ends.

That process imports this module before all others: its further imports take seconds, and if the
command were killed meanwhile, the process would stay for so long.
"""

import os

from ladder.keeper import end_with_parent

end_with_parent()
if os.getppid() != int(os.environ.pop("FORKSERVER_OF")):  # it was killed before that held
    os._exit(1)
