# make demo: set up and ask the built-in model a question.   make test: set up and run the tests.
# make bench: set up the engines to compare with (llama.cpp is built: minutes, once) and measure for a quarter of an hour.
PYTHON ?= python3
BIN := .venv/bin
NATIVE := $(wildcard kernels/native/*)  # built by the install

.PHONY: demo test check bench clean

demo: .venv/.installed
	$(BIN)/longhand ask "When was the person after whom the Hopper architecture is named born?"

test: .venv/.installed-dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy engine kernels agent

# On a machine that is otherwise idle: two threads, no model to download.
RESULTS := benchmarks/results
bench: .venv/.installed-bench
	$(BIN)/python benchmarks/decode.py --repeats 5 --results $(RESULTS)/decode.jsonl
	$(BIN)/python benchmarks/decode.py --shape builtin --results $(RESULTS)/decode.jsonl
	$(BIN)/python benchmarks/decode.py --shape 32b --contexts 64,1024 --repeats 5 --results $(RESULTS)/decode.jsonl
	$(BIN)/python benchmarks/prefill.py --repeats 3 --results $(RESULTS)/prefill.jsonl
	$(BIN)/python benchmarks/prefill.py --shape 32b --repeats 3 --results $(RESULTS)/prefill.jsonl \
	    --peers "transformers,bitsandbytes,llama.cpp Q4_0"
	$(BIN)/python benchmarks/operations.py --repeats 3 --results $(RESULTS)/operations.jsonl

clean:
	rm -rf .venv build dist *.egg-info

# The stamps make a second run start at once: nothing is installed unless setup.py or the CPU kernels changed.
.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Longhand needs Python 3.10 or newer")'
	$(PYTHON) -m venv .venv

.venv/.installed: setup.py $(NATIVE) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/.installed-dev: setup.py $(NATIVE) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ .venv/.installed

# Without a compiler or cmake llama.cpp cannot be built; the rest is measured then.
.venv/.installed-bench: .venv/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' || echo "llama.cpp is left out"
	touch $@
