//! What servers have answered about users, for all logins of the process, and the connections that ask them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use crate::auth::{Mock, StandIn, Verifier};
use crate::pool::clock::micros;
use crate::pool::conn::ServerConn;
use crate::pool::mail::ServerRow;

/// Everything that is known from auth queries.
#[derive(Debug, Default)]
pub struct Answers {
    known: Mutex<HashMap<Key, Answer>>,
    /// By database: logins that ask at once share one connection and, for the same user, one answer.
    askers: Mutex<HashMap<String, Arc<Asker>>>,
    usual: Mutex<Option<Usual>>,
    /// Changes with each reload: an answer of the configuration before it is not kept.
    generation: AtomicU64,
}

/// The database's name, and the user's.
pub(super) type Key = (String, String);

/// One question at a time.
pub(super) type Asker = AsyncMutex<Means>;

/// What a question needs.
#[derive(Debug, Default)]
pub(super) struct Means {
    pub(super) conn: Option<Box<ServerConn>>,
    /// Until when nobody tries again, since the last question could not be asked.
    pub(super) fails_until: u64,
    pub(super) idle_timeout: Duration,
}

impl Means {
    /// Closes the connection when it has been idle for too long or has come to its age.
    pub(super) fn close_old(&mut self, now: u64) {
        let is_old = |conn: &ServerConn| {
            let has_idled =
                !self.idle_timeout.is_zero() && conn.idle_since + micros(self.idle_timeout) <= now;
            has_idled || (conn.expires_at != 0 && conn.expires_at <= now)
        };
        self.conn = self.conn.take().filter(|conn| !is_old(conn));
    }
}

#[derive(Clone, Debug)]
struct Answer {
    verifier: Option<Verifier>,
    asked_at: u64,
    /// A login has failed by it.
    is_doubted: bool,
}

/// How the secrets of the servers' users look: unknown users get such ones.
#[derive(Clone, Copy, Debug)]
struct Usual {
    stand_in: StandIn,
    iterations: Option<u32>,
}

impl Answers {
    /// A login failed: the answer it was judged by may be out of date. The user is asked for again, but not at once.
    pub fn doubt(&self, database: &str, user: &str) {
        if let Some(answer) = lock(&self.known).get_mut(&(database.to_owned(), user.to_owned())) {
            answer.is_doubted = true;
        }
    }

