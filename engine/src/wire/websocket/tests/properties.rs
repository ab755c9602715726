//! Tests that the same messages arrive, however the client cuts them into fragments and the network cuts those into
//! reads; and that no bytes make the decoder panic or keep more than the limit.

use proptest::prelude::*;

use super::*;

/// A client's message or control frame.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseCode>, String),
}

/// The incoming side of a socket, as in the gateway: frames are decoded in the buffer that they were read into, and
/// only the bytes of an unfinished frame are kept for the next read.
#[derive(Default)]
struct Socket {
    unfinished: Vec<u8>,
    assembly: Assembly,
    heard: Vec<Said>,
}

impl Socket {
    fn read(&mut self, mut bytes: &mut [u8]) -> Result<(), Violation> {
        while !self.unfinished.is_empty() {
            match decode(&mut self.unfinished, &mut self.assembly, MESSAGE_BYTES_MAX)? {
                Decoded::Frame { incoming, .. } => {
                    self.heard.extend(said(incoming));
                    self.unfinished.clear();
                }
                Decoded::Incomplete { needed } => {
                    let missing = (needed - self.unfinished.len()).min(bytes.len());
                    if missing == 0 {
                        return Ok(());
                    }
                    let (front, rest) = bytes.split_at_mut(missing);
                    self.unfinished.extend_from_slice(front);
                    bytes = rest;
                }
            }
        }
        while !bytes.is_empty() {
            match decode(bytes, &mut self.assembly, MESSAGE_BYTES_MAX)? {
                Decoded::Frame { consumed, incoming } => {
                    self.heard.extend(said(incoming));
                    bytes = &mut bytes[consumed..];
                }
                Decoded::Incomplete { .. } => {
                    self.unfinished.extend_from_slice(bytes);
                    break;
                }
            }
        }
        assert!(self.unfinished.len() <= UNFINISHED_BYTES_MAX);
        assert!(self.assembly.capacity() <= MESSAGE_BYTES_MAX);
        Ok(())
    }
}

fn said(incoming: Incoming) -> Option<Said> {
    Some(match incoming {
        Incoming::Fragment => return None,
        Incoming::Text(text) => Said::Text(text.into()),
        Incoming::Binary(bytes) => Said::Binary(bytes.into()),
        Incoming::Ping(payload) => Said::Ping(payload.into()),
        Incoming::Pong(payload) => Said::Pong(payload.into()),
        Incoming::Close { code, reason } => Said::Close(code, reason.into()),
    })
}

fn bytes(length_max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=length_max)
}

fn message() -> impl Strategy<Value = Said> {
    prop_oneof![
        "\\PC{0,200}".prop_map(Said::Text),
        prop::collection::vec(any::<char>(), 900..=1024).prop_map(|text| Said::Text(text.into_iter().collect())),
        bytes(300).prop_map(Said::Binary),
        bytes(4096).prop_map(Said::Binary),
    ]
}

fn control() -> impl Strategy<Value = Said> {
    let code = prop_oneof![1000_u16..=1003, 1007_u16..=1014, 3000_u16..=4999].prop_map(CloseCode);
    prop_oneof![
        bytes(125).prop_map(Said::Ping),
        bytes(125).prop_map(Said::Pong),
        (code, "\\PC{0,30}").prop_map(|(code, reason)| Said::Close(Some(code), reason)),
        Just(Said::Close(None, String::new())),
    ]
}

/// A message, the places to cut it at, and after each piece except the last perhaps a control frame.
type Cut = (Said, Vec<(prop::sample::Index, Option<Said>)>);

fn cut_message() -> impl Strategy<Value = Cut> {
    (message(), prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(control())), 0..4))
}

