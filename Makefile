# Two commands do everything: `make reproduce` and `make test`.
BIN := .venv/bin
BUILD_VENV := "$(or $(PYTHON),python3)" -I tools/environment.py $(and $(PYTHON),chosen)
# Two files at a time, on a thread each: two processes with all threads would wait for each other.
# In the order given, since the notebooks, each a file of its own, even out the end. glibc's malloc
# keeps what is freed: else the system spends a tenth of the time on the same pages, again and again.
PYTEST := OMP_NUM_THREADS=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2000000000 \
  SBD_PRESET=published $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
  --nbval-lax --nbval-current-env tests notebooks
# A reader's own PYTHONPATH, PYTHONHOME or PYTHONUTF8 is for other programs than these.
unexport $(filter PYTHON%,$(.VARIABLES))

.DEFAULT_GOAL := help
.PHONY: help reproduce test test-all lab lint notebooks study publish bench doctor site clean FORCE

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# The environment, with the packages of an extra: .venv/test, .venv/site, .venv/cluster. Looked at
# every time: one that was moved, copied or half made is built anew.
.venv/%: FORCE
	@$(BUILD_VENV) $(filter-out ready,$*)

reproduce: .venv/ready ## train both VAEs anew and place them among the seeds (SBD_PRESET=quick for minutes)
	SBD_PRESET=$(or $(SBD_PRESET),blog) $(BIN)/python -m tools.notebooks

test: .venv/test ## unit tests, then every notebook re-run on the published runs and compared
	$(PYTEST) -m "not slow"

test-all: .venv/test ## the same, with the tests of installation, cluster, kills, compiling and site
	$(PYTEST)

# Nothing here asks the network, so JupyterLab is told to look for neither updates nor news.
lab: .venv/ready ## open JupyterLab in notebooks/
	$(BIN)/jupyter lab --notebook-dir notebooks \
	  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.news_url=None

lint: .venv/test ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: .venv/ready ## re-execute every notebook on the published runs; results/ and README follow
	SBD_PRESET=published $(BIN)/python -m tools.notebooks

# One of them, always executed: a changed source keeps its stale outputs.
notebooks/%.ipynb: notebooks/%.py .venv/ready FORCE
	SBD_PRESET=published $(BIN)/python -m tools.notebooks $<

study: .venv/$(if $(CLUSTER),cluster,ready) ## train what a study lacks, write results/NAME.csv (NAME=seeds, ...; CLUSTER=tcp://... on Dask)
	$(BIN)/python -m sbd_utils.experiments.run "$(NAME)"

publish: .venv/ready ## put the weights of the typical runs of `make study` into results/published
	$(BIN)/python -m sbd_utils.experiments.publish

bench: .venv/ready ## time a training step, the plain loop and ours, into results/bench.md
	$(BIN)/python -m tests.benchmarks.bench

doctor: .venv/ready ## say what this machine has and how long training takes, for a bug report
	$(BIN)/python -m sbd_utils.doctor

site: .venv/site ## build the web site into site/ from the executed notebooks (open site/index.html)
	$(BIN)/python -m tools.build_site

clean: ## remove the virtual environment and what is not committed of results/, but no trained runs
	rm -rf .venv site results/quick results/blog *.egg-info .pytest_cache .ruff_cache .mypy_cache
