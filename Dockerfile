# A CPU server with the bundled models: docker build -t transferscore . && docker run -p 50051:50051 transferscore
# With models of your own:
# docker run -p 50051:50051 -v /path/to/mine:/srv/mine transferscore --models /srv/mine --datasets /srv/mine/datasets

FROM rust:1.95-slim-trixie AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# ONNX Runtime changes less often than the sources: a layer of its own.
COPY Makefile ./
COPY .ci/setup-onnxruntime .ci/
RUN make setup
# .dockerignore keeps out what does not belong.
COPY . .
RUN cargo build --locked --release --bin transferscore

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --shell /usr/sbin/nologin transferscore \
    && install --directory --owner transferscore /var/lib/transferscore
# The server looks for ONNX Runtime beside itself.
COPY --from=build /build/target/release/transferscore /opt/transferscore/
COPY --from=build /build/.onnxruntime/ /opt/transferscore/
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/transferscore/
COPY models /srv/models
USER transferscore
EXPOSE 50051
STOPSIGNAL SIGTERM
# Where the server speaks TLS, set TRANSFERSCORE_SERVER and TRANSFERSCORE_TLS_CA for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/transferscore/transferscore", "health"]
ENTRYPOINT ["/opt/transferscore/transferscore", "serve", "--listen", "0.0.0.0:50051"]
CMD ["--models", "/srv/models", "--datasets", "/srv/models/datasets"]
