//! Who listens to what in a pool, over all workers. Touched by LISTEN, UNLISTEN and notifications, never by a query.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::protocol::{Report, SqlState};
use crate::session::listening::Channel;

use super::conn::ServerInfo;
use super::inbox::{Inbox, Item};

/// The desk of a pool: clients leave their wishes here, and the listener fulfils them.
#[derive(Debug, Default)]
pub struct Desk {
    inner: Mutex<Inner>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    listener: Listener,
    channels: HashMap<Channel, Vec<Arc<Inbox>>>,
    /// One for each client at the most.
    asks: VecDeque<Ask>,
    /// Channels that the connection listens to for nobody, as far as is known.
    freed: HashSet<Channel>,
}

/// The task that listens.
#[derive(Debug, Default)]
enum Listener {
    #[default]
    None,
    /// It runs; and on this worker it has this connection.
    Running(Option<(usize, Arc<ServerInfo>)>),
}

/// A client that waits until these channels are listened to.
#[derive(Clone, Debug)]
pub struct Ask {
    pub inbox: Arc<Inbox>,
    pub channels: Vec<Channel>,
}

/// Whether somebody has to start the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Start {
    Needed,
    Running,
}

impl Desk {
    /// Asks for channels; the answer falls into the inbox.
    pub fn ask(&self, ask: Ask) -> Start {
        let mut inner = self.lock();
        inner.asks.push_back(ask);
        let start = match inner.listener {
            Listener::None => Start::Needed,
            Listener::Running(_) => Start::Running,
        };
        if start == Start::Needed {
            inner.listener = Listener::Running(None);
        }
        drop(inner);
        self.ring();
        start
    }

