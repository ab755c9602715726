//! Decodes a body that comes in chunks, several chunks at a time.
//!
//! hyper takes one chunk a round, however short it is, so chunks of one byte would cost it a hundred times as much as the
//! same bytes in one chunk. So hyper gets the data of all chunks that have come as one chunk, which this server has
//! written. Extensions and trailers have no meaning here and are not passed on.
//!
//! Pure: bytes in, data out. What parsers read differently is refused here, because hyper does not see it.

use httparse::Status;

/// Longest line with the size of a chunk, including extensions.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// Most bytes of a body that are not its data: sizes, extensions and line ends of chunks, and trailers. The longest body
/// that a resource reads has 36 KiB. In chunks of one byte it needs five times as much for its framing.
pub const CHUNK_FRAMING_BYTES_MAX: usize = 256 << 10;

/// Most bytes of trailers, with the empty line at their end.
pub const TRAILERS_BYTES_MAX: usize = 1024;

/// The position in a body that comes in chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Chunks {
    place: Place,
    framing: ChunkFraming,
}

/// What has come of a body beside its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChunkFraming {
    pub bytes: usize,
    pub chunks: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Place {
    /// The size of a chunk follows.
    #[default]
    Line,
    /// So many bytes of a chunk's data follow.
    Data(u64),
    /// The line end behind a chunk's data follows.
    LineEnd,
    /// Trailers may follow the last chunk. So many bytes of them have come.
    Trailers(usize),
    /// The body has ended.
    End,
}

/// What the next bytes of a body are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// Not known yet: call again with these bytes and more.
    NeedMore,
    /// The first `read` bytes hold this data. `is_end` says whether the body ends with them.
    Data { read: usize, data: Vec<u8>, is_end: bool },
    /// The end of the body cannot be found, or its framing is too long.
    Broken,
}

/// The first part of some bytes, and the place behind it.
enum Part {
    NeedMore,
    Framing(usize, Place),
    Data(usize, Place),
    Broken,
}

impl Chunks {
    /// Decodes as many of these bytes as belong to the body. `bytes` are those that were not decoded before.
    pub fn decode(&mut self, bytes: &[u8]) -> Decoded {
        let (mut read, mut data) = (0, Vec::new());
        while self.place != Place::End {
            match part(self.place, &bytes[read..]) {
                Part::Framing(part, next) if self.framing.bytes + part <= CHUNK_FRAMING_BYTES_MAX => {
                    self.framing.bytes += part;
                    self.framing.chunks += usize::from(self.place == Place::Line);
                    (self.place, read) = (next, read + part);
                }
                Part::Data(part, next) => {
                    data.extend_from_slice(&bytes[read..read + part]);
                    (self.place, read) = (next, read + part);
                }
                Part::NeedMore => break,
                Part::Framing(..) | Part::Broken if read == 0 => return Decoded::Broken,
                // The next call finds the same fault, once the data before it is passed on.
                Part::Framing(..) | Part::Broken => break,
            }
        }
        let is_end = self.place == Place::End;
        if read == 0 && !is_end { Decoded::NeedMore } else { Decoded::Data { read, data, is_end } }
    }

    /// What has come of this body beside its data.
    pub fn framing(&self) -> ChunkFraming {
        self.framing
    }
}

fn part(place: Place, bytes: &[u8]) -> Part {
    match place {
        _ if bytes.is_empty() => Part::NeedMore,
        Place::Line => size_of_chunk(bytes),
        Place::Data(left) => {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let left = left - part as u64;
            Part::Data(part, if left == 0 { Place::LineEnd } else { Place::Data(left) })
        }
        Place::LineEnd => match bytes {
            [b'\r', b'\n', ..] => Part::Framing(2, Place::Line),
            [b'\r'] => Part::NeedMore,
            _ => Part::Broken,
        },
        Place::Trailers(come) => trailer(come, bytes),
        Place::End => Part::NeedMore,
    }
}

fn size_of_chunk(bytes: &[u8]) -> Part {
    let line = &bytes[..bytes.len().min(CHUNK_LINE_BYTES_MAX)];
    // httparse accepts a line without digits as a size of zero.
    if !line[0].is_ascii_hexdigit() {
        return Part::Broken;
    }
    match httparse::parse_chunk_size(line) {
        // httparse accepts a line feed within an extension, where other parsers end the line.
        Ok(Status::Complete((read, _))) if line[..read - 2].contains(&b'\n') => Part::Broken,
        Ok(Status::Complete((read, 0))) => Part::Framing(read, Place::Trailers(0)),
        Ok(Status::Complete((read, size))) => Part::Framing(read, Place::Data(size)),
        Ok(Status::Partial) if line.len() < CHUNK_LINE_BYTES_MAX && !line.contains(&b'\n') => Part::NeedMore,
        _ => Part::Broken,
    }
}

