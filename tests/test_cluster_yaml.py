"""cluster.yaml, as Ray reads it, and what it promises about cost and access."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
PATH = ROOT / "cluster.yaml"
TOKEN_MODE = "RAY_AUTH_MODE=token"


@pytest.fixture(scope="module")
def config() -> dict:
    return yaml.safe_load(PATH.read_text())


@pytest.fixture(scope="module")
def workers(config) -> list[dict]:
    types = config["available_node_types"]
    return [node for name, node in types.items() if name != config["head_node_type"]]


def starts(config: dict) -> dict[str, list[str]]:
    """The commands that start Ray, on the head and on workers."""
    keys = ("head_start_ray_commands", "worker_start_ray_commands")
    return {key: [line for line in config[key] if "ray start" in line] for key in keys}


def test_ray_accepts_it(config):
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert prepared["available_node_types"]["gpu"]["max_workers"] == 8
    # Our commands, not Ray's defaults, are what runs.
    assert prepared["setup_commands"] == config["setup_commands"]
    assert prepared["head_start_ray_commands"] == config["head_start_ray_commands"]


def test_ray_refuses_it_with_a_wrong_key(config):
    wrong = copy.deepcopy(config) | {"max_wokers": 3}
    with pytest.raises(Exception, match="max_wokers"):
        validate_config(prepare_config(wrong))


def test_no_node_type_exceeds_the_global_bound(config, workers):
    for node in workers:
        assert 0 <= node["min_workers"] <= node["max_workers"] <= config["max_workers"]


def test_workers_are_spot_and_go_to_zero(config, workers):
    assert workers
    for node in workers:
        assert node["min_workers"] == 0
        assert node["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    head = config["available_node_types"][config["head_node_type"]]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert 0 < config["idle_timeout_minutes"] <= 30


def test_every_start_asks_for_the_token(config):
    for lines in starts(config).values():
        assert len(lines) == 1
        before, _, _ = lines[0].partition("ray start")
        assert f"export {TOKEN_MODE}" in before
    assert any(TOKEN_MODE in option for option in config["docker"]["run_options"])


def test_the_token_comes_as_a_file(config):
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "RAY_AUTH_TOKEN" not in PATH.read_text()


def test_the_dashboard_is_on_the_loopback(config):
    (line,) = starts(config)["head_start_ray_commands"]
    assert re.findall(r"--dashboard-host=(\S+)", line) == ["127.0.0.1"]
    assert "0.0.0.0" not in yaml.safe_dump(config)


def test_only_ssh_is_open(config):
    rules = config["provider"]["security_group"].get("IpPermissions", [])
    assert all((rule["FromPort"], rule["ToPort"]) == (22, 22) for rule in rules)
    for node in config["available_node_types"].values():
        assert not {"SecurityGroupIds", "NetworkInterfaces"} & set(node["node_config"])


def test_disks_are_encrypted_and_end_with_their_node(config):
    assert config["provider"]["cache_stopped_nodes"] is False
    for node in config["available_node_types"].values():
        for disk in node["node_config"]["BlockDeviceMappings"]:
            assert disk["Ebs"]["Encrypted"] and disk["Ebs"]["DeleteOnTermination"]
        assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_no_secret_is_written_down():
    text = PATH.read_text()
    for secret in (
        r"AKIA[0-9A-Z]{16}",
        r"-----BEGIN",
        r"\b[0-9a-f]{32,}\b",
        r"(?i)secret|password",
    ):
        assert not re.search(secret, text)


def test_the_images_have_the_locked_ray(config):
    lock = (ROOT / "requirements.lock").read_text()
    (version,) = re.findall(r"^ray==([\d.]+)", lock, re.MULTILINE)
    for image in (config["docker"]["head_image"], config["docker"]["worker_image"]):
        assert image.startswith(f"rayproject/ray:{version}-py311-")
