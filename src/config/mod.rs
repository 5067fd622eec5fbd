//! Project files: the only place that knows TOML.

pub mod toml_file;
