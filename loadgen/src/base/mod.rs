//! The ground floor: what all other folders may use, and what uses none of them. The clock, the contents of messages,
//! words for numbers and for addresses.

pub mod addresses;
pub mod clock;
pub mod content;
pub mod interrupt;
pub mod notes;
pub mod words;
