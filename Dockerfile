# Production image: the worker and its locked dependencies, no embedded PostgreSQL, no build tools.

FROM python:3.13-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Dependencies change seldom: this layer outlives most edits of the code.
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --require-hashes -r requirements.lock

# The build backend comes with its hashes from the demo's lock, into a folder that stays in this stage.
COPY requirements-demo.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --require-hashes -r requirements-demo.lock

COPY LICENSE README.md pyproject.toml ./
COPY migrations ./migrations
COPY worker ./worker
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /opt/dist . \
    && python -m pip --python /opt/venv/bin/python install --no-deps --no-index /opt/dist/*.whl \
    && /opt/venv/bin/worker --help > /dev/null


FROM python:3.13-slim
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="usage-worker" \
      org.opencontainers.image.description="Syncs CLIProxyAPI usage into PostgreSQL with exact rollups" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# A name for the UID, since libpq and getpass ask for one; the number, since Kubernetes' runAsNonRoot wants it.
RUN groupadd --gid 10001 worker \
    && useradd --no-log-init --uid 10001 --gid 10001 --home-dir /var/lib/usage-worker --shell /usr/sbin/nologin worker \
    && install -d -m 0700 -o 10001 -g 10001 /var/lib/usage-worker

COPY --from=builder /opt/venv /opt/venv
COPY deploy/docker/healthcheck.py /opt/healthcheck.py
ENV PATH="/opt/venv/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WORKER_DATA_DIR=/var/lib/usage-worker

# Only this folder is written to (docker run --read-only): the journal holds what the database has not yet.
VOLUME /var/lib/usage-worker
WORKDIR /app
USER 10001:10001

# /livez of the service, whatever the proxy and the database do; a container that does one pass is well while it runs.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "/opt/healthcheck.py"]
EXPOSE 9469
# `worker run` handles its signals and starts no processes: it needs no init as PID 1.
STOPSIGNAL SIGTERM
ENTRYPOINT ["worker"]
CMD ["run"]
