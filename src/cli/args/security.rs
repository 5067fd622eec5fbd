//! The words of `keys` and `audit`.

use crate::security::Scope;
use clap::Subcommand;
use understudy_domain::time::Span;

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key; it is shown once and kept nowhere
    Create {
        /// Whose it is; a client may have two active keys
        client: String,
        /// serve, ingest, read or admin (repeatable)
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<Scope>,
        /// Only for requests that name this model (repeatable); all if not said
        #[arg(long = "model", value_name = "MODEL")]
        models: Vec<String>,
        /// Ends after this time, such as 90d; never if not said
        #[arg(long, value_name = "DURATION")]
        expires: Option<Span>,
        /// Requests per second; the setting auth.requests_per_s if not said
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
    },
    /// All keys, without their secrets
    List,
    /// End a key at once
    Revoke { id: String },
    /// Make a new key like this one; the old one ends after the overlap
    Rotate {
        id: String,
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: Span,
    },
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check the chain of hashes; exit code 3 if it does not hold
    Verify,
    /// The newest records
    Show {
        #[arg(short, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        n: u32,
    },
}
