//! When to stop, and how: SIGTERM from whoever runs us, SIGINT from a person at the terminal. SIGHUP looks at the
//! project's files.

/// How the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Not ready from now on, but serving until load balancers have seen that.
    Drain,
    /// No new requests from now on.
    Now,
}

/// Exit codes of a process that a signal ended: 128 and the signal's number.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

/// Every SIGHUP makes the server look at the project's files.
pub async fn reload_on_hangup(system: std::sync::Arc<understudy_actors::system::System>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        if let Some(watcher) = system.config() {
            watcher.do_send(understudy_actors::config_watcher::Reload { by: "signal".into() });
        }
    }
}

/// Resolves at the first SIGTERM or SIGINT; a second one ends the process at once. What was acknowledged
/// is on disk by then.
pub async fn stop_asked() -> Stop {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    let stop = tokio::select! { _ = term.recv() => Stop::Drain, _ = int.recv() => Stop::Now };
    actix::spawn(async move {
        let code = tokio::select! { _ = term.recv() => TERMINATED, _ = int.recv() => INTERRUPTED };
        tracing::warn!("told to stop a second time; ending at once");
        std::process::exit(code);
    });
    stop
}
