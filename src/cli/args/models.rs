//! `model`: versions of models, their names, and what is done with them.

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// All models with the version that answers
    List,
    /// One model: versions, inputs, provenance; or one version of it
    Show {
        model: String,
        /// A version, such as v3
        #[arg(id = "number", value_name = "VERSION")]
        version: Option<String>,
    },
    /// Take in a version that was made elsewhere; it is checked whole, or refused and says why
    Register {
        /// Folder with manifest.json and the files that it lists
        dir: PathBuf,
    },
    /// Give a name to a version: `champion` answers, any other waits to be promoted
    Alias {
        model: String,
        /// champion, challenger, or a name of your own
        alias: String,
        /// Version that the name leads to from now on
        #[arg(id = "number", value_name = "VERSION", required_unless_present = "remove")]
        version: Option<String>,
        /// Take the name away
        #[arg(long, conflicts_with = "number")]
        remove: bool,
    },
    /// Take a version out of use for good; its files stay and can be looked at
    Archive {
        model: String,
        #[arg(id = "number", value_name = "VERSION")]
        version: String,
    },
}
