//! A client's frames, valid or not.

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame to be written. Its length and flags can be encoded wrongly on purpose.
#[derive(Clone, Debug)]
pub struct Frame {
    first: u8,
    payload: Vec<u8>,
    mask: Option<[u8; 4]>,
    length_form: Option<u8>,
}

impl Frame {
    pub fn of(opcode: u8, payload: &[u8]) -> Self {
        Self { first: FIN | opcode, payload: payload.to_vec(), mask: Some(MASK), length_form: None }
    }

    pub fn text(text: &str) -> Self {
        Self::of(TEXT, text.as_bytes())
    }

    pub fn unfinished(mut self) -> Self {
        self.first &= !FIN;
        self
    }

    pub fn with_bits(mut self, bits: u8) -> Self {
        self.first |= bits;
        self
    }

    pub fn masked_with(mut self, mask: Option<[u8; 4]>) -> Self {
        self.mask = mask;
        self
    }

    /// Writes the length in this form even if it fits a shorter one.
    pub fn with_length_form(mut self, form: u8) -> Self {
        self.length_form = Some(form);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        let start = bytes.len();
        bytes.extend_from_slice(&self.payload);
        for (byte, key) in bytes[start..].iter_mut().zip(self.mask.unwrap_or_default().iter().cycle()) {
            *byte ^= key;
        }
        bytes
    }

    /// All but the payload.
    pub fn header(&self) -> Vec<u8> {
        let length = self.payload.len();
        let shortest = match length {
            0..=125 => length as u8,
            126..=0xffff => LENGTH_IS_U16,
            _ => LENGTH_IS_U64,
        };
        let form = self.length_form.unwrap_or(shortest);
        let mut header = vec![self.first, form | if self.mask.is_some() { MASKED } else { 0 }];
        match form {
            LENGTH_IS_U16 => header.extend((length as u16).to_be_bytes()),
            LENGTH_IS_U64 => header.extend((length as u64).to_be_bytes()),
            _ => {}
        }
        header.extend(self.mask.iter().flatten());
        header
    }
}
