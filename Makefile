# One line each. PY is the Python of a virtual environment (see CONTRIBUTING.md); tests run against what is installed in it.
PY ?= .venv/bin/python
INSTALL = $(PY) -m pip install -q --no-build-isolation --no-deps --force-reinstall .
# -P: the folder of the checkout stays off sys.path
TEST = $(PY) -P -m pytest

build: ; ASYNCFAST_BUILD=release $(INSTALL)
debug: ; ASYNCFAST_BUILD=debug ASYNCFAST_WERROR=1 $(INSTALL)
hostile: ; ASYNCFAST_BUILD=hostile ASYNCFAST_WERROR=1 $(INSTALL)
asan: ; ASYNCFAST_BUILD=asan $(INSTALL) && bash .ci/sanitized asan $(TEST) tests/unit
tsan: ; ASYNCFAST_BUILD=tsan $(INSTALL) && bash .ci/sanitized tsan $(TEST) tests/unit
test: build ; $(TEST)
c: ; $(TEST) tests/c
ktls: build ; bash .ci/emulated $(TEST) tests/unit/test_ktls.py
stdlib: build ; bash .ci/conformance $(PY)
bench: build ; $(PY) bench/run.py
lint: ; $(TEST) tests/source
check: debug ; $(TEST) && $(MAKE) test lint

.PHONY: build debug hostile asan tsan test c ktls stdlib bench lint check
