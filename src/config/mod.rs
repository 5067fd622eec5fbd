//! Project files: the only place that knows TOML.

mod effective;
pub mod files;
mod history;
pub mod keys;
mod project;
mod settings;
pub mod toml_file;
mod toml_syntax;

pub use effective::{Effective, Source, resolve};
pub use history::History;
pub use project::Project;
pub use settings::{
    Auth, Clock, ClockSource, Durability, Features, Limits, Log, LogFormat, LogMode, Models, PredictionLog, Server,
    Settings, Storage, Telemetry, Tls, TlsMode,
};

#[cfg(test)]
mod tests;
