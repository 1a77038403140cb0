#!/usr/bin/env bash
# Builds the message packages beside this file into a virtual environment that has ROS 2 from PyPI.
#
#   interfaces/build.sh .venv
#
# Prints nothing unless it fails. Running it again is harmless.
set -euo pipefail

fail() {
  echo "interfaces/build.sh: $1" >&2
  exit 1
}

[ $# -eq 1 ] || fail "expected one argument, the virtual environment, found $#"
[ -x "$1/bin/python" ] || fail "$1: not a virtual environment: it has no bin/python"
here=$(cd "$(dirname "$0")" && pwd)
venv=$(cd "$1" && pwd)
builds=$(dirname "$here")/build/interfaces/$(basename "$venv")

for tool in cmake ninja; do
  [ -x "$venv/bin/$tool" ] || fail "$1/bin/$tool is missing: install requirements/ros.txt"
done
compiler=${CXX:-c++}
command -v "${compiler%% *}" > /dev/null ||
  fail "no C++ compiler ($compiler): install one, such as g++, or name it in CXX"

# A sourced ROS would be mixed with the one in the environment.
unset PYTHONPATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
export PATH="$venv/bin:$PATH" AMENT_PREFIX_PATH="$venv"

build() {
  cmake --fresh -S "$here/$1" -B "$builds/$1" -G Ninja \
    -DCMAKE_PREFIX_PATH="$venv" -DCMAKE_INSTALL_PREFIX="$venv" \
    -DPython3_EXECUTABLE="$venv/bin/python" -DBUILD_TESTING=OFF \
    -DCMAKE_PROJECT_INCLUDE="$here/python_packages.cmake" &&
    cmake --build "$builds/$1" &&
    cmake --install "$builds/$1"
}

mkdir -p "$builds"
for package in vision_msgs hri_msgs tf2_msgs; do
  log="$builds/$package.log"
  if ! build "$package" > "$log" 2>&1; then
    cat "$log" >&2
    fail "$package did not build; the reason stands above and in $log"
  fi
done
