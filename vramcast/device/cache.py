"""Remembers what an operator returns for inputs of given shapes, under a short key.

`FakeTensorMode` remembers this, too, but needs most of its time for its key (17 fields for each
tensor) and for a new tensor's twenty attributes. A training repeats the same operators with every
batch, so this decides how long a prediction takes.
"""

import torch

from vramcast import compat
from vramcast.compat import FAKE_DEVICE, FakeTensor, FakeTensorMode

META = torch.device("meta")
STRIDED = torch.strided
PLAIN = {int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout}
PLAIN.add(torch.memory_format)


class Results:
    """The results of one mode's operators.

    Remembered is only what FakeTensorMode remembers, and only if the short key decides every field
    of its key.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode
        self.entries: dict[tuple, object] = {}
        self.attributes: dict[torch.device, dict] = {}  # a new tensor's, by its device
        self.guard = compat.pointer_guard(mode)

    def key(self, func, args: tuple, kwargs: dict) -> tuple | None:
        """The key: all that decides a result; None if that is more than shapes and numbers."""
        # an operator's own hash is computed in Python, and each exists once
        parts = [id(func), torch.get_default_dtype(), torch.is_inference_mode_enabled()]
        try:
            known = self._add(parts, args)
            if known and kwargs:
                parts.extend(kwargs)
                known = self._add(parts, kwargs.values())
        except RuntimeError:  # a tensor without strides
            return None
        return tuple(parts) if known else None

    def _add(self, parts: list, values) -> bool:
        """Add values to a key; False if one of them is of a kind that a key cannot have."""
        for value in values:
            kind = type(value)
            if kind is FakeTensor:
                own, dtype = value.__dict__, value.dtype
                if (
                    own["fake_mode"] is not self.mode
                    or own["constant"] is not None
                    or own["dispatch_keys"] is not None
                    or dtype.is_complex
                    or value.layout is not STRIDED
                    or value.is_neg()
                ):
                    return False
                parts += (
                    dtype, value.shape, value.stride(), value.storage_offset(),
                    own[FAKE_DEVICE], value.requires_grad, value.is_inference(),
                )  # fmt: skip
            elif kind in PLAIN:
                parts += (kind, value)  # 1, 1.0 and True are equal
            elif kind is list or kind is tuple:
                parts += (kind, len(value))
                if not self._add(parts, value):
                    return False
            else:
                return False
        return True

    def find(self, key: tuple, func, args: tuple, kwargs: dict) -> object:
        """The entry for a key: FakeTensorMode's, NOTHING, or None if that is not known yet."""
        entry = self.entries.get(key)
        if entry is not None:
            return entry
        entry = compat.remembered(self.mode, func, args, kwargs)
        if entry is not None:
            self.entries[key] = entry
        return entry

    def make(self, entry, args: tuple, further: int = 0) -> object:
        """A new result of an operator, as the entry describes it; a view begins `further` on."""
        if entry.is_output_tuple:
            return tuple(self._make(info, args, further) for info in entry.output_infos)
        return self._make(entry.output_infos[0], args, further)

    def _make(self, info, args: tuple, further: int) -> object:
        if info.inplace_idx is not None:
            return args[info.inplace_idx]
        known = info.metadata
        if known is None:
            return info.constant_value
        shape, stride, device = known.shape, known.stride, known.device
        tensor = torch.empty_strided(shape, stride, dtype=known.dtype, device=META)
        if info.view_idx is not None:
            storage = args[info.view_idx].untyped_storage()
            tensor.set_(storage, known.storage_offset + further, shape, stride)
        attributes = self.attributes.get(device)
        if attributes is None:
            attributes = self.attributes[device] = dict(vars(FakeTensor(self.mode, tensor, device)))
        made = torch.Tensor._make_subclass(
            FakeTensor, tensor, known.requires_grad, dispatch_device=True,
            device_for_backend_keys=device,
        )  # fmt: skip
        self.guard(made)
        made.__dict__.update(attributes)
        return made
