//! What is stored about a user: in the configuration, or by asking a server.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::auth::{Mock, Verifier};
use crate::pool::clock::micros;
use crate::pool::conn::ServerConn;
use crate::pool::connect::{self, Order};
use crate::pool::converse::{self, Trouble};
use crate::pool::ledger::Slot;
use crate::pool::mail::Mail;
use crate::pool::registry::Registry;
use crate::pool::shared::PoolShared;
use crate::pool::worker::Worker;
use crate::protocol::startup::Replication;
use crate::protocol::{Report, SqlState};
use crate::session::login::ServerSecret;
use crate::session::startup::ClientRequest;

use super::answers::{ASKED_AGAIN_AFTER, Answers, Means};
use super::directory::{AuthQuery, DatabaseEntry, Directory, is_console};

/// The way to a user's secret for one login.
#[derive(Debug)]
pub struct Lookup<'a> {
    pub directory: &'a Arc<Directory>,
    pub answers: &'a Answers,
    pub registry: &'a Registry,
    pub worker: &'a Worker,
}

impl Lookup<'_> {
    /// Under which names servers are asked about this user; none where they are not.
    #[must_use]
    pub fn key(&self, request: &ClientRequest) -> Option<(String, String)> {
        let is_asked =
            self.directory.auth_query.is_some() && !self.directory.users.contains_key(&request.user);
        let (database, _) = self.directory.asked_for(request).filter(|_| is_asked)?;
        Some((database.to_owned(), request.user.clone()))
    }

    /// What unknown users look like.
    #[must_use]
    pub fn mock(&self) -> Mock {
        if self.directory.auth_query.is_some() {
            self.answers.mock(&self.directory.mock)
        } else {
            self.directory.mock.clone()
        }
    }

    /// What is stored about the user, wherever that is.
    ///
    /// # Errors
    /// Nobody can be asked now. Whether the user exists makes no difference.
    pub async fn verifier(&self, request: &ClientRequest) -> Result<Option<Verifier>, Report> {
        if let Some(listed) = self.directory.users.get(&request.user) {
            return Ok(listed.clone());
        }
        let Some(query) = &self.directory.auth_query else {
            return Ok(None);
        };
        if is_console(&request.database) {
            // Whoever can add users to some database could name one of them as an operator is named.
            return Ok(None);
        }
        let Some((database, entry)) = self.directory.asked_for(request) else {
            return Ok(None);
        };
        // No server has such a name, and the cache is not to be filled with them.
        if request.user.len() > NAME_LEN_MAX || database.len() > NAME_LEN_MAX {
            return Ok(None);
        }
        let generation = self.answers.generation();
        let key = (database.to_owned(), request.user.clone());
        let now = || self.registry.clock.now();
        if let Some(known) = self.answers.find(&key, now(), query.cache) {
            return Ok(known);
        }
        let asker = self.answers.asker(database).ok_or_else(unavailable)?;
        let mut means = asker.lock().await;
        if let Some(known) = self.answers.find(&key, now(), query.cache) {
            return Ok(known);
        }
        if now() < means.fails_until {
            return Err(unavailable());
        }
        match self
            .ask(&mut means, query, (database, entry), &request.user)
            .await
        {
            Ok(verifier) => {
                self.answers.remember(key, verifier.clone(), now(), generation);
                Ok(verifier)
            }
            Err(text) => {
                means.fails_until = now().saturating_add(micros(ASKED_AGAIN_AFTER));
                tracing::error!(database, "the auth query failed: {text}");
                Err(unavailable())
            }
        }
    }

    /// Dropped early, it closes the connection.
    async fn ask(
        &self,
        means: &mut Means,
        query: &AuthQuery,
        (database, entry): (&str, &Arc<DatabaseEntry>),
        user: &str,
    ) -> Result<Option<Verifier>, String> {
        means.close_old(self.registry.clock.now());
        means.idle_timeout = (self.directory.settings)(database, user).idle_timeout;
        let mut is_new = false;
        loop {
            let mut conn = match means.conn.take() {
                Some(conn) => conn,
                None => {
                    is_new = true;
                    self.open_any(query, entry, database).await?
                }
            };
            if conn.stream.unpark().is_err() {
                continue;
            }
            let values = [user];
            let asked = converse::query_with(&mut conn, &query.sql, &values);
            let Ok(asked) = timeout(QUESTION_MAX, asked).await else {
                return Err(format!("no answer within {QUESTION_MAX:?}"));
            };
            let answer = match asked {
                // The name, then the secret. No row: no such user.
                Ok(rows) => Ok(rows
                    .into_iter()
                    .next()
                    .and_then(|row| row.into_iter().nth(1))
                    .flatten()),
                Err(Trouble::Error(report)) => Err(report.to_string()),
                Err(Trouble::Lost(report)) if is_new => return Err(report.to_string()),
                // It may have been idle for long: once more with a new one.
                Err(Trouble::Lost(_)) => continue,
            };
            conn.idle_since = self.registry.clock.now();
            // The next question may come from another worker.
            if conn.stream.park().is_ok() {
                means.conn = Some(conn);
            }
            let secret = answer?.and_then(|secret| String::from_utf8(secret).ok());
            return Ok(secret.as_deref().and_then(Verifier::parse));
        }
    }

    /// A connection to the server of the database; if it has several, to the first that can be reached.
    async fn open_any(
        &self,
        query: &AuthQuery,
        entry: &Arc<DatabaseEntry>,
        database: &str,
    ) -> Result<Box<ServerConn>, String> {
        let Some(replicas) = &entry.replicas else {
            return self.open(query, entry, database).await;
        };
        let realm = self.registry.realm(database, || replicas.view(entry));
        let hosts = realm.cluster.view().hosts();
        let mut failed = "no server is known to be there".to_owned();
        for place in hosts {
            let Some(server) = entry.at(place) else { continue };
            match self.open(query, server, database).await {
                Ok(conn) => return Ok(conn),
                Err(text) => failed = text,
            }
        }
        Err(failed)
    }

    async fn open(
        &self,
        query: &AuthQuery,
        entry: &DatabaseEntry,
        database: &str,
    ) -> Result<Box<ServerConn>, String> {
        let user = query
            .user
            .as_deref()
            .or(entry.user.as_deref())
            .ok_or("no query_user is set")?;
        let secret = self.secret(user, entry);
        let mut target = entry.target(database, user, secret.clone());
        target.user = user.into();
        target.secret = secret;
        let settings = (self.directory.settings)(database, user);
        let limit = settings.pool_timeout;
        let shared = self.registry.outside(database, user, settings, target);
        let slot = self.slot(&shared, limit).await?;
        let order = Order {
            shared: &shared,
            extra: &[],
            replication: Replication::None,
        };
        let id = self.worker.take_id();
        connect::open(&order, &self.worker.deriver, id, slot)
            .await
            .map_err(|failure| failure.text)
    }

    /// What the asking user logs in with. The password of a URL is that of the URL's own user.
    fn secret(&self, user: &str, entry: &DatabaseEntry) -> ServerSecret {
        match self.directory.users.get(user) {
            Some(Some(Verifier::Plain(password))) => ServerSecret::Plain(password.clone()),
            Some(Some(Verifier::Md5(secret))) => ServerSecret::Md5(secret.clone()),
            _ if entry.user.as_deref().is_none_or(|own| own == user) => entry.secret.clone(),
            _ => ServerSecret::None,
        }
    }

    /// Room for one more connection to the database; idle ones of its pools make place.
    async fn slot(&self, shared: &Arc<PoolShared>, limit: Duration) -> Result<Slot, String> {
        let free = async {
            loop {
                if let Ok(slot) = shared.try_open(false) {
                    return slot;
                }
                for worker in 0..self.worker.post.workers() {
                    let pool = Arc::clone(shared);
                    let _ = self.worker.post.try_send(worker, Mail::Evict { pool });
                }
                sleep(SLOT_LOOK).await;
            }
        };
        if limit.is_zero() {
            return Ok(free.await);
        }
        let slot = timeout(limit, free).await;
        slot.map_err(|_| "max_db_connections is reached".to_owned())
    }
}

/// Not a wrong password: a driver may try again.
fn unavailable() -> Report {
    Report::fatal(
        SqlState::CANNOT_CONNECT_NOW,
        "the login cannot be checked at the moment",
    )
    .with_hint("Try again. The log of the pooler says why the auth query failed.")
}

/// As `NAMEDATALEN` of PostgreSQL has it, without its last byte.
const NAME_LEN_MAX: usize = 63;
/// A look into a catalog takes a millisecond.
const QUESTION_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether there is room for the connection that asks.
const SLOT_LOOK: Duration = Duration::from_millis(20);
