//! What a member must have seen of a channel during a stay there.

use engine::id::MessageId;
use uuid::Uuid;

use crate::client::{Shown, Stay};

/// Whether a stay continues.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Present,
    Past,
}

/// Checks that a member sees everything from its join on, except for the gaps that it is told of, and that those name
/// exactly what it missed.
pub fn check_stay(whole: &[Shown], stay: &Stay, end: End) {
    let starts = std::iter::once(0).chain(stay.gaps.iter().map(|gap| gap.at));
    let ends = stay.gaps.iter().map(|gap| gap.at).chain([stay.shown.len()]);
    let pieces: Vec<&[Shown]> = starts.zip(ends).map(|(from, to)| &stay.shown[from..to]).collect();
    let messages = |shown: &[Shown]| shown.iter().filter(|shown| shown.1 == 0).map(|shown| shown.0).collect::<Vec<_>>();
    let all = messages(whole);
    let mut known = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        check_piece(whole, piece);
        if let Some(gap) = number.checked_sub(1).map(|before| &stay.gaps[before]) {
            assert!(gap.before.is_none() || piece.first().is_none_or(|next| gap.before == Some(next.0) && next.1 == 0));
            if let Some(last) = messages(pieces[number - 1]).last() {
                assert_eq!(gap.after, Some(*last), "a gap begins after the last message seen");
            }
            let next_gap = stay.gaps.get(number).and_then(|gap| gap.after);
            let until = match (gap.before, messages(piece).first()) {
                (Some(before), _) => Some(before),
                (None, Some(next)) => Some(*next),
                (None, None) => next_gap.map(|after| MessageId(Uuid::from_u128(after.0.as_u128() + 1))),
            };
            let missed =
                |id: &&MessageId| gap.after.is_some_and(|after| **id > after) && until.is_none_or(|to| **id < to);
            if until.is_some() || end == End::Present {
                known.extend(all.iter().filter(missed));
            }
        }
        known.extend(messages(piece));
    }
    if end == End::Present {
        assert!(whole.ends_with(pieces[pieces.len() - 1]), "a member missed something: {whole:?} {stay:?}");
        assert!(all.ends_with(&known), "what was seen and what was missed are not everything: {all:?} {stay:?}");
    } else {
        assert!(all.windows(known.len().max(1)).any(|window| window == known) || known.is_empty(), "{all:?} {stay:?}");
    }
    assert!(stay.unseen.iter().all(|id| !stay.gaps.is_empty() || known.contains(id)), "{stay:?}");
}

/// Checks that what a member saw without a gap is a contiguous part of all that was shown.
fn check_piece(whole: &[Shown], shown: &[Shown]) {
    let Some(first) = shown.first() else { return };
    let begins = (0..whole.len()).filter(|&at| whole[at] == *first);
    let same = |at: usize| whole[at..].iter().zip(shown).take_while(|(one, other)| one == other).count();
    let longest = begins.map(|at| (same(at), at)).max();
    assert!(
        longest.is_some_and(|(same, _)| same == shown.len()),
        "a member missed something, or saw it in another order: of {whole:?} it saw {shown:?}; the most that fits is \
         {longest:?}: {:?} beside {:?}",
        longest.map(|(same, at)| whole.get(at + same)),
        longest.map(|(same, _)| shown.get(same)),
    );
}
