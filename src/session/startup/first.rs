//! Before the startup message: requests for encryption, and cancellations.
//!
//! Source: `ProcessStartupPacket` in PostgreSQL's `src/backend/tcop/backend_startup.c`.

use super::proof::ExpectCredentials;
use super::request::{ClientRequest, Security, TlsFacts};
use super::{Reading, Step, Turn};
use crate::protocol::startup::{
    Decoded, NegotiateProtocolVersion, Packet, ProtocolVersion, StartupError, StartupMessage, decode,
};
use crate::protocol::{Report, SqlState};

/// Before an untagged packet. Each request for encryption is answered once.
#[derive(Debug)]
pub struct ExpectFirst {
    tls: TlsOffer,
    ssl: Question,
    gss: Question,
    direct: Question,
    security: Security,
}

impl ExpectFirst {
    #[must_use]
    pub fn new(tls: TlsOffer) -> Self {
        Self {
            tls,
            ssl: Question::Open,
            gss: Question::Open,
            direct: Question::Open,
            security: Security::Plain,
        }
    }

    /// As `Reading::on_bytes`.
    pub fn on_bytes(mut self, input: &[u8], out: &mut Vec<u8>) -> Turn {
        if self.direct == Question::Open
            && self.tls == TlsOffer::Offered
            && input.first() == Some(&TLS_HANDSHAKE)
        {
            let step = Step::StartTls(ExpectTls { ssl: Question::Open });
            return Turn { consumed: 0, step };
        }
        let (consumed, packet) = match decode(input) {
            Ok(Decoded::NeedMore(_)) => {
                let step = Step::NeedMore(Reading::First(self));
                return Turn { consumed: 0, step };
            }
            Ok(Decoded::Packet { len, packet }) => (len, packet),
            Err(error) => {
                let step = Step::refused(&error);
                return Turn { consumed: 0, step };
            }
        };
        self.direct = Question::Answered;
        let step = match packet {
            Packet::SslRequest if self.ssl == Question::Open => {
                self.on_ssl_request(input.len() > consumed, out)
            }
            Packet::GssEncRequest if self.gss == Question::Open => {
                self.on_gss_request(input.len() > consumed, out)
            }
            Packet::SslRequest => unsupported(5679),
            Packet::GssEncRequest => unsupported(5680),
            Packet::Cancel(key) => Step::Cancel(key),
            Packet::Startup(message) => self.on_startup(&message, out),
        };
        Turn { consumed, step }
    }

    fn on_ssl_request(mut self, more: bool, out: &mut Vec<u8>) -> Step {
        if more {
            return unencrypted("received unencrypted data after SSL request");
        }
        self.ssl = Question::Answered;
        match (self.tls, &self.security) {
            (TlsOffer::Offered, Security::Plain) => {
                out.push(b'S');
                Step::StartTls(ExpectTls { ssl: self.ssl })
            }
            (TlsOffer::None, _) | (TlsOffer::Offered, Security::Tls(_)) => {
                out.push(b'N');
                Step::NeedMore(Reading::First(self))
            }
        }
    }

    fn on_gss_request(mut self, more: bool, out: &mut Vec<u8>) -> Step {
        if more {
            return unencrypted("received unencrypted data after GSSAPI encryption request");
        }
        self.gss = Question::Answered;
        out.push(b'N');
        Step::NeedMore(Reading::First(self))
    }

    fn on_startup(self, message: &StartupMessage, out: &mut Vec<u8>) -> Step {
        if let Some(answer) = NegotiateProtocolVersion::answer(message) {
            answer.encode(out);
        }
        match ClientRequest::read(message, self.security) {
            Ok(request) => Step::Resolve(Box::new(ExpectCredentials::new(request))),
            Err(error) => Step::refused(&error),
        }
    }
}

impl From<ExpectFirst> for Reading {
    fn from(state: ExpectFirst) -> Self {
        Self::First(state)
    }
}

/// Until the TLS handshake is done.
#[derive(Debug)]
pub struct ExpectTls {
    /// Still open after a direct handshake, in which nobody asked; the answer inside of it is no.
    ssl: Question,
}

impl ExpectTls {
    /// What follows is what comes out of the TLS session.
    #[must_use]
    pub fn on_tls(self, facts: TlsFacts) -> Reading {
        Reading::First(ExpectFirst {
            tls: TlsOffer::Offered,
            ssl: self.ssl,
            // Once TLS was asked for and given, encryption twice is no use.
            gss: self.ssl,
            direct: Question::Answered,
            security: Security::Tls(facts),
        })
    }
}

/// Whether clients may have TLS here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsOffer {
    None,
    Offered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Open,
    Answered,
}

/// Asked twice, PostgreSQL takes the code for a version.
fn unsupported(minor: u16) -> Step {
    Step::refused(&StartupError::Version(ProtocolVersion { major: 1234, minor }))
}

fn unencrypted(message: &'static str) -> Step {
    Step::refused(Report::fatal(SqlState::PROTOCOL_VIOLATION, message).with_detail(
        "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
    ))
}

/// The first byte of a TLS session, which no startup packet within the limit begins with.
const TLS_HANDSHAKE: u8 = 0x16;
