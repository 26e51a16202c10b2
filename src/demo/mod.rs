//! The demonstration, and the private PostgreSQL servers that it and the tests run on.

pub mod cluster;
