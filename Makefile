# Everything sets itself up: `make demo` and `make test` work from a fresh clone.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SECONDS ?= 0
SEED ?= 1
MINUTES ?= 10
CAMERAS ?= 8

.PHONY: help demo test quick lint format soak clean

help:
	@echo "make demo    watch a staged plant: cameras, scores, alerts (Ctrl-C ends it; SECONDS=90 ends it by itself)"
	@echo "make test    lint, types, import contracts and every test that this machine can run"
	@echo "make quick   the same without the tests that take long"
	@echo "make soak    eight paced RTSP cameras for MINUTES=10: losses, memory, latency, into .bench/soak.json"
	@echo "make format  format the code"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
		|| { echo "vad-monitor needs Python 3.11 or 3.12 ($(PYTHON) is another); say make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,test]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/vad-monitor demo --seed $(SEED) --seconds $(SECONDS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -m "not soak" -n 2 --dist loadgroup

quick: lint
	$(BIN)/python -m pytest -m "not slow and not soak" -n 2 --dist loadgroup

soak: $(READY)
	$(BIN)/python -m tests.bench.soak --cameras $(CAMERAS) --minutes $(MINUTES)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .bench .demo .mypy_cache .ruff_cache .pytest_cache
