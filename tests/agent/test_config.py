"""Settings: which source wins, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry_agent.config import AgentConfig, load
from skerry_agent.daemon import runtime_config
from skerry_agent.errors import ConfigError


def test_flags_win_over_environment_over_file_over_defaults() -> None:
    text = "heartbeat_s = 1\nkeepalive_s = 2\nthreads = 3\n"
    environment = {"SKERRY_AGENT_KEEPALIVE_S": "20", "SKERRY_AGENT_THREADS": "30", "OTHER": "x"}
    found = load(text, environment, {"threads": 300, "api_port": None, "root": Path("/x")})
    assert (found.heartbeat_s, found.keepalive_s, found.threads, found.api_port) == (1.0, 20, 300, None)
    assert found.root == Path("/x") and found.observe_s == AgentConfig().observe_s


@pytest.mark.parametrize(("said", "meant"), [("true", True), ("1", True), ("false", False), ("No", False)])
def test_a_switch_is_read_from_both(said: str, meant: bool) -> None:
    assert load("", {"SKERRY_AGENT_API_TOKEN": said}, {}).api_token is meant
    assert load(f"api_token = {str(meant).lower()}", {}, {}).api_token is meant


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ("= 3", {}, "config.toml"),
        ("hartbeat_s = 3", {}, "hartbeat_s"),
        ("heartbeat_s = true", {}, "heartbeat_s"),
        ("heartbeat_s = 'soon'", {}, "heartbeat_s"),
        ("keepalive_s = 1.5", {}, "keepalive_s"),
        ("keepalive_s = 0", {}, "keepalive_s"),
        ("root = 3", {}, "root"),
        ("api_port = 99999", {}, "99999"),
        ("", {"SKERRY_AGENT_API_PORT": "x"}, "api_port"),
        ("", {"SKERRY_AGENT_RESERVE_FREE_BYTES": "-1"}, "reserve_free_bytes"),
        ("api_token = 'perhaps'", {}, "api_token"),
        ("api_token = 2", {}, "api_token"),
        ("instances = 0", {}, "instances"),
        ("model = 3", {}, "model must be tables"),
        ("[model.doors]\ninstances = 0", {}, "doors.*instances"),
        ("[model.doors]\ninstances = true", {}, "doors.*instances"),
        ("[model.doors]\ninstance = 2", {}, "doors.*instance"),
    ],
)
def test_a_wrong_setting_is_named(text: str, environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load(text, environment, {})
    assert caught.value.hint


def test_what_is_special_to_a_model_stands_beside_what_all_share() -> None:
    found = runtime_config(load("instances = 2\n[model.doors]\nqueue = 8\n[model.'a b']\ninstances = 4", {}, {}))
    assert (found.of("other").instances, found.of("other").queue) == (2, 64)
    assert (found.of("doors").instances, found.of("doors").queue) == (2, 8)
    assert found.of("a b").instances == 4
