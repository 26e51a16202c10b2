//! Password derivations: expensive on purpose, so they run off the event loops, few at a time, and once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::auth::{PasswordCheck, ScramKeys, ScramWork, Verdict};

/// Runs derivations on threads of their own and remembers their results.
#[derive(Debug)]
pub struct Deriver {
    permits: Semaphore,
    /// By a keyed digest of password, salt and iterations.
    known: Mutex<HashMap<[u8; 32], ScramKeys>>,
    key: [u8; 32],
}

impl Deriver {
    /// `parallel` derivations at a time; `key` is random, so that the digests mean nothing outside of this process.
    #[must_use]
    pub fn new(parallel: usize, key: [u8; 32]) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(parallel.max(1)),
            known: Mutex::default(),
            key,
        })
    }

    /// The keys of a password. `None` only when the process is ending.
    pub async fn keys(&self, work: &ScramWork) -> Option<ScramKeys> {
        let digest = self.digest(work);
        if let Some(keys) = self.lock().get(&digest) {
            return Some(keys.clone());
        }
        let _permit = self.permits.acquire().await.ok()?;
        // Somebody who came before may have had the same to derive.
        if let Some(keys) = self.lock().get(&digest) {
            return Some(keys.clone());
        }
        let work = work.clone();
        let keys = tokio::task::spawn_blocking(move || work.run()).await.ok()?;
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(digest, keys.clone());
        Some(keys)
    }

    /// Checks a clear password. `None` only when the process is ending.
    pub async fn check(&self, check: &PasswordCheck) -> Option<Verdict> {
        let _permit = self.permits.acquire().await.ok()?;
        let check = check.clone();
        tokio::task::spawn_blocking(move || check.run()).await.ok()
    }

    fn digest(&self, work: &ScramWork) -> [u8; 32] {
        let mut digest = <Hmac<Sha256> as Mac>::new(self.key.as_slice().into());
        digest.update(&work.iterations.to_be_bytes());
        digest.update(&u64::try_from(work.salt.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(&work.salt);
        digest.update(work.password.expose());
        digest.finalize().into_bytes().into()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], ScramKeys>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Results that are remembered: a few for each user there may be. When it is full everything is derived anew.
const KNOWN_MAX: usize = 10_000;
