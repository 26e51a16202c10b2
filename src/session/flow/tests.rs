//! Conversations, message by message, both ways.

mod batches;
mod copying;
mod forgetting;
mod listening;
mod losses;
mod names;
mod pieces;
mod rig;
mod simple;
mod wire;

use crate::protocol::tag;
