//! A minimal CQL client, so that tests can look at a node without the server and without its driver: statements as
//! text, one at a time, and rows as bytes. Protocol version 4.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const VERSION_REQUEST: u8 = 0x04;
const VERSION_RESPONSE: u8 = 0x84;
const OPCODE_ERROR: u8 = 0x00;
const OPCODE_STARTUP: u8 = 0x01;
const OPCODE_READY: u8 = 0x02;
const OPCODE_AUTHENTICATE: u8 = 0x03;
const OPCODE_QUERY: u8 = 0x07;
const OPCODE_RESULT: u8 = 0x08;
const OPCODE_AUTH_RESPONSE: u8 = 0x0f;
const OPCODE_AUTH_SUCCESS: u8 = 0x10;
const HEADER_BYTES: usize = 9;
const BODY_BYTES_MAX: usize = 16 << 20;
const RESULT_ROWS: u32 = 2;
const FLAG_ONE_TABLE: u32 = 1;
const FLAG_MORE_PAGES: u32 = 2;
/// The default; a test can set a shorter time.
const ANSWER_DURATION_MAX: Duration = Duration::from_secs(20);
const CONNECT_DURATION_MAX: Duration = Duration::from_secs(1);

/// How many replicas have to answer.
#[derive(Clone, Copy, Debug)]
pub enum Consistency {
    One = 1,
    Quorum = 4,
    All = 5,
}

/// An error of the connection, or of the statement.
#[derive(Debug)]
pub enum CqlError {
    Connection(io::Error),
    Refused { code: u32, message: String },
}

impl fmt::Display for CqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "{error}"),
            Self::Refused { code, message } => write!(f, "error {code:#06x}: {message}"),
        }
    }
}

impl From<io::Error> for CqlError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// The rows of an answer, with the names of their columns.
#[derive(Debug, Default)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
}

impl Rows {
    /// A column of all rows.
    pub fn column(&self, name: &str) -> impl Iterator<Item = Option<&[u8]>> {
        let place = self.columns.iter().position(|column| column == name);
        let place = place.unwrap_or_else(|| panic!("no column {name} in {:?}", self.columns));
        self.rows.iter().map(move |row| row[place].as_deref())
    }

    /// A column of text.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).expect("text");
        self.column(name).map(text).collect()
    }

    /// A column of `int` or `bigint`, nulls as 0.
    pub fn integers(&self, name: &str) -> Vec<i64> {
        self.column(name).map(|value| value.map_or(0, integer)).collect()
    }
}

/// Big-endian, four or eight bytes.
fn integer(value: &[u8]) -> i64 {
    match value.len() {
        4 => i32::from_be_bytes(value.try_into().expect("four bytes")).into(),
        _ => i64::from_be_bytes(value.try_into().expect("eight bytes")),
    }
}

/// A connection to one node.
pub struct Cql {
    stream: TcpStream,
}

impl Cql {
    /// Connects. If the node requires a login, uses the node's default user.
    pub fn connect(address: SocketAddr) -> Result<Self, CqlError> {
        Self::connect_as(address, "cassandra", "cassandra")
    }

