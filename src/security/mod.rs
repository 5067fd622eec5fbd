//! Who may do what: API keys with scopes and rates, the hosts a page may name, TLS, the audit log.
//!
//! `docs/security.md` says against whom. Without keys, on a loopback address, everybody on the machine may do
//! everything, as long as no web page sent them.

pub mod audit;
mod certificate;
mod check;
mod key;
mod key_file;
pub mod tls;

pub use check::{Caller, Denied, Security, must_not_listen};
pub use key::{Key, Scope, hex, new_key};
pub use key_file::{KeyFile, KeyFileError};
