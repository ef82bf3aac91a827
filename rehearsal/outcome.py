"""What a rehearsed script's processes observed, put together; whether it failed, or learned."""

import math
import signal
import statistics
from collections import Counter

_NUMBER, _TEXT = (int, float), (str, type(None))
FORMS = {  # of what `run_rank` writes
    "precision": _TEXT, "error": _TEXT, "steps": int, "ended": _NUMBER, "seconds": _NUMBER,
    "host_gb": _NUMBER, "targets": dict, "stand_ins": dict,
} | dict.fromkeys(
    ("images_per_second", "loss_first", "loss_last", "accuracy", "parameters_held",
     "optimizer_held"), (int, float, type(None)),
)  # fmt: skip


def is_record(content: object) -> bool:
    """Whether this is what one process observed. The script can write into the same folder."""
    return (
        type(content) is dict
        and all(key in content and isinstance(content[key], FORMS[key]) for key in FORMS)
        and all(type(count) is int and count > 0 for count in content["targets"].values())
        and all(type(given) is str for given in content["stand_ins"].values())
    )


def together(ranks: list[dict]) -> dict:
    """What was observed in all processes of a script together, from what each has written."""

    def over(key: str, combine) -> float | None:
        values = [rank[key] for rank in ranks]
        return None if None in values else combine(values)

    accuracy, loss = ranks[0]["accuracy"], over("loss_last", statistics.fmean)
    targets = sum((Counter(rank["targets"]) for rank in ranks), Counter())
    return {
        "precision": ranks[0]["precision"],
        "ranks": len(ranks),
        "parameters_held": over("parameters_held", max),
        "optimizer_held": over("optimizer_held", max),
        "seconds": over("seconds", max),
        "images_per_second": over("images_per_second", sum),
        "loss_first": over("loss_first", statistics.fmean),
        "loss_last": loss,
        "accuracy": accuracy,
        "host_gb": over("host_gb", max),
        "learned": learned(accuracy, targets, loss),
    }


def learned(accuracy: float | None, targets: Counter, loss: float | None) -> bool | None:
    """Whether a training shows in its test accuracy; None if that cannot be told.

    A model that ignores its input is right, at best, as often as the most frequent class occurs.
    One that has learned nothing tends to take all samples of a class for the same class, since
    they look alike: its accuracy varies as if it had guessed once for each class. So an accuracy
    may be chance unless it exceeds that share by more than three standard deviations of as many
    guesses; with two classes, none does. `targets` counts the test samples of each class. A last
    `loss` that is NaN or infinite means that nothing was learned.
    """
    if loss is not None and not math.isfinite(loss):
        return False
    if accuracy is None or not targets:
        return None
    share = max(targets.values()) / targets.total()
    if accuracy <= share:
        return False
    limit = share + 3 * math.sqrt(share * (1 - share) / len(targets))
    return accuracy > limit if limit < 1 else None  # too few classes


def why_failed(status: int, ranks: list[dict]) -> str | None:
    """Why a script did not train to its last line; None if it did."""
    broken = [rank for rank in ranks if rank["error"]]
    if broken:  # the others may have failed because of the first
        return min(broken, key=lambda rank: rank["ended"])["error"]
    if status < 0:
        return f"it was ended by signal {-status} ({signal.strsignal(-status)})"
    if status > 0:
        return f"it ended itself with status {status}"
    if not ranks:
        return "it ended itself before its last line (by os._exit?)"
    if not any(rank["steps"] for rank in ranks):
        return "it did not train: no optimizer took a step"
    return None
