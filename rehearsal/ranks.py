"""The further processes of a script, forked from its first one: they need not import PyTorch again.

Fabric would start them as `python SCRIPT`, seconds each, and without stand-ins.
"""

import json
import os
from types import SimpleNamespace

from lightning.fabric.strategies.launchers import subprocess_script


class Rank:
    """A process that waits until Fabric starts it; what Fabric needs of a `subprocess.Popen`."""

    def __init__(self) -> None:
        """Fork. In the new process, this returns once started, in the environment it is given."""
        reader, self._writer = os.pipe()
        self.returncode = None
        self.started = False
        self.pid = os.fork()
        self.is_this_process = self.pid == 0
        if self.is_this_process:
            os.close(self._writer)
            with open(reader) as pipe:
                environment = pipe.readline()
            if not environment:  # the first process ended without it
                os._exit(0)
            os.environ.clear()
            os.environ.update(json.loads(environment))
        else:
            os.close(reader)

    def start(self, environment: dict[str, str]) -> "Rank":
        """Begin, as `subprocess.Popen` would."""
        self.started = True
        with open(self._writer, "w") as pipe:
            pipe.write(json.dumps(environment) + "\n")
        return self

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        return self._wait(0)

    def send_signal(self, sign: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sign)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def install(ranks: list[Rank]) -> None:
    """Let Fabric start these instead of new processes. Cannot be undone."""
    waiting = iter(ranks)
    subprocess_script.subprocess = SimpleNamespace(
        Popen=lambda command, env, cwd: next(waiting).start(env)
    )
