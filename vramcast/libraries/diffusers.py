"""diffusers' pretrained models and schedulers, without the hub and without weights."""

from collections.abc import Iterable, Mapping
from types import ModuleType

import torch

from vramcast.libraries import model_sizes
from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported

_DOWN, _UP, _CROSS = "DownBlock2D", "UpBlock2D", ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
_ONE = {"unet": {"cross_attention_dim": 768, "sample_size": 64}, "vae": _VAE, "scheduler": {}}
_TWO = _ONE | {
    "unet": {
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
        "sample_size": 64,
    }
}
_XL = _ONE | {
    "unet": {
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "block_out_channels": [320, 640, 1280],
        "down_block_types": [_DOWN, _CROSS[0], _CROSS[0]],
        "up_block_types": [_CROSS[1], _CROSS[1], _UP],
        "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "sample_size": 128,
    },
    "vae": _VAE | {"sample_size": 1024, "scaling_factor": 0.13025},
}
SOURCES = (  # options on where a configuration comes from
    "cache_dir", "local_dir", "local_dir_use_symlinks", "force_download", "proxies", "token",
    "local_files_only", "revision", "mirror", "subfolder", "user_agent",
)  # fmt: skip
LOADING = (  # and on how weights are read
    "ignore_mismatched_sizes", "output_loading_info", "low_cpu_mem_usage", "variant",
    "use_safetensors", "disable_mmap", "use_flashpack", "flashpack_kwargs", "max_memory",
    "offload_folder", "offload_state_dict",
)  # fmt: skip
ELSEWHERE = ("quantization_config", "device_map", "parallel_config")
# By the last part of the name on the hub, and the part's folder: what differs from the defaults of
# the class. From the models' papers and cards; the tests hold the numbers of parameters against
# those that are published. The text encoders are in model_sizes.py.
KNOWN = {
    "stable-diffusion-v1-4": _ONE,
    "stable-diffusion-v1-5": _ONE,
    "stable-diffusion-2-base": _TWO,
    "stable-diffusion-2-1-base": _TWO,
    "stable-diffusion-2-1": _TWO | {"unet": _TWO["unet"] | {"sample_size": 96}},
    "stable-diffusion-xl-base-1.0": _XL,
    "sdxl-vae-fp16-fix": {"": _XL["vae"]},
}


def install(context: Context) -> None:
    """Let a part whose files are not here be made by the sizes known here, without its weights."""
    given = dict(context.options.configs)

    def configurations(module: ModuleType) -> None:
        original = module.ConfigMixin.load_config.__func__

        def load_config(
            cls,
            pretrained_model_name_or_path,
            return_unused_kwargs=False,
            return_commit_hash=False,
            **options,
        ):
            name = pretrained_model_name_or_path
            part = options.get("subfolder") or ""
            whole = f"{name}/{part}" if part else str(name)
            asked = {
                "return_unused_kwargs": return_unused_kwargs,
                "return_commit_hash": return_commit_hash,
            }
            if whole in given:
                return original(cls, given[whole], **asked, **_without(options, ["subfolder"]))
            try:
                return original(cls, name, **asked, **options)
            except OSError:
                sizes = KNOWN.get(str(name).rpartition("/")[2], {}).get(part)
                if sizes is None:
                    raise model_sizes.unknown(whole) from None
            answer = [dict(sizes)]
            answer += [_without(options, SOURCES)] if return_unused_kwargs else []
            answer += [None] if return_commit_hash else []
            return tuple(answer) if answer[1:] else answer[0]

        module.ConfigMixin.load_config = classmethod(load_config)

    def models(module: ModuleType) -> None:
        def from_pretrained(cls, pretrained_model_name_or_path, torch_dtype=None, **options):
            name = pretrained_model_name_or_path
            for option in ELSEWHERE:
                if options.get(option) is not None:
                    raise model_sizes.UnknownModel(
                        f"{cls.__name__} is loaded with {option}: what that takes is not known here"
                    )
            config, unused = cls.load_config(
                name, return_unused_kwargs=True, **_without(options, LOADING)
            )
            model = cls.from_config(config, **unused).eval()
            return model.to(torch_dtype) if isinstance(torch_dtype, torch.dtype) else model

        module.ModelMixin.from_pretrained = classmethod(from_pretrained)

    when_imported("diffusers.configuration_utils", configurations)
    when_imported("diffusers.models.modeling_utils", models)


def _without(options: Mapping, names: Iterable[str]) -> dict:
    return {name: value for name, value in options.items() if name not in names}
