//! Server connections at rest, and who may have one.
//!
//! A pool has a part on each worker (`LocalPool`) and a part they share (`PoolShared`). A query takes and returns its
//! connection on its own worker, touching nothing that other workers write.

pub mod catalog;
pub mod clock;
pub mod cluster;
pub mod conn;
pub mod connect;
pub mod converse;
pub mod derive;
pub mod desk;
pub mod health;
pub mod inbox;
pub mod knowledge;
pub mod lease;
pub mod ledger;
pub mod listener;
pub mod local;
pub mod mail;
pub mod meter;
pub mod registry;
pub mod reset;
pub mod seat;
pub mod settings;
pub mod shared;
pub mod target;
pub mod worker;
