//! Any bytes as heads and as packets without a tag: read or refused, and the same whether they come whole or cut.

use super::frame::{HEAD_LEN, Head};
use super::startup::{Decoded, Packet, decode, encode_ssl_request};

/// Reads any bytes in every way.
pub fn fuzz_frames(data: &[u8]) {
    fuzz_heads(data);
    fuzz_startup_packet(data);
}

/// Follows the frames of any bytes.
fn fuzz_heads(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(head)) = Head::read(rest) {
        assert!(head.len() >= HEAD_LEN && rest.first() == Some(&head.tag));
        if let Ok(frontend) = Head::read_frontend(rest) {
            assert_eq!(frontend, Some(head), "the stricter reader reads the same");
        }
        for cut in 0..HEAD_LEN {
            let front = rest.get(..cut).unwrap_or_default();
            assert_eq!(Head::read(front), Ok(None), "a cut head was read");
        }
        rest = rest.get(head.len()..).unwrap_or_default();
    }
}

/// Reads any bytes as a packet without a tag.
fn fuzz_startup_packet(data: &[u8]) {
    let decoded = decode(data);
    match &decoded {
        Ok(Decoded::NeedMore(missing)) => assert!(*missing > 0, "more is wanted, and nothing is missing"),
        Ok(Decoded::Packet { len, packet }) => {
            assert_eq!(decode(data.get(..*len).unwrap_or_default()), decoded);
            assert_eq!(&written_and_read(packet), packet);
        }
        Err(_) => {}
    }
    // However a packet is cut, it is waited for or refused, and never taken for another.
    for cut in 0..data.len() {
        match decode(data.get(..cut).unwrap_or_default()) {
            Ok(Decoded::NeedMore(missing)) => assert!(missing > 0),
            front => assert_eq!(front, decoded),
        }
    }
}

/// Writes a packet and reads it again.
fn written_and_read(packet: &Packet) -> Packet {
    let mut bytes = Vec::new();
    match packet {
        Packet::SslRequest => encode_ssl_request(&mut bytes),
        Packet::Cancel(key) => key.encode_cancel_request(&mut bytes),
        Packet::Startup(message) => message.encode(&mut bytes),
        // Nothing here writes one.
        Packet::GssEncRequest => return Packet::GssEncRequest,
    }
    match decode(&bytes) {
        Ok(Decoded::Packet { len, packet }) if len == bytes.len() => packet,
        other => unreachable!("{packet:?} was written and read as {other:?}"),
    }
}
