//! How the process learns that a part is gone without which it cannot serve.

use std::fmt;

use tokio::sync::mpsc;

/// Rings when it is dropped: held by what must never end, so that no panic goes unnoticed.
#[derive(Debug)]
pub(super) struct Alarm {
    part: String,
    bell: mpsc::Sender<Gone>,
}

/// A part of the process that has ended.
#[derive(Debug)]
pub(super) struct Gone {
    part: String,
}

impl Alarm {
    pub(super) fn new(part: String, bell: &mpsc::Sender<Gone>) -> Self {
        Self {
            part,
            bell: bell.clone(),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // A full box holds one already, and one is enough.
        let part = std::mem::take(&mut self.part);
        let _ = self.bell.try_send(Gone { part });
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has ended; the process cannot serve without it", self.part)
    }
}

impl std::error::Error for Gone {}

/// The box for alarms.
pub(super) fn bell() -> (mpsc::Sender<Gone>, mpsc::Receiver<Gone>) {
    mpsc::channel(ALARMS_MAX)
}

/// The first ends the process.
const ALARMS_MAX: usize = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_way_a_part_ends_the_alarm_rings() {
        let (sender, mut bell) = bell();
        let alarm = Alarm::new("a thread".to_owned(), &sender);
        let thread = std::thread::spawn(move || {
            let _alarm = alarm;
            panic!("planted: a thread");
        });
        thread.join().unwrap_err();
        assert_eq!(
            bell.try_recv().unwrap().to_string(),
            "a thread has ended; the process cannot serve without it"
        );
        for part in ["first", "second"] {
            drop(Alarm::new(part.to_owned(), &sender));
        }
        assert!(bell.try_recv().unwrap().to_string().starts_with("first"));
    }
}
