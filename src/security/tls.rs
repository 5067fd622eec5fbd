//! TLS of the gateway by rustls: TLS 1.2 and 1.3, no older. A changed certificate is taken into use without a
//! restart; one that is not good is not, and the old one stays.

use super::certificate::validity;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use understudy_actors::ports::Clock;
use understudy_domain::time::Timestamp;

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The certificate that is shown, replaced as a whole.
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    now: ArcSwap<Shown>,
}

struct Shown {
    key: Arc<CertifiedKey>,
    until: Timestamp,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("cert", &self.cert).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.load().key.clone())
    }
}

impl Certificate {
    /// Reads and checks both files.
    pub fn open(cert: &Path, key: &Path, now: Timestamp) -> Result<Arc<Certificate>, String> {
        let shown = read(cert, key, now)?;
        Ok(Arc::new(Certificate { cert: cert.into(), key: key.into(), now: ArcSwap::from_pointee(shown) }))
    }

    /// When it ends.
    pub fn until(&self) -> Timestamp {
        self.now.load().until
    }

    /// The configuration of the listener; it shows whatever certificate is in force.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Reads the files again; the certificate in force changes only if the new one is good.
    pub fn reload(&self, now: Timestamp) -> Result<(), String> {
        self.now.store(Arc::new(read(&self.cert, &self.key, now)?));
        Ok(())
    }

    /// Takes changes of the files into use, until the runtime ends.
    pub async fn keep_fresh(self: Arc<Self>, clock: Arc<dyn Clock>) {
        let seen = || {
            let modified = |p: &Path| std::fs::metadata(p).and_then(|m| m.modified()).ok();
            (modified(&self.cert), modified(&self.key))
        };
        let mut last: (Option<SystemTime>, Option<SystemTime>) = seen();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let now = seen();
            if now == last {
                continue;
            }
            last = now;
            match self.reload(clock.now()) {
                Ok(()) => tracing::info!(until = %self.until(), "certificate replaced"),
                Err(e) => {
                    tracing::error!(%e, until = %self.until(), "the new certificate is not good; the old one stays")
                }
            }
        }
    }
}

fn read(cert: &Path, key: &Path, now: Timestamp) -> Result<Shown, String> {
    let at = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(|e| at(cert, &e))?.collect();
    let chain = chain.map_err(|e| at(cert, &e))?;
    let first = chain.first().ok_or_else(|| at(cert, &"no certificate in it (PEM is expected)"))?;
    let (from, until) = validity(first).ok_or_else(|| at(cert, &"not an X.509 certificate"))?;
    if now >= until {
        return Err(at(cert, &format!("the certificate expired at {until}")));
    }
    if now < from {
        return Err(at(cert, &format!("the certificate is not valid before {from}")));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| at(key, &e))?;
    let key = CertifiedKey::from_der(chain, private, &ring::default_provider())
        .map_err(|e| at(key, &format!("does not fit the certificate: {e}")))?;
    Ok(Shown { key: Arc::new(key), until })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
    }

    #[test]
    fn a_certificate_that_is_not_good_is_named() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        assert!(Certificate::open(&at("one-cert.pem"), &at("one-key.pem"), now).is_ok());
        let table = [
            ("one-cert.pem", "two-key.pem", "does not fit"),
            ("expired-cert.pem", "expired-key.pem", "expired at 2021-01-01T00:00:00Z"),
            ("one-key.pem", "one-key.pem", "no certificate"),
            ("nothing.pem", "one-key.pem", "nothing.pem"),
            ("one-cert.pem", "one-cert.pem", "one-cert.pem"),
        ];
        for (cert, key, part) in table {
            let e = Certificate::open(&at(cert), &at(key), now).unwrap_err();
            assert!(e.contains(part), "{cert} {key}: {e}");
        }
        // A bad one in the place of a good one changes nothing.
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert"), dir.path().join("key"));
        let put = |name: &str| {
            std::fs::copy(at(&format!("{name}-cert.pem")), &cert).unwrap();
            std::fs::copy(at(&format!("{name}-key.pem")), &key).unwrap();
        };
        put("one");
        let shown = Certificate::open(&cert, &key, now).unwrap();
        let first = shown.now.load().key.cert[0].clone();
        put("expired");
        assert!(shown.reload(now).is_err());
        assert_eq!(shown.now.load().key.cert[0], first);
        put("two");
        shown.reload(now).unwrap();
        assert_ne!(shown.now.load().key.cert[0], first);
        let early = "2001-01-01T00:00:00Z".parse().unwrap();
        assert!(
            Certificate::open(&at("one-cert.pem"), &at("one-key.pem"), early).unwrap_err().contains("not valid before")
        );
    }
}
