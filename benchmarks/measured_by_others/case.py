"""A figure that others measured: where it is published, its conditions, and how it is rebuilt.

`measured` is as published; `unit` is its unit in bytes, as the measuring code defines it, and
`besides` what the figure counts that is not PyTorch's (in the same unit).
"""

from dataclasses import asdict, dataclass, field

KEPT = (  # in the results file
    "project", "what", "source", "conditions", "measured", "unit_name", "besides", "quantity",
    "as_of", "note", "explanation", "counted",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One figure."""

    project: str
    what: str
    source: str  # repository, path and commit
    conditions: str
    measured: float
    quantity: str  # "allocated" or "reserved", at its peak
    step: str  # the module and function that rebuild it
    arguments: dict
    unit_name: str = "GB"
    unit: float = 1e9
    besides: float = 0.0
    gpu: str = "A100-80"  # or the one whose cuBLAS workspace is as large
    gpus: int = 1
    as_of: int | None = None  # 2023: measured with PyTorch 2.0 or 2.1
    note: str = ""
    explanation: str = ""  # of an error of more than 5 %
    counted: bool = True  # among the errors; else it is shown beside them, and the note says why

    @property
    def measured_gb(self) -> float:
        """PyTorch's part of the figure, in 1e9 bytes."""
        return (self.measured - self.besides) * self.unit / 1e9

    @property
    def name(self) -> tuple[str, str, str]:
        """What tells it from all other figures, as in `name_of`."""
        return name_of(self.row())

    @property
    def run(self) -> tuple:
        """What is predicted for it. The figures of one run share it."""
        return self.step, repr(self.arguments), self.gpu, self.gpus, self.as_of

    def row(self) -> dict:
        """What of it goes into the results file."""
        fields = asdict(self)
        return {key: fields[key] for key in KEPT} | {"measured_gb": self.measured_gb}


def name_of(row: dict) -> tuple[str, str, str]:
    """What tells a row of the results file from all others."""
    return row["source"], row["what"], row["quantity"]


@dataclass
class Table:
    """Figures of one source, which share its conditions."""

    shared: dict
    cases: list[Case] = field(default_factory=list)

    def add(self, what: str, measured: float, step: str, arguments: dict, **own) -> None:
        """Another of its figures."""
        given = {"what": what, "measured": measured, "step": step, "arguments": arguments}
        self.cases.append(Case(**{**self.shared, **given, **own}))

    def add_both(
        self, what: str, allocated: float, reserved: float, step: str, arguments: dict, **own
    ) -> None:
        """Another run of which both figures are published."""
        for quantity, measured in (("allocated", allocated), ("reserved", reserved)):
            self.add(what, measured, step, arguments, quantity=quantity, **own)
