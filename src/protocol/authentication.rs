//! The messages of a login: what the server asks (`R`) and what the client answers (`p`).

use super::body::split_cstr;
use super::tag;
use super::write::{self, Frame};

/// The `AuthenticationXxx` messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    Ok,
    KerberosV5,
    CleartextPassword,
    Md5Password {
        salt: [u8; 4],
    },
    Gss,
    GssContinue,
    Sspi,
    /// The mechanisms on offer, the server's favourite first.
    Sasl(Vec<&'a [u8]>),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    /// A kind that does not exist as yet.
    Other(u32),
}

impl<'a> Authentication<'a> {
    /// Reads the body of the message.
    #[must_use]
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let (kind, rest) = body.split_first_chunk::<4>()?;
        let authentication = match u32::from_be_bytes(*kind) {
            KIND_OK => Self::Ok,
            KIND_KERBEROS_V5 => Self::KerberosV5,
            KIND_CLEARTEXT_PASSWORD => Self::CleartextPassword,
            KIND_MD5_PASSWORD => return rest.try_into().ok().map(|salt| Self::Md5Password { salt }),
            KIND_GSS => Self::Gss,
            KIND_GSS_CONTINUE => return Some(Self::GssContinue),
            KIND_SSPI => Self::Sspi,
            KIND_SASL => return decode_mechanisms(rest).map(Self::Sasl),
            KIND_SASL_CONTINUE => return Some(Self::SaslContinue(rest)),
            KIND_SASL_FINAL => return Some(Self::SaslFinal(rest)),
            other => return Some(Self::Other(other)),
        };
        rest.is_empty().then_some(authentication)
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let frame = Frame::begin(out, tag::AUTHENTICATION);
        out.extend_from_slice(&self.kind().to_be_bytes());
        match self {
            Self::Md5Password { salt } => out.extend_from_slice(salt),
            Self::Sasl(mechanisms) => {
                for mechanism in mechanisms {
                    write::cstr(out, mechanism);
                }
                out.push(0);
            }
            Self::SaslContinue(data) | Self::SaslFinal(data) => out.extend_from_slice(data),
            Self::Ok
            | Self::KerberosV5
            | Self::CleartextPassword
            | Self::Gss
            | Self::GssContinue
            | Self::Sspi
            | Self::Other(_) => {}
        }
        frame.end(out);
    }

    fn kind(&self) -> u32 {
        match self {
            Self::Ok => KIND_OK,
            Self::KerberosV5 => KIND_KERBEROS_V5,
            Self::CleartextPassword => KIND_CLEARTEXT_PASSWORD,
            Self::Md5Password { .. } => KIND_MD5_PASSWORD,
            Self::Gss => KIND_GSS,
            Self::GssContinue => KIND_GSS_CONTINUE,
            Self::Sspi => KIND_SSPI,
            Self::Sasl(_) => KIND_SASL,
            Self::SaslContinue(_) => KIND_SASL_CONTINUE,
            Self::SaslFinal(_) => KIND_SASL_FINAL,
            Self::Other(kind) => *kind,
        }
    }
}

/// The body of a `SASLInitialResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    pub mechanism: &'a [u8],
    /// None where the client wants to be asked first.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    #[must_use]
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let (mechanism, rest) = split_cstr(body)?;
        let (length, data) = rest.split_first_chunk::<4>()?;
        let data = match i32::from_be_bytes(*length) {
            -1 => data.is_empty().then_some(None)?,
            length => Some((usize::try_from(length).ok()? == data.len()).then_some(data)?),
        };
        Some(Self { mechanism, data })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let frame = Frame::begin(out, tag::PASSWORD_MESSAGE);
        write::cstr(out, self.mechanism);
        let length = self
            .data
            .map(|data| i32::try_from(data.len()).unwrap_or(i32::MAX));
        out.extend_from_slice(&length.unwrap_or(-1).to_be_bytes());
        out.extend_from_slice(self.data.unwrap_or_default());
        frame.end(out);
    }
}

/// Reads the body of a `PasswordMessage`: one string, zero at its end and nowhere else.
#[must_use]
pub fn decode_password(body: &[u8]) -> Option<&[u8]> {
    split_cstr(body).and_then(|(password, rest)| rest.is_empty().then_some(password))
}

