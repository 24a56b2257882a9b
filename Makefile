# Everything sets itself up: `make demo` and `make test` work from a fresh clone.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SECONDS ?= 0
SEED ?= 1
MINUTES ?= 10
CAMERAS ?= 16
FILES ?= 10000

.PHONY: help demo test quick lint format faults fuzz soak paced demos growth viewers shots bench bench-gpu clean

help:
	@echo "make demo    watch a staged plant: cameras, scores, alerts (Ctrl-C ends it; SECONDS=90 ends it by itself)"
	@echo "make test    lint, types, import contracts and every test that this machine can run"
	@echo "make quick   the same without the tests that take long"
	@echo "make faults  every fault, done to a real plant, and the table of what came of it, into .bench/faults.json"
	@echo "make fuzz    FILES=10000 damaged recordings through the reader processes, into .bench/fuzz.json"
	@echo "make soak    CAMERAS=16 for MINUTES=10 while faults of a SEED happen: into .bench/soak.json and .png"
	@echo "make paced   the same cameras in peace: losses, memory, latency, into .bench/paced.json"
	@echo "make demos   ten demos of seeds that nothing has seen, and what they found, into .bench/demos.json"
	@echo "make growth  what a further camera, longer bags and waiting for a batch cost: into .bench/growth.json"
	@echo "make viewers does watching slow the scorer? nobody and 20 viewers in turn, into .bench/viewers.json"
	@echo "make shots   pictures of the console's pages, both themes, three sizes, 4 and 200 cameras, into .bench/shots"
	@echo "make bench   each stage's speed on this machine's cores, beside a peer, into .bench/cpu.json"
	@echo "make bench-gpu  the backbones on one CUDA card beside eager torch, into .bench/gpu.json"
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
	$(BIN)/python -m pytest -m "not soak" --durations=25

quick: lint
	$(BIN)/python -m pytest -m "not slow and not soak"

faults: $(READY)
	$(BIN)/python -m tests.faults

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz.media --files $(FILES) --seed $(SEED)

soak: $(READY)
	$(BIN)/python -m tests.soak --cameras $(CAMERAS) --minutes $(MINUTES) --seed $(SEED)

paced: $(READY)
	$(BIN)/python -m tests.bench.paced --cameras $(CAMERAS) --minutes $(MINUTES)

demos: $(READY)
	$(BIN)/python -m tests.bench.demos

growth: $(READY)
	$(BIN)/python -m tests.bench.growth

viewers: $(READY)
	$(BIN)/python -m tests.bench.viewers

shots: $(READY)
	$(BIN)/python -m tests.console.shots

bench: $(READY)
	$(BIN)/python -m tests.bench.cpu

bench-gpu: $(READY)
	$(BIN)/python -m tests.bench.gpu

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .bench .demo .mypy_cache .ruff_cache .pytest_cache
