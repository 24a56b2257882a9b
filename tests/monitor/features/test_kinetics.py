"""Networks of pytorchvideo, with random weights that come through the real door: a .pyth file, imported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from monitor.features import backbone, kinetics, weights
from monitor.features.tensors import WeightsError, file_sha256
from tests.monitor.features.test_download import serving


def random_network(name: str, seed: int = 0) -> nn.Module:
    """A network with its classes whose batch norms do something."""
    torch.manual_seed(seed)
    network = kinetics.architecture(name).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return network


def save_pyth(network: nn.Module, path: Path) -> Path:
    """As pytorchvideo's files are: the tensors under ``model_state``, beside what training left there."""
    torch.save({"model_state": network.state_dict(), "epoch": 196, "cfg": "x", "optimizer_state": {"state": {}}}, path)
    return path


def plain_feature(name: str, network: nn.Module, pictures_BKHWC: Tensor) -> Tensor:
    """What the docstring of kinetics.py says, said once more: a hook on pytorchvideo's own forward pass."""
    x_BCTHW = (pictures_BKHWC.permute(0, 4, 1, 2, 3).float() / 255 - 0.45) / 0.225
    *_, head = network.get_submodule("blocks").children()
    seen: list[Tensor] = []
    if name.startswith("x3d"):
        pool = head.get_submodule("pool")
        pool.add_module("pool", nn.AdaptiveAvgPool3d(1))
        pool.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    else:
        head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    with torch.inference_mode():
        network(x_BCTHW)
    return seen[0].mean((2, 3, 4))


def noise(name: str, segments: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (segments, *backbone.recipe(name).preprocessing.shape)
    return torch.randint(0, 255, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.slow
def test_x3d_is_what_pytorchvideo_computes_and_comes_by_http_or_file(cache: Path, tmp_path: Path) -> None:
    """One network through every door: import, fetch broken off and resumed, trust on first use, local path."""
    network = random_network("x3d_s")
    file = save_pyth(network, tmp_path / "X3D_S.pyth")
    with serving(file.read_bytes()) as server:
        server.break_after = 5_000_000
        with pytest.raises(WeightsError, match=r"broke off after 5000000 of \d+ bytes; the next attempt goes on"):
            weights.fetch("x3d_s", url=server.url)
        fetched = weights.fetch("x3d_s", url=server.url)
        assert server.ranges == [None, "bytes=5000000-"]
        assert (fetched.trust, fetched.sha256, fetched.origin) == ("first use", file_sha256(file), server.url)
        created = backbone.create("x3d_s")
        server.content, server.etag = save_pyth(random_network("x3d_s", 1), tmp_path / "b.pyth").read_bytes(), '"b"'
        with pytest.raises(WeightsError, match=f"expected {fetched.sha256}; a file that is meant to replace them"):
            weights.fetch("x3d_s", url=server.url)
    assert weights.verify("x3d_s") == fetched
    by_path = backbone.create("x3d_s", weights=file, engine="eager")
    assert created.fingerprint == by_path.fingerprint
    replaced = weights.take_in("x3d_s", tmp_path / "b.pyth", sha256=file_sha256(tmp_path / "b.pyth"))
    assert replaced.trust == "given by the caller"
    assert backbone.create("x3d_s", engine="eager").fingerprint != created.fingerprint

    pictures_BKHWC = noise("x3d_s")
    expected_BD = plain_feature("x3d_s", network, pictures_BKHWC)
    assert expected_BD.shape == (2, 2048)
    for each in (created, by_path):
        assert (each.encode(pictures_BKHWC) - expected_BD).abs().max() / expected_BD.abs().max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "millions"), [("i3d_r50", 28.04), ("slow_r50", 32.45), ("x3d_m", 3.79)])
def test_it_is_what_pytorchvideo_computes(cache: Path, tmp_path: Path, name: str, millions: float) -> None:
    network = random_network(name)
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2) == millions
    weights.take_in(name, save_pyth(network, tmp_path / "random.pyth"))
    pictures_BKHWC = noise(name)
    expected_BD = plain_feature(name, network, pictures_BKHWC)
    largest = expected_BD.abs().max()
    eager, openvino = backbone.create(name, engine="eager"), backbone.create(name, engine="openvino")
    assert eager.fingerprint == openvino.fingerprint
    assert (eager.encode(pictures_BKHWC[:1]) - expected_BD[:1]).abs().max() / largest < 1e-4
    features_BD = openvino.encode(pictures_BKHWC)
    assert features_BD.shape == (2, 2048)
    assert (features_BD - expected_BD).abs().max() / largest < 1e-4
    assert (openvino.encode(pictures_BKHWC[1:]) - features_BD[1:]).abs().max() / largest < 1e-5


def test_weights_of_another_network_do_not_get_in(cache: Path, tmp_path: Path) -> None:
    file = save_pyth(nn.Conv3d(3, 4, 3), tmp_path / "other.pyth")
    with pytest.raises(WeightsError, match=r"other\.pyth do not fit backbone 'x3d_s'"):
        weights.take_in("x3d_s", file)
    assert not cache.exists()
