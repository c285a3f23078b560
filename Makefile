# make demo    set up and run the main job           make test    set up and run all tests
# make lint    check style and spelling              make types   check types
# make test-browser   test the page in a real Chromium     make test-jazzy   run the nodes' tests on ROS 2 Jazzy
# make test-python PYTHON=python3.13     run all tests by another Python
# make bench   time the demo model                   make mutants test the tests (hours; see CONTRIBUTING.md)
# make docs    build the documentation site          make wheel   build a wheel into out/wheels
# make soak    run the graph for MINUTES (60)        make faults  inject faults into the graph (15 min)
# make clean   remove what these made
#
# Set-up happens once and again only where something that it depends on has changed.
# All paths are relative, so that the repository may lie in a folder with a space in its name.

PYTHON ?= python3
# kilted or jazzy: the wheels of requirements/ros-*.txt. Interfaces are compiled into the sources, so another one needs
# another copy of them, see test-jazzy
ROS := kilted
VENV := .venv
BIN := $(VENV)/bin
# a sourced ROS 2 would get in the way of the one in the virtual environment
unexport AMENT_PREFIX_PATH PYTHONPATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: demo test test-browser test-nodes test-jazzy test-python lint types docs wheel bench mutants soak faults clean setup
.DELETE_ON_ERROR:

demo: $(VENV)/.package
	@$(BIN)/worldvla demo --out out/demo

# files and folders of tests
TESTS ?= test
test: $(VENV)/.test
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m 'not realtime' $(TESTS)
	@$(BIN)/python -m pytest -m realtime $(TESTS)

# those tests in which nodes run; the others do not depend on the distribution of ROS 2
test-nodes: $(VENV)/.test
	@$(BIN)/python -m pytest test/test_rclpy_names.py
	@$(BIN)/python -m pytest -m realtime $(TESTS)

test-jazzy:
	@$(PYTHON) tools/second_checkout.py build/jazzy
	@$(MAKE) -C build/jazzy ROS=jazzy VENV=../../.venv-jazzy test-nodes

# by the Python that PYTHON names
test-python:
	@$(PYTHON) tools/second_checkout.py build/$(notdir $(PYTHON))
	@$(MAKE) -C build/$(notdir $(PYTHON)) VENV=../../.venv-$(notdir $(PYTHON)) test

# with PAGE_SHOT=FILE.png the page is photographed while the arm moves
test-browser: $(VENV)/.browser
	@WORLDVLA_BROWSER=needed $(BIN)/python -m pytest test/nodes/test_page_in_browser.py

lint: $(VENV)/.lint
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/typos
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yaml

types: $(VENV)/.lint $(VENV)/.package
	@$(BIN)/mypy

# whatever is wrong with a page is an error; nothing is fetched
docs: $(VENV)/.docs
	@$(BIN)/python -m sphinx -W --keep-going -n -E -q -d out/docs/doctrees docs out/docs/html
	@echo 'open out/docs/html/index.html'

# for this Python and this distribution of ROS 2
wheel: $(VENV)/.package
	@$(BIN)/python -m pip wheel -q --no-build-isolation --no-deps -w out/wheels .

MODULES ?=
mutants: $(VENV)/.mutants
	@OMP_NUM_THREADS=1 $(BIN)/python tools/mutants.py $(MODULES)

bench: $(VENV)/.package
	@$(BIN)/worldvla bench --against reference --threads 1

MINUTES ?= 60
soak: $(VENV)/.package
	@$(BIN)/python studies/soak.py --minutes $(MINUTES) --out out/soak

faults: $(VENV)/.package
	@$(BIN)/python -m studies.faults.run --out out/faults

setup: $(VENV)/.package

$(VENV)/.machine: tools/check_machine.sh
	@echo '[1/4] Python, compiler, OpenGL renderer'
	@PYTHON="$(PYTHON)" sh tools/check_machine.sh
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.ros: requirements/ros-$(ROS).txt | $(VENV)/.machine
	@echo '[2/4] ROS 2 from wheels (about 400 MB)'
	@$(BIN)/python -m pip install -q --progress-bar on -r requirements/ros-$(ROS).txt
	@touch $@

$(VENV)/.base: requirements/base.txt | $(VENV)/.ros
	@echo '[3/4] PyTorch, MuJoCo and the rest'
	@$(BIN)/python -m pip install -q --progress-bar on -r requirements/base.txt
	@touch $@

$(VENV)/.package: setup.py CMakeLists.txt package.xml nodes.txt $(wildcard msg/* srv/* action/*) $(VENV)/.ros $(VENV)/.base
	@echo '[4/4] Interfaces and package'
	@$(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.lint: requirements/lint.txt | $(VENV)/.machine
	@$(BIN)/python -m pip install -q -r requirements/lint.txt
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.package
	@$(BIN)/python -m pip install -q --progress-bar on -r requirements/test.txt
	@touch $@

$(VENV)/.docs: requirements/docs.txt $(VENV)/.package
	@$(BIN)/python -m pip install -q -r requirements/docs.txt
	@touch $@

$(VENV)/.browser: requirements/browser.txt $(VENV)/.test
	@$(BIN)/python -m pip install -q -r requirements/browser.txt
	@touch $@

$(VENV)/.mutants: requirements/mutants.txt $(VENV)/.test
	@$(BIN)/python -m pip install -q -r requirements/mutants.txt
	@touch $@

clean:
	rm -rf $(VENV) .venv-* build mutants out/demo out/docs out/faults out/wheels worldvla_ros/msg worldvla_ros/srv worldvla_ros/action *.egg-info
	find worldvla_ros -name '*.so' -delete
