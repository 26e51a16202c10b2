//! What is stored about a user: in the configuration, or by asking a server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use crate::auth::Verifier;
use crate::pool::clock::micros;
use crate::pool::conn::ServerConn;
use crate::pool::connect::{self, Order};
use crate::pool::converse::{self, Trouble};
use crate::pool::registry::Registry;
use crate::pool::worker::Worker;
use crate::protocol::startup::Replication;
use crate::session::login::ServerSecret;
use crate::session::startup::ClientRequest;

use super::directory::{AuthQuery, DatabaseEntry, Directory};

/// The way to a user's secret for one login.
#[derive(Debug)]
pub struct Lookup<'a> {
    pub directory: &'a Arc<Directory>,
    pub answers: &'a Answers,
    pub registry: &'a Registry,
    pub worker: &'a Worker,
}

/// What servers have answered, for all logins of the process.
#[derive(Debug, Default)]
pub struct Answers {
    known: Mutex<HashMap<(String, String), Answer>>,
    /// One connection a database, and one question at a time: logins that ask for the same user share one answer.
    askers: Mutex<HashMap<String, Arc<AsyncMutex<Option<Box<ServerConn>>>>>>,
}

#[derive(Clone, Debug)]
struct Answer {
    verifier: Option<Verifier>,
    asked_at: u64,
    /// A login has failed by it.
    is_doubted: bool,
}

impl Answers {
    /// A login failed: the answer it was judged by may be out of date. The user is asked for again, but not at once.
    pub fn doubt(&self, database: &str, user: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known.get_mut(&(database.to_owned(), user.to_owned())) {
            answer.is_doubted = true;
        }
    }

    fn find(&self, key: &(String, String), now: u64, query: &AuthQuery) -> Option<Option<Verifier>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = known.get(key)?;
        // Whatever the cache's time: a user is asked for once a second at the most.
        let fresh_until = answer.asked_at.saturating_add(micros(query.cache));
        let is_recent = now < answer.asked_at.saturating_add(micros(ASKED_AGAIN_AFTER))
            || (!answer.is_doubted && now < fresh_until);
        is_recent.then(|| answer.verifier.clone())
    }

    fn remember(&self, key: (String, String), verifier: Option<Verifier>, now: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ANSWERS_MAX {
            known.clear();
        }
        known.insert(
            key,
            Answer {
                verifier,
                asked_at: now,
                is_doubted: false,
            },
        );
    }
}

impl Lookup<'_> {
    /// What is stored about the user, wherever that is.
    pub async fn verifier(&self, request: &ClientRequest) -> Option<Verifier> {
        if let Some(listed) = self.directory.users.get(&request.user) {
            return listed.clone();
        }
        let query = self.directory.auth_query.as_ref()?;
        let entry = self.directory.database(&request.database)?;
        let key = (request.database.clone(), request.user.clone());
        let now = || self.registry.clock.now();
        if let Some(known) = self.answers.find(&key, now(), query) {
            return known;
        }
        let asker = {
            let mut askers = self.answers.askers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(askers.entry(request.database.clone()).or_default())
        };
        let mut conn = asker.lock().await;
        if let Some(known) = self.answers.find(&key, now(), query) {
            return known;
        }
        let asked = self.ask(&mut conn, query, entry, request).await;
        if let Some(conn) = &mut *conn {
            // The next question may come from another worker.
            let _ = conn.stream.park();
        }
        match asked {
            Ok(verifier) => {
                self.answers.remember(key, verifier.clone(), now());
                verifier
            }
            Err(text) => {
                tracing::error!(database = request.database, "the auth query failed: {text}");
                None
            }
        }
    }

    async fn ask(
        &self,
        conn: &mut Option<Box<ServerConn>>,
        query: &AuthQuery,
        entry: &Arc<DatabaseEntry>,
        request: &ClientRequest,
    ) -> Result<Option<Verifier>, String> {
        let mut is_new = false;
        loop {
            let mut open = match conn.take() {
                Some(open) => open,
                None => {
                    is_new = true;
                    self.open(query, entry, &request.database).await?
                }
            };
            if open.stream.unpark().is_err() {
                continue;
            }
            match converse::query_with(&mut open, &query.sql, &[&request.user]).await {
                Ok(rows) => {
                    *conn = Some(open);
                    // The name, then the secret. No row: no such user.
                    let secret = rows
                        .into_iter()
                        .next()
                        .and_then(|row| row.into_iter().nth(1))
                        .flatten();
                    let secret = secret.and_then(|secret| String::from_utf8(secret).ok());
                    return Ok(secret.as_deref().and_then(Verifier::parse));
                }
                Err(Trouble::Error(report)) => {
                    *conn = Some(open);
                    return Err(report.to_string());
                }
                // It may have been idle for long: once more with a new one.
                Err(Trouble::Lost(report)) if is_new => return Err(report.to_string()),
                Err(Trouble::Lost(_)) => {}
            }
        }
    }

    async fn open(
        &self,
        query: &AuthQuery,
        entry: &Arc<DatabaseEntry>,
        database: &str,
    ) -> Result<Box<ServerConn>, String> {
        let user = query
            .user
            .as_deref()
            .or(entry.user.as_deref())
            .ok_or("no query_user is set")?;
        let secret = match self.directory.users.get(user) {
            Some(Some(Verifier::Plain(password))) => ServerSecret::Plain(password.clone()),
            Some(Some(Verifier::Md5(secret))) => ServerSecret::Md5(secret.clone()),
            _ => entry.secret.clone(),
        };
        let mut target = entry.target(database, user, secret.clone());
        target.user = user.into();
        target.secret = secret;
        let shared = self
            .registry
            .outside(database, user, (self.directory.settings)(database, user), target);
        let slot = shared
            .try_open(false)
            .map_err(|full| format!("no connection for it: {full:?} limit"))?;
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
}

/// How soon the same user is asked for again after a failed login.
const ASKED_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(1);
const ANSWERS_MAX: usize = 10_000;
