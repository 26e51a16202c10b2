//! Measuring what the process has in memory, apart from those who serve.

use std::fs;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustix::param::page_size;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::relay::memory::{Change, Memory};

/// Measures as long as there is a limit, and tells when it is reached. Ends when nobody can set a limit any more.
pub(super) async fn keep(memory: Arc<Memory>, mut limit: watch::Receiver<Option<u64>>) {
    loop {
        let max = *limit.borrow_and_update();
        let is_measured = look(&memory, max);
        let changed = if is_measured && max.is_some() {
            timeout(MEMORY_LOOK, limit.changed()).await
        } else {
            Ok(limit.changed().await)
        };
        if matches!(changed, Ok(Err(_))) {
            return;
        }
    }
}

/// Says whether it can be measured here.
fn look(memory: &Memory, max: Option<u64>) -> bool {
    let resident = match max.map_or(Ok(0), |_| resident()) {
        Ok(resident) => resident,
        Err(error) => {
            tracing::warn!("max_memory limits nothing, as the memory in use cannot be read: {error}");
            log(memory.measured(0, None), 0, None);
            return false;
        }
    };
    log(memory.measured(resident, max), resident, max);
    true
}

fn log(change: Option<Change>, resident: u64, max: Option<u64>) {
    match change {
        Some(Change::Shortage) => {
            tracing::warn!(resident, max, "memory is short (max_memory): new work is refused");
        }
        Some(Change::Relief) => tracing::warn!(resident, max, "memory is no longer short"),
        None => {}
    }
}

/// Bytes of this process in memory, as the kernel counts them.
fn resident() -> io::Result<u64> {
    let pages = pages(&fs::read_to_string(STATM)?).ok_or(ErrorKind::InvalidData)?;
    Ok(pages.saturating_mul(u64::try_from(page_size()).unwrap_or(u64::MAX)))
}

/// The second number of proc_pid_statm(5).
fn pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

const STATM: &str = "/proc/self/statm";
/// How often it is measured: microseconds each, and a process grows no faster than it can be told.
const MEMORY_LOOK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_is_what_is_resident() {
        assert_eq!(pages("36412 2310 1846 512 0 9044 0\n"), Some(2310));
        assert_eq!(pages("36412"), None);
        assert_eq!(pages("36412 many"), None);
        assert!(resident().is_ok_and(|bytes| bytes > 100_000));
    }

    #[tokio::test]
    async fn a_limit_takes_effect_when_it_is_set_and_when_it_is_lifted() {
        let memory = Arc::new(Memory::default());
        let (sender, receiver) = watch::channel(None);
        let keeper = tokio::spawn(keep(Arc::clone(&memory), receiver));
        for (max, is_short) in [
            (Some(1), true),
            (None, false),
            (Some(u64::MAX), false),
            (Some(1), true),
        ] {
            sender.send(max).unwrap();
            while memory.is_short() != is_short {
                tokio::task::yield_now().await;
            }
        }
        drop(sender);
        keeper.await.unwrap();
    }
}
