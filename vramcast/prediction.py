"""A prediction: its figures, and the answer in words."""

from dataclasses import dataclass, field, fields

from vramcast import evidence, gpus, notebook
from vramcast.gpus import Model
from vramcast.options import Options

SAME = 0.03  # of an uncompiled script's figure: what is worth telling of the difference
VERDICTS = ("fits", "may not fit", "does not fit")


@dataclass(frozen=True)
class Prediction:
    """What a GPU would need for a script: the fullest of those that it uses.

    GB are 1e9 bytes; `print` shows it in words. What was not asked, or is not known, is None.
    """

    script: str
    reserved_gb: float  # peak of `torch.cuda.max_memory_reserved()`; the most, if it is a range
    allocated_gb: float  # peak of `torch.cuda.max_memory_allocated()`
    breakdown_gb: dict[str, float]  # of the allocated peak, by kind (see kinds.py)
    notes: list[str]  # what was assumed, is not known, or not counted
    host_gb: float  # of tensors in the host's memory, at most
    host_training_gb: float  # and after the first optimizer step
    created_gb: float  # reserved until the model was first called
    peak_phase: str  # of the training, in which the allocated peak is
    peak_module: str  # and the module
    seconds: float  # that the prediction took
    like: str  # one of evidence.LIKE: which measurements tell how far it may be off
    groups: int  # process groups that communicated
    reserved_least_gb: float | None = None  # where streams share memory, and the GPU keeps up
    uncompiled_gb: dict[str, float] | None = None  # "reserved" and "allocated", of a compiled one
    fits: bool | None = None  # the GPU that was asked about, with a margin for the error
    may_fit: bool | None = None  # the same, if the prediction is exact
    reserved_within_gb: float | None = None  # in that GPU's memory
    batch_size: int | None = None  # that was asked for
    techniques: tuple[str, ...] = ()  # that were applied to it (techniques/catalog.py)
    left_out: list[dict] = field(default_factory=list)  # loops that were not run to their end
    batch_size_line: int | None = None  # of the number in the script that was replaced
    batch_size_may_fit: int | None = None  # the largest that fits if the prediction is exact
    devices: list[dict] | None = None  # each of several GPUs' figures; the others are the fullest's
    largest: list[dict] | None = None  # of the tensors at the peak, if asked for
    after_step_gb: dict[str, float] | None = None  # what stays after a step, if asked for
    cost: dict | None = None  # of one training step: see cost/counter.py
    timeline: dict | None = field(default=None, repr=False)  # of it: see step/timeline.py
    gpu: Model = field(default=gpus.DEFAULT, repr=False)

    @classmethod
    def of(cls, row: dict, options: Options) -> "Prediction":
        """From a row as `vramcast --json` prints it (or `run.process.predict` returns it)."""
        known = {one.name for one in fields(cls)} - {"batch_size", "techniques", "gpu"}
        return cls(
            **{key: value for key, value in row.items() if key in known},
            batch_size=options.batch_size,
            techniques=options.techniques,
            gpu=options.gpu,
        )

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {size:.2f}" for kind, size in self.breakdown_gb.items())
        lines = [f"  {line}" for line in details(self)]
        return "\n".join([answer(self), *lines, f"  split: {kinds} GB"])

    def _repr_html_(self) -> str:
        """What a notebook shows: the answer, with pictures of the peak and of a step."""
        step = self.timeline or {}
        return notebook.html(answer(self), details(self), self.breakdown_gb, self.reserved_gb, step)


def is_range(row: Prediction) -> bool:
    """Whether a prediction is a range: its lower and upper figure differ in what is printed."""
    return row.reserved_least_gb is not None and row.reserved_gb - row.reserved_least_gb >= 0.005


def verdict(row: Prediction) -> str:
    """Whether it fits, in words; "may not fit" if it fits only when the prediction is exact."""
    return word(row.fits, row.may_fit)


def word(fits: bool, may_fit: bool) -> str:
    """One of VERDICTS."""
    return VERDICTS[0 if fits else 1 if may_fit else 2]


