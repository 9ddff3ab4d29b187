# The server in a container: `docker build -t lightbox .`, then
#   docker run --read-only --tmpfs /tmp --shm-size 2g -p 127.0.0.1:8640:8640 -p 127.0.0.1:11112:11112 \
#       -e LIGHTBOX_TENANTS='[{"name": "local", "peers": ["192.0.2.0/24"], "api_keys_sha256": ["..."]}]' \
#       -v lightbox-data:/data lightbox
# A tenant without a key is served over HTTP on loopback only, and the container listens on every address: without
# a key everything but /healthz, /readyz and /metrics answers 401. The SHA-256 of one: printf %s "$KEY" | sha256sum.
# `peers` says who may send by C-STORE; without it whoever reaches the published port.
# Pipelines: docker run --rm -v lightbox-data:/data lightbox lightbox compile ct-lungs, and likewise promote.
# tests/test_packaging_dockerfile.py runs the same install and start commands without docker.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
WORKDIR /src
# What changes rarely comes first, so that its layer is kept: all wheels, in exactly the pinned bytes.
COPY requirements.txt ./
RUN python -m venv /opt/lightbox \
    && /opt/lightbox/bin/pip install --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY models ./models
COPY object_store ./object_store
COPY planner ./planner
COPY serving ./serving
COPY loadtest ./loadtest
RUN /opt/lightbox/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Lightbox" \
      org.opencontainers.image.description="A white-box prediction server for medical imaging; research use only" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --user-group --uid 10640 --no-create-home lightbox \
    && install --directory --owner lightbox --group lightbox /data
COPY --from=build /opt/lightbox /opt/lightbox
# Inside a container loopback would reach nobody: the published ports decide who does.
ENV PATH=/opt/lightbox/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LIGHTBOX_DATA_DIR=/data \
    LIGHTBOX_HTTP__HOST=0.0.0.0 \
    LIGHTBOX_HTTP__PORT=8640 \
    LIGHTBOX_DIMSE__HOST=0.0.0.0 \
    LIGHTBOX_DIMSE__PORT=11112
USER 10640:10640
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8640 11112
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8640/healthz', timeout=4)"]
CMD ["lightbox", "serve"]
