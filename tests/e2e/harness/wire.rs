//! A client that speaks frames: for everything that no driver would send.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use pgweir::protocol::tag;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

use super::transport::Transport;

/// A blocking connection. Every read is bounded: silence for longer than [`PATIENCE`](super::PATIENCE) fails the test.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Transport,
}

impl Wire {
    pub(crate) fn connect(port: u16) -> Self {
        Self {
            stream: Transport::tcp(port),
        }
    }

    /// Connects to the Unix socket of a port in a directory.
    pub(crate) fn connect_unix(directory: &Path, port: u16) -> Self {
        Self {
            stream: Transport::unix(directory, port),
        }
    }

    /// Does the TLS handshake from here on; an error is the alert of the other side. Trusts any certificate.
    pub(crate) fn start_tls(self, alpn: Option<&str>) -> io::Result<Self> {
        Ok(Self {
            stream: self.stream.into_tls(alpn)?,
        })
    }

    /// Connects and logs in to the point where queries may be sent.
    pub(crate) fn log_in(port: u16, user: &str, database: &str, password: Option<&str>) -> Self {
        let mut wire = Self::connect(port);
        wire.startup(&[("user", user), ("database", database)]);
        wire.authenticate(user, password.unwrap_or_default());
        wire
    }

    pub(crate) fn set_read_timeout(&self, longest: Duration) {
        self.stream.set_read_timeout(longest);
    }

    // --- Sending.