/// A line of the trailers, which end with an empty line. Only CRLF is accepted as a line end, because parsers disagree
/// about others.
fn trailer(come: usize, bytes: &[u8]) -> Part {
    let left = TRAILERS_BYTES_MAX.saturating_sub(come);
    let bytes = &bytes[..bytes.len().min(left)];
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    match end.map(|end| (end, &bytes[end..])) {
        Some((0, [b'\r', b'\n', ..])) => Part::Framing(2, Place::End),
        Some((end, [b'\r', b'\n', ..])) => Part::Framing(end + 2, Place::Trailers(come + end + 2)),
        None | Some((_, [b'\r'])) if bytes.len() < left => Part::NeedMore,
        _ => Part::Broken,
    }
}

/// Some data of a body as one chunk, followed by the end of the body if it is the last.
pub fn encode(data: &[u8], is_end: bool) -> Vec<u8> {
    let size = format!("{:x}\r\n", data.len());
    let end: &[u8] = if is_end { b"0\r\n\r\n" } else { b"" };
    if data.is_empty() { end.to_vec() } else { [size.as_bytes(), data, b"\r\n", end].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_one_byte_are_handed_over_together() {
        let mut chunks = Chunks::default();
        let bytes = b"1\r\na\r\n".repeat(1000);
        let data = vec![b'a'; 1000];
        assert_eq!(chunks.decode(&bytes), Decoded::Data { read: bytes.len(), data: data.clone(), is_end: false });
        assert_eq!(chunks.framing(), ChunkFraming { bytes: 5000, chunks: 1000 });
        assert_eq!(encode(&data, false), [b"3e8\r\n", &*data, b"\r\n"].concat(), "hyper gets one chunk");
        let end = b"0\r\n\r\nGET /";
        assert_eq!(chunks.decode(end), Decoded::Data { read: 5, data: Vec::new(), is_end: true });
        assert_eq!(encode(b"", true), b"0\r\n\r\n");
        assert_eq!(encode(b"x", true), b"1\r\nx\r\n0\r\n\r\n");
    }

    #[test]
    fn the_framing_of_a_body_is_bounded() {
        let data_of = |chunk: &[u8]| {
            let (mut chunks, mut data) = (Chunks::default(), 0);
            let bytes = chunk.repeat(CHUNK_FRAMING_BYTES_MAX);
            let mut rest = &bytes[..];
            while let Decoded::Data { read, data: some, .. } = chunks.decode(&rest[..rest.len().min(8192)]) {
                (rest, data) = (&rest[read..], data + some.len());
            }
            assert_eq!(chunks.decode(rest), Decoded::Broken);
            assert!(chunks.framing().bytes <= CHUNK_FRAMING_BYTES_MAX, "{:?}", chunks.framing());
            data
        };
        let all_tiny = data_of(b"1\r\na\r\n");
        assert!(all_tiny > 36 << 10, "{all_tiny}: every body that a resource reads may come in chunks of one byte");
        let extended = data_of(&[b"1;", &[b'x'; 500][..], b"\r\na\r\n"].concat());
        assert!(extended <= CHUNK_FRAMING_BYTES_MAX / 500, "{extended}");
    }

    #[test]
    fn trailers_are_bounded_and_each_line_is_looked_at_once() {
        let begun = || {
            let mut chunks = Chunks::default();
            assert_eq!(chunks.decode(b"0\r\n"), Decoded::Data { read: 3, data: Vec::new(), is_end: false });
            chunks
        };
        let line = [&[b'x'; 98][..], b"\r\n"].concat();
        let mut chunks = begun();
        for _ in 0..TRAILERS_BYTES_MAX / line.len() {
            let taken = Decoded::Data { read: line.len(), data: Vec::new(), is_end: false };
            assert_eq!(chunks.decode(&line), taken, "a whole line does not come back");
        }
        let mut others = chunks;
        assert_eq!(chunks.decode(&line), Decoded::Broken);
        assert_eq!(others.decode(b"\r\n"), Decoded::Data { read: 2, data: Vec::new(), is_end: true });
        assert_eq!(begun().decode(&[b'x'; TRAILERS_BYTES_MAX - 1]), Decoded::NeedMore);
        assert_eq!(begun().decode(&[b'x'; TRAILERS_BYTES_MAX]), Decoded::Broken);
    }
}
