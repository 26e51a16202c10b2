//! What waits for a client that listens. Filled by the listener of its pool, wherever that runs; emptied by its own task.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::protocol::{HEAD_LEN, Report};
use crate::session::listening::Channel;

/// One client's inbox.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The process id that the client believes to be its server's.
    own: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    items: VecDeque<Item>,
    /// The sum of their lengths.
    bytes: usize,
    /// The listener's answer to the client's question.
    reply: Option<Result<(), Report>>,
    waker: Option<Waker>,
    condition: Condition,
}

/// Something that the client is to be told. The bytes are a whole message, which all who get it share.
#[derive(Clone, Debug)]
pub enum Item {
    Notification { channel: Channel, message: Arc<[u8]> },
    Warning(Arc<[u8]>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Condition {
    #[default]
    Open,
    /// More has come than may wait. Nothing is put in any more: the client is about to be ended.
    Overflowed,
    /// The client is gone.
    Closed,
}

impl Item {
    fn len(&self) -> usize {
        let (Self::Notification { message, .. } | Self::Warning(message)) = self;
        message.len()
    }
}

impl Inbox {
    #[must_use]
    pub fn new(own: u32) -> Self {
        Self {
            own,
            inner: Mutex::default(),
        }
    }

    /// Puts something in and wakes the client.
    pub fn put(&self, item: &Item) {
        let mut inner = self.lock();
        if inner.condition != Condition::Open {
            return;
        }
        if inner.items.len() >= INBOX_ITEMS_MAX || inner.bytes + item.len() > INBOX_BYTES_MAX {
            inner.condition = Condition::Overflowed;
            inner.items = VecDeque::new();
        } else {
            inner.bytes += item.len();
            inner.items.push_back(item.clone());
        }
        wake(inner);
    }

    /// Answers the client's question.
    pub fn reply(&self, reply: Result<(), Report>) {
        let mut inner = self.lock();
        inner.reply = Some(reply);
        wake(inner);
    }

    pub fn take_reply(&self) -> Option<Result<(), Report>> {
        self.lock().reply.take()
    }

    /// Remembers whom to wake.
    pub fn register(&self, cx: &Context<'_>) {
        let mut inner = self.lock();
        match &mut inner.waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Takes out what has waited longest, as long as less than `most` bytes are in `out`. What is not wanted is thrown away.
    pub fn take(&self, most: usize, is_wanted: impl Fn(&Channel) -> bool, out: &mut Vec<u8>) {
        let mut inner = self.lock();
        while out.len() < most
            && let Some(item) = inner.items.pop_front()
        {
            inner.bytes -= item.len();
            match item {
                Item::Notification { channel, message } if is_wanted(&channel) => {
                    self.copy(&message, out);
                }
                Item::Notification { .. } => {}
                Item::Warning(message) => out.extend_from_slice(&message),
            }
        }
        if inner.items.is_empty() {
            inner.items = VecDeque::new();
        }
    }

    /// Throws away the notifications of channels that are not wanted.
    pub fn retain(&self, is_wanted: impl Fn(&Channel) -> bool) {
        let inner = &mut *self.lock();
        let bytes = &mut inner.bytes;
        inner.items.retain(|item| {
            let stays = match item {
                Item::Notification { channel, .. } => is_wanted(channel),
                Item::Warning(_) => true,
            };
            if !stays {
                *bytes -= item.len();
            }
            stays
        });
    }

    /// Whether more has come than may wait.
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        self.lock().condition == Condition::Overflowed
    }

    /// The client is gone: nobody puts it anywhere any more.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.condition = Condition::Closed;
        inner.items = VecDeque::new();
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().condition == Condition::Closed
    }

    /// The sender's process id is one of the server's, and might be the client's own by chance: clients pass over what they
    /// have sent themselves.
    fn copy(&self, message: &[u8], out: &mut Vec<u8>) {
        let start = out.len() + HEAD_LEN;
        out.extend_from_slice(message);
        if let Some(sender) = out.get_mut(start..start + 4)
            && *sender == self.own.to_be_bytes()
        {
            sender.fill(0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(inner: MutexGuard<'_, Inner>) {
    let waker = inner.waker.clone();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What may wait for a client that does not read, or is in a long transaction. PostgreSQL keeps up to 8 GB for all of them;
/// here a message is kept once for all who wait for it.
const INBOX_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The same for small ones: some room goes with each.
const INBOX_ITEMS_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    fn item(channel: &str, text: &str) -> Item {
        Item::Notification {
            channel: channel.as_bytes().into(),
            message: text.as_bytes().into(),
        }
    }

    fn taken(inbox: &Inbox, most: usize, wanted: &str) -> String {
        let mut out = Vec::new();
        inbox.take(most, |channel| **channel == *wanted.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_wanted_comes_out_in_order_and_in_portions() {
        let inbox = Inbox::default();
        for text in ["1", "2", "3", "4"] {
            inbox.put(&item("a", text));
            inbox.put(&item("b", "x"));
        }
        assert_eq!(taken(&inbox, 2, "a"), "12");
        assert_eq!(taken(&inbox, 10, "a"), "34");
        assert_eq!(taken(&inbox, 10, "a"), "");
        assert_eq!(inbox.lock().bytes, 0);
    }

    #[test]
    fn what_was_notified_before_it_was_listened_for_is_thrown_away_and_warnings_stay() {
        let inbox = Inbox::default();
        inbox.put(&item("a", "1"));
        inbox.put(&Item::Warning(b"w".as_slice().into()));
        inbox.put(&item("b", "2"));
        inbox.retain(|channel| **channel == *b"a");
        inbox.put(&item("b", "3"));
        assert_eq!(inbox.lock().bytes, 3);
        assert_eq!(taken(&inbox, 10, "b"), "w3");
    }

    #[test]
    fn nobody_elses_notification_seems_to_be_the_clients_own() {
        let inbox = Inbox::new(7);
        inbox.put(&item("a", "Alen!\0\0\0\x07a\0\0"));
        inbox.put(&item("a", "Alen!\0\0\0\x08a\0\0"));
        let taken = taken(&inbox, 100, "a");
        assert_eq!(taken, "Alen!\0\0\0\0a\0\0Alen!\0\0\0\x08a\0\0");
    }

    #[test]
    fn a_client_is_woken_by_whatever_comes() {
        let (inbox, count) = (Inbox::default(), Arc::<Count>::default());
        let waker = Waker::from(Arc::clone(&count));
        inbox.register(&Context::from_waker(&waker));
        inbox.put(&item("a", "1"));
        inbox.reply(Ok(()));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(inbox.take_reply().is_some() && inbox.take_reply().is_none());
    }

    #[test]
    fn more_than_may_wait_is_not_kept_and_not_dropped_in_silence() {
        let large = "x".repeat(8000);
        let inbox = Inbox::default();
        let mut count = 0;
        while !inbox.has_overflowed() {
            inbox.put(&item("a", &large));
            count += 1;
        }
        assert_eq!(count, INBOX_BYTES_MAX / 8000 + 1);
        assert!(inbox.lock().items.is_empty());
        let inbox = Inbox::default();
        for _ in 0..=INBOX_ITEMS_MAX {
            inbox.put(&item("a", ""));
        }
        assert!(inbox.has_overflowed());
        inbox.close();
        assert!(inbox.is_closed() && !inbox.has_overflowed());
    }
}
