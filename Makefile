# One command per chore; each does its own set-up. Needs Python 3.10 to 3.12 and a C++ compiler.
#
#   make demo [CAMERA=0|video.mp4|folder/]   the whole road over real DDS, on made-up camera frames
#   make demo-bag                            a recording of them, evaluated
#   make test [ARGS="-k track"]              the test suite
#   make smoke                               one batch the whole way, from pictures to an export
#   make experiments DATA=packs/             the thesis's experiments as one table; ARGS="--epochs 1"
#   make soak [MINUTES=30]                   does the node keep working? memory, leaks, latency
#   make fuzz [CASES=10000]                  so many bad inputs at every door
#   make lint                                style, types, spelling
#   make clean, make distclean               products; products and .venv

PYTHON ?= python3
CAMERA ?=
ARGS ?=
DATA ?=
MINUTES ?= 30
CASES ?= 10000
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps

# .venv brings its own ROS 2: one that is sourced in this shell would be mixed with it.
unexport PYTHONPATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH ROS_DISTRO ROS_VERSION
unexport RMW_IMPLEMENTATION _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)
export ROS_LOG_DIR ?= $(CURDIR)/out/ros_log
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Of all its messages, pip shows the errors only.
PIP_INSTALL := $(BIN)/python -m pip install -qq

REQUIREMENTS := $(addprefix requirements/,ros.txt torch.txt run.txt evaluate.txt train.txt dev.txt)
DETECTOR := requirements/detector.txt
INTERFACES := $(shell find interfaces -type f)
PACKAGE := setup.py setup.cfg package.xml

.PHONY: all setup demo demo-bag smoke experiments test soak fuzz lint clean distclean
.NOTPARALLEL:
.DELETE_ON_ERROR:

all: setup

setup: $(STAMPS)/package

demo: setup
	$(BIN)/python -m fer_ros.ros.demo --out out/demo $(if $(CAMERA),--camera "$(CAMERA)")

demo-bag: setup
	rm -rf out/demo-bag
	$(BIN)/fer bag-from-video sample out/demo-bag/bag
	$(BIN)/fer evaluate-bag out/demo-bag/bag --out out/demo-bag --thumbnails --record

smoke: setup
	rm -rf out/smoke
	$(BIN)/python -m training.smoke out/smoke

experiments: setup
	@[ -d "$(DATA)" ] || { echo "make experiments: DATA: expected a folder of packs" \
	  "(python -m training.prepare), got '$(DATA)'" >&2; exit 1; }
	$(BIN)/python -m training.experiments $(ARGS) "$(DATA)" out/experiments

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

soak: setup
	$(BIN)/python -m fer_ros.ros.soak --minutes $(MINUTES) --out out/soak

fuzz: setup
	-$(PIP_INSTALL) -r requirements/fuzz.txt
	PYTHONPATH=test $(BIN)/python -m fuzz --cases $(CASES)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell

clean:
	rm -rf build install log out *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if (3, 10) <= v <= (3, 12) else "Python 3.10 to 3.12 is needed, found %d.%d: " \
	  "name another one, as in: make PYTHON=python3.11 $(MAKECMDGOALS)" % v)'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip
	mkdir -p $(STAMPS)
	touch $@

# One pip call, so that the pins hold each other; the detector alone comes without dependencies.
$(STAMPS)/requirements: $(REQUIREMENTS) $(DETECTOR) | $(STAMPS)/venv
	@echo "Installing requirements/ into $(VENV): 6 GB and some minutes, when nothing is there yet."
	$(PIP_INSTALL) $(addprefix -r ,$(REQUIREMENTS))
	$(PIP_INSTALL) --no-deps -r $(DETECTOR)
	touch $@

$(STAMPS)/interfaces: $(INTERFACES) $(STAMPS)/requirements
	interfaces/build.sh $(VENV)
	touch $@

$(STAMPS)/package: $(PACKAGE) $(STAMPS)/interfaces
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@
