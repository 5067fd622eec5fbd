//! The words of `entity`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum EntityCommand {
    /// Forget all that is known of an entity up to now: features, events, predictions; for good
    Erase {
        /// Entity type, as the project declares it
        entity: String,
        /// Its id; several for a type that is named by several keys, in their order
        #[arg(required = true)]
        id: Vec<String>,
    },
}
