# Every entry point of the project; each is one command. Variables given on the command line
# (CLUSTER, NODES, DATE, ...) reach the commands through the environment.
.DEFAULT_GOAL := help
PLATFORM := .venv/bin/prefect-platform
PYTHON := .venv/bin/python
ENVIRONMENTS := $(patsubst k8s/environments/%/platform.yaml,%,$(wildcard k8s/environments/*/platform.yaml))
SHELL_SCRIPTS := scripts/create-venv scripts/propose .ci/run k8s/kind/node-image/rootfs/usr/local/bin/entrypoint

# Without this check, make would ignore a misspelt variable. `make A=1` is for the project's own
# variables, and `A=1 make` for those of other programs, such as KUBECONFIG.
VARIABLES := CLUSTER CONTEXT CLUSTER_NAME NODES ENGINE NODE_IMAGE BUILDER CLIENTS ENVIRONMENT DATE \
	UNENFORCED_POLICIES REGISTRY SIGNING_KEY UNCOMMITTED PORT RUN DEPLOYMENT FROM TO \
	FAULT PLATFORM PYTHON
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
UNKNOWN := $(filter-out $(VARIABLES),$(GIVEN))
ifneq ($(UNKNOWN),)
$(error $(UNKNOWN) is not a variable of this Makefile: the variables are $(VARIABLES))
endif

.PHONY: help deploy-cluster deploy-argocd destroy-cluster status ui run image push promote logs base test test-whole test-fast chaos bench upstream generate format \
	lint lint-format lint-style lint-types lint-imports lint-dependencies lint-flows lint-environments lint-shell lint-dockerfiles lint-charts lint-terraform lint-workflows

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

deploy-cluster: .venv/ready ## set everything up and run the daily ETL once
	$(PLATFORM) deploy

deploy-argocd: .venv/ready ## the same, but Argo CD deploys the commit that is checked out
	$(PLATFORM) deploy-argocd

destroy-cluster: .venv/ready ## remove the cluster and all that was made for it
	$(PLATFORM) destroy

status: .venv/ready ## show engine, nodes, components, releases, base image, pods not ready and why, work pools, runs that wait and what for
	$(PLATFORM) status

ui: .venv/ready ## port-forward to the user interface; prints its address and where the password is
	$(PLATFORM) ui

run: .venv/ready ## run DEPLOYMENT once with the flows as they are now, without a deploy, and follow its log
	$(PLATFORM) run

image: .venv/ready ## build the images and load them into the running cluster
	$(PLATFORM) image

push: .venv/ready ## build the images, push them and the charts to REGISTRY, and write the digests for ENVIRONMENT
	$(PLATFORM) push

promote: .venv/ready ## copy the digests of the images of environment FROM to environment TO, and commit the file
	$(PLATFORM) promote "$(FROM)" "$(TO)"

logs: .venv/ready ## show the logs of the newest flow run, or of RUN=name
	$(PLATFORM) logs

base: .venv/ready ## pin the base of the images to what its tag names in the registry today
	$(PLATFORM) base

test: .venv/ready ## run all tests, on a cluster of their own
	$(PYTHON) -m tests.lanes

test-whole: .venv/ready ## run all tests, and the long ones: a reboot, three nodes, Argo CD, staging, mutations of the source
	$(PYTHON) -m tests.lanes whole
	$(PYTHON) -m tests.support.mutations

test-fast: .venv/ready ## run the tests that need neither cluster nor root
	$(PYTHON) -m tests.support.programs fast
	$(PYTHON) -m pytest --numprocesses auto --dist loadfile tests/unit tests/render

chaos: .venv/ready ## inject FAULT into a running cluster under load, and judge what happens to the runs
	$(PYTHON) -m tests.chaos "$(CLUSTER_NAME)" "$(FAULT)"

bench: .venv/ready ## compare the platform with Prefect's own set-up and with bare Jobs on a running cluster
	$(PYTHON) -m bench.comparison "$(CLUSTER_NAME)"

upstream: .venv/ready ## show what other releases change in what the platform replaces of Prefect
	$(PYTHON) -m tests.support.upstream "$(FROM)" "$(TO)"

generate: .venv/ready ## write every generated file anew
	$(PYTHON) -m prefect_platform_cli.images.requirements
	$(PYTHON) -m prefect_platform_cli.charts.generate
	$(PYTHON) -m prefect_platform_cli.charts.platform_schema
	$(PYTHON) -m tests.terraform.reference
	$(PYTHON) -m tests.render.golden

format: .venv/ready ## write every file in the project's format
	.venv/bin/ruff check --fix
	.venv/bin/ruff format
	$(PYTHON) -m tests.support.linters format

lint: lint-format lint-style lint-types lint-imports lint-dependencies lint-flows lint-environments lint-shell lint-dockerfiles lint-charts lint-terraform lint-workflows ## check format, style, types, imports, dependencies, flows, environments, shell, Dockerfiles, charts, Terraform and workflows

lint-format: .venv/ready
	.venv/bin/ruff format --check

lint-style: .venv/ready
	.venv/bin/ruff check

lint-types: .venv/ready
	.venv/bin/mypy

lint-imports: .venv/ready
	.venv/bin/lint-imports

lint-dependencies: .venv/ready
	.venv/bin/deptry --config src/pyproject.toml src/prefect_platform
	.venv/bin/deptry src/prefect_platform_cli

lint-flows: .venv/ready
	$(PLATFORM) lint flows prefect.yaml

lint-environments: .venv/ready
	$(foreach name,$(ENVIRONMENTS),$(PLATFORM) validate --environment $(name) &&) true

lint-shell: .venv/ready
	.venv/bin/shellcheck $(SHELL_SCRIPTS)

lint-dockerfiles: .venv/ready
	.venv/bin/hadolint Dockerfile k8s/kind/images/*/Dockerfile k8s/argocd/local/image/Dockerfile

lint-charts: .venv/ready
	$(PYTHON) -m tests.support.linters charts

lint-terraform: .venv/ready
	$(PYTHON) -m tests.support.linters terraform

lint-workflows: .venv/ready
	$(PYTHON) -m tests.support.linters workflows

# The one step that runs before there is a Python environment.
.venv/ready: uv.lock pyproject.toml src/pyproject.toml scripts/create-venv
	scripts/create-venv