    /// The client does not listen to these any more.
    pub fn release<'a>(&self, inbox: &Arc<Inbox>, channels: impl Iterator<Item = &'a Channel>) {
        let mut inner = self.lock();
        for channel in channels {
            inner.remove(inbox, channel);
        }
        drop(inner);
        self.ring();
    }

    /// The client is gone.
    pub fn leave<'a>(&self, inbox: &Arc<Inbox>, channels: impl Iterator<Item = &'a Channel>) {
        let mut inner = self.lock();
        // Under the lock, so that nobody enters it in any more.
        inbox.close();
        inner.asks.retain(|ask| !Arc::ptr_eq(&ask.inbox, inbox));
        for channel in channels {
            inner.remove(inbox, channel);
        }
        drop(inner);
        self.ring();
    }

    /// The listener is to look around: something has changed.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// The connection that listens, and the worker it belongs to.
    #[must_use]
    pub fn server(&self) -> Option<(usize, Arc<ServerInfo>)> {
        match &self.lock().listener {
            Listener::Running(server) => server.clone(),
            Listener::None => None,
        }
    }

    // --- For the listener.

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    pub(super) fn set_server(&self, server: Option<(usize, Arc<ServerInfo>)>) {
        let mut inner = self.lock();
        inner.listener = Listener::Running(server);
        // Another connection listens to nothing yet.
        inner.freed = HashSet::new();
    }

    pub(super) fn take_ask(&self) -> Option<Ask> {
        self.lock().asks.pop_front()
    }

    /// Questions that could not be answered: they are to be asked on the next connection.
    pub(super) fn put_back(&self, asks: impl DoubleEndedIterator<Item = Ask>) {
        let mut inner = self.lock();
        for ask in asks.rev().filter(|ask| !ask.inbox.is_closed()) {
            inner.asks.push_front(ask);
        }
    }

    /// The channels of this question are listened to.
    pub(super) fn grant(&self, ask: Ask) {
        let mut inner = self.lock();
        if ask.inbox.is_closed() {
            inner.freed.extend(ask.channels);
            return;
        }
        for channel in ask.channels {
            let listeners = inner.channels.entry(channel).or_default();
            if !listeners.iter().any(|known| Arc::ptr_eq(known, &ask.inbox)) {
                listeners.push(Arc::clone(&ask.inbox));
            }
        }
        ask.inbox.reply(Ok(()));
    }

    /// This question was answered with an error.
    pub(super) fn refuse(&self, ask: Ask, report: Report) {
        self.lock().freed.extend(ask.channels);
        ask.inbox.reply(Err(report));
    }

    /// No question can be answered now.
    pub(super) fn refuse_all(&self, report: &Report) {
        let asks = std::mem::take(&mut self.lock().asks);
        for ask in asks {
            ask.inbox.reply(Err(report.clone()));
        }
    }

    /// A notification for whoever listens to the channel.
    pub(super) fn deliver(&self, channel: &[u8], message: &[u8]) {
        let inner = self.lock();
        let Some((channel, listeners)) = inner.channels.get_key_value(channel) else {
            return;
        };
        let item = Item::Notification {
            channel: Arc::clone(channel),
            message: message.into(),
        };
        for inbox in listeners {
            inbox.put(&item);
        }
    }

    /// Tells everybody who listens, once.
    pub(super) fn tell_all(&self, report: &Report) {
        let mut message = Vec::new();
        report.encode(&mut message);
        let item = Item::Warning(message.into());
        let inner = self.lock();
        let mut told = HashSet::new();
        for inbox in inner.channels.values().flatten() {
            if told.insert(Arc::as_ptr(inbox)) {
                inbox.put(&item);
            }
        }
    }

    /// The channels that somebody listens to.
    pub(super) fn channels(&self) -> Vec<Channel> {
        self.lock().channels.keys().map(Arc::clone).collect()
    }

    /// The channels that nobody listens to any more.
    pub(super) fn take_freed(&self) -> Vec<Channel> {
        let inner = &mut *self.lock();
        if inner.freed.is_empty() {
            return Vec::new();
        }
        let freed = std::mem::take(&mut inner.freed).into_iter();
        freed
            .filter(|channel| !inner.channels.contains_key(channel))
            .collect()
    }

    #[must_use]
    pub(super) fn is_unused(&self) -> bool {
        self.lock().is_unused()
    }

    /// Ends the listener, unless somebody has come. Says whether it is to end.
    pub(super) fn end_if_unused(&self) -> bool {
        let mut inner = self.lock();
        let is_unused = inner.is_unused();
        if is_unused {
            inner.listener = Listener::None;
        }
        is_unused
    }

    /// The listener has ended although somebody listens. Who asks next starts another.
    pub(super) fn abandon(&self) {
        self.lock().listener = Listener::None;
        self.refuse_all(&Report::error(SqlState::INTERNAL_ERROR, "the listener has ended"));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_unused(&self) -> bool {
        self.channels.is_empty() && self.asks.is_empty()
    }

    fn remove(&mut self, inbox: &Arc<Inbox>, channel: &Channel) {
        if let Some(listeners) = self.channels.get_mut(channel) {
            listeners.retain(|known| !Arc::ptr_eq(known, inbox));
            if listeners.is_empty() {
                self.channels.remove(channel);
                if matches!(self.listener, Listener::Running(Some(_))) {
                    self.freed.insert(Arc::clone(channel));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        name.as_bytes().into()
    }

    fn ask(inbox: &Arc<Inbox>, name: &str) -> Ask {
        Ask {
            inbox: Arc::clone(inbox),
            channels: vec![channel(name)],
        }
    }

    fn taken(inbox: &Inbox) -> Vec<u8> {
        let mut out = Vec::new();
        inbox.take(usize::MAX, |_| true, &mut out);
        out
    }

    #[test]
    fn the_first_who_asks_starts_the_listener_and_it_ends_when_nobody_is_left() {
        let (desk, inbox) = (Desk::default(), Arc::<Inbox>::default());
        assert_eq!(desk.ask(ask(&inbox, "a")), Start::Needed);
        assert_eq!(desk.ask(ask(&inbox, "b")), Start::Running);
        assert!(!desk.end_if_unused());
        while let Some(ask) = desk.take_ask() {
            desk.grant(ask);
        }
        assert!(!desk.end_if_unused());
        let channels = [channel("a"), channel("b")];
        desk.leave(&inbox, channels.iter());
        assert!(desk.end_if_unused());
        assert_eq!(desk.ask(ask(&Arc::default(), "a")), Start::Needed);
    }

    #[test]
    fn a_notification_goes_to_everybody_who_listens_once() {
        let desk = Desk::default();
        let (one, other) = (Arc::<Inbox>::default(), Arc::<Inbox>::default());
        for inbox in [&one, &other, &one] {
            desk.grant(ask(inbox, "a"));
        }
        desk.deliver(b"a", b"1");
        desk.deliver(b"b", b"2");
        desk.release(&other, [channel("a")].iter());
        desk.deliver(b"a", b"3");
        assert_eq!((taken(&one), taken(&other)), (b"13".to_vec(), b"1".to_vec()));
    }

    #[test]
    fn a_client_that_has_left_is_not_entered_any_more() {
        let (desk, inbox) = (Desk::default(), Arc::<Inbox>::default());
        let under_way = ask(&inbox, "a");
        desk.leave(&inbox, std::iter::empty());
        desk.grant(under_way.clone());
        desk.put_back([under_way].into_iter());
        assert!(desk.is_unused());
        assert_eq!(desk.take_freed(), [channel("a")]);
        assert!(desk.take_freed().is_empty());
    }

    #[test]
    fn a_question_that_nobody_can_answer_is_refused_and_one_put_back_keeps_its_place() {
        let desk = Desk::default();
        let (one, other) = (Arc::<Inbox>::default(), Arc::<Inbox>::default());
        let _ = desk.ask(ask(&other, "b"));
        desk.put_back([ask(&one, "a")].into_iter());
        assert!(Arc::ptr_eq(&desk.take_ask().unwrap().inbox, &one));
        let report = Report::error(SqlState::CONNECTION_FAILURE, "no");
        desk.refuse_all(&report);
        assert_eq!(other.take_reply(), Some(Err(report)));
    }

    #[test]
    fn whoever_listens_to_several_channels_is_told_once() {
        let (desk, inbox) = (Desk::default(), Arc::<Inbox>::default());
        desk.grant(ask(&inbox, "a"));
        desk.grant(ask(&inbox, "b"));
        let report = Report::notice(SqlState::CONNECTION_FAILURE, "lost");
        desk.tell_all(&report);
        let mut expected = Vec::new();
        report.encode(&mut expected);
        assert_eq!(taken(&inbox), expected);
    }
}
