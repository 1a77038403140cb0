# One command per task; each does its own set-up. Needs Python 3.10 to 3.12 and a C++ compiler.
#
#   make setup                               .venv with all packages
#   make demo [CAMERA=0|video.mp4|folder/]   the whole pipeline over DDS, on a synthetic video
#   make demo-bag                            make and evaluate a recording of that video
#   make test [ARGS="-k track"]              the test suite
#   make test-jazzy [ARGS=...]               the ROS tests, on ROS 2 Jazzy
#   make test-lowest [UBUNTU=22.04|24.04]    the tests without ROS, on the packages of that Ubuntu
#   make smoke                               every step of training on a few synthetic faces
#   make experiments DATA=DATA               train and compare several networks; ARGS="--epochs 1"
#   make soak [MINUTES=30]                   memory, leaks and latency of the node over time
#   make fuzz [CASES=10000]                  invalid inputs at every interface
#   make docs                                the documentation, out/docs/index.html
#   make lint                                style, types, spelling, layers
#   make clean, make distclean               build artifacts; these and .venv

PYTHON ?= python3
CAMERA ?=
ARGS ?=
DATA ?=
MINUTES ?= 30
CASES ?= 10000
UBUNTU ?= 24.04
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
JAZZY := .venv-jazzy
LOWEST := .venv-lowest

# .venv has its own ROS 2: a ROS that is sourced in this shell would conflict with it.
unexport PYTHONPATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH ROS_DISTRO ROS_VERSION
unexport RMW_IMPLEMENTATION _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)
export ROS_LOG_DIR ?= $(CURDIR)/out/ros_log
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# pip prints errors only.
# Modules are compiled when they are imported: most of the 6 GB never are.
PIP_INSTALL := $(BIN)/python -m pip install -qq --no-compile
PYTEST := -m pytest -n 2 --dist loadfile

ROS := requirements/ros.txt
REQUIREMENTS := $(addprefix requirements/,torch.txt run.txt evaluate.txt train.txt test.txt dev.txt)
DETECTOR := requirements/detector.txt
INTERFACES := $(shell find interfaces -type f)
PACKAGE := setup.py setup.cfg package.xml

.PHONY: all setup demo demo-bag smoke experiments test test-jazzy test-lowest soak fuzz docs lint clean distclean
.DELETE_ON_ERROR:

all: setup

setup: $(STAMPS)/package

demo: setup
	$(BIN)/python -m fer_ros.ros.tools.demo --out out/demo $(if $(CAMERA),--camera "$(CAMERA)")

demo-bag: setup
	rm -rf out/demo-bag
	$(BIN)/fer bag-from-video sample out/demo-bag/bag
	$(BIN)/fer evaluate-bag out/demo-bag/bag --out out/demo-bag --with-images --record

smoke: setup
	rm -rf out/smoke
	$(BIN)/python -m training.smoke_test out/smoke

experiments: setup
	@[ -d "$(DATA)" ] || { echo "make experiments: DATA: expected a folder of datasets" \
	  "(python -m training.prepare), found '$(DATA)'" >&2; exit 1; }
	$(BIN)/python -m training.experiments "$(DATA)" out/experiments $(ARGS)

test: setup
	$(BIN)/python $(PYTEST) $(ARGS)

test-jazzy: $(JAZZY)/stamps/package
	AMENT_PREFIX_PATH=$(CURDIR)/$(JAZZY) $(JAZZY)/bin/python $(PYTEST) test/ros \
	  test/unit/test_entry_points.py $(ARGS)

test-lowest: $(LOWEST)/stamps/requirements
	$(LOWEST)/bin/python $(PYTEST) $(ARGS)

soak: setup
	$(BIN)/python -m fer_ros.ros.tools.soak_test --minutes $(MINUTES) --out out/soak

fuzz: setup
	-$(PIP_INSTALL) -r requirements/fuzz.txt
	PYTHONPATH=test $(BIN)/python -m fuzz --cases $(CASES)

docs: $(STAMPS)/docs
	$(BIN)/python -m sphinx -W --keep-going -q docs out/docs

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/lint-imports --no-cache

clean:
	rm -rf build install log out *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./.venv*" -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(JAZZY) $(LOWEST)

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if (3, 10) <= v <= (3, 12) else "Python 3.10 to 3.12 is needed, found %d.%d: " \
	  "name another one, as in: make PYTHON=python3.11 $(MAKECMDGOALS)" % v)'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip
	mkdir -p $(STAMPS)
	touch $@

# ROS first: with make -j the messages are built while the rest is installed. The pins of all
# files hold in each pip call; the detector alone comes without dependencies.
$(STAMPS)/ros: $(ROS) $(REQUIREMENTS) | $(STAMPS)/venv
	$(PIP_INSTALL) -r $(ROS) $(addprefix -c ,$(REQUIREMENTS))
	touch $@

$(STAMPS)/requirements: $(STAMPS)/ros $(DETECTOR)
	@echo "Installing requirements/ into $(VENV): 6 GB and some minutes, when nothing is there yet."
	$(PIP_INSTALL) $(addprefix -r ,$(REQUIREMENTS)) -c $(ROS)
	$(PIP_INSTALL) --no-deps -r $(DETECTOR)
	touch $@

$(STAMPS)/interfaces: $(INTERFACES) $(STAMPS)/ros
	interfaces/build.sh $(VENV)
	touch $@

$(STAMPS)/package: $(PACKAGE) $(STAMPS)/interfaces $(STAMPS)/requirements
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

# ROS 2 Jazzy, with the packages of .venv that are not ROS: both share one copy of PyTorch.
$(JAZZY)/stamps/requirements: requirements/ros-jazzy.txt .ci/share_packages.py $(STAMPS)/requirements
	$(BIN)/python -m venv --clear --without-pip $(JAZZY)
	$(JAZZY)/bin/python .ci/share_packages.py $(VENV)
	$(JAZZY)/bin/python -m pip install -qq --no-compile -r $<
	mkdir -p $(JAZZY)/stamps
	touch $@

$(JAZZY)/stamps/interfaces: $(INTERFACES) $(JAZZY)/stamps/requirements
	interfaces/build.sh $(JAZZY)
	touch $@

$(JAZZY)/stamps/package: $(PACKAGE) $(JAZZY)/stamps/interfaces
	AMENT_PREFIX_PATH=$(CURDIR)/$(JAZZY) $(JAZZY)/bin/python -m pip install -qq \
	  --no-deps --no-build-isolation --editable .
	touch $@

# The oldest supported packages before those of .venv, without ROS. PyYAML 5.4 builds without Cython.
$(LOWEST)/stamps/requirements: requirements/ubuntu-$(UBUNTU).txt .ci/share_packages.py $(STAMPS)/requirements
	$(BIN)/python -m venv --clear --without-pip $(LOWEST)
	$(LOWEST)/bin/python .ci/share_packages.py $(VENV)
	$(LOWEST)/bin/python -m pip install -qq --no-deps --no-build-isolation -r $< --editable .
	mkdir -p $(LOWEST)/stamps
	touch $@

$(STAMPS)/docs: requirements/docs.txt $(STAMPS)/package
	$(PIP_INSTALL) -r requirements/docs.txt
	touch $@
