//! The threads: two workers for I/O with a small stack, and one for the actors (see [`crate::engine`]).

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Threads for I/O. The work is JSON and TLS; more would only cost memory.
const WORKERS: usize = 2;

/// Stack of a worker.
const STACK: usize = 1024 * 1024;

/// Threads for blocking calls (reading tokens and certificates, resolving names).
const BLOCKING: usize = 4;

/// How long an idle blocking thread stays.
const IDLE: Duration = Duration::from_secs(5);

/// Makes ring the process' only source of cryptography. Must come before anything that speaks TLS; may be repeated.
pub fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The runtime for I/O.
///
/// # Errors
/// When the system gives no threads.
pub fn build() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(IDLE)
        .thread_stack_size(STACK)
        .thread_name("io")
        .enable_all()
        .build()
}
