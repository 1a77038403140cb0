"""Domains for nodes that communicate only with each other."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rclpy.node import Node
from ros_tools import graph
from tree import ROOT

from fer_ros.ros.tools import isolated_domain

SHIPPED = ROOT / "config/fastdds_large_images.xml"
NAME = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"


@pytest.mark.parametrize("before", [{}, {"ROS_DOMAIN_ID": "7"}])
def test_an_isolated_domain_ends_with_the_environment_as_it_was(monkeypatch, before):
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    environment = dict(os.environ)
    with (
        pytest.raises(KeyboardInterrupt),
        isolated_domain.isolated_domain() as folder,
    ):
        assert os.environ["ROS_DOMAIN_ID"] not in ("", "7")
        (profile,) = folder.iterdir()
        assert str(profile) in os.environ.values()
        raise KeyboardInterrupt
    assert not folder.exists()
    assert dict(os.environ) == environment


def test_no_domain_is_free(monkeypatch):
    monkeypatch.setattr(isolated_domain, "_is_free", lambda port: False)
    with pytest.raises(OSError, match="every ROS_DOMAIN_ID is in use on this machine"):
        isolated_domain.find_free_domain_id()


def test_the_only_free_domain_is_found(monkeypatch):
    first = 7400 + 250 * 42
    monkeypatch.setattr(isolated_domain, "_DOMAIN_IDS", range(40, 50))
    monkeypatch.setattr(isolated_domain, "_is_free", lambda port: first <= port < first + 250)
    assert isolated_domain.find_free_domain_id() == 42


@pytest.mark.parametrize("other_participants", [0, 1])
def test_a_domain_in_use_is_not_free(monkeypatch, other_participants):
    """Participants are numbered by process or by domain: the first number may not be in use."""
    with ExitStack() as graphs:
        for _ in range(other_participants):
            graphs.enter_context(graph()).node(Node, "other")
        used = graphs.enter_context(graph())  # after the others, which might choose its domain
        monkeypatch.setattr(isolated_domain, "_DOMAIN_IDS", range(used.domain, used.domain + 1))
        assert isolated_domain.find_free_domain_id() == used.domain
        used.node(Node, "used")
        with pytest.raises(OSError, match="every ROS_DOMAIN_ID is in use"):
            isolated_domain.find_free_domain_id()


def test_a_bound_port_is_not_free():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        assert not isolated_domain._is_free(port)
    assert isolated_domain._is_free(port)


def test_the_transport_is_the_shipped_one_on_the_loopback_interface(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variables = isolated_domain.localhost_transport_env(Path())
    assert variables.pop("ROS_AUTOMATIC_DISCOVERY_RANGE") == "SUBNET"
    (path,) = map(Path, variables.values())
    assert path.is_absolute()
    written, shipped = (ElementTree.parse(file).getroot() for file in (path, SHIPPED))
    (udp,) = [item for item in descriptors(written) if item.findtext(f"{NAME}type") == "UDPv4"]
    allowed = udp.find(f"{NAME}interfaceWhiteList")
    assert [address.text for address in allowed] == ["127.0.0.1"]
    udp.remove(allowed)
    assert contents(written) == contents(shipped)


def descriptors(root):
    return list(root.iter(f"{NAME}transport_descriptor"))


def contents(root):
    return [(item.tag, item.attrib, (item.text or "").strip()) for item in root.iter()]


def test_a_profile_that_was_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(isolated_domain, "_PROFILE", Path("config/no_such.xml"))
    with pytest.raises(
        FileNotFoundError, match=r"config/no_such\.xml: not installed with fer_ros; reinstall"
    ):
        isolated_domain.localhost_transport_env(tmp_path)
