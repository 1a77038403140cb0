"""Nodes of one machine that keep to themselves."""

import socket
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rclpy.node import Node
from ros_tools import graph
from tree import ROOT

from fer_ros.ros import local

SHIPPED = ROOT / "config/fastdds_large_images.xml"
NAME = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"


def test_no_domain_is_free(monkeypatch):
    monkeypatch.setattr(local, "_is_free", lambda port: False)
    with pytest.raises(OSError, match="every ROS_DOMAIN_ID is in use on this machine"):
        local.free_domain()


def test_the_only_free_domain_is_found(monkeypatch):
    first = 7400 + 250 * 42
    monkeypatch.setattr(local, "_DOMAINS", range(40, 50))
    monkeypatch.setattr(local, "_is_free", lambda port: first <= port < first + 250)
    assert local.free_domain() == 42


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_domain_in_use_is_not_free(monkeypatch, earlier):
    """Nor one that its first participant has left: they are counted by process, or as they come."""
    with ExitStack() as others, graph() as used:
        for _ in range(earlier):
            others.enter_context(graph()).node(Node, "elsewhere")
        monkeypatch.setattr(local, "_DOMAINS", range(used.domain, used.domain + 1))
        assert local.free_domain() == used.domain
        used.node(Node, "somebody")
        with pytest.raises(OSError, match="every ROS_DOMAIN_ID is in use"):
            local.free_domain()


def test_a_port_that_somebody_has_is_not_free():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        assert not local._is_free(port)
    assert local._is_free(port)


def test_the_transport_is_the_shipped_one_kept_away_from_networks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variables = local.transport(Path())
    assert variables.pop("ROS_AUTOMATIC_DISCOVERY_RANGE") == "SUBNET"
    (path,) = map(Path, variables.values())
    assert path.is_absolute()
    ours, shipped = (ElementTree.parse(each).getroot() for each in (path, SHIPPED))
    (udp,) = [each for each in descriptors(ours) if each.findtext(f"{NAME}type") == "UDPv4"]
    allowed = udp.find(f"{NAME}interfaceWhiteList")
    assert [each.text for each in allowed] == ["127.0.0.1"]
    udp.remove(allowed)
    assert words(ours) == words(shipped)


def descriptors(root):
    return list(root.iter(f"{NAME}transport_descriptor"))


def words(root):
    return [(each.tag, each.attrib, (each.text or "").strip()) for each in root.iter()]


def test_a_profile_that_was_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_PROFILE", Path("config/no_such.xml"))
    with pytest.raises(FileNotFoundError, match=r"config/no_such\.xml: not installed with fer_ros"):
        local.transport(tmp_path)
