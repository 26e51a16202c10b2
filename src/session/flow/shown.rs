//! What a session is shown of its own channels, which another connection listens to.

use crate::protocol::body::split_cstr;
use crate::protocol::{TransactionState, tag};
use crate::session::client::Batch;
use crate::session::outbox::Outbox;
use crate::sql;

use super::listening::Listening;
use super::requests::{Message, Taken};
use super::{Flow, Parties};

impl Flow {
    /// Before a text that asks for them, outside of a block, its connection listens to the channels itself, until its client is
    /// done with it: only what is committed is shown. What it is told by that its client is told by the other connection.
    pub(super) fn show_channels(
        &mut self,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Option<Taken> {
        let channels = parties.client.channels.as_ref()?;
        let asks = |text: &[u8]| {
            let is_name = |word: &[u8]| word.eq_ignore_ascii_case(LISTENING_CHANNELS);
            sql::words(text).any(is_name)
        };
        let text = match message.head.tag {
            tag::QUERY => message.body,
            tag::PARSE => split_cstr(message.body)?.1,
            tag::BIND => {
                let (_, rest) = split_cstr(message.body)?;
                let known = parties.client.statements.get(split_cstr(rest)?.0)?;
                known.text()?
            }
            _ => return None,
        };
        let is_alone = self.batch == Batch::None && parties.server.transaction == TransactionState::Idle;
        if self.listening == Listening::Own || !is_alone || !message.is_whole() || !asks(text) {
            return None;
        }
        if !parties.server.pipeline.is_empty() {
            return Some(Taken::Awaited);
        }
        let mut listen = String::new();
        for channel in channels.iter() {
            listen.push_str("LISTEN \"");
            listen.push_str(&String::from_utf8_lossy(channel).replace('"', "\"\""));
            listen.push_str("\";");
        }
        self.inject_query(&listen, parties.server, out.make(message.input));
        self.on_left_listening();
        None
    }
}

const LISTENING_CHANNELS: &[u8] = b"pg_listening_channels";
