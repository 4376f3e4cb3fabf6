"""Quantized frozen weights through diffusers' torchao support; for LoRA on a single GPU."""

from __future__ import annotations

from typing import Any, Literal

Quantization = Literal["none", "int8"]


def quantized(quantization: Quantization) -> dict[str, Any]:
    """Arguments of a pipeline's from_pretrained that quantize its transformer and text encoders.

    int8: weights only; each layer's weights are dequantized for its matrix product.
    """
    if quantization == "none":
        return {}
    import diffusers  # noqa: PLC0415 - imported only when quantizing
    import transformers  # noqa: PLC0415
    from torchao.quantization import Int8WeightOnlyConfig  # noqa: PLC0415

    # diffusers and transformers each need a configuration of their own class.
    mapping = {
        "transformer": diffusers.TorchAoConfig(Int8WeightOnlyConfig()),
        "text_encoder": transformers.TorchAoConfig(Int8WeightOnlyConfig()),
        "text_encoder_2": transformers.TorchAoConfig(Int8WeightOnlyConfig()),
    }
    return {"quantization_config": diffusers.PipelineQuantizationConfig(quant_mapping=mapping)}
