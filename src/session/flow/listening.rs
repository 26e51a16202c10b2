//! LISTEN and UNLISTEN of a client that shares its server connection with others.
//!
//! Another connection listens for it, before the server is told: so nothing is missed that is committed after the client's own
//! transaction. The statement itself goes on as it came, since the server alone knows whether it may be carried out; what it
//! leaves on the connection is undone when the transaction has ended.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::body::split_cstr;
use crate::protocol::{TransactionState, tag, write};
use crate::session::client::Batch;
use crate::session::listening::{CHANNELS_MAX, Channel, Command, Log, Step, commands, step, unlistens};
use crate::session::outbox::Outbox;
use crate::session::pipeline::{Answer, Entry};
use crate::session::screen::{BlockEffect, ChannelEffect, Effects, PinReason};
use crate::session::server::{Hygiene, ServerState};
use crate::session::statement::Statement;

use super::answers::Verdict;
use super::copy::Copy;
use super::requests::Message;
use super::{Flow, Parties, Settling};

/// Who listens for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    /// Its server connection, which is its own.
    Own,
    /// A connection that many share.
    Shared,
}

/// What was said of channels in this exchange.
#[derive(Debug, Default)]
pub(super) struct Said {
    log: Log,
    /// The commands of the request that is in flight.
    in_flight: VecDeque<Command>,
    /// What that request does to savepoints.
    step: Option<Step>,
    ask: Ask,
    /// Portals whose statements say something of channels, or may end a transaction that has.
    portals: Vec<(Box<[u8]>, Arc<Statement>)>,
    keeper: Keeper,
    leftover: Leftover,
    outcome: Outcome,
    notified: Notified,
}

/// What is asked of the connection that many share.
#[derive(Debug, Default)]
enum Ask {
    #[default]
    None,
    Wanted(Vec<Channel>),
    Granted,
    Refused,
}

/// Which connection listens to what the client names from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Keeper {
    #[default]
    Shared,
    /// The client's present server connection: it is pinned.
    Pinned,
}

/// What the client's commands have left on the server connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Leftover {
    #[default]
    None,
    Listens,
    /// It is being undone.
    Undoing,
}

/// How the requests fared that were answered since the last `ReadyForQuery`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outcome {
    #[default]
    Good,
    Failed,
}

/// Whether the open transaction has said NOTIFY, and its client listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Notified {
    #[default]
    Nobody,
    Perhaps,
}

/// What becomes of a request, as far as channels go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heed {
    /// It has nothing to do with them, or nobody follows what it does.
    Plain,
    /// It is followed, and pins nobody.
    Followed,
    /// It waits: for answers, or for the shared connection.
    Hold,
}

impl Flow {
    /// Somebody else listens for the client from now on.
    pub fn share_listening(&mut self) {
        self.listening = Listening::Shared;
    }

    /// The channels that the shared connection must listen to before the client's request goes on. None at all: the client may
    /// have notified itself, and is told before it hears that its transaction has ended, as by a server of its own.
    #[must_use]
    pub fn asks_for_channels(&self) -> Option<&[Channel]> {
        match &self.said.as_ref()?.ask {
            Ask::Wanted(channels) => Some(channels),
            Ask::None | Ask::Granted | Ask::Refused => None,
        }
    }

    /// The shared connection listens, or it cannot: then the client is pinned to its own.
    pub fn on_channels(&mut self, listens: bool) {
        if let Some(said) = &mut self.said {
            said.ask = if listens { Ask::Granted } else { Ask::Refused };
        }
    }

    /// Whether the server connection still listens to what only its client wanted.
    #[must_use]
    pub fn leaves_listening(&self) -> bool {
        self.said
            .as_ref()
            .is_some_and(|said| said.leftover != Leftover::None)
    }

    /// Asks the server, at rest, to forget what the client has listened to on this connection.
    pub fn undo_listening(&mut self, server: &mut ServerState, out: &mut Vec<u8>) {
        if let Some(said) = &mut self.said
            && said.leftover == Leftover::Listens
        {
            said.leftover = Leftover::Undoing;
            self.inject_query("UNLISTEN *", server, out);
        }
    }

    /// Whether there is something to undo, and nobody is at it.
    #[must_use]
    pub fn must_undo_listening(&self) -> bool {
        self.said
            .as_ref()
            .is_some_and(|said| said.leftover == Leftover::Listens)
    }