    /// Connects with this login, which is used if the node requires one.
    pub fn connect_as(address: SocketAddr, user: &str, password: &str) -> Result<Self, CqlError> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_DURATION_MAX)?;
        stream.set_read_timeout(Some(ANSWER_DURATION_MAX))?;
        stream.set_write_timeout(Some(ANSWER_DURATION_MAX))?;
        stream.set_nodelay(true)?;
        let mut cql = Self { stream };
        let mut startup = 1u16.to_be_bytes().to_vec();
        put_text(&mut startup, "CQL_VERSION");
        put_text(&mut startup, "3.0.0");
        match cql.exchange(OPCODE_STARTUP, &startup)?.0 {
            OPCODE_READY => Ok(cql),
            OPCODE_AUTHENTICATE => {
                let secret = format!("\0{user}\0{password}");
                let mut answer = u32::try_from(secret.len()).expect("a short secret").to_be_bytes().to_vec();
                answer.extend(secret.as_bytes());
                match cql.exchange(OPCODE_AUTH_RESPONSE, &answer)?.0 {
                    OPCODE_AUTH_SUCCESS => Ok(cql),
                    other => Err(unexpected(other)),
                }
            }
            other => Err(unexpected(other)),
        }
    }

    /// Sets how long to wait for an answer. If an answer does not come in time, the connection cannot be used any more.
    pub fn set_patience(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("longer than nothing");
    }

    /// Executes one statement.
    pub fn query(&mut self, statement: &str, consistency: Consistency) -> Result<Rows, CqlError> {
        let mut body = u32::try_from(statement.len()).expect("a short statement").to_be_bytes().to_vec();
        body.extend(statement.as_bytes());
        body.extend((consistency as u16).to_be_bytes());
        body.push(0);
        let (opcode, answer) = self.exchange(OPCODE_QUERY, &body)?;
        if opcode != OPCODE_RESULT {
            return Err(unexpected(opcode));
        }
        rows(&mut Reader(&answer)).ok_or_else(|| cut_short().into())
    }

    fn exchange(&mut self, opcode: u8, body: &[u8]) -> Result<(u8, Vec<u8>), CqlError> {
        let mut frame = vec![VERSION_REQUEST, 0, 0, 0, opcode];
        frame.extend(u32::try_from(body.len()).expect("a short body").to_be_bytes());
        frame.extend(body);
        self.stream.write_all(&frame)?;
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header)?;
        let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
        if header[0] != VERSION_RESPONSE || length > BODY_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no CQL: {header:?}")).into());
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        if header[4] == OPCODE_ERROR {
            let mut reader = Reader(&answer);
            let code = reader.int().ok_or_else(cut_short)?;
            return Err(CqlError::Refused { code, message: reader.text().ok_or_else(cut_short)? });
        }
        Ok((header[4], answer))
    }
}

fn unexpected(opcode: u8) -> CqlError {
    io::Error::new(io::ErrorKind::InvalidData, format!("an answer of kind {opcode:#04x}")).into()
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer that ends too early")
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u16::try_from(text.len()).expect("a short text").to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// Parses an answer. Its methods return `None` if the answer ends too early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn int(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(2)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.short()?.into();
        String::from_utf8(self.bytes(length)?.to_vec()).ok()
    }

    /// Skips the names of a keyspace and a table.
    fn skip_table(&mut self) -> Option<()> {
        self.text()?;
        self.text().map(drop)
    }

    /// Skips a type. Tests use plain columns and collections of them.
    fn skip_type(&mut self) -> Option<()> {
        let (custom, list, map, set) = (0x00, 0x20, 0x21, 0x22);
        match self.short()? {
            kind if kind == custom => drop(self.text()?),
            kind if kind == list || kind == set => self.skip_type()?,
            kind if kind == map => {
                self.skip_type()?;
                self.skip_type()?;
            }
            _ => {}
        }
        Some(())
    }

    fn value(&mut self) -> Option<Option<Vec<u8>>> {
        match i32::from_be_bytes(self.bytes(4)?.try_into().ok()?) {
            length if length < 0 => Some(None),
            length => Some(Some(self.bytes(usize::try_from(length).ok()?)?.to_vec())),
        }
    }
}

/// Reads the kind of a result, and its rows if it has any.
fn rows(reader: &mut Reader<'_>) -> Option<Rows> {
    let mut answer = Rows::default();
    if reader.int()? != RESULT_ROWS {
        return Some(answer);
    }
    let (flags, columns) = (reader.int()?, reader.int()?);
    assert_eq!(flags & FLAG_MORE_PAGES, 0, "no page size was asked for, so everything is on one page");
    if flags & FLAG_ONE_TABLE != 0 {
        reader.skip_table()?;
    }
    for _ in 0..columns {
        if flags & FLAG_ONE_TABLE == 0 {
            reader.skip_table()?;
        }
        answer.columns.push(reader.text()?);
        reader.skip_type()?;
    }
    for _ in 0..reader.int()? {
        answer.rows.push((0..columns).map(|_| reader.value()).collect::<Option<_>>()?);
    }
    Some(answer)
}
