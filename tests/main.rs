//! The real program from the outside: its server over HTTP, its command line, its promises.

mod alerts;
mod chaos;
mod cli;
mod demo;
mod erase;
mod flights;
mod golden;
mod ingest;
mod models;
mod overload;
mod project;
mod registry;
mod reload;
mod replay;
mod retraining;
mod rollout;
mod rollout_live;
mod security;
mod storage_faults;
mod supervision;
mod support;
mod telemetry;
mod tidy;
