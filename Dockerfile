# syntax=docker/dockerfile:1
# docker build -t sidecar .
# docker run --read-only -v sidecar-data:/data -p 8080:8080 sidecar run --upstream http://api.internal:9000

FROM python:3.13-slim AS builder
WORKDIR /src
# The request path is compiled (docs/decisions/0007-compiled-lane.md); the compiler stays in this stage.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
ENV SIDECAR_COMPILE=1
COPY constraints.txt pyproject.toml setup.py README.md LICENSE ./
RUN pip install --no-cache-dir --root-user-action=ignore -c constraints.txt setuptools mypy types-PyYAML
COPY sidecar sidecar
# Wheels first, so that the environment is made from files alone and holds neither pip nor setuptools.
RUN pip wheel --no-cache-dir -c constraints.txt --no-build-isolation --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/sidecar \
 && pip --python /opt/sidecar/bin/python install --no-cache-dir --no-index --find-links /wheels --no-compile sidecar \
 && /opt/sidecar/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/sidecar/lib

FROM python:3.13-slim
# Nothing is written outside /data: the bytecode is compiled above, so a read-only root file system costs no start time.
ENV PATH=/opt/sidecar/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=builder /opt/sidecar /opt/sidecar
# The configuration is read from /app (sidecar.yaml, policies/). `data`, relative to it, is the volume.
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sidecar \
 && install -d -o sidecar -g sidecar -m 0700 /data \
 && install -d /app && ln -s /data /app/data
USER 10001
WORKDIR /app
VOLUME /data
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
# Alive, not ready: an upstream that is down is no reason to restart the sidecar.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(os.environ.get('SIDECAR_ADMIN', 'http://127.0.0.1:9901') + '/livez', timeout=2)"]
ENTRYPOINT ["sidecar"]
CMD ["run"]
