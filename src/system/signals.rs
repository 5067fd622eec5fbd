//! When to stop: SIGTERM or SIGINT.

/// Resolves at the first SIGTERM or SIGINT; a second one ends the process at once. What was acknowledged
/// is on disk by then.
pub async fn stop_asked() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    actix::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        std::process::exit(130);
    });
}