def answer(row: Prediction) -> str:
    """The answer in one line: whether the script fits, or how much it needs."""
    batch = f" with batches of {row.batch_size}" if row.batch_size else ""
    if row.batch_size_line is not None:
        batch += f" (the number in line {row.batch_size_line})"
    if row.techniques:
        batch += f"{' and' if batch else ' with'} {', '.join(row.techniques)}"
    name, at_most = f"{row.script}{batch}", "at most " if is_range(row) else ""
    where = f" on the fullest of {len(row.devices)} GPUs, {fullest(row)}" if row.devices else ""
    needs = f"{at_most}{row.reserved_gb:.2f} GB of GPU memory{where}"
    if row.fits is None:
        return f"{name} needs {needs} (predicted peak, reserved)"
    if row.may_fit and row.reserved_gb > row.gpu.memory / 1e9:
        more = f"with more memory, PyTorch would reserve {at_most}{row.reserved_gb:.2f} GB"
        needs = f"{row.reserved_within_gb:.2f} GB of GPU memory there{where}; {more}"
    return f"{name} {verdict(row)} {row.gpu.name}: it needs {needs} (predicted peak, reserved)"


def fullest(row: Prediction) -> str:
    """The name of the fullest of several GPUs, whose figures are the prediction's."""
    return next(
        one["device"]
        for one in row.devices
        if all(one[key] == getattr(row, key) for key in ("reserved_gb", "breakdown_gb"))
    )


def _worth_telling(sizes: dict[str, float]) -> str:
    """Kinds of memory and their GB, without those that are rounded to nothing."""
    return ", ".join(f"{kind} {size:.2f}" for kind, size in sizes.items() if size >= 0.005)


def describe_device(device: dict) -> str:
    """One line on one of several GPUs."""
    kinds = _worth_telling(device["breakdown_gb"])
    least = device.get("reserved_least_gb", device["reserved_gb"])
    at_most = "at most " if device["reserved_gb"] - least >= 0.005 else ""
    return (
        f"{device['device']}: {at_most}{device['reserved_gb']:.2f} GB reserved, "
        f"{device['allocated_gb']:.2f} GB allocated" + f" ({kinds})" * bool(kinds)
    )


def need(row: Prediction) -> str:
    """What a script needs, in a few words, on a GPU on which it may fit or not."""
    more, within = f"{row.reserved_gb:.2f} GB reserved", row.reserved_within_gb
    if within is None or within >= row.reserved_gb:
        return more
    return f"{within:.2f} GB reserved there ({more} if there were room)"


def details(row: Prediction) -> list[str]:
    """The details of a prediction, a line for each."""
    module = f", at {row.peak_module}" if row.peak_module else ""
    phase = f" ({row.peak_phase}{module})" if row.peak_phase else ""
    of = f" of {fullest(row)}" if row.devices else ""
    lines = [f"allocated peak{of}: {row.allocated_gb:.2f} GB{phase}"]
    if is_range(row):
        lines.append(f"reserved: at least {row.reserved_least_gb:.2f} GB, if the GPU keeps up")
    if row.uncompiled_gb is not None:
        lines.append(describe_compiled(row))
    if row.fits is not None:
        lines += [describe_fit(row), describe_rest(row)]
        if row.gpu.assumed:
            lines.append(f"of {row.gpu.name} nothing else is known: {row.gpu.assumed}")
    lines += map(describe_device, row.devices or [])
    host = f"host: {row.host_gb:.2f} GB of tensors"
    if row.host_gb - row.host_training_gb >= 0.005:
        host += f", {row.host_training_gb:.2f} GB while it trains"
    lines.append(host)
    if row.cost:
        lines.append(describe_cost(row.cost, row.gpu, len(row.devices or [0])))
    if row.left_out:
        lines.append(describe_left_out(row.left_out))
    return lines + [f"note: {note}" for note in dict.fromkeys(row.notes)]


def describe_compiled(row: Prediction) -> str:
    """One line on what compiling changes, with figures if that is more than 3 %."""
    pairs = {kind: (size, getattr(row, f"{kind}_gb")) for kind, size in row.uncompiled_gb.items()}
    if all(abs(own - plain) <= SAME * plain for plain, own in pairs.values()):
        return f"predicted as compiled, which changes less than {100 * SAME:.0f} %"
    told = ", ".join(f"{plain:.2f} GB {kind}" for kind, (plain, _) in pairs.items())
    return f"predicted as compiled; uncompiled it would need {told}"