/// The frames of one message, and all that the decoder returns for them, in order.
fn frames((said, cuts): &Cut, mask: [u8; 4]) -> (Vec<u8>, Vec<Said>) {
    let (opcode, payload) = match said {
        Said::Text(text) => (TEXT, text.as_bytes()),
        Said::Binary(bytes) => (BINARY, bytes.as_slice()),
        other => panic!("{other:?} cannot be cut"),
    };
    let mut ends: Vec<usize> = cuts.iter().map(|(cut, _)| cut.index(payload.len() + 1)).collect();
    ends.sort_unstable();
    let (mut bytes, mut heard, mut start, mut opcode) = (Vec::new(), Vec::new(), 0, opcode);
    for (end, (_, control)) in ends.into_iter().zip(cuts) {
        bytes.extend(Frame::of(opcode, &payload[start..end]).unfinished().masked_with(Some(mask)).bytes());
        (start, opcode) = (end, CONTINUATION);
        if let Some(control) = control {
            bytes.extend(control_frame(control).masked_with(Some(mask)).bytes());
            heard.push(control.clone());
        }
    }
    bytes.extend(Frame::of(opcode, &payload[start..]).masked_with(Some(mask)).bytes());
    heard.push(said.clone());
    (bytes, heard)
}

fn control_frame(control: &Said) -> Frame {
    match control {
        Said::Ping(payload) => Frame::of(PING, payload),
        Said::Pong(payload) => Frame::of(PONG, payload),
        Said::Close(None, _) => Frame::of(CLOSE, b""),
        Said::Close(Some(code), reason) => Frame::of(CLOSE, &[&code.0.to_be_bytes(), reason.as_bytes()].concat()),
        other => panic!("{other:?} is a message"),
    }
}

/// Random bytes that often begin like a frame.
fn nearly_frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![0x81, 0x01, 0x80, 0x00, 0x82, 0x88, 0x89, 0x8a]);
    let frame = (first, 0x80..=0xff_u8, bytes(40)).prop_map(|(first, second, rest)| {
        let mut bytes = vec![first, second];
        bytes.extend(rest);
        bytes
    });
    prop_oneof![bytes(300), prop::collection::vec(frame, 0..6).prop_map(|frames| frames.concat())]
}

proptest! {
    #[test]
    fn what_is_said_is_heard(
        messages in prop::collection::vec(cut_message(), 0..5),
        mask in any::<[u8; 4]>(),
        read_bytes in prop::collection::vec(prop_oneof![Just(1), 1..20_usize, 1..5000_usize], 1..20),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for message in &messages {
            let (frames, heard) = frames(message, mask);
            bytes.extend(frames);
            expected.extend(heard);
        }
        let mut socket = Socket::default();
        let mut rest = bytes.as_mut_slice();
        for length in read_bytes.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (read, later) = rest.split_at_mut(length.min(rest.len()));
            prop_assert_eq!(socket.read(read), Ok(()));
            rest = later;
        }
        prop_assert_eq!(socket.heard, expected);
        prop_assert!(socket.unfinished.is_empty());
        prop_assert_eq!(socket.assembly.bytes(), 0);
    }

    #[test]
    fn no_bytes_panic_and_reads_do_not_matter(bytes in nearly_frames(), cut in any::<prop::sample::Index>()) {
        let mut at_once = Socket::default();
        let verdict = at_once.read(&mut bytes.clone());
        let mut in_two = Socket::default();
        let (mut front, mut back) = (bytes.clone(), bytes.clone());
        let cut = cut.index(bytes.len() + 1);
        let verdict_in_two = in_two.read(&mut front[..cut]).and_then(|()| in_two.read(&mut back[cut..]));
        prop_assert_eq!(verdict, verdict_in_two);
        prop_assert_eq!(at_once.heard, in_two.heard);
    }

    #[test]
    fn frames_end_to_end_are_found_again(payloads in prop::collection::vec(bytes(400), 0..8)) {
        let mut log = Vec::new();
        for payload in &payloads {
            text_frame(&mut log, |out| out.extend_from_slice(payload));
        }
        let (mut rest, mut found) = (log.as_slice(), Vec::new());
        while !rest.is_empty() {
            let length = frame_length(rest).expect("a whole header");
            let (frame, later) = rest.split_at(length);
            found.push(frame[if length < 128 { 2 } else { 4 }..].to_vec());
            rest = later;
        }
        prop_assert_eq!(found, payloads);
    }

    #[test]
    fn no_bytes_panic_the_walk(bytes in bytes(12)) {
        let mut bytes = bytes;
        if let Some(second) = bytes.get_mut(1) {
            *second &= !MASKED;
        }
        let _ = frame_length(&bytes);
    }
}
