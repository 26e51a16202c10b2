//! The real binary in front of real PostgreSQL servers, used by real clients.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![allow(clippy::panic, reason = "a panic is a failed test")]
#![allow(clippy::indexing_slicing, reason = "a wrong index is a failed test")]

mod after_failover;
mod asked;
mod auth_query;
mod bad_input;
mod begin;
mod blocks;
mod cancel;
mod catalog;
mod classes;
mod client_logins;
mod client_tls;
mod clients;
mod consistency;
mod console;
mod databases;
mod directives;
mod failover;
mod faults;
mod footprint;
mod harness;
mod hba;
mod hosts;
mod http;
mod large;
mod limits;
mod listen;
mod login_limits;
mod modes;
mod operate;
mod pins;
mod pools;
mod postgres_alone;
mod prepared;
mod protocol;
mod questions;
mod queue;
mod readme;
mod replication;
mod review_limits;
mod review_tls;
mod route_command;
mod route_figures;
mod route_traps;
mod routes;
mod server_logins;
mod server_tls;
mod settings;
mod sharing;
mod soak;
mod sql_lexer;
mod sql_prepared;
mod startup;
mod suspects;
mod timeouts;
