"""What would help a script that failed: half a sentence for the message."""

import linecache

from vramcast.processes.messages import text_of

OFFLINE = (  # what says so: this package's audit, and huggingface_hub
    "a prediction is offline", "offline mode is enabled", "outgoing traffic has been disabled"
)  # fmt: skip
EMPTY = ("num_samples=0", "expects 'from' to be less than 'to', but got from=0 >= to=0")
HERE = "; what a script opens by itself has to be here"
DATA = "; if data is missing: a few files of the real sizes suffice, or --example for a data set"
NETWORK = (
    "; what it downloads has to be here, fetched once where there is a network; in a data set's "
    "place --example, of a hub's model --config"
)


def hint(failure: BaseException, text: str) -> str:
    """What to do about a failure with this text; empty if nothing is known that helps."""
    if offline(failure):
        return NETWORK
    if isinstance(failure, FileNotFoundError) and "starts no program" not in text:
        return HERE
    empty = isinstance(failure, AssertionError) and not text_of(failure)
    return DATA if empty or any(words in text for words in EMPTY) else ""


def offline(failure: BaseException | None) -> bool:
    """Whether a failure comes from a connection that was refused, or from an offline library."""
    seen: set[int] = set()  # a script may have made a circle of them
    while failure is not None and id(failure) not in seen:
        seen.add(id(failure))
        if any(words in text_of(failure) for words in OFFLINE):
            return True
        failure = failure.__cause__ or failure.__context__
    return False


def statement(file: str, line: int) -> str:
    """The text of a line, for a failed `assert` that says nothing else."""
    return linecache.getline(file, line).strip()
