"""Weights that are read after sharding are those of from_pretrained, in every family."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from edit_r1.trainer.models.unread import unread_transformer
from tests.support.forked import Forked
from tests.support.tiny_editor import build_tiny_editor
from tests.unit.trainer.test_model_family import BUILDERS

# Arguments: family=directory, whether all weights are trained.
COMPARE = """
import sys
import torch
from torch.distributed.tensor import DTensor
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.sharding import Sharder, whole
from edit_r1.trainer.models import family_class
from edit_r1.trainer.models.base import LoadOptions
from tests.unit.trainer.test_model_family import SIZE, SOURCES, TEXTS
processes = Processes(60)
for argument in sys.argv[1:]:
    name, directory, trains_all = argument.split("=")
    settings = {"guidance": 2.5, "device": processes.device, "trains_all": bool(trains_all), "precision": "bfloat16"}
    plain = family_class(name).load(directory, LoadOptions(**settings))
    options = LoadOptions(**settings, will_be_sharded=True)
    family = family_class(name).load(directory, options)
    assert list(options.unread) == [family.transformer]
    assert all(parameter.is_meta for parameter in family.transformer.parameters())
    sharder = Sharder(processes.device, processes.count, torch.bfloat16, options.unread)
    sharder(family.transformer, cast=True)
    ours, theirs = dict(family.transformer.named_parameters()), dict(plain.transformer.named_parameters())
    assert ours.keys() == theirs.keys()
    for key, parameter in theirs.items():
        assert isinstance(ours[key], DTensor)
        found = whole(ours[key])
        assert found.dtype == parameter.dtype and torch.equal(found, parameter), key
    for key, buffer in plain.transformer.named_buffers():
        assert torch.equal(family.transformer.get_buffer(key), buffer), key
    assert dict(family.transformer.config)["_name_or_path"] == dict(plain.transformer.config)["_name_or_path"]
    with torch.no_grad():
        plain.transformer.to(torch.bfloat16)
        conditioning = plain.encode(TEXTS, SOURCES)
        x = plain.initial_noise([torch.Generator().manual_seed(i) for i in range(2)], SIZE)
        velocity = family.velocity(x, torch.tensor([0.3, 0.6]), conditioning)
        torch.testing.assert_close(velocity, plain.velocity(x, torch.tensor([0.3, 0.6]), conditioning))
processes.close()
"""


def test_weights_read_after_sharding_are_those_of_from_pretrained(tmp_path):
    cases = []
    for number, (name, build) in enumerate(BUILDERS.items()):
        if "UniWorld" in name:
            continue  # loads its transformer by itself
        directory = build(tmp_path / f"{number}")
        transformer = directory / "transformer"
        if name == "flux_kontext":  # as large models are published: in several files and in bfloat16
            from diffusers import FluxTransformer2DModel

            model = FluxTransformer2DModel.from_pretrained(transformer, torch_dtype=torch.bfloat16)
            (transformer / "diffusion_pytorch_model.safetensors").unlink()
            model.save_pretrained(transformer, max_shard_size="100KB")
            assert len(list(transformer.glob("*.safetensors"))) > 1
        cases += [f"{name}={directory}={trains_all}" for trains_all in ("", "all")]
    status, output = Forked("python", "-c", COMPARE, *cases, num_processes=2, CUDA_VISIBLE_DEVICES="").finish(120)
    assert status == 0, output


@pytest.mark.parametrize("harm", ["renamed", "pickled"])
def test_other_files_are_left_to_from_pretrained(tmp_path, harm):
    directory = build_tiny_editor(tmp_path / "editor")
    assert unread_transformer(str(directory), torch.float32) is not None
    file = directory / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    if harm == "renamed":
        save_file({f"model.{name}": tensor for name, tensor in tensors.items()}, file)
    else:
        file.rename(file.with_suffix(".bin"))
    assert unread_transformer(str(directory), torch.float32) is None