    /// Whether an `Execute` is looked at.
    pub(super) fn follows(&self) -> bool {
        self.said.is_some()
    }

    fn is_saying(&self) -> bool {
        self.said.as_ref().is_some_and(|said| !said.log.is_empty())
    }

    // --- From the client.

    /// Looks at the text of a request.
    pub(super) fn heed_text(
        &mut self,
        text: Option<&[u8]>,
        effects: &Effects,
        parties: &mut Parties<'_>,
    ) -> Heed {
        let is_said = effects.channels == ChannelEffect::Commands;
        if self.listening == Listening::Own
            || self.batch == Batch::Skipping
            || self.copy != Copy::None
            || !(is_said || self.is_saying())
        {
            return Heed::Plain;
        }
        let text_of_commands = text.filter(|_| is_said);
        let Some(commands) = text_of_commands.and_then(commands) else {
            // It says something else, too. What ends listening is followed all the same.
            let commands = text_of_commands.map(unlistens).unwrap_or_default();
            return match self.heed(text, commands, effects.block, parties) {
                Heed::Hold => Heed::Hold,
                Heed::Plain | Heed::Followed => Heed::Plain,
            };
        };
        self.heed(text, commands, effects.block, parties)
    }

    /// Looks at an `Execute`. What a portal does that is not known is anybody's guess.
    pub(super) fn heed_execute(&mut self, message: &Message<'_>, parties: &mut Parties<'_>) -> Heed {
        let Some(said) = &self.said else {
            return Heed::Plain;
        };
        let name = split_cstr(message.body).map(|(name, _)| name);
        let known = said
            .portals
            .iter()
            .find(|(portal, _)| name == Some(portal))
            .map(|(_, statement)| Arc::clone(statement));
        match known {
            Some(statement) => self.heed_text(statement.text(), &statement.effects, parties),
            None if self.is_saying() && self.batch != Batch::Skipping => {
                self.heed(Some(b""), Vec::new(), BlockEffect::MayCommit, parties)
            }
            None => Heed::Plain,
        }
    }

    /// A portal was bound. Whether its statement can be followed, so that it pins nobody.
    pub(super) fn heed_bind(&mut self, portal: &[u8], statement: &Arc<Statement>) -> bool {
        let is_said = statement.effects.channels == ChannelEffect::Commands;
        let is_saying = self.is_saying();
        if self.listening == Listening::Own || (self.said.is_none() && !is_said) {
            return false;
        }
        let portals = &mut self.said.get_or_insert_default().portals;
        portals.retain(|(name, _)| **name != *portal);
        if !is_said && !is_saying {
            return false;
        }
        if portals.len() >= PORTALS_MAX {
            portals.remove(0);
        }
        portals.push((portal.into(), Arc::clone(statement)));
        is_said && statement.text().is_some_and(|text| commands(text).is_some())
    }

    fn heed(
        &mut self,
        text: Option<&[u8]>,
        commands: Vec<Command>,
        block: BlockEffect,
        parties: &mut Parties<'_>,
    ) -> Heed {
        let is_saying = self.is_saying();
        let has_channels = parties.client.channels.is_some();
        let listens = commands
            .iter()
            .any(|command| matches!(command, Command::Listen(_)));
        let taken_back = match text {
            _ if !is_saying => Step::Other,
            Some(text) => step(text),
            None => Step::Unclear,
        };
        let may_end = is_saying && block == BlockEffect::MayCommit;
        let says = listens || !commands.is_empty() && (is_saying || has_channels);
        if !says && taken_back == Step::Other && !may_end {
            // Of somebody who listens to nothing, UNLISTEN is nothing.
            return Heed::Plain;
        }
        if !parties.server.pipeline.is_empty() {
            return Heed::Hold;
        }
        let said = self.said.get_or_insert_default();
        if taken_back == Step::Unclear || listens && !is_followable(said, commands.len(), parties) {
            keep(said, parties);
        }
        if said.keeper == Keeper::Shared {
            // Of a batch it is not known yet whether it is in a block.
            let in_block = parties.server.transaction != TransactionState::Idle && self.batch == Batch::None;
            let moment = match (in_block, may_end) {
                (false, _) => Moment::Alone,
                (true, true) => Moment::End,
                (true, false) => Moment::Block,
            };
            match said.ask_for(&commands, moment, parties) {
                Asked::Fine => {}
                Asked::Waits => return Heed::Hold,
                Asked::Refused => keep(said, parties),
            }
        }
        said.in_flight = commands.into();
        said.step = Some(taken_back);
        self.settling = Settling::Channels;
        Heed::Followed
    }

