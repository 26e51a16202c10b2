//! From an accepted socket to a client that is known: drives `session::startup` with a socket, TLS, and lookups.

use std::sync::Arc;

use rand::Rng;

use crate::auth::hba::{Target as HbaTarget, Transport};
use crate::auth::scram::NONCE_LEN;
use crate::auth::{CertificateNames, Demand, HbaConnection, Verifier};
use crate::net::addr::ClientAddr;
use crate::net::stream::Stream;
use crate::net::tls::{TlsMode, TlsStart};
use crate::pool::derive::Deriver;
use crate::protocol::startup::Replication;
use crate::protocol::{CancelKey, Report, SqlState};
use crate::session::startup::{
    ClientLogin, ClientRequest, Credentials, ExpectFirst, ExpectTls, Randomness, Reading, Security, Step,
    TlsFacts, TlsOffer,
};

use super::directory::{Directory, is_own_console};
use super::lookup::Lookup;

/// A connection on its way in.
#[derive(Debug)]
pub struct Handshake<'a> {
    pub stream: Stream,
    pub address: ClientAddr,
    pub directory: &'a Arc<Directory>,
    pub deriver: &'a Deriver,
    pub lookup: &'a Lookup<'a>,
    /// Bytes read and not used.
    carry: Vec<u8>,
    /// Bytes to be sent.
    out: Vec<u8>,
    stored: Stored,
}

/// What was found about the user.
#[derive(Debug, Default)]
struct Stored {
    verifier: Option<Verifier>,
    /// Database and user, where a server was asked.
    asked: Option<(String, String)>,
}

/// What came in.
#[derive(Debug)]
pub enum Arrival {
    Client(Box<Newcomer>),
    /// The stream is kept open until the request is done with.
    Cancel(CancelKey, Stream),
    /// It was refused, and told so.
    Refused(Report),
    /// It left before it said who it is.
    Gone,
}

/// A client that is who it says.
#[derive(Debug)]
pub struct Newcomer {
    pub stream: Stream,
    pub login: ClientLogin,
    /// What is stored about its user, if that was looked up.
    pub verifier: Option<Verifier>,
    /// What it has sent ahead.
    pub carry: Vec<u8>,
    /// What is still to be sent to it: the end of the authentication.
    pub out: Vec<u8>,
}

impl<'a> Handshake<'a> {
    #[must_use]
    pub fn new(
        stream: Stream,
        address: ClientAddr,
        directory: &'a Arc<Directory>,
        deriver: &'a Deriver,
        lookup: &'a Lookup<'a>,
    ) -> Self {
        Self {
            stream,
            address,
            directory,
            deriver,
            lookup,
            carry: Vec::new(),
            out: Vec::new(),
            stored: Stored::default(),
        }
    }

    /// Runs it to its end. The caller sets the time limit. Not cancel-safe: dropped early, the connection is closed.
    pub async fn run(mut self) -> Arrival {
        let offer = match (self.directory.tls.is_offered(), self.address) {
            (true, ClientAddr::Tcp(_)) => TlsOffer::Offered,
            _ => TlsOffer::None,
        };
        let mut reading = Reading::from(ExpectFirst::new(offer));
        loop {
            let turn = reading.on_bytes(&self.carry, &mut self.out);
            self.carry.drain(..turn.consumed.min(self.carry.len()));
            reading = match self.go_on(turn.step).await {
                Ok(next) => next,
                Err(Some(Step::Authenticated(login))) => return self.arrive(*login),
                Err(Some(Step::Cancel(key))) => return Arrival::Cancel(key, self.stream),
                Err(Some(Step::Refused(report))) => return self.refuse(*report).await,
                Err(_) => return Arrival::Gone,
            };
        }
    }

    /// Makes the steps up to the next bytes; or gives back the last step, and nothing when the client is gone.
    async fn go_on(&mut self, mut step: Step) -> Result<Reading, Option<Step>> {
        loop {
            step = match step {
                Step::NeedMore(next) => return self.read_more().await.then_some(next).ok_or(None),
                Step::StartTls(state) => return self.start_tls(state).await.ok_or(None),
                last @ (Step::Authenticated(_) | Step::Cancel(_) | Step::Refused(_)) => {
                    return Err(Some(last));
                }
                looked @ (Step::Resolve(_) | Step::Derive(_) | Step::CheckPassword(_)) => {
                    self.advance(looked).await.ok_or(None)?
                }
            };
        }
    }

    /// The steps that look something up or derive something.
    async fn advance(&mut self, step: Step) -> Option<Step> {
        match step {
            Step::Resolve(state) => {
                let mut random = Randomness {
                    md5_salt: [0; 4],
                    nonce: [0; NONCE_LEN],
                };
                rand::rng().fill(&mut random.md5_salt);
                rand::rng().fill(&mut random.nonce);
                match self.resolve(state.request()).await {
                    Ok(credentials) => {
                        let mock = self.lookup.mock();
                        Some(state.on_credentials(credentials, &mock, random, &mut self.out))
                    }
                    Err(report) => Some(Step::Refused(Box::new(report))),
                }
            }
            Step::Derive(state) => {
                let keys = self.deriver.keys(state.work()).await?;
                Some(state.on_keys(&keys, &mut self.out))
            }
            Step::CheckPassword(state) => {
                let verdict = self.deriver.check(state.check()).await?;
                Some(state.on_verdict(verdict, &mut self.out))
            }
            done @ (Step::NeedMore(_)
            | Step::StartTls(_)
            | Step::Cancel(_)
            | Step::Authenticated(_)
            | Step::Refused(_)) => Some(done),
        }
    }

