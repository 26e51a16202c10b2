//! From the client to the server.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};

use crate::pool::shared::add;
use crate::protocol::Report;
use crate::relay::client::Client;
use crate::relay::context::Scratch;
use crate::relay::farewell::Farewell;
use crate::relay::lost;
use crate::relay::slow::Slow;
use crate::session::client::Block;
use crate::session::flow::{Next, Parties};
use crate::session::server::SequenceUse;
use crate::session::{Outbox, question, settings};

use super::deadlines::on_preparing;
use super::{End, Exchange, Keeping, Stage};

impl Exchange {
    /// The client's first input: what has to be said to the server before it, then the input itself. Returns how much of it
    /// was dealt with.
    ///
    /// # Errors
    /// The client broke the protocol.
    pub fn on_client_input(
        &mut self,
        client: &mut Client,
        input: &[u8],
        out: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Result<usize, Farewell> {
        out.reset();
        if !client.session.may_be_question(input) {
            return self.pass_on(client, input, out, cx);
        }
        let told = self.tell_routes(client, input);
        if self.may_tell()
            && let Some((asked, len)) = question::position(input.get(told..).unwrap_or_default())
        {
            return self.ask_position(client, (asked, told, len), input, out, cx);
        }
        let input = input.get(told..).unwrap_or_default();
        Ok(told + self.pass_on(client, input, out, cx)?)
    }

    fn pass_on(
        &mut self,
        client: &mut Client,
        input: &[u8],
        out: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Result<usize, Farewell> {
        // A replica is given nothing that was not judged.
        let judged = client
            .routing
            .as_ref()
            .map_or(usize::MAX, |routing| routing.judged());
        let input = input.get(..judged).unwrap_or(input);
        let conn = self.lease.conn();
        if client.pool.shared.sequences.load(Ordering::Relaxed) {
            conn.state.sequences.usage = SequenceUse::Read;
        }
        conn.state.schema = client.pool.shared.accounts().database.schema();
        if self.flow.is_at_rest(&conn.state) {
            let preamble = settings::difference(&mut client.session, &mut conn.state);
            let block = client.session.block;
            if preamble.is_some() || block == Block::Failed {
                lost::prepare(&mut self.flow, conn, preamble.as_deref(), block, out.make(&[]));
                self.stage = Stage::Preparing;
                on_preparing(client);
            }
        }
        let mut consumed = 0;
        if self.stage != Stage::Preparing {
            let mut cache = client.context.cache.borrow_mut();
            let mut parties = Parties {
                client: &mut client.session,
                server: &mut conn.state,
                cache: &mut cache,
            };
            let was_idle = parties.server.pipeline.is_empty();
            let cut = self.flow.client_rest();
            let passed = self
                .flow
                .on_client(input, out, &mut parties)
                .map_err(|error| Farewell::Told(Report::from(&error)))?;
            consumed = passed.consumed;
            self.leaves |= passed.next == Next::Goodbye;
            if let Some(database) = self.flow.take_vacated() {
                client.context.worker.ask_to_vacate(&database);
            }
            if self.flow.owes_fakes(&parties) {
                let mut fakes = Outbox::new();
                self.flow.answer_fakes(&[], &mut fakes, &mut parties);
                client.owed.extend_from_slice(fakes.bytes(&[]));
            }
            // The beginning of a message asks for nothing yet.
            let is_asked = was_idle && self.flow.is_busy(parties.server);
            Slow::note(
                &mut self.slow,
                client,
                input.get(cut..consumed).unwrap_or_default(),
            );
            if is_asked && (self.is_timed() || self.keeping == Keeping::Session) {
                self.on_busy(client);
            } else if is_asked && self.busy_since == 0 {
                self.count_from(client.context.worker.now());
            }
        }
        if self.lease.conn().state.sequences.usage == SequenceUse::Read {
            let seen = &client.pool.shared.sequences;
            if !seen.load(Ordering::Relaxed) {
                seen.store(true, Ordering::Relaxed);
            }
        }
        if let Some(routing) = &mut client.routing {
            routing.on_passed(consumed);
        }
        self.send(out.bytes(input), cx);
        Ok(consumed)
    }

    /// The same where a question stands behind what was told, that a server understands in other words.
    fn ask_position(
        &mut self,
        client: &mut Client,
        (mut asked, told, len): (Vec<u8>, usize, usize),
        input: &[u8],
        out: &mut Outbox,
        cx: &mut TaskContext<'_>,
    ) -> Result<usize, Farewell> {
        let longer = asked.len() - len;
        if let Some(routing) = &mut client.routing {
            routing.on_longer(longer);
        }
        asked.extend_from_slice(input.get(told + len..).unwrap_or_default());
        let consumed = self.on_client_input(client, &asked, out, cx)?;
        if consumed == 0 {
            // It comes again, as it was.
            if let Some(routing) = &mut client.routing {
                routing.on_passed(longer);
            }
            return Ok(told);
        }
        Ok(told + consumed.saturating_sub(longer))
    }

    /// The same for input that has waited in `carry`.
    ///
    /// # Errors
    /// The client broke the protocol.
    pub fn on_carry(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) -> Result<(), Farewell> {
        let context = Rc::clone(&client.context);
        let out = &mut context.scratch.borrow_mut().out;
        let input = std::mem::take(&mut client.carry);
        let consumed = self.on_client_input(client, &input, out, cx)?;
        client
            .carry
            .extend_from_slice(input.get(consumed..).unwrap_or_default());
        context.put_spare(input);
        Ok(())
    }

    /// Reads from the client and passes on. Ready when something was moved, or when the exchange has ended.
    pub(super) fn poll_client(&mut self, client: &mut Client, cx: &mut TaskContext<'_>) -> Poll<Option<End>> {
        let context = Rc::clone(&client.context);
        let Scratch { read, out } = &mut *context.scratch.borrow_mut();
        let count = match client.stream.poll_read(cx, read) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(self.client_is_gone(client))),
            Poll::Ready(Ok(count)) => count,
        };
        add(
            &self.lease.pool().numbers().stats.received,
            u64::try_from(count).unwrap_or(0),
        );
        let came = read.get(..count).unwrap_or_default();
        let mut held = std::mem::take(&mut client.carry);
        let input = if held.is_empty() {
            came
        } else {
            held.extend_from_slice(came);
            &held
        };
        match self.on_client_input(client, input, out, cx) {
            Ok(consumed) => {
                keep(client, input.get(consumed..).unwrap_or_default());
                if self.leaves && self.is_over(client) {
                    return Poll::Ready(Some(End::Leave(Farewell::Goodbye)));
                }
                Poll::Ready(None)
            }
            Err(farewell) => Poll::Ready(Some(End::Leave(farewell))),
        }
    }
}

/// Keeps what is not dealt with, in a buffer that others have used.
fn keep(client: &mut Client, rest: &[u8]) {
    if rest.is_empty() {
        return;
    }
    if client.carry.capacity() == 0 {
        client.carry = client.context.take_spare();
    }
    client.carry.extend_from_slice(rest);
}
