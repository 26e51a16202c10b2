//! After the startup message: the proof that a login demands.
//!
//! Nothing that is sent before the refusal depends on whether the user exists.
//! Source: PostgreSQL's `src/backend/libpq/auth.c` and `auth-sasl.c`.

use super::request::ClientRequest;
use super::{ClientLogin, Evidence, PASSWORD_LEN_MAX, Reading, Step, Turn};
use crate::auth::md5::SALT_LEN;
use crate::auth::scram::server::{Binding, ExpectClientFinal, ExpectClientFirst, Identity, Outcome};
use crate::auth::scram::{NONCE_LEN, SCRAM_MESSAGE_LEN_MAX};
use crate::auth::{
    CertificateDemand, Challenge, Demand, Md5Secret, Mock, PasswordCheck, ScramKeys, ScramWork, Secret,
    Verdict, Verifier,
};
use crate::protocol::authentication::{Authentication, SaslInitialResponse, decode_password};
use crate::protocol::{Head, Report, SqlState, tag};

/// Until it is known what the login demands.
#[derive(Debug)]
pub struct ExpectCredentials {
    request: ClientRequest,
}

impl ExpectCredentials {
    pub(super) fn new(request: ClientRequest) -> Self {
        Self { request }
    }

    /// What to look up.
    #[must_use]
    pub fn request(&self) -> &ClientRequest {
        &self.request
    }

    /// Goes on with what was found. An unknown user has no verifier, and is asked like the others.
    pub fn on_credentials(
        self,
        credentials: Credentials,
        mock: &Mock,
        randomness: Randomness,
        out: &mut Vec<u8>,
    ) -> Step {
        let request = self.request;
        if let Err(report) = check_certificate(&request, &credentials) {
            return Step::refused(report);
        }
        let verifier = credentials.verifier;
        match credentials.demand.challenge(verifier.as_ref(), mock.stand_in()) {
            Some(Challenge::ClearText) => {
                Authentication::CleartextPassword.encode(out);
                let mock = mock.clone();
                ask(request, Proof::ClearText { verifier, mock })
            }
            Some(Challenge::Md5) => {
                let salt = randomness.md5_salt;
                Authentication::Md5Password { salt }.encode(out);
                let proof = Proof::md5(&request.user, verifier, mock, salt);
                ask(request, proof)
            }
            Some(Challenge::Scram) => on_scram(request, verifier, mock, randomness.nonce, out),
            None => on_unasked(request, credentials.demand, credentials.peer.as_deref(), out),
        }
    }
}

/// What the shell found out about a login.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub demand: Demand,
    /// What an HBA rule wants beside it.
    pub certificate: CertificateDemand,
    /// What is stored; none for a user that is unknown or has no password.
    pub verifier: Option<Verifier>,
    /// The operating system's name of the user at the other end of a Unix socket.
    pub peer: Option<String>,
}

impl Credentials {
    #[must_use]
    pub fn new(demand: Demand, verifier: Option<Verifier>) -> Self {
        Self {
            demand,
            certificate: CertificateDemand::None,
            verifier,
            peer: None,
        }
    }
}

/// Fresh random bytes, drawn for this login alone.
#[derive(Clone, Copy, Debug)]
pub struct Randomness {
    pub md5_salt: [u8; SALT_LEN],
    pub nonce: [u8; NONCE_LEN],
}

/// Until the keys of a password that is stored in the clear are derived.
#[derive(Debug)]
pub struct ExpectVerifier {
    request: ClientRequest,
    work: ScramWork,
    nonce: [u8; NONCE_LEN],
    standing: Standing,
}

impl ExpectVerifier {
    /// The same work for each login of the user while its password stays: worth a cache, which also keeps the time of
    /// the answer from telling who exists.
    #[must_use]
    pub fn work(&self) -> &ScramWork {
        &self.work
    }

