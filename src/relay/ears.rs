//! What a client listens to through the pool's listener, and how it is told.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context as TaskContext;

use crate::pool::desk::{Ask, Start};
use crate::pool::inbox::Inbox;
use crate::pool::listener::{self, Stand};
use crate::pool::shared::{PoolShared, add};
use crate::protocol::{Report, SqlState};
use crate::session::Flow;
use crate::session::listening::{Channel, Channels};

use super::client::Client;
use super::farewell::Farewell;

/// A client's part in the listening of its pool. Dropping it ends that.
#[derive(Debug)]
pub struct Ears {
    inbox: Arc<Inbox>,
    shared: Arc<PoolShared>,
    /// Every channel that the pool's desk may know this client for.
    entered: Channels,
    question: Question,
}

/// What is asked of the desk, one question at a time.
#[derive(Debug, Default, PartialEq, Eq)]
enum Question {
    #[default]
    None,
    /// For these channels.
    Open(Vec<Channel>),
    /// Who has asked has given up. Its answer is still to come, and is no answer to whatever is asked next: what was notified
    /// meanwhile may have come behind it.
    Abandoned,
}

impl Question {
    /// The answer has come. Whether it is one to a question for these channels.
    fn is_answered(&mut self, wanted: &[Channel]) -> bool {
        match std::mem::take(self) {
            Self::Open(asked) => asked == wanted,
            Self::None | Self::Abandoned => false,
        }
    }

    /// Nobody waits for the answer any more, which may have come.
    fn abandon(&mut self, is_answered: bool) {
        if is_answered {
            *self = Self::None;
        } else if *self != Self::None {
            *self = Self::Abandoned;
        }
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        self.shared.desk.leave(&self.inbox, self.entered.iter());
    }
}

impl Ears {
    fn new(client: &Client) -> Box<Self> {
        Box::new(Self {
            inbox: Arc::new(Inbox::new(client.seat.key.process_id)),
            shared: Arc::clone(&client.pool.shared),
            entered: Channels::new(),
            question: Question::None,
        })
    }

    fn ask(&mut self, client: &Client, channels: Vec<Channel>) {
        self.entered.extend(channels.iter().map(Arc::clone));
        self.question = Question::Open(channels.clone());
        let inbox = Arc::clone(&self.inbox);
        if self.shared.desk.ask(Ask { inbox, channels }) == Start::Needed {
            listener::spawn(Stand {
                pool: Rc::clone(&client.pool),
                servers: client.routing.as_ref().map(|routing| routing.servers()),
            });
        }
    }
}

/// Gets an exchange the channels it asks for. Says whether it can go on.
pub(super) fn poll_channels(flow: &mut Flow, client: &mut Client, cx: &TaskContext<'_>) -> bool {
    let Some(wanted) = flow.asks_for_channels() else {
        return false;
    };
    let mut ears = client.ears.take().unwrap_or_else(|| Ears::new(client));
    ears.inbox.register(cx);
    let mut answer = None;
    if ears.question == Question::None {
        ears.ask(client, wanted.to_vec());
    } else if let Some(reply) = ears.inbox.take_reply() {
        if ears.question.is_answered(wanted) {
            answer = Some(reply.is_ok());
        } else {
            ears.ask(client, wanted.to_vec());
        }
    }
    let is_own = wanted.is_empty();
    if answer == Some(true) {
        // What has come so far was notified before the client listened.
        let known = client.session.channels.as_deref();
        ears.inbox
            .retain(|channel| known.is_some_and(|known| known.contains(channel)));
        if is_own {
            // What it has notified itself of is among this; the end of its transaction comes behind.
            ears.inbox.take(TOLD_LEN_MAX, |_| true, &mut client.owed);
        }
    }
    client.ears = Some(ears);
    if let Some(listens) = answer {
        flow.on_channels(listens);
    }
    answer.is_some()
}

/// An exchange has ended: the desk knows the client for what it listens to, and for nothing else.
pub(super) fn settle(client: &mut Client) {
    let Some(mut ears) = client.ears.take() else {
        return;
    };
    let Some(channels) = &client.session.channels else {
        return;
    };
    ears.question.abandon(ears.inbox.take_reply().is_some());
    if ears.question == Question::None {
        let is_over = |channel: &&Channel| !channels.contains(*channel);
        let over: Vec<Channel> = ears.entered.iter().filter(is_over).map(Arc::clone).collect();
        if !over.is_empty() {
            ears.shared.desk.release(&ears.inbox, over.iter());
            ears.entered.retain(|channel| channels.contains(channel));
        }
    }
    client.ears = Some(ears);
}

/// Moves what has come for the client into what it is owed, if that is nothing so far and it may be told now. Says whether
/// there was something.
///
/// # Errors
/// The client has let too much come together.
pub(super) fn hear(client: &mut Client, may_be_told: bool, cx: &TaskContext<'_>) -> Result<bool, Farewell> {
    let Some(ears) = &client.ears else {
        return Ok(false);
    };
    ears.inbox.register(cx);
    if ears.inbox.has_overflowed() {
        return Err(Farewell::Told(
            Report::fatal(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "terminating connection because too many notifications wait for it",
            )
            .with_hint("Read notifications as they come, and keep transactions short."),
        ));
    }
    if !may_be_told || client.owes() {
        return Ok(false);
    }
    let channels = client.session.channels.as_deref();
    let is_wanted = |channel: &Channel| channels.is_some_and(|channels| channels.contains(channel));
    ears.inbox.take(TOLD_LEN_MAX, is_wanted, &mut client.owed);
    let len = client.owed.len();
    if len > 0
        && let Some(routing) = &mut client.routing
    {
        routing.on_notified(client.context.worker.clock.now());
    }
    add(&client.pool.numbers().stats.sent, u64::try_from(len).unwrap_or(0));
    Ok(len > 0)
}

/// What is taken out of an inbox at a time: what is owed to a client that does not read stays small.
const TOLD_LEN_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_question_that_was_given_up_answers_no_other() {
        let channels: [Channel; 1] = [b"news".as_slice().into()];
        for wanted in [&channels[..], &[]] {
            let mut question = Question::Open(wanted.to_vec());
            question.abandon(false);
            // The same is asked again, by another request.
            assert!(!question.is_answered(wanted));
            question = Question::Open(wanted.to_vec());
            assert!(question.is_answered(wanted));
            assert_eq!(question, Question::None);
        }
        let mut other = Question::Open(channels.to_vec());
        assert!(!other.is_answered(&[]));
        let mut answered = Question::Open(channels.to_vec());
        answered.abandon(true);
        assert_eq!(answered, Question::None);
    }
}
