//! (to be written)
/// (being written)
#[derive(Clone, Debug, serde::Serialize)]
pub struct MonitorReport {}
