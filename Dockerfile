# Fanfare's image: one binary, a container a role.
#
#   docker build -t fanfare .
#   docker run fanfare --help
#
# The two images must be of one Debian release: the binary is linked to the C library of the first
# and runs with that of the second.
ARG RUST_IMAGE=rust:1.95-trixie
ARG DEBIAN_IMAGE=debian:trixie-slim


# What decides the dependencies, and nothing else: each package as its manifest with empty sources. It is
# made anew whenever a file changes, but what comes out of it only changes with a manifest.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock \
        ! -path '*/src/lib.rs' ! -path '*/src/main.rs' -delete \
 && find . -type d -empty -delete \
 && find . -name '*.rs' -exec sh -c 'echo "//! Empty." >"$1"' _ {} \; \
 && find . -name main.rs -exec sh -c 'echo "fn main() { }" >>"$1"' _ {} \;


# The dependencies, compiled. This layer is kept as long as the manifests stay as they are.
FROM ${RUST_IMAGE} AS dependencies
WORKDIR /src
COPY --from=manifests /src .
RUN cargo build --release --locked --package fanfare


FROM dependencies AS build
ARG FANFARE_COMMIT=
COPY . .
# Sources may be older than the empty ones that were compiled in their place.
RUN find crates -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --package fanfare \
 && deploy/separate-symbols target/release/fanfare


# The debug information alone, for whoever has a backtrace or a core dump to read:
#
#   docker build --target symbols --output symbols .
FROM scratch AS symbols
COPY --from=build /src/target/release/fanfare.debug /


FROM ${DEBIAN_IMAGE}
LABEL org.opencontainers.image.title="Fanfare" \
      org.opencontainers.image.description="Webhook delivery for a report server." \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
RUN groupadd --gid 10001 fanfare \
 && useradd --uid 10001 --gid fanfare --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin fanfare \
 # A volume for the journal of a bridge takes its owner from here.
 && install --directory --owner=10001 --group=10001 --mode=700 /var/lib/fanfare
# Receivers' certificates are judged by these.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/fanfare /usr/local/bin/fanfare
# A container has its ports to itself, and who reads its log is a machine.
ENV FANFARE_CONSOLE_LISTEN=0.0.0.0:8080 \
    FANFARE_METRICS_LISTEN=0.0.0.0:9090 \
    FANFARE_LOG_FORMAT=json
# By number, so that an orchestrator can see that it is not root. Only a bridge writes, into its volume.
USER 10001:10001
WORKDIR /
EXPOSE 8080 8090 9090
HEALTHCHECK --interval=15s --timeout=6s --start-period=20s --retries=3 CMD ["fanfare", "probe"]
ENTRYPOINT ["fanfare"]
CMD ["--help"]
