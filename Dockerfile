# The version is the one of rust-toolchain.toml; tests/packaging compares them.
FROM rust:1.95.0-slim-bookworm AS builder
# The toolchain file asks for clippy and rustfmt too, which an image has no use for.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/root/.cache/multigres-operator \
    --mount=type=cache,target=/source/target \
    cargo build --profile dist --locked --package multigres-operator --bin multigres-operator \
    && cp target/dist/multigres-operator /manager

# glibc, libm and libgcc are all that the binary loads; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=builder /manager /manager
USER 65532:65532
ENTRYPOINT ["/manager"]
