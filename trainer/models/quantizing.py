"""Frozen weights in fewer bits, by diffusers' own support of torchao and bitsandbytes; for LoRA on a single GPU."""

from __future__ import annotations

from typing import Any, Literal

import torch

Quantization = Literal["none", "int8", "nf4"]


def quantized(quantization: Quantization, compute_dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of a pipeline's from_pretrained that quantize its transformer and text encoders.

    int8: weight-only, by torchao. nf4: 4-bit normal floats, by bitsandbytes.
    """
    if quantization == "none":
        return {}
    from diffusers import PipelineQuantizationConfig  # noqa: PLC0415 - none of this unless asked for

    return {"quantization_config": PipelineQuantizationConfig(quant_mapping=_mapping(quantization, compute_dtype))}


def _mapping(quantization: Quantization, compute_dtype: torch.dtype) -> dict[str, Any]:
    """Component -> how; diffusers and transformers each have a class of their own for it."""
    import diffusers  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    def config(library: Any) -> Any:
        if quantization == "int8":
            from torchao.quantization import Int8WeightOnlyConfig  # noqa: PLC0415

            return library.TorchAoConfig(Int8WeightOnlyConfig())
        return library.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute_dtype
        )

    encoders = {name: config(transformers) for name in ("text_encoder", "text_encoder_2")}
    return {"transformer": config(diffusers), **encoders}
