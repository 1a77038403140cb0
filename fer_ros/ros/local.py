"""Processes of one machine that talk to each other and to nobody else."""

import os
import random
import socket
from pathlib import Path
from xml.etree import ElementTree

_PROFILE = Path("config/fastdds_large_images.xml")
_NAMESPACE = "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"
_PROFILES_VARIABLE = (
    "FASTRTPS_DEFAULT_PROFILES_FILE"
    if os.environ.get("ROS_DISTRO") == "humble"
    else "FASTDDS_DEFAULT_PROFILES_FILE"
)
_DOMAINS = range(1, 102)  # the ports of higher ones are also given to other programs
_DISCOVERY = (0, *range(10, 30, 2))  # of all that are in a domain, then of its first participants


def free_domain() -> int:
    """A ROS_DOMAIN_ID that nobody on this machine uses. Raises OSError when all are taken."""
    for domain in random.sample(_DOMAINS, len(_DOMAINS)):
        base = 7400 + 250 * domain  # as RTPS counts
        if all(_is_free(base + offset) for offset in _DISCOVERY):
            return domain
    raise OSError("every ROS_DOMAIN_ID is in use on this machine")


def transport(folder: Path) -> dict[str, str]:
    """Environment variables for large images between processes of this machine alone.

    Writes a profile into ``folder``: the shipped one, kept away from every network.
    """
    ElementTree.register_namespace("", _NAMESPACE)
    profile = ElementTree.parse(_shipped(_PROFILE))
    for descriptor in profile.iter(f"{{{_NAMESPACE}}}transport_descriptor"):
        if descriptor.findtext(f"{{{_NAMESPACE}}}type") == "UDPv4":
            allowed = ElementTree.SubElement(descriptor, f"{{{_NAMESPACE}}}interfaceWhiteList")
            ElementTree.SubElement(allowed, f"{{{_NAMESPACE}}}address").text = "127.0.0.1"
    path = folder.resolve() / "fastdds_this_machine.xml"
    profile.write(path, encoding="utf-8", xml_declaration=True)
    return {
        _PROFILES_VARIABLE: str(path),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    }


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _shipped(name: Path) -> Path:
    """A file of the package, in the source tree or in share/ of an installation."""
    for parent in Path(__file__).resolve().parents:
        for path in (parent / name, parent / "share" / "fer_ros" / name):
            if path.is_file():
                return path
    raise FileNotFoundError(f"{name}: not installed with fer_ros")