    pub fn on_keys(self, keys: &ScramKeys, out: &mut Vec<u8>) -> Step {
        let verifier = keys.verifier(&self.work.salt, self.work.iterations);
        let identity = match self.standing {
            Standing::Known => Identity::Known(verifier),
            Standing::Unknown => Identity::Unknown(verifier),
        };
        offer_scram(self.request, identity, self.nonce, out)
    }
}

/// Until a clear password is checked.
#[derive(Debug)]
pub struct ExpectVerdict {
    request: ClientRequest,
    check: PasswordCheck,
}

impl ExpectVerdict {
    #[must_use]
    pub fn check(&self) -> &PasswordCheck {
        &self.check
    }

    pub fn on_verdict(self, verdict: Verdict, out: &mut Vec<u8>) -> Step {
        match verdict {
            Verdict::Accepted => accept(self.request, Evidence::Password(self.check.into_password()), out),
            Verdict::Refused => wrong_password(&self.request),
        }
    }
}

/// Before a `p` message.
#[derive(Debug)]
pub struct ExpectProof {
    request: ClientRequest,
    proof: Proof,
}

impl ExpectProof {
    /// As `Reading::on_bytes`.
    pub fn on_bytes(self, input: &[u8], out: &mut Vec<u8>) -> Turn {
        let refused = |report: Report| Turn {
            consumed: 0,
            step: Step::refused(report),
        };
        match input.first() {
            Some(&tag::PASSWORD_MESSAGE) | None => {}
            Some(other) => return refused(self.proof.wrong_tag(*other)),
        }
        let head = match Head::read(input) {
            Ok(Some(head)) if head.body > self.proof.length_max() => return refused(self.proof.too_long()),
            Ok(head) => head,
            Err(error) => return refused((&error).into()),
        };
        let Some(body) = head.and_then(|head| input.get(..head.len())?.get(head.len() - head.body..)) else {
            let step = Step::NeedMore(Reading::Proof(Box::new(self)));
            return Turn { consumed: 0, step };
        };
        let consumed = head.map_or(0, |head| head.len());
        let step = self.on_body(body, out).unwrap_or_else(Step::refused);
        Turn { consumed, step }
    }

    fn on_body(self, body: &[u8], out: &mut Vec<u8>) -> Result<Step, Report> {
        let request = self.request;
        match self.proof {
            Proof::ClearText { verifier, mock } => {
                let password = Secret::new(password(body)?);
                let check = PasswordCheck::new(&request.user, password, verifier, &mock);
                Ok(Step::CheckPassword(Box::new(ExpectVerdict { request, check })))
            }
            Proof::Md5 {
                secret,
                salt,
                standing,
            } => {
                let fits = secret.accepts(salt, password(body)?);
                match standing {
                    Standing::Known if fits => Ok(accept(request, Evidence::None, out)),
                    Standing::Known | Standing::Unknown => Ok(wrong_password(&request)),
                }
            }
            Proof::SaslInitial { identity, nonce } => on_sasl_initial(request, identity, nonce, body, out),
            Proof::SaslFirst { state, nonce } => on_client_first(request, state, &nonce, body, out),
            Proof::SaslFinal { state } => match state
                .on_client_final(body)
                .map_err(|error| Report::from(&error))?
            {
                Outcome::Accepted { keys, server_final } => {
                    Authentication::SaslFinal(&server_final).encode(out);
                    Ok(accept(request, Evidence::Scram(keys), out))
                }
                Outcome::Refused => Ok(wrong_password(&request)),
            },
        }
    }
}

/// The proof that is awaited.
#[derive(Debug)]
enum Proof {
    ClearText {
        verifier: Option<Verifier>,
        mock: Mock,
    },
    Md5 {
        secret: Md5Secret,
        salt: [u8; SALT_LEN],
        standing: Standing,
    },
    SaslInitial {
        identity: Identity,
        nonce: [u8; NONCE_LEN],
    },
    /// The client wanted to be asked first.
    SaslFirst {
        state: ExpectClientFirst,
        nonce: [u8; NONCE_LEN],
    },
    SaslFinal {
        state: ExpectClientFinal,
    },
}