    /// The next message waits for the answers to everything before it, and the server is asked to give them.
    pub(super) fn await_everything(&mut self, input: &[u8], out: &mut Outbox, parties: &Parties<'_>) {
        let is_sent = |entry: &Entry| !matches!(entry.answer, Answer::Fake);
        if !self.flushed && parties.server.pipeline.iter().any(is_sent) {
            write::bare(out.make(input), tag::FLUSH);
        }
        self.flushed = true;
    }

    // --- From the server.

    /// LISTEN or UNLISTEN was carried out.
    pub(super) fn on_said(&mut self, listened: bool, parties: &mut Parties<'_>) {
        if self.listening == Listening::Shared && listened {
            self.said.get_or_insert_default();
        }
        let Some(said) = &mut self.said else {
            if listened {
                parties.client.pins.insert(PinReason::Listen);
            }
            return;
        };
        let is_next = |command: &Command| matches!(command, Command::Listen(_)) == listened;
        let next = said.in_flight.pop_front_if(|command| is_next(command));
        match next {
            Some(Command::Listen(_)) if said.keeper == Keeper::Pinned => {}
            Some(command) => {
                let is_full = said.log.say(command).is_err();
                if is_full {
                    keep(said, parties);
                }
            }
            // From a text that could not be screened.
            None if listened => keep(said, parties),
            None => {}
        }
        self.on_request_done();
    }

    /// The server connection listens to what its client wants of another.
    pub(super) fn on_left_listening(&mut self) {
        self.said.get_or_insert_default().leftover = Leftover::Listens;
    }

    /// NOTIFY was carried out.
    pub(super) fn on_notified(&mut self, parties: &Parties<'_>) {
        if self.listening == Listening::Shared && (parties.client.channels.is_some() || self.is_saying()) {
            self.said.get_or_insert_default().notified = Notified::Perhaps;
        }
    }

    /// Whether the end of a transaction is kept from the client until it was told what it has notified itself of.
    pub(super) fn is_to_be_told_first(&mut self, state: TransactionState) -> bool {
        let Some(said) = &mut self.said else {
            return false;
        };
        if said.notified == Notified::Nobody || state != TransactionState::Idle {
            return false;
        }
        match std::mem::take(&mut said.ask) {
            Ask::Granted | Ask::Refused => {
                said.notified = Notified::Nobody;
                false
            }
            Ask::None | Ask::Wanted(_) => {
                said.ask = Ask::Wanted(Vec::new());
                true
            }
        }
    }

    /// A savepoint was set or released.
    pub(super) fn on_savepoint(&mut self, parties: &mut Parties<'_>) {
        if let Some(said) = &mut self.said {
            if let Some(step) = said.step.take()
                && said.log.step(&step).is_err()
            {
                keep(said, parties);
            }
            self.on_request_done();
        }
    }

    /// ROLLBACK, of a transaction or to a savepoint.
    pub(super) fn on_taken_back(&mut self) {
        if let Some(said) = &mut self.said {
            match said.step.take() {
                // Going back is never too much.
                Some(step @ Step::RollbackTo(_)) => _ = said.log.step(&step),
                _ => said.log.roll_back(),
            }
            self.on_request_done();
        }
    }

    /// A transaction has committed: what it said holds from now on.
    pub(super) fn on_commit(&mut self, parties: &mut Parties<'_>) {
        let Some(said) = &mut self.said else { return };
        if said.log.is_empty() {
            return;
        }
        if said.log.listens().next().is_some() {
            said.leftover = Leftover::Listens;
        }
        let mut channels = parties.client.channels.take().unwrap_or_default();
        said.log.commit(&mut channels);
        parties.client.channels = (!channels.is_empty()).then_some(channels);
        self.on_request_done();
    }

    /// A request has failed; so has whatever transaction is not a block.
    pub(super) fn on_request_failed(&mut self) {
        if let Some(said) = &mut self.said {
            said.outcome = Outcome::Failed;
            said.in_flight.clear();
            said.step = None;
        }
    }

