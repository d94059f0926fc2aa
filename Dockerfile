# Two images of one kind: `platform` (server, worker, command line) and `flows` (job pods).
# Both stand on the stage `base`, so that a node stores the system and Prefect once. Only
# instructions that Docker's first builder, BuildKit and buildah all know.

# A Debian with Python 3.11 to 3.13, its venv module and ca-certificates. `make base` writes the two
# lines below.
# sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b was created at 2026-08-25T01:20:57+00:00
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b

# --- Installs. Of this stage the images have only what they copy from it --------------------
FROM ${BASE} AS installer
# The package index and the certificate authority of the machine that builds.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_CERT
# The requirements are complete: pip resolves nothing, and takes nothing without its hash.
ENV PATH=/opt/pip/bin:$PATH \
    PIP_NO_DEPS=1 \
    PIP_PYTHON=/opt/venv/bin/python \
    PIP_REQUIRE_HASHES=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_COMPILE=0 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv

COPY requirements/build.txt ./
RUN pip install --target /opt/tools --requirement build.txt

# Byte code is compiled here once: "unchecked" spares every start the look at the sources, and
# outlives layers that change their times.
COPY requirements/base.txt ./
RUN pip install --requirement base.txt \
    && find /opt/venv -type d -name tests -prune -exec rm -r {} + \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/whenever/_typing_312[.]py$' /opt/venv

# What one image adds to the environment goes to a root of its own. Left out: the asynchronous
# half of `kubernetes` (41 MB; Prefect's worker brings kubernetes_asyncio) and the program of
# `uv` (60 MB), which sets machines up and no pods.
COPY requirements/platform.txt ./
RUN pip install --root /platform --requirement platform.txt \
    && find /platform \( -type d -name tests -o -path '*/kubernetes/aio' \
        -o -path '*/bin/uv' -o -path '*/bin/uvx' \) -prune -exec rm -r {} + \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -s /platform -p / /platform

# The server would copy its user interface at every start, to where it cannot write.
RUN PREFECT_HOME=/tmp/prefect PREFECT_SERVER_UI_STATIC_DIRECTORY=/platform/opt/prefect/ui \
        /opt/venv/bin/python -c \
        'from prefect.server.api.server import create_ui_app as create; create(ephemeral=False)' \
    && chmod -R a=rX /platform/opt/prefect/ui

COPY requirements/flows.txt requirements/sources.txt ./
RUN pip install --root /flows --requirement flows.txt \
    && PYTHONPATH=/opt/tools pip install --root /flows --no-binary :all: --use-pep517 \
        --no-build-isolation --requirement sources.txt \
    && find /flows -type d \( -name tests -o -path '*/pyarrow/include' \) -prune -exec rm -r {} + \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -s /flows -p / /flows

FROM installer AS project
COPY src/pyproject.toml ./
COPY src/prefect_platform prefect_platform
RUN PYTHONPATH=/opt/tools PIP_REQUIRE_HASHES=0 pip install --root /project \
        --no-index --no-build-isolation . \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash \
        -s /project -p / /project

# --- What both images have ------------------------------------------------------------------
FROM ${BASE} AS base
RUN stdlib="$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && rm -rf "$stdlib/ensurepip" "$stdlib/site-packages" /usr/share/python-wheels \
        /usr/local/bin/pip* \
    && if [ ! -d "$stdlib/__pycache__" ]; then \
        python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$stdlib"; fi \
    && find / -xdev -type f -perm /6000 -exec chmod ug-s {} + \
    && groupadd --gid 1000 prefect \
    && useradd --uid 1000 --gid 1000 --create-home --no-log-init prefect
COPY --from=installer /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PREFECT_HOME=/tmp/prefect
WORKDIR /opt/prefect

# --- The server, the worker and the command line --------------------------------------------
FROM base AS platform
COPY --from=installer /platform/opt /opt
COPY --from=project /project/opt /opt
ENV PREFECT_SERVER_UI_STATIC_DIRECTORY=/opt/prefect/ui
USER 1000:1000
CMD ["prefect", "version"]
ARG VERSION
ARG REVISION
ARG CREATED
ARG SOURCE
LABEL org.opencontainers.image.title="prefect-platform" \
      org.opencontainers.image.description="Prefect server, Kubernetes worker and the platform's commands" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"

# --- Job pods -------------------------------------------------------------------------------
FROM base AS deployed
COPY --from=installer /flows/opt /opt
# The plugins of Prefect that job pods run with; the programs are not for them.
COPY --from=project /project/opt/venv/lib /opt/venv/lib
COPY prefect.yaml ./
COPY flows flows
RUN chmod -R a+rX . \
    && python -m compileall -q --invalidation-mode unchecked-hash flows

# Loads every flow once, so that the configuration's pods need not. What flows write when they are
# imported stays in this stage.
FROM deployed AS facts
USER 1000:1000
RUN python -m prefect_platform.configuration.deployments.flow_image record prefect.yaml \
        > /tmp/flow-facts.json

FROM deployed AS flows
COPY --from=facts --chown=0:0 /tmp/flow-facts.json ./
USER 1000:1000
CMD ["prefect", "version"]
ARG VERSION
ARG REVISION
ARG CREATED
ARG SOURCE
# What `prefect-platform run` compares with the files of the repository.
ARG CODE
ARG RUNTIME
LABEL org.opencontainers.image.title="prefect-platform-flows" \
      org.opencontainers.image.description="The flows and what they import" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      prefect-platform/code="${CODE}" \
      prefect-platform/runtime="${RUNTIME}"
