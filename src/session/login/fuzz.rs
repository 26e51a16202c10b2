//! Any messages from a server that is logged in to: the login ends, and only a server that has proven itself is taken.

use super::{BindingRule, Login, LoginPlan, LoginStep, ServerSecret};
use crate::auth::Secret;
use crate::auth::scram::{SCRAM_SHA_256_PLUS, derive};
use crate::protocol::startup::{ProtocolVersion, Replication};
use crate::protocol::{HEAD_LEN, Head, Report, tag};

/// One byte chooses what there is to log in with; the rest is the server's messages.
pub fn fuzz_login(data: &[u8]) {
    let Some((&first, mut input)) = data.split_first() else {
        return;
    };
    let secret = match first % 4 {
        0 => ServerSecret::None,
        1 => ServerSecret::Plain(Secret::from("pencil")),
        2 => ServerSecret::Md5(crate::auth::Md5Secret::derive(b"pencil", "app")),
        _ => ServerSecret::Scram(derive(b"pencil", b"salt", 1)),
    };
    let binding_rule = match (first / 8) % 3 {
        0 => BindingRule::Prefer,
        1 => BindingRule::Disable,
        _ => BindingRule::Require,
    };
    let plan = LoginPlan {
        user: "app".to_owned(),
        database: "app".to_owned(),
        parameters: Vec::new(),
        replication: Replication::None,
        secret,
        channel_binding: (first & TLS_BIT != 0).then(|| b"end point"[..].into()),
        binding_rule,
        version: ProtocolVersion::LATEST,
        nonce: [5; 18],
    };
    let mut out = Vec::new();
    let mut login = Login::start(plan, &mut out);
    while let Ok(Some(head)) = Head::read(input) {
        let Some(body) = input.get(HEAD_LEN..head.len()) else {
            return;
        };
        input = input.get(head.len()..).unwrap_or_default();
        let mut step = login.on_message(head.tag, body, &mut out);
        if let LoginStep::Derive(state) = step {
            if state.work().iterations > ITERATIONS_MAX {
                return;
            }
            let keys = state.work().run();
            step = state.on_keys(keys, &mut out);
        }
        login = match step {
            LoginStep::NeedMore(login) => login,
            LoginStep::Ready(_) => {
                let is_bound = out.windows(BOUND.len()).any(|sent| sent == BOUND);
                let is_allowed = match binding_rule {
                    BindingRule::Prefer => true,
                    BindingRule::Disable => !is_bound,
                    BindingRule::Require => is_bound,
                };
                assert!(is_allowed, "a server was taken against the rule");
                return;
            }
            LoginStep::Derive(_) => unreachable!("keys were asked for twice"),
            LoginStep::Failed(error) => {
                let mut told = Vec::new();
                Report::from(&*error).encode(&mut told);
                assert_eq!(told.first(), Some(&tag::ERROR_RESPONSE));
                return;
            }
        };
    }
}

const BOUND: &[u8] = SCRAM_SHA_256_PLUS.as_bytes();
const TLS_BIT: u8 = 4;
/// What a server may make us work here.
const ITERATIONS_MAX: u32 = 8;
