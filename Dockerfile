# The program and the certificates of the authorities it may meet; nothing else.
#
#   docker build -t ghl-auth .
#   docker run --rm -it --env-file ./.env -v "${PWD}/ghl_tokens.json:/app/ghl_tokens.json" ghl-auth
#
# (With a Docker older than 23: DOCKER_BUILDKIT=1 docker build …)

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# Without this, every new process spends 50 ms on gathering entropy that it does not use.
ENV AWS_LC_SYS_NO_JITTER_ENTROPY=1
# What was downloaded and compiled stays for the next build.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    deploy/build-static.sh /image/usr/local/bin/ghl-auth
RUN mkdir -p /image/app /image/etc/ssl/certs \
    && install -d -m 1777 /image/tmp \
    && install -d -m 700 -o 65532 -g 65532 /image/data \
    && cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
LABEL org.opencontainers.image.title="ghl-auth" \
      org.opencontainers.image.description="Keeps every connection to GoHighLevel alive, and proves that it is" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /image /
ENV PATH=/usr/local/bin
WORKDIR /app
# No USER: started as root, the program becomes whoever owns the mounted tokens before it touches
# them. To decide that yourself, give `docker run` a --user. A volume at /data is born with the owner
# that the folder has here, who is nobody else.
ENTRYPOINT ["ghl-auth"]
CMD ["check"]