def tflop(cost: dict | None) -> float:
    """TFLOP of a training step for each sample, in all number formats; 0 without a step."""
    return sum(cost["tflop_per_sample"].values()) if cost else 0


def moved_gb(cost: dict | None) -> float:
    """GB that a step moves between GPU and host, or between GPUs; 0 without a step."""
    if not cost:
        return 0
    return sum(cost[f"{where}_gb_per_step"] for where in ("to_gpu", "to_host", "between_gpus"))


def why(row: Prediction) -> list[str]:
    """The largest tensors at the peak, a line for each, and what stays after a step."""
    lines = ["largest at the peak, in GB allocated:"]
    for one in row.largest or []:
        times = f"{one['count']} × " if one["count"] > 1 else ""
        lines.append(f"  {one['gb']:7.3f}  {one['kind']:11}  {times}{one['what']}")
    stays = _worth_telling(row.after_step_gb or {})
    return [*lines, f"stays after a step: {stays} GB"] if stays else lines


def describe_cost(cost: dict, model: Model, number: int = 1) -> str:
    """One line on what a steady step costs, and on the least time of an epoch."""
    arithmetic = tflop(cost)
    moved = "".join(
        f", {cost[key]:.2f} GB a step {where}"
        for key, where in (
            ("to_gpu_gb_per_step", "to the GPU"),
            ("to_host_gb_per_step", "to the host"),
            ("between_gpus_gb_per_step", "between GPUs"),
        )
        if cost[key] >= 0.005
    )
    what, minutes = max(cost["least_minutes_per_epoch"].items(), key=lambda item: item[1])
    gpu = model.name if model.name in gpus.KNOWN else "an A100"  # whose rates another size has
    gpu = f"{number} GPUs like {gpu}" if number > 1 else gpu
    time = f"{minutes:.2g} minutes" if minutes >= 1 else f"{60 * minutes:.2g} seconds"
    kernels = cost["kernels_per_sample"] * cost["samples_per_step"]
    return (
        f"cost: {arithmetic:.3g} TFLOP a sample, {kernels:.0f} kernels a step{moved}; at least "
        f"{time} an epoch on {gpu} (limited by {what})"
    )


def describe_left_out(loops: list[dict]) -> str:
    """Which iterations were not run."""
    parts = []
    for loop in loops:
        where = f" ({loop['place']})" if loop["place"] else ""
        done, left = loop["done"], loop["left"]
        rest = "the rest" if left is None else f"{left:,} of {done + left:,} {loop['what']}"
        after = f" after {done:,} {loop['what']}" if left is None else ""
        parts.append(f"{rest}{after}{where}")
    return f"not run: {', '.join(parts)}"


def describe_fit(row: Prediction) -> str:
    """Whether it fits, and by how much."""
    model = row.gpu
    exact, sure = (limit / 1e9 for limit in evidence.limits(model, row.like, row.groups))
    inside = row.reserved_within_gb if row.may_fit else row.reserved_gb
    told = f"{verdict(row)}, {exact - inside:.2f} GB to spare"
    if not row.may_fit:
        told = f"{verdict(row)}, by {inside - exact:.2f} GB"
    elif inside < row.reserved_gb:
        told += " after unused memory was given back"
    if row.may_fit and not row.fits:
        told += f" if the prediction is exact; only up to {sure:.2f} GB are sure to fit"
    size = f", {model.memory / 1e9:.2f} GB" if model.name in gpus.KNOWN else ""
    return f"{model.name}{size}: {told}"


def describe_rest(row: Prediction) -> str:
    """What the prediction leaves out, and how much that may be."""
    parts = ", ".join(
        f"{size / 1e9:.2f} for {what}"
        for what, size in evidence.left_out(row.gpu, row.groups).items()
    )
    return (
        f"left out, in GB: about {parts}; scripts like this one were measured up to "
        f"{100 * evidence.margin(row.like):.1f} % higher"
    )
