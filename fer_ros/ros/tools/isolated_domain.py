"""DDS settings for processes that communicate only with each other on this machine."""

import inspect
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

_PROFILE = Path("config/fastdds_large_images.xml")
_NAMESPACE = "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"
_DOMAIN_IDS = range(1, 102)  # ports of higher ids overlap with Linux's ephemeral ports
_PORT_BASE, _PORTS_PER_DOMAIN = 7400, 250  # RTPS specification
_PORT_OFFSETS = (0, *range(10, 30, 2))  # discovery multicast; unicast of the first participants


@contextmanager
def isolated_domain() -> Iterator[Path]:
    """Set the environment for nodes that communicate only with each other, until the end.

    Yields a temporary folder. Raises OSError if all domain ids are in use.
    """
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            **localhost_transport_env(Path(folder)),
            "ROS_DOMAIN_ID": str(find_free_domain_id()),
        }
        saved = {name: os.environ[name] for name in variables if name in os.environ}
        os.environ.update(variables)
        try:
            yield Path(folder)
        finally:
            for name in variables:
                del os.environ[name]
            os.environ.update(saved)


def find_free_domain_id() -> int:
    """Find a ROS_DOMAIN_ID that is unused on this machine. Raises OSError if all are in use."""
    for domain_id in random.sample(_DOMAIN_IDS, len(_DOMAIN_IDS)):
        base = _PORT_BASE + _PORTS_PER_DOMAIN * domain_id
        if all(_is_free(base + offset) for offset in _PORT_OFFSETS):
            return domain_id
    raise OSError("every ROS_DOMAIN_ID is in use on this machine")


def localhost_transport_env(folder: Path) -> dict[str, str]:
    """Environment variables for large images between processes of this machine only.

    Writes a Fast DDS profile into ``folder``: the shipped one, restricted to the loopback
    interface.
    """
    ElementTree.register_namespace("", _NAMESPACE)
    profile = ElementTree.parse(_find_shipped(_PROFILE))
    for descriptor in profile.iter(f"{{{_NAMESPACE}}}transport_descriptor"):
        if descriptor.findtext(f"{{{_NAMESPACE}}}type") == "UDPv4":
            allowed = ElementTree.SubElement(descriptor, f"{{{_NAMESPACE}}}interfaceWhiteList")
            ElementTree.SubElement(allowed, f"{{{_NAMESPACE}}}address").text = "127.0.0.1"
    path = folder.resolve() / "fastdds_localhost.xml"
    profile.write(path, encoding="utf-8", xml_declaration=True)
    return {
        profiles_variable(): str(path),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    }


def profiles_variable() -> str:
    """Name of the variable for Fast DDS 3, which came with Kilted, or for Fast DDS 2."""
    import rclpy  # here, because free domains are also searched without ROS

    is_kilted = "uninstall_handlers" in inspect.signature(rclpy.try_shutdown).parameters
    return f"FAST{'DDS' if is_kilted else 'RTPS'}_DEFAULT_PROFILES_FILE"


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _find_shipped(name: Path) -> Path:
    """Path of a shipped file, in the source tree or in share/ of an installation."""
    for parent in Path(__file__).resolve().parents:
        for path in (parent / name, parent / "share" / "fer_ros" / name):
            if path.is_file():
                return path
    raise FileNotFoundError(f"{name}: not installed with fer_ros; reinstall fer_ros")
