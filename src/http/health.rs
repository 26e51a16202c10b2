//! Whether the process still answers: each of its event loops is asked.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pool::mail::{Inquiry, Mail};
use crate::relay::hub::{Control, Hub};

/// The event loops that do not answer; none when all is well.
pub(super) async fn silent(hub: &Arc<Hub>) -> Vec<String> {
    let mut asked = JoinSet::new();
    for worker in 0..hub.post.workers() {
        let hub = Arc::clone(hub);
        asked.spawn_local(answers_in_time(format!("worker {worker}"), async move {
            let (reply, answer) = oneshot::channel();
            let mail = Mail::Inquiry(Inquiry::Echo(reply));
            hub.post.send(worker, mail).await && answer.await.is_ok()
        }));
    }
    let control = hub.control.clone();
    asked.spawn_local(answers_in_time("the control loop".to_owned(), async move {
        let (reply, answer) = oneshot::channel();
        control.send(Control::Echo(reply)).await.is_ok() && answer.await.is_ok()
    }));
    let mut silent = Vec::new();
    while let Some(done) = asked.join_next().await {
        silent.extend(done.ok().flatten());
    }
    silent.sort_unstable();
    silent
}

/// What is to be said of a part that does not answer.
async fn answers_in_time(part: String, answer: impl Future<Output = bool>) -> Option<String> {
    let answers = timeout(ANSWER_MAX, answer).await.unwrap_or(false);
    (!answers).then(|| format!("{part} does not answer"))
}

/// An event loop that is well answers within milliseconds; probes usually wait a second or more.
const ANSWER_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn who_is_gone_is_named() {
        let says = |answer| answers_in_time("it".to_owned(), ready(answer));
        assert_eq!(says(true).await, None);
        assert_eq!(says(false).await.as_deref(), Some("it does not answer"));
    }
}
