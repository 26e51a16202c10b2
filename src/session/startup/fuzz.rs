//! Any bytes as a client's handshake: it ends, and nobody comes in without the proof that was demanded.

use super::{Credentials, ExpectFirst, Randomness, Reading, Security, Step, TlsFacts, TlsOffer};
use crate::auth::scram::derive;
use crate::auth::{CertificateNames, Demand, Mock, Verifier};
use crate::protocol::{Head, Report, tag};

/// Two bytes choose what the login demands and what is known of the user; the rest comes from the client, in pieces whose
/// lengths stand in front of them.
pub fn fuzz_handshake(data: &[u8]) {
    let Some((&[demand, stored], input)) = data.split_first_chunk::<2>() else {
        return;
    };
    let mut client = Client {
        input,
        pending: Vec::new(),
        out: Vec::new(),
        credentials: credentials(demand, stored),
    };
    let offer = if stored & TLS_BIT == 0 {
        TlsOffer::None
    } else {
        TlsOffer::Offered
    };
    let mut step = Step::NeedMore(Reading::First(ExpectFirst::new(offer)));
    while let Some(next) = client.step(step) {
        step = next;
    }
}

struct Client<'a> {
    input: &'a [u8],
    /// What has come and was not consumed.
    pending: Vec<u8>,
    out: Vec<u8>,
    credentials: Credentials,
}

impl Client<'_> {
    /// Does what a step asks for; none follows the last one.
    fn step(&mut self, step: Step) -> Option<Step> {
        match step {
            Step::NeedMore(state) => self.read(state),
            Step::StartTls(wait) => {
                let facts = TlsFacts {
                    channel_binding: Some(BINDING.into()),
                    certificate: Some(CertificateNames {
                        common_name: Some(USER.to_owned()),
                        dns_names: Vec::new(),
                    }),
                };
                // What came in front of the TLS session is no part of what comes out of it.
                self.pending.clear();
                Some(Step::NeedMore(wait.on_tls(facts)))
            }
            Step::Resolve(state) => {
                assert!(!state.request().user.is_empty());
                self.out.clear();
                let mock = Mock::new(SEED).with_iterations(1);
                Some(state.on_credentials(self.credentials.clone(), &mock, RANDOMNESS, &mut self.out))
            }
            Step::Derive(state) => {
                let keys = state.work().run();
                Some(state.on_keys(&keys, &mut self.out))
            }
            Step::CheckPassword(state) => {
                let verdict = state.check().run();
                Some(state.on_verdict(verdict, &mut self.out))
            }
            Step::Cancel(_) => None,
            Step::Authenticated(login) => {
                self.check_admitted(&login.request);
                None
            }
            Step::Refused(report) => {
                let mut told = Vec::new();
                Report::encode(&report, &mut told);
                assert_eq!(told.first(), Some(&tag::ERROR_RESPONSE));
                None
            }
        }
    }

    fn read(&mut self, state: Reading) -> Option<Step> {
        let turn = state.on_bytes(&self.pending, &mut self.out);
        assert!(
            turn.consumed <= self.pending.len(),
            "more was consumed than has come"
        );
        self.pending.drain(..turn.consumed);
        if turn.consumed == 0 && matches!(turn.step, Step::NeedMore(_)) {
            let (&len, rest) = self.input.split_first()?;
            // A piece of no bytes would be the end.
            let (piece, rest) = rest.split_at(usize::from(len).max(1).min(rest.len()));
            self.input = rest;
            self.pending.extend_from_slice(piece);
        }
        Some(turn.step)
    }

    fn check_admitted(&self, request: &super::ClientRequest) {
        let mut heads = self.out.as_slice();
        let mut last = None;
        while let Ok(Some(head)) = Head::read(heads) {
            last = Some(head.tag);
            heads = heads.get(head.len()..).unwrap_or_default();
        }
        assert_eq!((last, heads), (Some(tag::AUTHENTICATION), &[][..]));
        let credentials = &self.credentials;
        let is_known = credentials.verifier.is_some();
        let is_named = request.user == USER;
        match credentials.demand {
            Demand::Trust => {}
            Demand::Reject => unreachable!("a rejected login came in"),
            Demand::Password | Demand::Md5 | Demand::Scram => assert!(is_known, "an unknown user came in"),
            Demand::Cert => assert!(is_named && request.security != Security::Plain),
            Demand::Peer => assert!(is_named, "a stranger came in"),
        }
    }
}

fn credentials(demand: u8, stored: u8) -> Credentials {
    let demand = match demand % 7 {
        0 => Demand::Trust,
        1 => Demand::Reject,
        2 => Demand::Password,
        3 => Demand::Md5,
        4 => Demand::Scram,
        5 => Demand::Cert,
        _ => Demand::Peer,
    };
    let verifier = match stored % 4 {
        0 => None,
        1 => Verifier::parse(PASSWORD),
        2 => Verifier::parse("md5a3556571e93b0d20722ba62be61e8c2d"),
        _ => Some(Verifier::Scram(
            derive(PASSWORD.as_bytes(), b"salt", 1).verifier(b"salt", 1),
        )),
    };
    let mut credentials = Credentials::new(demand, verifier);
    credentials.peer = Some(USER.to_owned());
    credentials
}

const TLS_BIT: u8 = 4;
const USER: &str = "app";
const PASSWORD: &str = "pencil";
const BINDING: &[u8] = b"end point";
const SEED: [u8; 32] = [7; 32];
const RANDOMNESS: Randomness = Randomness {
    md5_salt: [1, 2, 3, 4],
    nonce: [5; 18],
};
