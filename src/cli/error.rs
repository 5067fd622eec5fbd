//! What the command line says when something is wrong, and the exit code that goes with it.

use super::host::StartError;
use std::fmt::Write as _;
use understudy_domain::problem::Problem;

/// Exit code of a failure or a finding.
pub const FAILED: u8 = 1;
/// Exit code of a wrong command line.
pub const USAGE: u8 = 2;

/// Exit code of a store that was read and is not well.
pub const FINDINGS: u8 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    pub message: String,
    /// One line each: findings, examples.
    pub details: Vec<String>,
    /// What to do about it; may be empty.
    pub hint: String,
    pub exit: u8,
}

pub type Result<T = ()> = std::result::Result<T, CliError>;

impl CliError {
    pub fn new(message: impl Into<String>) -> Self {
        CliError { message: message.into(), details: Vec::new(), hint: String::new(), exit: FAILED }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        CliError { exit: USAGE, ..Self::new(message) }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    pub fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// The text for stderr, with its last newline.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for d in &self.details {
            let _ = writeln!(text, "  {}", d.replace('\n', "\n  "));
        }
        if !self.hint.is_empty() {
            let _ = writeln!(text, "hint: {}", self.hint);
        }
        text
    }
}

impl From<StartError> for CliError {
    fn from(e: StartError) -> Self {
        CliError { exit: e.exit, ..CliError::new(e.message).hint(e.hint) }
    }
}

impl From<Problem> for CliError {
    fn from(mut p: Problem) -> Self {
        let hint = std::mem::take(&mut p.hint);
        CliError::new(p.to_string()).hint(hint)
    }
}

/// An I/O error with the path it happened at.
pub fn at_path(path: &std::path::Path, what: &str) -> impl FnOnce(std::io::Error) -> CliError {
    let (path, what) = (path.display().to_string(), what.to_string());
    move |e| {
        let hint = match e.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "check the owner and permissions",
            std::io::ErrorKind::StorageFull => "free some disk space",
            _ => "",
        };
        CliError::new(format!("cannot {what} {path}: {e}")).hint(hint)
    }
}
