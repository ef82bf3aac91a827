"""The command `vramcast`; where it is not installed: python -m vramcast."""

import sys


def main() -> None:
    """Be the command: end with its exit status."""
    if sys.platform == "win32":  # which has no fork
        print("vramcast runs on Linux and macOS. On Windows, use it within WSL.", file=sys.stderr)
        sys.exit(2)
    from vramcast.processes.entry import as_command

    as_command(_answer)


def _answer() -> int:
    from vramcast.command.main import main as answer  # what goes wrong here is told, too

    return answer()


if __name__ == "__main__":
    main()