    /// What this login demands, and what is stored about its user.
    async fn resolve(&mut self, request: &ClientRequest) -> Result<Credentials, Report> {
        let is_local = matches!(self.address, ClientAddr::Unix { .. });
        let is_plain = request.security == Security::Plain;
        if self.directory.tls.mode().is_required() && is_plain && !is_local {
            return Err(Report::fatal(
                SqlState::INVALID_AUTHORIZATION,
                "this server accepts TLS connections only",
            )
            .with_hint("Connect with sslmode=require."));
        }
        if self.directory.tls.mode() == TlsMode::VerifyFull
            && !is_local
            && !request
                .certificate()
                .is_some_and(|names| names.contains(&request.user))
        {
            return Err(Report::fatal(
                SqlState::INVALID_AUTHORIZATION,
                "the client certificate does not name this user",
            ));
        }
        if is_own_console(request, self.address) {
            return Ok(Credentials::new(Demand::Trust, None));
        }
        let mut credentials = self.demand(request)?;
        match credentials.demand {
            Demand::Password | Demand::Md5 | Demand::Scram => {
                credentials.verifier = self.lookup.verifier(request).await?;
                self.stored = Stored {
                    verifier: credentials.verifier.clone(),
                    asked: self.lookup.key(request),
                };
            }
            Demand::Peer => credentials.peer = self.peer(),
            Demand::Trust if !self.directory.trusts(&request.user) => {
                return Err(Report::fatal(
                    SqlState::INVALID_AUTHORIZATION,
                    format!("trust authentication failed for user \"{}\"", request.user),
                ));
            }
            Demand::Trust | Demand::Reject | Demand::Cert => {}
        }
        Ok(credentials)
    }

    fn demand(&self, request: &ClientRequest) -> Result<Credentials, Report> {
        if let Some(demand) = self.directory.method.demand() {
            return Ok(Credentials::new(demand, None));
        }
        let transport = match (self.address, &request.security) {
            (ClientAddr::Unix { .. }, _) => Transport::Local,
            (ClientAddr::Tcp(address), Security::Plain) => Transport::Plain(address.ip()),
            (ClientAddr::Tcp(address), Security::Tls(_)) => Transport::Tls(address.ip()),
        };
        let target = match request.replication {
            Replication::Physical => HbaTarget::PhysicalReplication,
            Replication::None | Replication::Logical => HbaTarget::Database,
        };
        let connection = HbaConnection {
            transport,
            database: &request.database,
            user: &request.user,
            target,
        };
        let rule = self
            .directory
            .hba
            .as_ref()
            .and_then(|hba| hba.decide(&connection));
        let Some(rule) = rule else {
            return Err(Report::fatal(
                SqlState::INVALID_AUTHORIZATION,
                format!(
                    "no pg_hba.conf entry for user \"{}\", database \"{}\" from {}",
                    request.user, request.database, self.address
                ),
            ));
        };
        let mut credentials = Credentials::new(rule.demand, None);
        credentials.certificate = rule.certificate;
        Ok(credentials)
    }

    /// The operating system's name of the user at the other end of a Unix socket.
    fn peer(&self) -> Option<String> {
        let ClientAddr::Unix { uid: Some(uid), .. } = self.address else {
            return None;
        };
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let found: u32 = fields.nth(1)?.parse().ok()?;
            (found == uid).then(|| name.to_owned())
        })
    }

    async fn start_tls(&mut self, state: ExpectTls) -> Option<Reading> {
        let start = if self.out.is_empty() {
            TlsStart::Direct
        } else {
            TlsStart::Requested
        };
        self.flush().await.then_some(())?;
        let carry = std::mem::take(&mut self.carry);
        let stream = std::mem::replace(&mut self.stream, Stream::closed());
        let (stream, peer) = match self.directory.tls.accept(stream, start, &carry).await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::info!(client = %self.address, "TLS handshake failed: {error}");
                return None;
            }
        };
        self.stream = stream;
        let certificate = peer.client_certificate.map(|names| CertificateNames {
            common_name: names.common_name,
            dns_names: names.dns_names,
        });
        let channel_binding = peer.channel_binding.as_deref().map(Into::into);
        Some(state.on_tls(TlsFacts {
            channel_binding,
            certificate,
        }))
    }

    async fn flush(&mut self) -> bool {
        let sent = self.out.is_empty() || self.stream.write_all(&self.out).await.is_ok();
        self.out.clear();
        sent
    }

    async fn read_more(&mut self) -> bool {
        if !self.flush().await || self.carry.len() > HANDSHAKE_LEN_MAX {
            return false;
        }
        let mut buf = [0; READ_LEN];
        match self.stream.read(&mut buf).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.carry.extend_from_slice(buf.get(..count).unwrap_or_default());
                true
            }
        }
    }

    async fn refuse(mut self, report: Report) -> Arrival {
        if report.code == SqlState::INVALID_PASSWORD
            && let Some((database, user)) = &self.stored.asked
        {
            self.lookup.answers.doubt(database, user);
        }
        report.encode(&mut self.out);
        if self.flush().await {
            let _ = self.stream.shutdown().await;
        }
        Arrival::Refused(report)
    }

    fn arrive(self, login: ClientLogin) -> Arrival {
        Arrival::Client(Box::new(Newcomer {
            stream: self.stream,
            login,
            verifier: self.stored.verifier,
            carry: self.carry,
            out: self.out,
        }))
    }
}

const READ_LEN: usize = 1024;
/// A client may send ahead while it logs in, but not much: the longest password, and some.
const HANDSHAKE_LEN_MAX: usize = 128 * 1024;
