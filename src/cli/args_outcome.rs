//! The words of `outcome`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum OutcomeCommand {
    /// Post one outcome
    Post(OutcomeArgs),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["request", "prediction"]))]
#[command(group = clap::ArgGroup::new("truth").required(true).args(["label", "void"]))]
pub struct OutcomeArgs {
    #[arg(long)]
    pub model: String,
    /// The caller's id of the request
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// The prediction's id
    #[arg(long, value_name = "ID")]
    pub prediction: Option<String>,
    /// True for the positive label
    #[arg(long, action = clap::ArgAction::Set)]
    pub label: Option<bool>,
    /// There will be no outcome
    #[arg(long)]
    pub void: bool,
    /// When it became true (RFC 3339); now if not said
    #[arg(long)]
    pub time: Option<String>,
    /// Replaces an outcome of a lower revision
    #[arg(long, default_value_t = 0)]
    pub revision: u32,
}