    /// Bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).unwrap();
    }

    /// The same where the other side may have closed already.
    pub(crate) fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// One byte at a time, each a packet of its own as far as the kernel allows.
    pub(crate) fn send_in_single_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send_raw(&[*byte]);
        }
    }

    pub(crate) fn send(&mut self, tag: u8, body: &[u8]) {
        self.send_raw(&frame(tag, body));
    }

    /// The startup packet of protocol 3.0.
    pub(crate) fn startup(&mut self, parameters: &[(&str, &str)]) {
        self.startup_version(PROTOCOL_3_0, parameters);
    }

    pub(crate) fn startup_version(&mut self, version: u32, parameters: &[(&str, &str)]) {
        self.send_raw(&startup_packet(version, parameters));
    }

    /// Asks for TLS and returns the one byte of the answer.
    pub(crate) fn request_ssl(&mut self) -> u8 {
        self.send_raw(&untagged(&SSL_REQUEST.to_be_bytes()));
        self.read_byte()
    }

    /// Asks for GSSAPI encryption and returns the one byte of the answer.
    pub(crate) fn request_gss_encryption(&mut self) -> u8 {
        self.send_raw(&untagged(&GSS_ENC_REQUEST.to_be_bytes()));
        self.read_byte()
    }

    /// Sends a cancel request on this connection, which carries nothing else.
    pub(crate) fn cancel(&mut self, process_id: u32, secret: &[u8]) {
        let mut body = CANCEL_REQUEST.to_be_bytes().to_vec();
        body.extend_from_slice(&process_id.to_be_bytes());
        body.extend_from_slice(secret);
        self.send_raw(&untagged(&body));
    }

    pub(crate) fn send_query(&mut self, sql: &str) {
        self.send(tag::QUERY, &c_string(sql));
    }

    pub(crate) fn send_parse(&mut self, statement: &str, sql: &str) {
        self.send_raw(&parse(statement, sql));
    }

    pub(crate) fn send_bind(&mut self, portal: &str, statement: &str, values: &[Option<&str>]) {
        self.send_raw(&bind(portal, statement, values));
    }

    pub(crate) fn send_describe_statement(&mut self, statement: &str) {
        self.send(tag::DESCRIBE, &[b"S".as_slice(), &c_string(statement)].concat());
    }

    pub(crate) fn send_execute(&mut self, portal: &str, rows_max: u32) {
        self.send_raw(&execute(portal, rows_max));
    }

    pub(crate) fn send_sync(&mut self) {
        self.send(tag::SYNC, &[]);
    }

    pub(crate) fn send_flush(&mut self) {
        self.send(tag::FLUSH, &[]);
    }

    pub(crate) fn terminate(&mut self) {
        self.send(tag::TERMINATE, &[]);
    }

    /// Says that nothing more will be sent, and keeps reading.
    pub(crate) fn shut_down_sending(&self) {
        self.stream.shut_down_sending();
    }

    // --- Receiving.

    pub(crate) fn read_byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// None when the other side closed, or an error came, or nothing for too long.
    pub(crate) fn try_read_byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    pub(crate) fn read_frame(&mut self) -> Frame {
        self.try_read_frame().unwrap().expect("the connection was closed")
    }

    /// Reads some bytes, whatever they are; 0 is the end.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> usize {
        self.stream.read(buffer).unwrap()
    }

    /// None when the other side closed between two frames.
    pub(crate) fn try_read_frame(&mut self) -> io::Result<Option<Frame>> {
        let mut head = [0; 5];
        if self.stream.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        self.stream.read_exact(&mut head[1..])?;
        let length = usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]])).unwrap();
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok(Some(Frame { tag: head[0], body }))
    }

    /// Reads frames up to and including the first one of this tag.
    pub(crate) fn read_until(&mut self, tag: u8) -> Vec<Frame> {
        let mut frames = vec![self.read_frame()];
        while frames.last().is_some_and(|frame| frame.tag != tag) {
            frames.push(self.read_frame());
        }
        frames
    }

    pub(crate) fn read_until_ready(&mut self) -> Vec<Frame> {
        self.read_until(tag::READY_FOR_QUERY)
    }

    /// Reads what still comes until the other side closes. A reset counts as a close.
    pub(crate) fn read_until_closed(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.try_read_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return frames,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return frames,
                Err(error) => panic!("neither frames nor a close: {error}; so far {frames:?}"),
            }
        }
    }

    /// Reads the error that the other side sends before it closes.
    pub(crate) fn read_fatal(&mut self) -> Frame {
        let frames = self.read_until_closed();
        frames
            .into_iter()
            .find(|frame| frame.tag == tag::ERROR_RESPONSE)
            .expect("closed without an error")
    }

    // --- Exchanges.

    /// Runs a simple query to its ReadyForQuery.
    pub(crate) fn query(&mut self, sql: &str) -> Vec<Frame> {
        self.send_query(sql);
        self.read_until_ready()
    }

    /// Runs a simple query and returns its rows as text, NULL as an empty one.
    pub(crate) fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        let frames = self.query(sql);
        if let Some(error) = frames.iter().find(|frame| frame.tag == tag::ERROR_RESPONSE) {
            panic!("{sql}: {error:?}");
        }
        frames
            .iter()
            .filter(|frame| frame.tag == tag::DATA_ROW)
            .map(Frame::columns)
            .collect()
    }

    /// Runs a simple query that gives one value.
    pub(crate) fn value(&mut self, sql: &str) -> String {
        self.rows(sql).concat().concat()
    }

    /// Answers what the server asks for, up to the first ReadyForQuery. Returns all frames after AuthenticationOk.
    pub(crate) fn authenticate(&mut self, user: &str, password: &str) -> Vec<Frame> {
        loop {
            let frame = self.read_frame();
            assert_eq!(frame.tag, tag::AUTHENTICATION, "{frame:?}");
            match frame.authentication() {
                AUTHENTICATION_OK => return self.read_until_ready(),
                AUTHENTICATION_CLEARTEXT => self.send(tag::PASSWORD_MESSAGE, &c_string(password)),
                AUTHENTICATION_MD5 => {
                    let salt = frame.body[4..8].try_into().unwrap();
                    let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                    self.send(tag::PASSWORD_MESSAGE, &c_string(&hash));
                }
                AUTHENTICATION_SASL => self.authenticate_scram(password),
                other => panic!("authentication {other} is unknown here"),
            }
        }
    }

    fn authenticate_scram(&mut self, password: &str) {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let first = scram.message();
        let length = u32::try_from(first.len()).unwrap().to_be_bytes();
        self.send(
            tag::PASSWORD_MESSAGE,
            &[&c_string(SCRAM_SHA_256), length.as_slice(), first].concat(),
        );
        let challenge = self.read_frame();
        assert_eq!(
            challenge.authentication(),
            AUTHENTICATION_SASL_CONTINUE,
            "{challenge:?}"
        );
        scram.update(&challenge.body[4..]).unwrap();
        self.send(tag::PASSWORD_MESSAGE, scram.message());
        let outcome = self.read_frame();
        assert_eq!(outcome.authentication(), AUTHENTICATION_SASL_FINAL, "{outcome:?}");
        scram.finish(&outcome.body[4..]).unwrap();
    }
}

