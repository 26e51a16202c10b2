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
    /// Of the block's length, as the type of HMAC's key wants it.
    key: [u8; BLOCK_LEN],
}

impl Deriver {
    /// `parallel` derivations at a time; `random` is drawn once, so that the digests mean nothing outside of this process.
    #[must_use]
    pub fn new(parallel: usize, random: [u8; 32]) -> Arc<Self> {
        let mut key = [0; BLOCK_LEN];
        for (byte, random) in key.iter_mut().zip(random) {
            *byte = random;
        }
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
        let mut digest = <Hmac<Sha256> as Mac>::new((&self.key).into());
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

/// Of SHA-256.
const BLOCK_LEN: usize = 64;
/// Results that are remembered: a few for each user there may be. When it is full everything is derived anew.
const KNOWN_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Secret;

    #[tokio::test]
    async fn equal_work_is_done_once_and_other_work_has_other_keys() {
        let deriver = Deriver::new(1, [7; 32]);
        let work = |password: &str, salt: &[u8]| ScramWork {
            password: Secret::from(password),
            salt: salt.into(),
            iterations: 2,
        };
        let keys = deriver.keys(&work("secret", b"salt")).await.unwrap();
        assert_eq!(keys, work("secret", b"salt").run());
        assert_eq!(deriver.keys(&work("secret", b"salt")).await.unwrap(), keys);
        assert_eq!(deriver.lock().len(), 1);
        assert_ne!(deriver.keys(&work("secret", b"sal")).await.unwrap(), keys);
        assert_ne!(deriver.keys(&work("tsecret", b"sal")).await.unwrap(), keys);
        assert_eq!(deriver.lock().len(), 3);
    }
}
