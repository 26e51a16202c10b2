//! Taking up another configuration while clients are served.

use std::sync::Arc;

use crate::pool::mail::{Inquiry, Mail};
use crate::pool::shared::PoolShared;
use crate::relay::directory::Directory;
use crate::relay::hub::Hub;
use crate::session::login::ServerSecret;

use super::directory::stored_secret;

/// What becomes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Its database is gone.
    Retire,
    /// Its connections go elsewhere from now on: those that are open are closed at their next rest.
    Renew,
    /// Its connections stay good.
    Keep,
}

/// Puts a new directory in force.
pub(super) async fn apply(hub: &Hub, directory: Directory) {
    let directory = Arc::new(directory);
    // First of all, so that nobody founds a pool by what is out of date.
    let before = hub.directory.swap(Arc::clone(&directory));
    for pool in hub.registry.pools() {
        match update(&pool, &before, &directory) {
            Change::Retire => {
                hub.registry.retire(&pool);
                if pool.place == 0 {
                    tell(hub, || Inquiry::KillDatabase(Arc::clone(&pool.database))).await;
                }
            }
            Change::Renew => pool.renew(),
            Change::Keep => {}
        }
        pool.retry_now();
    }
    for profile in hub.registry.profiles() {
        profile
            .settings
            .store(Arc::new((directory.settings)(&profile.database, &profile.user)));
    }
    hub.greetings.forget();
    hub.answers.forget();
    tell(hub, || Inquiry::Recheck).await;
}

fn update(pool: &PoolShared, before: &Directory, directory: &Directory) -> Change {
    let entry = directory
        .database(&pool.database)
        .and_then(|entry| entry.at(pool.place));
    let Some(entry) = entry else {
        return Change::Retire;
    };
    if entry.user.as_deref().is_some_and(|user| *user != *pool.user) {
        return Change::Retire;
    }
    let old = pool.target.load_full();
    let mut target = entry.target(&pool.database, &pool.user, ServerSecret::None);
    if target.secret == ServerSecret::None {
        target.secret = passed_through(pool, before, directory).unwrap_or_default();
    }
    let is_same = old.is_same_as(&target);
    pool.target.store(Arc::new(target));
    let old_settings = pool.settings();
    let settings = (directory.settings)(&pool.database, &pool.user);
    let queries = old_settings.connect_query == settings.connect_query;
    pool.set_settings(settings);
    if is_same && queries {
        Change::Keep
    } else {
        Change::Renew
    }
}

/// What a user that is passed through logs in with until it logs in again: what is listed now, else what it logged in with
/// before. The password of a URL goes with the URL.
fn passed_through(pool: &PoolShared, before: &Directory, directory: &Directory) -> Option<ServerSecret> {
    let listed = directory.users.get(&*pool.user).and_then(Option::as_ref);
    listed.and_then(stored_secret).or_else(|| {
        let was_passed = before
            .database(&pool.database)?
            .at(pool.place)?
            .passes_through(&pool.user);
        was_passed.then(|| pool.target.load().secret.clone())
    })
}

/// Tells every worker.
pub(super) async fn tell(hub: &Hub, inquiry: impl Fn() -> Inquiry) {
    for worker in 0..hub.post.workers() {
        hub.post.send(worker, Mail::Inquiry(inquiry())).await;
    }
}
