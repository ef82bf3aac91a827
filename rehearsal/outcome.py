"""What a rehearsed script's processes observed, put together; whether it failed, or learned."""

import math
import signal
import statistics
from collections import Counter

NUMBERS = (
    "seconds", "images_per_second", "loss_first", "loss_last", "accuracy", "host_gb",
    "parameters_held", "optimizer_held",
)  # fmt: skip


def found_in(content: object) -> dict | None:
    """What a process of a script has written, if it has the form; a script can change that, too."""
    if type(content) is not dict:
        return None
    texts, targets = content.get("stand_ins"), content.get("targets")
    numbers = [content.get(key) for key in NUMBERS]
    good = (
        all(number is None or type(number) in (int, float) for number in numbers)
        and all(type(content.get(key)) in (str, type(None)) for key in ("precision", "error"))
        and all(type(content.get(key)) in (int, float) for key in ("steps", "ended"))
        and type(texts) is dict
        and all(type(text) is str for text in texts.values())
        and type(targets) is dict
        and all(type(count) is int and count > 0 for count in targets.values())
    )
    return dict.fromkeys((*NUMBERS, "precision", "error")) | content if good else None


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
    if not any(rank["steps"] or rank.get("differentiated") for rank in ranks):
        return "it did not train: no optimizer took a step, and no gradient was computed"
    return None