/// One tagged message from the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// A field of an error or notice: `C` is the SQLSTATE, `M` the message, `H` the hint.
    pub(crate) fn field(&self, name: char) -> Option<String> {
        self.body.split(|byte| *byte == 0).find_map(|field| {
            let (first, text) = field.split_first()?;
            (char::from(*first) == name).then(|| String::from_utf8_lossy(text).into_owned())
        })
    }

    pub(crate) fn sqlstate(&self) -> String {
        assert_eq!(self.tag, tag::ERROR_RESPONSE, "{self:?}");
        self.field('C').unwrap()
    }

    pub(crate) fn message(&self) -> String {
        self.field('M').unwrap_or_default()
    }

    /// The columns of a DataRow as text, NULL as an empty one.
    pub(crate) fn columns(&self) -> Vec<String> {
        assert_eq!(self.tag, tag::DATA_ROW, "{self:?}");
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while let Some((head, tail)) = rest.split_at_checked(4).filter(|(head, _)| head.len() == 4) {
            let length = i32::from_be_bytes(head.try_into().unwrap());
            let (value, next) = tail.split_at(usize::try_from(length).unwrap_or(0));
            columns.push(String::from_utf8_lossy(value).into_owned());
            rest = next;
        }
        columns
    }

    /// The name and value of a ParameterStatus.
    pub(crate) fn parameter(&self) -> Option<(String, String)> {
        let mut parts = self
            .body
            .split(|byte| *byte == 0)
            .map(|part| String::from_utf8_lossy(part).into_owned());
        (self.tag == tag::PARAMETER_STATUS).then(|| (parts.next().unwrap(), parts.next().unwrap()))
    }

    /// The process id and the secret of a BackendKeyData.
    pub(crate) fn cancel_key(&self) -> Option<(u32, Vec<u8>)> {
        let process_id = self.body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        (self.tag == tag::BACKEND_KEY_DATA).then(|| (process_id.unwrap(), self.body[4..].to_vec()))
    }

    /// The state of a ReadyForQuery: I, T or E.
    pub(crate) fn transaction_state(&self) -> char {
        assert_eq!(self.tag, tag::READY_FOR_QUERY, "{self:?}");
        char::from(self.body[0])
    }

    fn authentication(&self) -> u32 {
        u32::from_be_bytes(*self.body.first_chunk().unwrap())
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.body[..self.body.len().min(200)];
        write!(f, "{} {}", char::from(self.tag), shown.escape_ascii())
    }
}

/// The tags of these frames, in order, as one string.
pub(crate) fn tags(frames: &[Frame]) -> String {
    frames.iter().map(|frame| char::from(frame.tag)).collect()
}

pub(crate) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], untagged(body).as_slice()].concat()
}

pub(crate) fn startup_packet(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(c_string(name));
        body.extend(c_string(value));
    }
    body.push(0);
    untagged(&body)
}

pub(crate) fn parse(statement: &str, sql: &str) -> Vec<u8> {
    frame(
        tag::PARSE,
        &[c_string(statement), c_string(sql), vec![0, 0]].concat(),
    )
}

/// A Bind with values and results as text.
pub(crate) fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    let mut body = [c_string(portal), c_string(statement), vec![0, 0]].concat();
    body.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        match value {
            Some(text) => {
                body.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                body.extend_from_slice(text.as_bytes());
            }
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
    body.extend([0, 0]);
    frame(tag::BIND, &body)
}

pub(crate) fn execute(portal: &str, rows_max: u32) -> Vec<u8> {
    frame(
        tag::EXECUTE,
        &[c_string(portal), rows_max.to_be_bytes().to_vec()].concat(),
    )
}

pub(crate) fn c_string(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// A length, which counts itself, and the body.
pub(crate) fn untagged(body: &[u8]) -> Vec<u8> {
    [
        u32::try_from(body.len() + 4).unwrap().to_be_bytes().as_slice(),
        body,
    ]
    .concat()
}

pub(crate) const PROTOCOL_3_0: u32 = 3 << 16;
pub(crate) const PROTOCOL_3_2: u32 = (3 << 16) | 2;
const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;
const SSL_REQUEST: u32 = (1234 << 16) | 5679;
const GSS_ENC_REQUEST: u32 = (1234 << 16) | 5680;

const AUTHENTICATION_OK: u32 = 0;
const AUTHENTICATION_CLEARTEXT: u32 = 3;
const AUTHENTICATION_MD5: u32 = 5;
const AUTHENTICATION_SASL: u32 = 10;
const AUTHENTICATION_SASL_CONTINUE: u32 = 11;
const AUTHENTICATION_SASL_FINAL: u32 = 12;