    /// Another configuration is in force: nothing of what was asked before counts any more.
    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        lock(&self.known).clear();
        lock(&self.askers).clear();
        *lock(&self.usual) = None;
    }

    /// Closes connections that nobody has asked through for long.
    pub fn close_idle(&self, now: u64) {
        for asker in lock(&self.askers).values() {
            if let Ok(mut means) = asker.try_lock() {
                means.close_old(now);
            }
        }
    }

    /// Closes the connection to a database if nobody asks through it now: a pool needs its place.
    pub fn close_asker(&self, database: &str) {
        let asker = lock(&self.askers).get(database).map(Arc::clone);
        if let Some(mut means) = asker.as_ref().and_then(|asker| asker.try_lock().ok()) {
            means.conn = None;
        }
    }

    /// The connections that are idle, for the console.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerRow> {
        let askers = lock(&self.askers);
        let rows = askers.values().filter_map(|asker| {
            let means = asker.try_lock().ok()?;
            let conn = means.conn.as_ref()?;
            let mut row = ServerRow::of(&conn.info, "idle");
            row.request_at = conn.idle_since;
            Some(row)
        });
        rows.collect()
    }

    /// The mock whose secrets look like those of the servers' users, as far as any has been seen.
    #[must_use]
    pub fn mock(&self, mock: &Mock) -> Mock {
        let mock = mock.clone();
        match *lock(&self.usual) {
            None => mock,
            Some(usual) => {
                let iterations = usual.iterations.unwrap_or_else(|| mock.iterations());
                mock.with_stand_in(usual.stand_in).with_iterations(iterations)
            }
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// An answer that still counts.
    pub(super) fn find(&self, key: &Key, now: u64, cache: Duration) -> Option<Option<Verifier>> {
        let known = lock(&self.known);
        let answer = known.get(key)?;
        // Whatever the cache's time: a user is asked for once a second at the most.
        let is_recent = now < answer.asked_at.saturating_add(micros(ASKED_AGAIN_AFTER))
            || (!answer.is_doubted && now < answer.asked_at.saturating_add(micros(cache)));
        is_recent.then(|| answer.verifier.clone())
    }

    pub(super) fn remember(&self, key: Key, verifier: Option<Verifier>, now: u64, generation: u64) {
        let mut known = lock(&self.known);
        if self.generation() != generation {
            return;
        }
        if let Some(usual) = verifier.as_ref().map(Usual::of) {
            *lock(&self.usual) = Some(usual);
        }
        if known.len() >= ANSWERS_MAX {
            known.clear();
        }
        let answer = Answer {
            verifier,
            asked_at: now,
            is_doubted: false,
        };
        known.insert(key, answer);
    }

    /// Who asks about a database. None when too many databases are being asked at once.
    pub(super) fn asker(&self, database: &str) -> Option<Arc<Asker>> {
        let mut askers = lock(&self.askers);
        if let Some(asker) = askers.get(database) {
            return Some(Arc::clone(asker));
        }
        if askers.len() >= ASKERS_MAX {
            askers.retain(|_, asker| Arc::strong_count(asker) > 1);
        }
        if askers.len() >= ASKERS_MAX {
            return None;
        }
        let asker = Arc::<Asker>::default();
        askers.insert(database.to_owned(), Arc::clone(&asker));
        Some(asker)
    }
}

impl Usual {
    fn of(verifier: &Verifier) -> Self {
        match verifier {
            Verifier::Scram(verifier) => Self {
                stand_in: StandIn::Scram,
                iterations: Some(verifier.iterations),
            },
            Verifier::Md5(_) => Self {
                stand_in: StandIn::Md5,
                iterations: None,
            },
            Verifier::Plain(_) => Self {
                stand_in: StandIn::Plain,
                iterations: None,
            },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How soon the same user is asked for again after a failed login, and a server after a question that failed.
pub(super) const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Users whose answers are kept. When it is full everybody is asked for anew.
const ANSWERS_MAX: usize = 10_000;
/// Databases that are asked, each by a connection of its own: whoever may connect can name any where a wildcard serves all
/// names.
const ASKERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const MINUTE: Duration = Duration::from_secs(60);

    fn key() -> Key {
        ("app".to_owned(), "ann".to_owned())
    }

    #[test]
    fn a_doubted_answer_counts_for_a_second_and_a_trusted_one_as_long_as_the_cache_says() {
        let answers = Answers::default();
        answers.remember(key(), Verifier::parse("x"), 0, 0);
        assert!(answers.find(&key(), 59 * SECOND, MINUTE).is_some());
        assert!(answers.find(&key(), 60 * SECOND, MINUTE).is_none());
        answers.doubt("app", "ann");
        assert!(answers.find(&key(), SECOND - 1, MINUTE).is_some());
        assert!(answers.find(&key(), SECOND, MINUTE).is_none());
        answers.remember(key(), None, SECOND, 0);
        assert_eq!(answers.find(&key(), 2 * SECOND, MINUTE), Some(None));
    }

    #[test]
    fn a_reload_forgets_what_was_asked_and_what_is_being_asked() {
        let answers = Answers::default();
        let before = answers.generation();
        answers.remember(key(), None, 0, before);
        answers.forget();
        assert_eq!(answers.find(&key(), 0, MINUTE), None);
        answers.remember(key(), None, 0, before);
        assert_eq!(answers.find(&key(), 0, MINUTE), None);
    }

    #[test]
    fn no_more_databases_are_asked_at_once_than_the_limit_allows() {
        let answers = Answers::default();
        let asking: Vec<_> = (0..ASKERS_MAX)
            .map(|name| answers.asker(&name.to_string()))
            .collect();
        assert!(asking.iter().all(Option::is_some));
        assert!(answers.asker("one more").is_none() && answers.asker("0").is_some());
        drop(asking);
        assert!(answers.asker("one more").is_some());
    }

    #[test]
    fn a_mock_looks_like_the_last_answer() {
        let answers = Answers::default();
        let mock = Mock::new([1; 32]).with_iterations(7);
        assert_eq!(answers.mock(&mock).iterations(), 7);
        answers.remember(
            key(),
            Verifier::parse("md5a3556571e93b0d20722ba62be61e8c2d"),
            0,
            0,
        );
        assert_eq!(answers.mock(&mock).stand_in(), StandIn::Md5);
        let scram = "SCRAM-SHA-256$9:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        answers.remember(key(), Verifier::parse(scram), 0, 0);
        let mock = answers.mock(&mock);
        assert_eq!((mock.stand_in(), mock.iterations()), (StandIn::Scram, 9));
    }
}
