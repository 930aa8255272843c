"""Weights files as people have them: each is read, or named as what it is."""

import io
import os
import zipfile

import pytest
import torch
from torch import nn

from fundusray import files
from fundusray.errors import InputError
from fundusray.models.load_weights import fit_state, read_state
from fundusray.models.weight_files import matching_part, unprefixed_state, unwrapped_state

STATE = {"conv.weight": torch.ones(2, 3, 1, 1), "conv.bias": torch.zeros(2)}


def saved(tmp_path, value, name="w.pth"):
    torch.save(value, tmp_path / name)
    return str(tmp_path / name)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 2, 1), nn.Linear(2, 5)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "net.", "model.", "backbone.", "encoder.", "module._orig_mod.model."],
)
def test_prefixes_of_wrappers_are_taken_off(prefix):
    wrapped = {prefix + name: value for name, value in STATE.items()}
    assert unprefixed_state(wrapped).keys() == STATE.keys()


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "model_ema"])
def test_a_training_scripts_checkpoint_is_opened(tmp_path, key):
    content = {"epoch": 3, key: STATE, "optimizer": {"lr": 0.1}}
    assert read_state(saved(tmp_path, content)).keys() == STATE.keys()


def test_a_network_under_a_prefix_beside_others_is_found_and_the_rest_is_told():
    state = {f"encoder.{name}": value for name, value in STATE.items()}
    state |= {"projector.0.weight": torch.ones(4, 2), "decoder.bias": torch.ones(3)}
    found, beside = matching_part(state, set(STATE))
    assert found.keys() == STATE.keys()
    assert beside == ["projector.0.weight", "decoder.bias"]
    net = Net()
    before = net.fc.weight.clone()
    notes = fit_state(net, state, ("fc",), "file")
    assert torch.equal(net.conv.weight, STATE["conv.weight"])
    assert torch.equal(net.fc.weight, before)
    assert notes == [
        "file: left out projector.0, decoder",
        "file: layer fc is not in the file; it starts at random",
    ]


def test_a_file_without_a_head_gives_the_features(tmp_path):
    notes = fit_state(Net(), dict(STATE), ("fc",), "file")
    assert notes == ["file: layer fc is not in the file; it starts at random"]


def test_a_head_of_another_name_is_another_architecture():
    with pytest.raises(InputError, match="another architecture"):
        fit_state(Net(), {"body.weight": torch.ones(1)}, ("fc",), "file")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><title>Sign in</title></html>", "web page"),
        (b"<html>404</html>", "web page"),
        (b"PK\x03\x04 torn", "no weights file"),
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_is_no_weights_file_is_named(tmp_path, content, words, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_state(str(tmp_path / name))


@pytest.mark.parametrize(
    "state, words",
    [
        ({0: torch.ones(2), 1: torch.ones(3)}, "under 0 and the like"),
        ({"a": torch.ones(3).to_sparse()}, "is sparse"),
        ({"a": torch.empty(3, device="meta")}, "is a meta tensor"),
        ({"a": torch.tensor([1.0, float("nan")])}, "holds NaN or infinity"),
        ({"a": torch.tensor([1.0, float("inf")]).half()}, "holds NaN or infinity"),
        ({"a": [1, 2]}, "no names and tensors"),
        ({}, "no names and tensors"),
        ([torch.ones(2)], "no names and tensors"),
    ],
)
def test_tensors_that_are_no_weights_are_named(tmp_path, state, words):
    with pytest.raises(InputError, match=words):
        read_state(saved(tmp_path, state))
    if isinstance(state, dict):
        with pytest.raises(InputError, match=words):
            unwrapped_state(state, "file")


def nested(depth, legacy):
    """A file whose pickle is lists in lists."""
    stream = io.BytesIO()
    torch.save({"a": torch.ones(2)}, stream, _use_new_zipfile_serialization=not legacy)
    program = b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."
    if legacy:
        return program
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(stream.getvalue())) as source,
        zipfile.ZipFile(packed, "w") as target,
    ):
        for member in source.infolist():
            inside = member.filename.endswith("/data.pkl")
            target.writestr(member, program if inside else source.read(member))
    return packed.getvalue()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("depth", [100_000, 3_000_000])
def test_an_endless_pickle_is_refused(tmp_path, depth, legacy):
    (tmp_path / "w.pth").write_bytes(nested(depth, legacy))
    with pytest.raises(InputError, match=r"no weights file|no names and tensors"):
        read_state(str(tmp_path / "w.pth"))


def test_a_legacy_file_is_still_read(tmp_path):
    torch.save(STATE, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert read_state(str(tmp_path / "w.pth")).keys() == STATE.keys()


def test_a_packed_archive_is_refused(tmp_path):
    place = saved(tmp_path, STATE)
    packed = tmp_path / "packed.pth"
    with (
        zipfile.ZipFile(place) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.namelist():
            target.writestr(member, source.read(member))
    with pytest.raises(InputError, match="members are compressed"):
        read_state(str(packed))


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_never_read(tmp_path, kind):
    place = "/dev/zero"
    if kind == "pipe":
        place = str(tmp_path / "w.pth")
        os.mkfifo(place)
    for read in (read_state, files.read_bytes, files.sha256_file):
        with pytest.raises(InputError, match="pipe, socket or device"):
            read(place)
