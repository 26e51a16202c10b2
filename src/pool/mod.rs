//! Server connections at rest, and who may have one.

pub mod settings;
