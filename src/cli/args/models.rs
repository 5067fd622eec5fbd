//! `model`: versions of models, their names, and what is done with them.

use clap::{Args, Subcommand};
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
    /// Ask a model's folder for predictions and compare them with expected ones; exit 1 beyond the tolerance
    Check(ModelCheckArgs),
    /// Take a version out of use for good; its files stay and can be looked at
    Archive {
        model: String,
        #[arg(id = "number", value_name = "VERSION")]
        version: String,
    },
}

#[derive(Debug, Args)]
pub struct ModelCheckArgs {
    /// A version's folder, or one with just model.txt (LightGBM), model.json, model.ubj (XGBoost) or model.onnx
    pub dir: PathBuf,
    /// CSV with a header and a column `expected` (or `expected_0`, ...), or lines of golden.jsonl
    #[arg(long, value_name = "FILE")]
    pub rows: PathBuf,
    /// Largest difference, of the expected value where that is above 1
    #[arg(long, default_value_t = 1e-6)]
    pub tolerance: f64,
}
