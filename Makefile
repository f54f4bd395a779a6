# make demo   from nothing to the report of a whole run
# make test   the tests, from nothing
# Both make the virtual environment first, with the versions of constraints.txt.

PYTHON ?= python3
UV     := 0.13.8
BIN    := .venv/bin
EXTRAS := demo,dashboard,export,hf,wandb,mlflow,s3,aws,dev
READY  := .venv/.ready
COMPILED := .venv/.compiled
# What processes of the tests import, and those of Ray.
IMPORTS := torch._dynamo torch.distributed torchvision timm ray.data ray.train.torch ray.tune \
  ray.job_submission ray._private.log_monitor ray._private.runtime_env.agent.main \
  ray.autoscaler._private.monitor ray.dashboard.agent ray.dashboard.dashboard optuna pandas \
  pyarrow.dataset sklearn.datasets scipy.stats matplotlib.pyplot ortools.sat.python.cp_model \
  fsspec safetensors.torch typer rich hypothesis pytest xdist zoo_search.cli.app
# A second environment, with the lowest versions that pyproject.toml allows.
LOWEST ?= .venv-lowest
# A process a core; tests/conftest.py says which tests go together.
SHARED := -n auto --dist loadscope --no-loadscope-reorder

.PHONY: demo test test-slow test-cluster test-exhaustive test-lowest lint format clean bytecode

demo: bytecode
	$(BIN)/zoo-search run jobs/digits.yaml

test: bytecode
	$(BIN)/python -m pytest $(SHARED) -o faulthandler_timeout=400

test-slow: bytecode
	$(BIN)/python -m pytest -m "slow and not exhaustive" $(SHARED) --timeout=900

test-cluster: bytecode
	$(BIN)/python -m pytest -m cluster --timeout=900

# All cases of what CI samples: architectures at their own size, metrics, the compiler.
test-exhaustive: bytecode
	$(BIN)/python -m pytest -m exhaustive $(SHARED) --timeout=900

# What is promised of foreign files holds with the lowest versions of what reads them, too.
test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest tests/security -m "not cluster and not exhaustive" --timeout=900

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# uv installs several gigabytes in seconds where its cache is warm; pip is there where uv is not.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "zoo-search needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "uv==$(UV)" && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]' || \
	  $(BIN)/python -m pip install -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

# uv writes no bytecode, and where PYTHONDONTWRITEBYTECODE is set Python writes none, either: each
# process then compiles all that it imports, which takes longer than to run it.
bytecode: $(COMPILED)
	$(BIN)/python -m compileall -q zoo_search

$(COMPILED): $(READY)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -W ignore -c \
	  'import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]' $(IMPORTS)
	touch $@

$(LOWEST)/.ready: pyproject.toml | $(READY)
	test -x $(LOWEST)/bin/python || $(BIN)/python -m venv $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[demo,dashboard,hf,dev]'
	touch $@

clean:
	rm -rf .venv $(LOWEST) build dist .mypy_cache .ruff_cache .pytest_cache