impl Proof {
    fn md5(user: &str, verifier: Option<Verifier>, mock: &Mock, salt: [u8; SALT_LEN]) -> Self {
        let (secret, standing) = match verifier {
            Some(Verifier::Md5(secret)) => (secret, Standing::Known),
            Some(Verifier::Plain(plain)) => (Md5Secret::derive(plain.expose(), user), Standing::Known),
            Some(Verifier::Scram(_)) | None => (mock.md5(user), Standing::Unknown),
        };
        Self::Md5 {
            secret,
            salt,
            standing,
        }
    }

    fn is_sasl(&self) -> bool {
        match self {
            Self::ClearText { .. } | Self::Md5 { .. } => false,
            Self::SaslInitial { .. } | Self::SaslFirst { .. } | Self::SaslFinal { .. } => true,
        }
    }

    fn length_max(&self) -> usize {
        if self.is_sasl() {
            SCRAM_MESSAGE_LEN_MAX
        } else {
            PASSWORD_LEN_MAX
        }
    }

    fn too_long(&self) -> Report {
        let what = if self.is_sasl() {
            "SASL response"
        } else {
            "password"
        };
        let message = format!("{what} is too long");
        Report::fatal(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
            .with_detail(format!("At most {} bytes are accepted.", self.length_max()))
    }

    fn wrong_tag(&self, found: u8) -> Report {
        let what = if self.is_sasl() { "SASL" } else { "password" };
        let message = format!("expected {what} response, got message type {found}");
        Report::fatal(SqlState::PROTOCOL_VIOLATION, message)
    }
}

/// Whether there is somebody to be at all.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Known,
    Unknown,
}

fn check_certificate(request: &ClientRequest, credentials: &Credentials) -> Result<(), Report> {
    let demand = match credentials.demand {
        Demand::Cert => CertificateDemand::VerifyFull,
        Demand::Trust | Demand::Reject | Demand::Password | Demand::Md5 | Demand::Scram | Demand::Peer => {
            credentials.certificate
        }
    };
    match (demand, request.certificate()) {
        (CertificateDemand::None, _) | (CertificateDemand::VerifyCa, Some(_)) => Ok(()),
        (CertificateDemand::VerifyCa | CertificateDemand::VerifyFull, None) => Err(Report::fatal(
            SqlState::INVALID_AUTHORIZATION,
            "connection requires a valid client certificate",
        )),
        (CertificateDemand::VerifyFull, Some(names)) if names.contains(&request.user) => Ok(()),
        (CertificateDemand::VerifyFull, Some(_)) => Err(Report::fatal(
            SqlState::INVALID_AUTHORIZATION,
            format!("certificate authentication failed for user \"{}\"", request.user),
        )),
    }
}

/// Demands that ask the client nothing; `Cert` has been checked by now.
fn on_unasked(request: ClientRequest, demand: Demand, peer: Option<&str>, out: &mut Vec<u8>) -> Step {
    match demand {
        Demand::Trust | Demand::Cert => accept(request, Evidence::None, out),
        Demand::Peer if peer == Some(&request.user) => accept(request, Evidence::None, out),
        Demand::Peer => Step::refused(Report::fatal(
            SqlState::INVALID_AUTHORIZATION,
            format!("Peer authentication failed for user \"{}\"", request.user),
        )),
        Demand::Reject | Demand::Password | Demand::Md5 | Demand::Scram => Step::refused(Report::fatal(
            SqlState::INVALID_AUTHORIZATION,
            format!(
                "pg_hba.conf rejects connection for user \"{}\", database \"{}\"",
                request.user, request.database
            ),
        )),
    }
}

