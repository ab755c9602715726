//! The ground floor: what all other folders may use, and what uses none of them. The clock, the contents of messages,
//! and words for numbers.

pub mod clock;
pub mod content;
pub mod notes;
pub mod words;
