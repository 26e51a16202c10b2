//! Values that the server reports: whose they are, and what the client hears of them.

use crate::protocol::body;
use crate::session::client::parameter_status;
use crate::session::error::SessionError;
use crate::session::outbox::Outbox;
use crate::session::pipeline::Kind;
use crate::session::settings::{self, APPLICATION_NAME, Cause, News};

use super::answers::{Verdict, head_kind};
use super::requests::Message;
use super::{Certainty, Flow, Parties};

/// The `application_name` that others see of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    AsShown,
    Changed,
}

impl Flow {
    /// Whether the client may have another `application_name`, once.
    pub fn take_relabelled(&mut self) -> bool {
        std::mem::replace(&mut self.label, Label::AsShown) == Label::Changed
    }

    /// Everything was reset, and the transaction has ended.
    pub(super) fn on_all_reset(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        let tell = |name: &str, value: &str| parameter_status(name, value, out.make(message.input));
        settings::on_all_reset(parties.client, parties.server, tell);
        self.label = Label::Changed;
    }

    /// A value is another now.
    pub(super) fn on_parameter(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
        verdict: Verdict,
    ) -> Result<Verdict, SessionError> {
        if message.body.len() < message.head.body {
            return if message.head.body > PARAMETER_LEN_MAX {
                Err(SessionError::Server("a parameter status that is too long"))
            } else {
                Ok(Verdict::Cut)
            };
        }
        let Some((name, value)) = body::parameter_status(message.body) else {
            return Ok(verdict);
        };
        if verdict == Verdict::Drop {
            let is_query = head_kind(parties) == Some(Kind::Query);
            if is_query && settings::is_of_nobody(parties.client, parties.server, name) {
                // The server's own, which has read its files again.
                parties.server.rebase(name, value);
                return Ok(Verdict::Pass);
            }
            // The client's own settings, applied by us: it has them already, perhaps in other words.
            parties.server.reported.set(name, value);
            return Ok(verdict);
        }
        if self.certainty == Certainty::Known && self.cause == Cause::Set {
            parties.client.on_unexpected(name);
        }
        if name == APPLICATION_NAME {
            self.label = Label::Changed;
        }
        match settings::on_reported(parties.client, parties.server, name, value, self.cause) {
            News::AsReported => Ok(verdict),
            News::None => Ok(Verdict::Drop),
            News::OfStartup => {
                if let Some(own) = parties.client.startup.value(name) {
                    parameter_status(name, own, out.make(message.input));
                }
                Ok(Verdict::Done)
            }
        }
    }
}

/// A reported value: a search path can be long, but not this long.
const PARAMETER_LEN_MAX: usize = 64 * 1024;
