"""The form of a prediction, which is checked where it arrives.

It is made in the script's process, and the script can change all that is there. So the command
takes from it what has the right form, and nothing else.
"""

from collections.abc import Callable, Iterable

from vramcast.evidence import LIKE
from vramcast.kinds import KINDS

Form = Callable[[object], bool]
LARGEST = 1e18  # of numbers: more than any memory's bytes, and what can be calculated with


class Malformed(ValueError):
    """What a script's process sent has another form than a prediction."""


def _number(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < LARGEST  # NaN is not


def _whole(value: object) -> bool:
    return type(value) is int and 0 <= value < LARGEST


def _text(value: object) -> bool:
    return type(value) is str


def _truth(value: object) -> bool:
    return type(value) is bool


def _maybe(form: Form) -> Form:
    return lambda value: value is None or form(value)


def _list(form: Form) -> Form:
    return lambda value: type(value) is list and all(map(form, value))


def _dict(**forms: Form) -> Form:
    """A dictionary with at least these keys."""
    return lambda value: (
        type(value) is dict
        and all(key in value and form(value[key]) for key, form in forms.items())
    )


def _figures(value: object) -> bool:
    """Numbers by names."""
    return type(value) is dict and all(map(_number, value.values()))


def _some_figures(value: object) -> bool:
    return _figures(value) and value != {}


def _kinds(value: object) -> bool:
    """A number for each kind of memory, and for nothing else."""
    return _figures(value) and value.keys() == set(KINDS)


def _point(value: object) -> bool:
    return type(value) is list and len(value) == 2 and _text(value[0]) and _kinds(value[1])


_peak = _dict(place=_whole, bytes=_whole, phase=_text, module=_text, line=_maybe(_whole))
_group = _dict(module=_text, op=_text, bytes=_whole, line=_maybe(_whole), count=_whole)
_step = _dict(course=_list(_point), peak=_peak, activations=_list(_group))
_cost = _dict(
    samples_per_step=_whole,
    tflop_per_sample=_figures,
    kernels_per_sample=_number,
    to_gpu_gb_per_step=_number,
    to_host_gb_per_step=_number,
    between_gpus_gb_per_step=_number,
    least_minutes_per_epoch=_some_figures,
)
_loop = _dict(what=_text, place=_text, done=_whole, left=_maybe(_whole))
_tensors = _dict(gb=_number, count=_whole, kind=_text, what=_text)
GPU: dict[str, Form] = {
    "reserved_gb": _number,
    "allocated_gb": _number,
    "breakdown_gb": _kinds,
    "peak_phase": _text,
    "peak_module": _text,
    "created_gb": _number,
}
GPU_SOMETIMES: dict[str, Form] = {
    "reserved_least_gb": _number,
    "fits": _truth,
    "may_fit": _truth,
    "reserved_within_gb": _maybe(_number),
    "room_gb": _number,
    "largest": _list(_tensors),
    "after_step_gb": _kinds,
}


def _devices(value: object) -> bool:
    """A list with the figures of each of several GPUs, and nothing else."""
    forms = GPU | GPU_SOMETIMES | {"device": _text}
    return _list(_dict(**GPU, device=_text))(value) and all(
        key in forms and forms[key](found) for row in value for key, found in row.items()
    )


ALWAYS: dict[str, Form] = GPU | {
    "host_gb": _number,
    "host_training_gb": _number,
    "like": lambda value: value in LIKE,
    "groups": _whole,
    "batch_size": _maybe(lambda value: _whole(value) and value > 0),
    "samples": _maybe(_whole),
    "left_out": _list(_loop),
    "notes": _list(_text),
    "cost": _maybe(_cost),
    "seconds": _number,
}
SOMETIMES: dict[str, Form] = GPU_SOMETIMES | {
    "devices": _devices,
    "timeline": lambda value: value == {} or _step(value),
    "snapshot": _text,
    "compiled": _truth,
}
REPORT = {"phase": _text, "steps": _whole, "reserved_gb": _number}


def _contradiction(row: dict) -> str | None:
    """The name of a part that contradicts others; None if there is none."""
    for one in [row, *row.get("devices", ())]:
        if sum(one["breakdown_gb"].values()) > 1.001 * one["allocated_gb"] + 1e-6:
            return "breakdown_gb"
        fit = [key in one for key in ("fits", "may_fit", "reserved_within_gb")]
        if any(fit) and (not all(fit) or one["may_fit"] is (one["reserved_within_gb"] is None)):
            return "reserved_within_gb"
    same = ("reserved_gb", "breakdown_gb")
    devices = row.get("devices")
    if devices is not None and not any(all(d[k] == row[k] for k in same) for d in devices):
        return "devices"
    if row.get("timeline") and row["timeline"]["peak"]["place"] >= len(row["timeline"]["course"]):
        return "timeline"
    return None


def checked(answer: object, asked: Iterable[str] = ()) -> dict:
    """The parts of a prediction that are known, each of the right form.

    What has no business there is left out, and a note names it. `asked`: those of SOMETIMES that
    have to be there. Raises Malformed if a part is missing, of another form, or contradicts others.
    """
    if type(answer) is not dict:
        raise Malformed("its process has left something else than a prediction")
    forms = ALWAYS | {key: form for key, form in SOMETIMES.items() if key in (*answer, *asked)}
    wrong = [key for key, form in forms.items() if key not in answer or not form(answer[key])]
    if wrong:
        raise Malformed(f"its process has left no prediction: {', '.join(wrong)}")
    if strange := _contradiction(answer):
        raise Malformed(f"its process has left no prediction: {strange} cannot be")
    found = {key: answer[key] for key in forms}
    if strange := sorted(map(str, answer.keys() - forms.keys())):
        found["notes"] = [*found["notes"], f"its process also sent {strange}, which was ignored"]
    return found


def report(message: object) -> dict | None:
    """A report on how far a prediction is, without anything else; None if it is none."""
    return {key: message[key] for key in REPORT} if _dict(**REPORT)(message) else None