    /// The server is ready.
    pub(super) fn on_ready_for_channels(&mut self, state: TransactionState, parties: &mut Parties<'_>) {
        let Some(said) = &mut self.said else { return };
        let outcome = std::mem::take(&mut said.outcome);
        said.in_flight.clear();
        said.step = None;
        if said.leftover == Leftover::Undoing {
            if outcome == Outcome::Failed {
                parties.server.hygiene = parties.server.hygiene.worsen(Hygiene::Tainted);
            }
            said.leftover = Leftover::None;
        }
        if state != TransactionState::Idle {
            return;
        }
        said.portals.clear();
        match outcome {
            Outcome::Good => self.on_commit(parties),
            Outcome::Failed => said.log.roll_back(),
        }
    }

    /// `DISCARD ALL` was carried out.
    pub(super) fn on_channels_discarded(&mut self, parties: &mut Parties<'_>) {
        parties.client.channels = None;
        self.said = None;
    }

    /// A notification on the client's own connection. What the shared one listens to comes from there; the rest is the
    /// client's if the connection is.
    pub(super) fn on_notification(
        &self,
        message: &Message<'_>,
        parties: &Parties<'_>,
        verdict: Verdict,
    ) -> Verdict {
        if self.listening == Listening::Own {
            return verdict;
        }
        if parties.client.pinned().is_none() {
            return Verdict::Drop;
        }
        let Some(channels) = &parties.client.channels else {
            return verdict;
        };
        match channel_of(message.body) {
            Some(channel) if channels.contains(channel) => Verdict::Drop,
            Some(_) => verdict,
            None if message.body.len() < message.head.body => Verdict::Cut,
            None => verdict,
        }
    }

    fn on_request_done(&mut self) {
        let is_done = self.said.as_ref().is_none_or(|said| said.in_flight.is_empty());
        if is_done && self.settling == Settling::Channels {
            self.settling = Settling::Done;
        }
    }
}

/// When a request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// It may be a transaction of its own.
    Alone,
    /// Within a block.
    Block,
    /// At the end of a block, perhaps.
    End,
}

/// What became of a question to the shared connection.
enum Asked {
    Fine,
    Waits,
    Refused,
}

impl Said {
    /// Sees to it that the shared connection listens before the client's transaction commits, and that it has said everything
    /// it knew before.
    fn ask_for(&mut self, commands: &[Command], moment: Moment, parties: &Parties<'_>) -> Asked {
        match std::mem::take(&mut self.ask) {
            Ask::Granted => return Asked::Fine,
            Ask::Refused => return Asked::Refused,
            Ask::None | Ask::Wanted(_) => {}
        }
        let is_known = |channel: &Channel| {
            let channels = parties.client.channels.as_ref();
            self.log.is_empty() && channels.is_some_and(|known| known.contains(channel))
        };
        let mut wanted = Vec::new();
        if moment == Moment::Alone {
            let named = commands.iter().filter_map(|command| match command {
                Command::Listen(channel) if !is_known(channel) => Some(Arc::clone(channel)),
                Command::Listen(_) | Command::Unlisten(_) | Command::UnlistenAll => None,
            });
            wanted.extend(named);
        }
        if moment != Moment::Block {
            wanted.extend(self.log.listens().map(Arc::clone));
        }
        if wanted.is_empty() {
            return Asked::Fine;
        }
        wanted.sort_unstable();
        wanted.dedup();
        self.ask = Ask::Wanted(wanted);
        Asked::Waits
    }
}

/// The channel of a notification.
fn channel_of(body: &[u8]) -> Option<&[u8]> {
    let (channel, _) = split_cstr(body.get(4..)?)?;
    Some(channel)
}

/// Whether somebody else can listen for the client: it speaks UTF-8, as the shared connection does, and has channels within
/// reason.
fn is_followable(said: &Said, more: usize, parties: &Parties<'_>) -> bool {
    let name = "client_encoding";
    let encoding = parties
        .client
        .settings
        .value(name)
        .or_else(|| parties.server.base.value(name));
    let known = parties
        .client
        .channels
        .as_ref()
        .map_or(0, |channels| channels.len());
    encoding.is_some_and(|encoding| encoding.eq_ignore_ascii_case("UTF8"))
        && known + said.log.listens().count() + more <= CHANNELS_MAX
}

/// The client keeps its server connection, which listens for it from now on.
fn keep(said: &mut Said, parties: &mut Parties<'_>) {
    parties.client.pins.insert(PinReason::Listen);
    said.log.forget_listens();
    said.keeper = Keeper::Pinned;
}

/// Portals that are open at a time and have to do with channels: mostly the unnamed one.
const PORTALS_MAX: usize = 16;
