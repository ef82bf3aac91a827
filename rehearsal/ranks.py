"""The further processes of a script: forked from its first one, so that PyTorch is there already.

Fabric would start each as `python SCRIPT`, which takes seconds and would not have the stand-ins.
"""

import json
import os
from types import SimpleNamespace

from lightning.fabric.strategies.launchers import subprocess_script


class Rank:
    """A process that waits until Fabric starts it, with the methods of `Popen` that Fabric uses."""

    def __init__(self) -> None:
        """Fork. In the new process, this returns after `start`, with the environment from there."""
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
        """Let the process begin, with these environment variables."""
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
    """Have Fabric start these processes instead of new ones."""
    waiting = iter(ranks)
    subprocess_script.subprocess = SimpleNamespace(
        Popen=lambda command, env, cwd: next(waiting).start(env)
    )
