//! Conversations, message by message, both ways.

mod altering;
mod batches;
mod begun;
mod copying;
mod described;
mod forgetting;
mod listening;
mod losses;
mod names;
mod pieces;
mod refusals;
mod rig;
mod sequences;
mod simple;
mod sql;
mod wire;

use crate::protocol::tag;
