# The service, without torch: wheels are built in one stage and installed in another, so that the
# image that runs holds no compiler, no sources and no pip cache.
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY constraints.txt ./
COPY client ./client
COPY service ./service
COPY migrations ./migrations
COPY docs/incidents ./docs/incidents
RUN pip wheel --no-cache-dir --constraint constraints.txt --wheel-dir /wheels ./client "./service[postgres]"

FROM python:3.11-slim-bookworm
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels foreshock "foreshock-service[postgres]" && rm -r /wheels
RUN useradd --system --uid 10001 --home-dir /var/lib/foreshock --create-home foreshock \
  && install --directory --owner foreshock /var/lib/foreshock/data
USER foreshock
WORKDIR /var/lib/foreshock
# Not bound to loopback, so the service asks for tokens: `foreshock token create` makes them, and
# without any it refuses to start.
ENV FORESHOCK_HOST=0.0.0.0 FORESHOCK_PORT=8712 FORESHOCK_DATA_DIR=/var/lib/foreshock/data
VOLUME /var/lib/foreshock/data
EXPOSE 8712
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8712/readyz', timeout=2)"]
ENTRYPOINT ["foreshock"]
CMD ["serve"]
