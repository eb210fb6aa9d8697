# A server with the bundled models:
#     docker build -t transferscore . && docker run -p 50051:50051 transferscore
# With models of your own:
#     docker run -p 50051:50051 -v /path/to/mine:/srv/mine transferscore --models /srv/mine --datasets /srv/mine/datasets
# With ONNX Runtime for NVIDIA's graphics cards: docker build --target cuda -t transferscore:cuda .
# deploy/verify-image builds both without a daemon and tries them.

# An older system than those below, since a program does not run on a C library older than the one it was built on.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# .dockerignore keeps out what does not belong.
COPY . .
RUN cargo build --locked --release --features opentelemetry --bin transferscore

# ONNX Runtime changes less often than the sources: stages of its own.
FROM debian:trixie-slim AS fetch
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates make python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Makefile ./
COPY .ci/setup-onnxruntime .ci/

FROM fetch AS onnxruntime-cpu
RUN make setup

FROM fetch AS onnxruntime-cuda
RUN make setup DEVICE=cuda

# What both images have. Their bases bring the C++ library that ONNX Runtime needs, as their package manager needs it too.
FROM scratch AS files
COPY --from=build /build/target/release/transferscore /opt/transferscore/
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/transferscore/
COPY models /srv/models

# CUDA 13 and cuDNN 9, which ONNX Runtime's wheel for graphics cards is made for.
FROM nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 AS cuda
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin transferscore \
    && install --directory --owner transferscore /var/lib/transferscore
COPY --from=files / /
# The server looks for ONNX Runtime beside itself.
COPY --from=onnxruntime-cuda /build/.onnxruntime/ /opt/transferscore/
USER 10001
EXPOSE 50051
STOPSIGNAL SIGTERM
# Where the server speaks TLS, set TRANSFERSCORE_SERVER and TRANSFERSCORE_TLS_CA for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/transferscore/transferscore", "health"]
ENTRYPOINT ["/opt/transferscore/transferscore", "serve", "--listen", "0.0.0.0:50051"]
CMD ["--models", "/srv/models", "--datasets", "/srv/models/datasets"]

# The default, being last. The same but for the base and ONNX Runtime; a test keeps it so.
FROM debian:trixie-slim AS cpu
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin transferscore \
    && install --directory --owner transferscore /var/lib/transferscore
COPY --from=files / /
COPY --from=onnxruntime-cpu /build/.onnxruntime/ /opt/transferscore/
USER 10001
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/transferscore/transferscore", "health"]
ENTRYPOINT ["/opt/transferscore/transferscore", "serve", "--listen", "0.0.0.0:50051"]
CMD ["--models", "/srv/models", "--datasets", "/srv/models/datasets"]