fn on_scram(
    request: ClientRequest,
    verifier: Option<Verifier>,
    mock: &Mock,
    nonce: [u8; NONCE_LEN],
    out: &mut Vec<u8>,
) -> Step {
    let identity = match verifier {
        Some(Verifier::Scram(verifier)) => Identity::Known(verifier),
        Some(Verifier::Plain(password)) => {
            let work = ScramWork {
                password,
                salt: mock.salt(&request.user).into(),
                iterations: mock.iterations(),
            };
            return derive(request, work, nonce, Standing::Known);
        }
        // No key can be had from an md5 secret: nobody can prove to know it.
        Some(Verifier::Md5(_)) | None => match mock.work(&request.user) {
            Some(work) => return derive(request, work, nonce, Standing::Unknown),
            None => Identity::Unknown(mock.scram(&request.user)),
        },
    };
    offer_scram(request, identity, nonce, out)
}

fn derive(request: ClientRequest, work: ScramWork, nonce: [u8; NONCE_LEN], standing: Standing) -> Step {
    Step::Derive(Box::new(ExpectVerifier {
        request,
        work,
        nonce,
        standing,
    }))
}

fn offer_scram(
    request: ClientRequest,
    identity: Identity,
    nonce: [u8; NONCE_LEN],
    out: &mut Vec<u8>,
) -> Step {
    let mechanisms = Binding::mechanisms(request.channel_binding());
    let mechanisms = mechanisms.iter().map(|name| name.as_bytes()).collect();
    Authentication::Sasl(mechanisms).encode(out);
    ask(request, Proof::SaslInitial { identity, nonce })
}

fn on_sasl_initial(
    request: ClientRequest,
    identity: Identity,
    nonce: [u8; NONCE_LEN],
    body: &[u8],
    out: &mut Vec<u8>,
) -> Result<Step, Report> {
    let violation = |message: &'static str| Report::fatal(SqlState::PROTOCOL_VIOLATION, message);
    let response = SaslInitialResponse::decode(body).ok_or_else(|| violation("invalid message format"))?;
    let binding = Binding::for_mechanism(response.mechanism, request.channel_binding())
        .ok_or_else(|| violation("client selected an invalid SASL authentication mechanism"))?;
    let state = ExpectClientFirst::new(identity, binding);
    match response.data {
        Some(data) => on_client_first(request, state, &nonce, data, out),
        None => {
            Authentication::SaslContinue(b"").encode(out);
            Ok(ask(request, Proof::SaslFirst { state, nonce }))
        }
    }
}

fn on_client_first(
    request: ClientRequest,
    state: ExpectClientFirst,
    nonce: &[u8; NONCE_LEN],
    data: &[u8],
    out: &mut Vec<u8>,
) -> Result<Step, Report> {
    let (state, server_first) = state
        .on_client_first(data, nonce)
        .map_err(|error| Report::from(&error))?;
    Authentication::SaslContinue(&server_first).encode(out);
    Ok(ask(request, Proof::SaslFinal { state }))
}

fn password(body: &[u8]) -> Result<&[u8], Report> {
    let Some(password) = decode_password(body) else {
        return Err(Report::fatal(
            SqlState::PROTOCOL_VIOLATION,
            "invalid password packet size",
        ));
    };
    if password.is_empty() {
        return Err(Report::fatal(
            SqlState::INVALID_PASSWORD,
            "empty password returned by client",
        ));
    }
    Ok(password)
}

fn ask(request: ClientRequest, proof: Proof) -> Step {
    Step::NeedMore(Reading::Proof(Box::new(ExpectProof { request, proof })))
}

fn accept(request: ClientRequest, evidence: Evidence, out: &mut Vec<u8>) -> Step {
    Authentication::Ok.encode(out);
    Step::Authenticated(Box::new(ClientLogin { request, evidence }))
}

/// The one text for a wrong password and a user that does not exist.
fn wrong_password(request: &ClientRequest) -> Step {
    Step::refused(Report::fatal(
        SqlState::INVALID_PASSWORD,
        format!("password authentication failed for user \"{}\"", request.user),
    ))
}
