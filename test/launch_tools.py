"""The package as if it were installed, with stand-ins for its programs and for ros2."""

import os
import subprocess
import sys
from pathlib import Path

import yaml
from tree import ROOT

# Stands in for a node: notes its arguments, and what its parameter files say.
NODE = """#!/bin/sh
for argument; do
  printf '%s\\n' "$argument" >> "$0.arguments"
  if [ -f "$argument" ]; then
    printf -- '---\\n' >> "$0.yaml"
    cat "$argument" >> "$0.yaml"
  fi
done
exit {code}
"""
# Runs until it is stopped, and finds the publisher of its images when there is one.
RUNS = """#!/bin/sh
echo {name} >> {order}
echo '{name}: {message}' >&2
if [ -p {order}.playing ]; then
  read -r publisher < {order}.playing
  echo "[INFO] [{name}]: publisher of $publisher" >&2
fi
exec sleep 60
"""
# Stands in for ros2: notes its arguments, and refuses those that one of Humble, Jazzy and Kilted
# does not know. A paused player goes on when its service is called.
ROS2 = """#!{python}
import argparse, os, signal, sys, time
parser = argparse.ArgumentParser(prog="ros2", allow_abbrev=False)
commands = parser.add_subparsers(required=True, dest="command")
verbs = commands.add_parser("bag").add_subparsers(required=True, dest="verb")
record = verbs.add_parser("record")
record.add_argument("-o", "--output", required=True)
record.add_argument("topics", nargs="+")
play = verbs.add_parser("play")
play.add_argument("bag")
play.add_argument("--clock", nargs="?", type=float, const=40.0)
play.add_argument("-d", "--delay", type=float, default=0.0)
play.add_argument("-p", "--start-paused", action="store_true")
play.add_argument("--disable-keyboard-controls", action="store_true")
play.add_argument("--topics", nargs="+", default=[])
play.add_argument("-m", "--remap", nargs="+", default=[])
call = commands.add_parser("service").add_subparsers(required=True, dest="verb").add_parser("call")
call.add_argument("service", choices=["/rosbag2_player/resume"])
call.add_argument("type", choices=["rosbag2_interfaces/srv/Resume"])
options = parser.parse_args()
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
with open({order!r}, "a") as file:
    print("ros2", *sys.argv[1:], file=file)
if options.verb == "call":
    with open({order!r} + ".resume", "w") as pipe:
        print("resume", file=pipe)
    sys.exit()
if options.verb == "play":
    assert os.path.exists(options.bag), options.bag
    if {publisher!r} == "none":  # it cannot open the recording, and says so with exit code 0
        sys.exit()
    with open({order!r} + ".playing", "w") as pipe:
        print(options.topics[0] + ": {publisher}", file=pipe)
    if options.start_paused:
        with open({order!r} + ".resume") as pipe:
            pipe.read()
    sys.exit({play_code})
os.mkdir(options.output)
for topic in options.topics:
    text = f"[rosbag2_recorder]: Subscribed to topic '{{topic}}'"
    print(text, file=sys.stderr, flush=True)
time.sleep(60)
"""
FER = """#!{python}
import argparse, sys
from fer_ros.cli.bags import add_parsers
parser = argparse.ArgumentParser(prog="fer")
add_parsers(parser.add_subparsers())
parser.parse_args()
with open({order!r}, "a") as file:
    print("fer", *sys.argv[1:], file=file)
sys.exit({code})
"""
# ros2 launch of a file of the package, with launch from wherever it is installed.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
path, *given = sys.argv[1:]
arguments = [argument.split(":=", 1) for argument in given]
service = LaunchService()
included = IncludeLaunchDescription(path, launch_arguments=arguments)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""
LIMIT_S = 60


class Started:
    """Arguments of a node's process, and its parameters, the later files over the former."""

    def __init__(self, script: Path) -> None:
        self.arguments = Path(f"{script}.arguments").read_text().splitlines()
        self.parameters: dict[str, object] = {}
        for file in yaml.safe_load_all(Path(f"{script}.yaml").read_text()):
            for values in file.values():
                self.parameters |= values["ros__parameters"]

    def after(self, word: str) -> list[str]:
        """What follows this argument wherever it is."""
        pairs = zip(self.arguments, self.arguments[1:], strict=False)
        return [second for first, second in pairs if first == word]

    @property
    def remappings(self) -> set[str]:
        return {word for word in self.after("-r") if not word.startswith("__")}


class Package:
    """The package as if it were installed, with stand-ins for its programs and for ros2."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.order = folder, folder / "order"
        index = folder / "share/ament_index/resource_index/packages"
        index.mkdir(parents=True)
        (index / "fer_ros").touch()
        (folder / "share/fer_ros").symlink_to(ROOT)
        self.programs, self.bin = folder / "lib/fer_ros", folder / "bin"
        self.programs.mkdir(parents=True)
        self.bin.mkdir()
        for name in ("emotion_node", "media_publisher"):
            self.write(self.programs / name, NODE.replace("{code}", "0"))

    def write(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def stand_in(
        self,
        message: str,
        play_code: int = 0,
        fer_code: int = 0,
        publisher: str = "rosbag2_player",
    ) -> None:
        """A node that logs this message and keeps running, ros2 and fer."""
        order, python = str(self.order), sys.executable
        for pipe in ("playing", "resume"):
            os.mkfifo(f"{order}.{pipe}")
        node = RUNS.format(name="emotion_node", message=message, order=order)
        self.write(self.programs / "emotion_node", node)
        ros2 = ROS2.format(python=python, order=order, play_code=play_code, publisher=publisher)
        self.write(self.bin / "ros2", ros2)
        self.write(self.programs / "fer", FER.format(python=python, order=order, code=fer_code))

    def start(self, name: str, **arguments: object) -> subprocess.Popen[str]:
        given = [f"{key}:={value}" for key, value in arguments.items()]
        active = str(Path(sys.executable).parent)  # as in an active virtual environment
        paths = {
            "AMENT_PREFIX_PATH": str(self.folder),
            "PATH": os.pathsep.join([str(self.bin), active, os.environ["PATH"]]),
            "ROS_LOG_DIR": str(self.folder / "log"),
        }
        return subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(ROOT / "launch" / name), *given],
            env=os.environ | paths,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, name: str, **arguments: object) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(name, **arguments)
        output, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, output

    def nodes(self, name: str, **arguments: object) -> dict[str, Started]:
        """The nodes that it started."""
        code, output = self.run(name, **arguments)
        assert code == 0, output
        files = self.programs.glob("*.arguments")
        return {file.stem: Started(file.with_suffix("")) for file in files}

    def error(self, name: str, **arguments: object) -> str:
        """The one error that ends the launch."""
        code, output = self.run(name, **arguments)
        assert code == 1, output
        assert "Traceback" not in output
        files = [line for line in output.splitlines() if "[ERROR] [launch]" in line]
        assert len(files) == 1, output
        return files[0]

    def steps(self) -> list[str]:
        lines = self.order.read_text().splitlines() if self.order.exists() else []
        return [line.replace(str(self.folder), "") for line in lines]
