//! How the command line gets a server of its own: the two functions that the system provides.

use std::path::Path;

/// Settings that win over the project's, as dotted key and value: `("server.port", "0")`.
pub type Overrides = Vec<(String, String)>;

/// Starts the complete server on its own thread and returns once it answers.
pub type Start = fn(&Path, Overrides) -> Result<Running, StartError>;

/// Runs the server in the foreground until it is asked to stop.
pub type Serve = fn(&Path, Overrides) -> Result<(), StartError>;

/// What the program is made of besides its command line.
#[derive(Clone, Copy)]
pub struct Host {
    pub start: Start,
    pub serve: Serve,
}

/// Why there is no server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// Exit code of the program.
    pub exit: u8,
}

type Stop = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// A server that runs inside this process. Dropping it stops it too, so that data is closed
/// on every path out of a command.
pub struct Running {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// A key of this server that only this process knows, when it uses keys.
    pub key: Option<String>,
    stop: Option<Stop>,
}

impl Running {
    pub fn new(url: impl Into<String>, stop: impl FnOnce() -> Result<(), String> + Send + 'static) -> Self {
        Running { url: url.into(), key: None, stop: Some(Box::new(stop)) }
    }

    /// Stops accepting, drains, closes the stores; returns when all is on disk.
    pub fn stop(mut self) -> Result<(), String> {
        self.stop.take().map_or(Ok(()), |stop| stop())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take()
            && let Err(e) = stop()
        {
            eprintln!("error: the server did not stop cleanly: {e}");
        }
    }
}

impl StartError {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        StartError { message: message.into(), hint: hint.into(), exit: 1 }
    }

    /// The configuration is not one to run with (`EX_CONFIG` of sysexits.h).
    pub fn config(message: impl Into<String>, hint: impl Into<String>) -> Self {
        StartError { exit: 78, ..Self::new(message, hint) }
    }
}

impl Default for Host {
    /// A command line without a server: every command needs `--url`.
    fn default() -> Self {
        fn none() -> StartError {
            StartError::new(
                "this program was built without a server",
                "name a running server with --url http://HOST:PORT",
            )
        }
        Host { start: |_, _| Err(none()), serve: |_, _| Err(none()) }
    }
}
