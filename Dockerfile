# The service's image:  docker build .
# The proxy's:          docker build --target proxy .
# The test suite's:     docker build --target test .

# Everybody can read its files, whatever the clone's umask was.
FROM nginx:stable AS proxy
COPY deploy/nginx/nginx.conf deploy/nginx/start.sh /etc/nginx/
RUN chmod 0644 /etc/nginx/nginx.conf && chmod 0755 /etc/nginx/start.sh
USER 10001:10001
EXPOSE 8000
CMD ["/etc/nginx/start.sh"]


FROM python:3.13-slim AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN groupadd --gid 10001 timer \
 && useradd --uid 10001 --gid timer --no-create-home --home-dir /tmp timer
WORKDIR /app


# --- the packages: they change only with the lock files ------------------
# From wheels with known hashes, so that nothing is compiled here.
FROM base AS packages
COPY requirements/base.lock requirements/
RUN python3 -m venv --without-pip /opt/venv \
 && pip --python /opt/venv install --no-cache-dir --only-binary :all: \
    --disable-pip-version-check --root-user-action ignore \
    --require-hashes -r requirements/base.lock

FROM packages AS test-packages
COPY requirements/ requirements/
RUN pip --python /opt/venv install --no-cache-dir --only-binary :all: \
    --disable-pip-version-check --root-user-action ignore \
    --require-hashes -r requirements/dev.lock


# --- docker compose --profile test run --rm tests ------------------------
FROM base AS test
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
    chromium make nginx-light openssl pgbouncer prometheus rabbitmq-server \
 && rm -rf /var/lib/apt/lists/*
COPY --from=test-packages /opt/venv /opt/venv
COPY --chown=timer:timer . .
RUN chown timer:timer . && chmod -R u+rwX .
USER 10001:10001
ENTRYPOINT ["python", "-m", "deploy.local", "test"]
CMD ["-m", "not chaos and not load"]


# --- the service ---------------------------------------------------------
# Everybody can read it, whatever the clone's umask was. It is compiled here,
# because the running service writes nothing.
FROM base AS source
COPY manage.py ./
COPY deploy/commands.py deploy/receiver.py deploy/
COPY config/ config/
COPY apps/ apps/
RUN chmod -R a+rX,go-w . && python3 -m compileall -q .

FROM base AS runtime
COPY --from=packages /opt/venv /opt/venv
COPY --from=source /app /app
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "deploy.commands", "web"]
