//! Which server a command talks to: the one that was named, the project's if it runs, or one of
//! our own for as long as the command takes.

use super::client::Client;
use super::error::{CliError, Result};
use super::host::{Host, Overrides, Running};
use super::output;
use crate::config::{Project, TlsMode};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// What every command knows.
pub struct Context {
    /// As given; `None` is the current directory, or the example for `demo`.
    pub project: Option<PathBuf>,
    pub url: Option<String>,
    pub json: bool,
    pub quiet: bool,
    pub verbose: u8,
    pub host: Host,
}

/// A server within reach.
pub struct Server {
    pub client: Client,
    running: Option<Running>,
}

impl Context {
    pub fn project_dir(&self) -> PathBuf {
        self.project.clone().unwrap_or_else(|| PathBuf::from("."))
    }

    pub fn note(&self, text: &str) {
        if !self.quiet {
            output::note(text);
        }
    }

    /// The server that the command talks to.
    pub fn server(&self) -> Result<Server> {
        if let Some(url) = &self.url {
            return Ok(Server { client: Client::new(url)?, running: None });
        }
        let project = self.project_dir();
        known_project(&project)?;
        if let Some(client) = self.configured(&project) {
            return Ok(Server { client, running: None });
        }
        self.note("note: no server is running for this project; starting one for this command");
        self.start(&project, vec![("server.port".into(), "0".into())])
    }

    /// A server of our own with these settings.
    pub fn start(&self, project: &Path, overrides: Overrides) -> Result<Server> {
        let running = (self.host.start)(project, overrides)?;
        if self.verbose > 0 {
            output::note(&format!("note: serving {} at {}", project.display(), running.url));
        }
        Ok(Server { client: Client::new(&running.url)?.with_key(running.key.clone()), running: Some(running) })
    }

    /// The project's server, if it is running.
    pub fn configured(&self, project: &Path) -> Option<Client> {
        let client = Client::new(&configured_url(project)?).ok()?;
        client.alive().then_some(client)
    }
}

impl Server {
    /// True when it runs inside this process.
    pub fn is_own(&self) -> bool {
        self.running.is_some()
    }

    /// Ends a server of our own; whoever runs another one keeps it.
    pub fn finish(self) -> Result {
        match self.running {
            Some(r) => r.stop().map_err(|e| CliError::new(format!("the server did not stop cleanly: {e}"))),
            None => Ok(()),
        }
    }
}

/// Refuses a directory that is no project, before anything is started in it.
pub fn known_project(dir: &Path) -> Result {
    if dir.join("understudy.toml").is_file() {
        return Ok(());
    }
    Err(CliError::new(format!("{} is not a project: it has no understudy.toml", dir.display())).hint(
        "name it with --project DIR, make one with `understudy init DIR`, or see one work with `understudy demo`",
    ))
}

/// Where the project's server listens, by its settings. A wildcard address is reached on loopback.
pub fn configured_url(project: &Path) -> Option<String> {
    let settings = Project::load(project, &[]).ok()?.settings;
    let (server, tls) = (settings.server, settings.tls.mode == TlsMode::Files);
    let host = match server.bind {
        IpAddr::V4(a) if a.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(a) if a.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
        other => other,
    };
    (server.port != 0).then(|| format!("http{}://{}", if tls { "s" } else { "" }, SocketAddr::new(host, server.port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_address() {
        let dir = tempfile::tempdir().unwrap();
        let url = |text: &str| {
            std::fs::write(dir.path().join("understudy.toml"), text).unwrap();
            configured_url(dir.path())
        };
        assert_eq!(url("").as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(url("[server]\nbind = \"0.0.0.0\"\nport = 9000").as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(url("[server]\nbind = \"10.0.0.7\"").as_deref(), Some("http://10.0.0.7:8080"));
        assert_eq!(url("[server]\nport = 0"), None);
        assert_eq!(url("not toml"), None);
    }

    #[test]
    fn a_directory_without_settings_is_no_project() {
        let dir = tempfile::tempdir().unwrap();
        let e = known_project(dir.path()).unwrap_err();
        assert!(e.message.contains("no understudy.toml") && e.hint.contains("init"), "{e:?}");
    }
}
