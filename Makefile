# The commands of README.md. The work is done by small scripts in tests/harness; variables given to make reach them:
#   make demo KEEP=1                      leave the demo's server running
#   make test PG=16  ONLY=regress         one version of Postgres; one part of the tests (see tests/harness/suite.py)
#   make ... PG_CONFIG=/path/to/pg_config your own Postgres, with pgvector, instead of the embedded ones
#   make ... PERSONA_CACHE=/path          where downloads and builds are kept (default ~/.cache/pg_persona)

PYTHON ?= python3
HARNESS := tests/harness
needs := @$(HARNESS)/needs.sh

.PHONY: help demo test bench quality soak install gpu package clean
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make demo                    search a demo shop for two shoppers, on a throw-away server
demo:
	$(needs)
	@$(PYTHON) $(HARNESS)/demo.py

## make test                    every test, on Postgres 16 and 18
test:
	$(needs)
	@$(PYTHON) $(HARNESS)/suite.py

## make bench                   how fast: encoder, search, score, memory
bench:
	$(needs)
	@$(PYTHON) $(HARNESS)/measure.py bench

## make quality                 how good: NDCG and recall on public data, where it is there
quality:
	$(needs)
	@$(PYTHON) $(HARNESS)/measure.py quality

## make soak                    long runs
soak:
	$(needs)
	@$(PYTHON) $(HARNESS)/measure.py soak

## make install PG_CONFIG=...   into your own Postgres
install:
	$(needs)
	@$(PYTHON) $(HARNESS)/build.py install

## make gpu                     the library that embeds on an NVIDIA card; no card is needed to build it
gpu:
	$(needs)
	@$(PYTHON) $(HARNESS)/gpu.py

## make package                 archives to install elsewhere, in dist/
package:
	$(needs)
	@$(PYTHON) $(HARNESS)/build.py archive

## make clean                   removes what was built here; the cache stays
clean:
	@rm -rf dist target
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
