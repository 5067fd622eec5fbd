//! What stands between the network and the gateway: keys, TLS, and the decision whether to listen at all.

use crate::cli::host::StartError;
use crate::config::{Project, TlsMode};
use crate::security::tls::Certificate;
use crate::security::{Security, must_not_listen};
use crate::system::WallClock;
use std::path::Path;
use std::sync::Arc;
use understudy_actors::ports::Clock;

pub struct Secured {
    pub security: Arc<Security>,
    pub certificate: Option<Arc<Certificate>>,
    /// A key that only this process knows, if it asked for one and the server uses keys.
    pub own_key: Option<String>,
}

/// Reads keys and certificate; refuses settings that would let anybody in. `own` asks for a key of our own.
pub fn secured(project: &Project, data: &Path, own: bool) -> Result<Secured, StartError> {
    let settings = &project.settings;
    let mut security = Security::open(&project.dir, data, settings).map_err(|e| StartError::config(e.what, e.hint))?;
    if let Some(why) = must_not_listen(settings, security.keys()) {
        return Err(StartError::config(why, "or bind 127.0.0.1; docs/security.md says more"));
    }
    let mut own_key = None;
    if own && security.required() {
        let (with_key, token) = security.with_own_key().map_err(|e| StartError::new(e.to_string(), ""))?;
        (security, own_key) = (with_key, Some(token));
    }
    let certificate = match settings.tls.mode {
        TlsMode::Off | TlsMode::TerminatedElsewhere => None,
        TlsMode::Files => {
            let (cert, key) = (project.dir.join(&settings.tls.cert), project.dir.join(&settings.tls.key));
            let found = Certificate::open(&cert, &key, WallClock.now());
            Some(found.map_err(|e| StartError::config(e, "tls.cert and tls.key name PEM files"))?)
        }
    };
    Ok(Secured { security: Arc::new(security), certificate, own_key })
}

impl Secured {
    pub fn scheme(&self) -> &'static str {
        if self.certificate.is_some() { "https" } else { "http" }
    }

    /// Takes changed keys and certificates into use until the runtime ends.
    pub fn keep_fresh(&self) {
        actix::spawn(self.security.clone().keep_keys_fresh());
        if let Some(certificate) = &self.certificate {
            actix::spawn(certificate.clone().keep_fresh(Arc::new(WallClock)));
        }
    }

    pub fn tls(&self) -> Result<Option<rustls::ServerConfig>, String> {
        self.certificate.as_ref().map(Certificate::server_config).transpose()
    }
}
