//! The configuration file: the only place that reads it and the environment.

mod model;

pub use model::*;