/// Appends a `PasswordMessage`, for a clear password as for an `md5` answer.
pub fn encode_password(out: &mut Vec<u8>, password: &[u8]) {
    let frame = Frame::begin(out, tag::PASSWORD_MESSAGE);
    write::cstr(out, password);
    frame.end(out);
}

/// Appends a `SASLResponse`; its body is the data and nothing else.
pub fn encode_sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    let frame = Frame::begin(out, tag::PASSWORD_MESSAGE);
    out.extend_from_slice(data);
    frame.end(out);
}

fn decode_mechanisms(body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut mechanisms = Vec::new();
    let mut rest = body;
    loop {
        let (mechanism, after) = split_cstr(rest)?;
        if mechanism.is_empty() {
            return after.is_empty().then_some(mechanisms);
        }
        if mechanisms.len() == MECHANISMS_MAX {
            return None;
        }
        mechanisms.push(mechanism);
        rest = after;
    }
}

// Source: the AUTH_REQ codes in PostgreSQL's `src/include/libpq/protocol.h`.
const KIND_OK: u32 = 0;
const KIND_KERBEROS_V5: u32 = 2;
const KIND_CLEARTEXT_PASSWORD: u32 = 3;
const KIND_MD5_PASSWORD: u32 = 5;
const KIND_GSS: u32 = 7;
const KIND_GSS_CONTINUE: u32 = 8;
const KIND_SSPI: u32 = 9;
const KIND_SASL: u32 = 10;
const KIND_SASL_CONTINUE: u32 = 11;
const KIND_SASL_FINAL: u32 = 12;

/// PostgreSQL has three at most; a list without end is somebody else's.
const MECHANISMS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(message: &[u8]) -> &[u8] {
        assert_eq!(
            usize::try_from(u32::from_be_bytes(message[1..5].try_into().unwrap())).unwrap(),
            message.len() - 1
        );
        &message[5..]
    }

    #[test]
    fn every_kind_survives_the_wire() {
        let kinds = [
            Authentication::Ok,
            Authentication::KerberosV5,
            Authentication::CleartextPassword,
            Authentication::Md5Password { salt: [1, 2, 3, 4] },
            Authentication::Gss,
            Authentication::GssContinue,
            Authentication::Sspi,
            Authentication::Sasl(vec![b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]),
            Authentication::SaslContinue(b"r=x"),
            Authentication::SaslFinal(b"v=x"),
            Authentication::Other(99),
        ];
        for kind in kinds {
            let mut out = Vec::new();
            kind.encode(&mut out);
            assert_eq!(out[0], tag::AUTHENTICATION);
            assert_eq!(Authentication::decode(body(&out)), Some(kind));
        }
    }

    #[test]
    fn initial_responses_survive_the_wire() {
        for data in [None, Some(&b""[..]), Some(b"n,,n=,r=x")] {
            let response = SaslInitialResponse {
                mechanism: b"SCRAM-SHA-256",
                data,
            };
            let mut out = Vec::new();
            response.encode(&mut out);
            assert_eq!(SaslInitialResponse::decode(body(&out)), Some(response));
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for bad in [
            &b"X"[..],
            b"X\0",
            b"X\0\0\0\0\x02a",
            b"X\0\0\0\0\x01ab",
            b"X\0\xff\xff\xff\xfe",
            b"X\0\xff\xff\xff\xffa",
        ] {
            assert_eq!(SaslInitialResponse::decode(bad), None, "{bad:?}");
        }
        for bad in [&b""[..], b"x", b"x\0y", b"x\0\0"] {
            assert_eq!(decode_password(bad), None, "{bad:?}");
        }
        for bad in [
            &b""[..],
            b"\0\0\0",
            b"\0\0\0\0x",
            b"\0\0\0\x05abc",
            b"\0\0\0\x0aX\0",
            b"\0\0\0\x0a\0\0",
        ] {
            assert_eq!(Authentication::decode(bad), None, "{bad:?}");
        }
        assert_eq!(decode_password(b"x\0"), Some(&b"x"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Authentication::decode(&bytes);
            let _ = SaslInitialResponse::decode(&bytes);
            let _ = decode_password(&bytes);
        }
    }
}
