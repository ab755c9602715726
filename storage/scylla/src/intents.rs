//! Makes a change atomic that is larger than one logged batch. Before the first batch, the store writes down how to
//! undo all of the change: its *intent*. It removes the intent after the last batch. Only then does the caller hear
//! that the change was done. A server that takes the keyspace over undoes every change that still has an intent, before
//! it serves requests.
//!
//! Intents only undo; they never complete a change. Whatever goes wrong while the server lives is answered with a
//! failure and undone. So an intent that is left behind agrees with the answer that was given, or was going to be
//! given. If it completed the change, it would do what a client was told has failed.
//!
//! The timestamps of the undo are reserved together with those of the change, and stored in the intent. They come after
//! the change's own timestamps and before those of every later write, whichever server makes it. So the undo can run
//! any number of times, even by a server that has been replaced, and never undoes anything else. An intent may outlive
//! its change because its removal was not confirmed: it does no harm, and its slot may be used again.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use scylla::statement::batch::BatchType;
use scylla::value::CqlValue;
use storage::Failure;
use storage::record::{self, IntentPart, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::database::{DatabaseSession, UNDO_PATIENCE, WRITE_PATIENCE, by};
use crate::outcome::FailedAttempt;
use crate::tables::intents::{self, State};
use crate::tables::{Mutation, Statement};

/// Changes of more than one batch that are in flight, or still to be undone: as many as are decided concurrently. A
/// program with a lower bound than the program before it would not find all intents that the other left.
pub const INTENTS_MAX: i32 = 64;
/// Bytes of one logged batch: below the 50 KiB at which Cassandra refuses one of several partitions.
const BATCH_BYTES_MAX: usize = 32 << 10;
/// Bytes of one change: several times what one request can ask for. An intent is no larger.
const CHANGE_BYTES_MAX: usize = 8 << 20;
/// Bytes of an intent that are written at once. They are one mutation, well below half a segment of any server's commit
/// log.
const NOTED_AT_ONCE_BYTES: usize = 256 << 10;
/// Pause between attempts to undo a change.
const SETTLE_PAUSE: Duration = Duration::from_millis(500);

/// Writes changes of several batches, and undoes those that fail.
pub struct Intents {
    database: Arc<DatabaseSession>,
    slots: Slots,
}

/// The slots for intents.
struct Slots {
    room: Arc<Semaphore>,
    free: Arc<Mutex<Vec<i32>>>,
}

/// A slot for one intent; free again when it is dropped.
pub struct Slot {
    number: i32,
    free: Arc<Mutex<Vec<i32>>>,
    /// Released after `drop` has freed the number, so that a task with a permit always finds a number.
    _room: OwnedSemaphorePermit,
}

/// The mutations of one logged batch, with timestamps that rise from `first`.
#[derive(Clone, PartialEq, Debug)]
pub struct ChangePart {
    first: i64,
    mutations: Vec<Mutation>,
}

/// A change and its undo, each in parts.
pub struct Whole {
    forth: Vec<ChangePart>,
    back: Vec<ChangePart>,
    /// The slot of the intent, if the change needs one.
    slot: Option<Slot>,
    /// Whether the intent is known to be stored.
    noted: bool,
}

impl Default for Slots {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(INTENTS_MAX as usize));
        Self { room, free: Arc::new(Mutex::new((0..INTENTS_MAX).collect())) }
    }
}

impl Slots {
    async fn slot(&self) -> Option<Slot> {
        let room = self.room.clone().acquire_owned().await.ok()?;
        let number = self.free.lock().pop()?;
        Some(Slot { number, free: self.free.clone(), _room: room })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut free = self.free.lock();
        debug_assert!(!free.contains(&self.number), "slot {} has one user", self.number);
        free.push(self.number);
    }
}

/// Refuses a change that is too large for an intent.
pub fn check_size(changes: &[(Mutation, Mutation)]) -> Result<(), Failure> {
    let size: usize = changes.iter().map(size_of_change).sum();
    if size <= CHANGE_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::Unfit(format!(
        "a change of {size} bytes; {CHANGE_BYTES_MAX} are possible: ask for less of it at a time"
    )))
}

impl Whole {
    /// Builds a change from mutations, each paired with its undo.
    pub fn of(changes: Vec<(Mutation, Mutation)>, database: &DatabaseSession) -> Self {
        let first = database.clock.reserve(2 * changes.len());
        Self::from(changes, first)
    }

    /// The mutations' timestamps rise. Those of the undo follow, in reverse order, so that a row that was written twice
    /// gets its first value back.
    fn from(changes: Vec<(Mutation, Mutation)>, first: i64) -> Self {
        let (mut forth, mut back) = (Vec::new(), Vec::new());
        let (mut from, mut to) = (first, first + 2 * changes.len() as i64);
        let lengths = batch_lengths(&changes);
        let mut changes = changes.into_iter();
        for length in lengths {
            let (mutations, mut undo): (Vec<_>, Vec<_>) = changes.by_ref().take(length).unzip();
            undo.reverse();
            to -= length as i64;
            forth.push(ChangePart { first: from, mutations });
            back.push(ChangePart { first: to, mutations: undo });
            from += length as i64;
        }
        debug_assert!(changes.next().is_none(), "each mutation is in a batch");
        debug_assert_eq!(from, to, "the timestamps of the undo begin where those of the change end");
        Self { forth, back, slot: None, noted: false }
    }

    fn is_large(&self) -> bool {
        self.back.len() > 1
    }
}

impl Intents {
    /// No intent is written yet.
    pub fn new(database: Arc<DatabaseSession>) -> Self {
        Self { database, slots: Slots::default() }
    }

    /// Writes all of a change, or nothing. A failure comes with the change if it is still to be undone.
    pub async fn write(&self, mut whole: Whole, deadline: Instant) -> Result<(), (Failure, Option<Whole>)> {
        let failed = match self.write_forth(&mut whole, deadline).await {
            Ok(()) => return Ok(()),
            Err(FailedAttempt { nothing_done: true, passing, reason }) => {
                return Err((FailedAttempt { nothing_done: true, passing, reason }.failure(), None));
            }
            Err(failed) => failed.reason,
        };
        match self.take_back(&mut whole, Instant::now() + UNDO_PATIENCE).await {
            Ok(()) => Err((Failure::Passing(failed), None)),
            // If this server dies before the undo is written, a small change stays, because it has no intent.
            Err(_) => Err((Failure::Unknown(failed), Some(whole))),
        }
    }

    async fn write_forth(&self, whole: &mut Whole, deadline: Instant) -> Result<(), FailedAttempt> {
        if whole.is_large() {
            // If this write timed out but succeeded, rolling it back is harmless: no batch was written yet.
            let nothing_done = |failed| FailedAttempt { nothing_done: true, ..failed };
            self.note(whole, deadline).await.map_err(nothing_done)?;
        }
        let mut begun = whole.slot.is_some();
        for part in std::mem::take(&mut whole.forth) {
            let written = self.write_part(part, deadline).await;
            written.map_err(|failed| FailedAttempt { nothing_done: failed.nothing_done && !begun, ..failed })?;
            begun = true;
        }
        if let Some(slot) = &whole.slot {
            let number = slot.number;
            // From here on, a server that takes over may find no intent.
            whole.noted = false;
            let removed = self.remove_intent(number, deadline).await;
            removed.map_err(|failed| FailedAttempt { nothing_done: false, ..failed })?;
        }
        Ok(())
    }

    /// Undoes a change. The undo of a large change begins only when its intent is stored: otherwise half of the change
    /// would stay if this server died meanwhile.
    async fn take_back(&self, whole: &mut Whole, deadline: Instant) -> Result<(), FailedAttempt> {
        if whole.is_large() && !whole.noted {
            self.note(whole, deadline).await?;
        }
        for part in &whole.back {
            self.write_part(part.clone(), deadline).await?;
        }
        if let Some(slot) = &whole.slot {
            // An intent that stays is harmless: the change it undoes is already undone.
            let _ = self.remove_intent(slot.number, deadline).await;
        }
        Ok(())
    }

    /// Retries the undo without a deadline, until it succeeds or the store is closed.
    pub async fn settle(&self, mut whole: Whole) {
        while let Err(failed) = self.take_back(&mut whole, Instant::now() + WRITE_PATIENCE).await {
            if !failed.passing || self.database.check_open().is_err() {
                let reason = failed.reason;
                tracing::warn!(reason, "what the database may hold of a failed change stays there");
                // Keep the slot, so that the intent stays and the next start finds it.
                return std::mem::forget(whole.slot);
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
        }
    }

    async fn write_part(&self, part: ChangePart, deadline: Instant) -> Result<(), FailedAttempt> {
        let size = || part.mutations.iter().map(size_of_mutation).sum::<usize>();
        debug_assert!(part.mutations.len() == 1 || size() <= BATCH_BYTES_MAX, "a batch of {} bytes", size());
        self.database.write_at(part.first, part.mutations, BatchType::Logged, deadline).await
    }

    /// Stores the intent of a change: first its parts, and with the last of them the number of parts.
    async fn note(&self, whole: &mut Whole, deadline: Instant) -> Result<(), FailedAttempt> {
        if whole.slot.is_none() {
            whole.slot = in_time(deadline, self.slots.slot()).await?;
        }
        let Some(slot) = &whole.slot else { return Err(FailedAttempt::silence()) };
        for rows in rows_of(slot.number, &whole.back)? {
            self.database.write(&rows, BatchType::Unlogged, deadline).await?;
        }
        whole.noted = true;
        Ok(())
    }

    async fn remove_intent(&self, slot: i32, deadline: Instant) -> Result<(), FailedAttempt> {
        let rows = [intents::clear(slot), intents::set(slot, 0)];
        self.database.write(&rows, BatchType::Unlogged, deadline).await
    }

    /// Undoes the changes that the last server began and did not finish.
    pub async fn end_all(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + WRITE_PATIENCE;
        // Taking all permits waits until this process has no intents of its own.
        let all = self.slots.room.acquire_many(INTENTS_MAX as u32);
        let _none_of_ours = in_time(deadline, async { all.await.ok() }).await.map_err(|failed| failed.failure())?;
        for slot in 0..INTENTS_MAX {
            self.end_intent(slot).await?;
        }
        Ok(())
    }

    async fn end_intent(&self, slot: i32) -> Result<(), Failure> {
        let deadline = || Instant::now() + WRITE_PATIENCE;
        let found = by(deadline(), self.database.one(intents::state(slot))).await?;
        let Some(State { parts: Some(parts), written_us: Some(written) }) = found else { return Ok(()) };
        // Timestamps that this server gives out from now on come after the intent's, whatever this machine's clock
        // says.
        self.database.clock.pass(written);
        if parts == 0 {
            return Ok(());
        }
        if let Some(back) = self.read_intent(slot, parts).await? {
            tracing::info!(slot, "a change that the last server had begun and not ended is taken back");
            for part in back {
                self.write_part(part, deadline()).await.map_err(|failed| failed.failure())?;
            }
        }
        self.remove_intent(slot, deadline()).await.map_err(|failed| failed.failure())
    }

    /// The parts of an intent, if all of them are stored.
    async fn read_intent(&self, slot: i32, parts: i32) -> Result<Option<Vec<ChangePart>>, Failure> {
        let (mut intent, mut back) = (None, Vec::new());
        for number in 0..parts {
            let Some((bytes,)) = self.database.one(intents::part(slot, number)).await? else { return Ok(None) };
            let part = record::decode_intent(&bytes).map_err(|damage| damaged(slot, &damage))?;
            let is_first_or_same = intent.replace(part.intent).is_none_or(|intent| intent == part.intent);
            if !is_first_or_same || (i64::from(part.part), i64::from(part.parts)) != (number.into(), parts.into()) {
                return Ok(None);
            }
            back.push(part_of(part).map_err(|unknown| damaged(slot, &unknown))?);
        }
        let follows = |pair: &[ChangePart]| pair[1].first + pair[1].mutations.len() as i64 == pair[0].first;
        debug_assert!(back.windows(2).all(follows), "the batches of an undo are noted from the last to the first");
        Ok(Some(back))
    }
}

/// Waits for a slot. If there is none in time, the change has not begun.
async fn in_time<T>(deadline: Instant, awaited: impl Future<Output = Option<T>>) -> Result<Option<T>, FailedAttempt> {
    let found = tokio::time::timeout_at(deadline.into(), awaited).await;
    found.map_err(|_| FailedAttempt {
        nothing_done: true,
        passing: true,
        reason: format!("{INTENTS_MAX} large changes are under way already"),
    })
}

/// An intent's rows, in groups of one mutation each. The first group deletes what the slot held before.
fn rows_of(slot: i32, back: &[ChangePart]) -> Result<Vec<Vec<Mutation>>, FailedAttempt> {
    debug_assert!(back.len() > 1, "a change of one batch needs no intent");
    let (intent, parts) = (Uuid::new_v4(), back.len() as u32);
    let (mut groups, mut group, mut size) = (Vec::new(), vec![intents::clear(slot)], 0);
    for (part, number) in back.iter().zip(0..) {
        let rows = part.mutations.iter().map(|mutation| {
            let values = mutation.values.iter().map(value_of).collect::<Result<_, _>>()?;
            Ok((mutation.statement.name(), values))
        });
        let rows = rows.collect::<Result<_, FailedAttempt>>()?;
        let record = record::encode_intent(IntentPart { intent, part: number, parts, first: part.first, rows });
        debug_assert_eq!(read_part(&record).as_ref(), Ok(part), "what is noted can be taken back");
        if size + record.len() > NOTED_AT_ONCE_BYTES && size > 0 {
            groups.push(std::mem::take(&mut group));
            size = 0;
        }
        size += record.len();
        group.push(intents::put_part(slot, number as i32, &record));
    }
    group.push(intents::set(slot, parts as i32));
    groups.push(group);
    Ok(groups)
}

/// What [`rows_of`] has noted in a record.
fn read_part(record: &[u8]) -> Result<ChangePart, String> {
    record::decode_intent(record).map_err(|damage| damage.to_string()).and_then(part_of)
}

fn part_of(part: IntentPart) -> Result<ChangePart, String> {
    let mutation = |(name, values): (String, Vec<Value>)| {
        let statement =
            Statement::named(&name).ok_or_else(|| format!("statement {name} is unknown to this program"))?;
        if statement.is_read() || values.len() != statement.values() {
            return Err(format!("statement {name} does not take {} values", values.len()));
        }
        Ok(Mutation::new(statement, values.into_iter().map(cql_of).collect::<Vec<_>>()))
    };
    let mutations = part.rows.into_iter().map(mutation).collect::<Result<_, String>>()?;
    Ok(ChangePart { first: part.first, mutations })
}

fn value_of(value: &CqlValue) -> Result<Value, FailedAttempt> {
    Ok(match value {
        CqlValue::Text(text) => Value::Text(text.clone()),
        CqlValue::List(texts) => Value::Texts(texts.iter().filter_map(CqlValue::as_text).cloned().collect()),
        CqlValue::Blob(bytes) => Value::Bytes(bytes.clone()),
        CqlValue::Uuid(id) => Value::Id(*id),
        CqlValue::Int(number) => Value::Int(*number),
        CqlValue::BigInt(number) => Value::Big(*number),
        CqlValue::Boolean(flag) => Value::Flag(*flag),
        other => {
            let reason = format!("{other:?} has no place in an intent");
            return Err(FailedAttempt { nothing_done: true, passing: false, reason });
        }
    })
}

fn cql_of(value: Value) -> CqlValue {
    match value {
        Value::Text(text) => CqlValue::Text(text),
        Value::Texts(texts) => CqlValue::List(texts.into_iter().map(CqlValue::Text).collect()),
        Value::Bytes(bytes) => CqlValue::Blob(bytes),
        Value::Id(id) => CqlValue::Uuid(id),
        Value::Int(number) => CqlValue::Int(number),
        Value::Big(number) => CqlValue::BigInt(number),
        Value::Flag(flag) => CqlValue::Boolean(flag),
    }
}

fn damaged(slot: i32, damage: &dyn std::fmt::Display) -> Failure {
    Failure::Corrupt(format!(
        "the intent in slot {slot}, of a change that the last server did not end: {damage}. Start the program that noted it, or \
         a newer one. `DELETE FROM intents WHERE slot = {slot}` leaves that change as it is, maybe done in part"
    ))
}

/// Splits the mutations into batches: how many fit each, both for the change and for its undo.
fn batch_lengths(changes: &[(Mutation, Mutation)]) -> Vec<usize> {
    let (mut lengths, mut length, mut bytes) = (Vec::new(), 0, 0);
    for change in changes {
        let more = size_of_change(change);
        if bytes + more > BATCH_BYTES_MAX && length > 0 {
            lengths.push(length);
            (length, bytes) = (0, 0);
        }
        length += 1;
        bytes += more;
    }
    lengths.extend((length > 0).then_some(length));
    debug_assert_eq!(lengths.iter().sum::<usize>(), changes.len(), "the batches have all mutations");
    lengths
}

fn size_of_change((mutation, undo): &(Mutation, Mutation)) -> usize {
    size_of_mutation(mutation).max(size_of_mutation(undo))
}

/// Roughly the bytes of a row that is written.
pub fn size_of_mutation(mutation: &Mutation) -> usize {
    const ROW: usize = 64;
    let sizes = mutation.values.iter().map(|value| match value {
        CqlValue::Text(text) => text.len(),
        CqlValue::Blob(bytes) => bytes.len(),
        CqlValue::List(values) => values.iter().filter_map(CqlValue::as_text).map(|text| 4 + text.len()).sum(),
        _ => 16,
    });
    ROW + sizes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::int;

    fn change(number: i32, length: usize) -> (Mutation, Mutation) {
        let text = CqlValue::Text("x".repeat(length));
        let forth = Mutation::new(Statement::PutRevocation, [int(number), text, int(0)]);
        (forth, Mutation::new(Statement::DeleteRevocation, [int(number), int(0)]))
    }

    fn stamps(parts: &[ChangePart]) -> Vec<(i64, i32)> {
        let of_part = |part: &ChangePart| {
            let numbers = part.mutations.iter().map(|mutation| match mutation.values[0] {
                CqlValue::Int(number) => number,
                _ => panic!("{mutation:?}"),
            });
            (part.first..).zip(numbers).collect::<Vec<_>>()
        };
        parts.iter().flat_map(of_part).collect()
    }

    #[test]
    fn what_takes_back_comes_later_and_the_first_last() {
        for lengths in [vec![10], vec![10, 20, 30], vec![20_000; 7], vec![40_000, 5, 40_000], vec![9; 1000]] {
            let changes: Vec<_> = lengths.iter().zip(0..).map(|(&length, number)| change(number, length)).collect();
            let (count, bytes) = (changes.len() as i64, lengths.iter().sum::<usize>());
            let whole = Whole::from(changes, 1000);
            assert_eq!(whole.is_large(), bytes > 1000, "{lengths:?}");
            let forth: Vec<_> = (1000..).zip(0..count as i32).collect();
            assert_eq!(stamps(&whole.forth), forth);
            let mut back = stamps(&whole.back);
            back.sort_unstable();
            assert_eq!(back, (1000 + count..).zip((0..count as i32).rev()).collect::<Vec<_>>());
            for part in whole.forth.iter().chain(&whole.back) {
                let size: usize = part.mutations.iter().map(size_of_mutation).sum();
                assert!(size <= BATCH_BYTES_MAX || part.mutations.len() == 1, "{size} bytes");
            }
        }
    }

    #[test]
    fn an_intent_comes_back_from_its_rows() {
        let whole = Whole::from((0..200).map(|number| change(number, 9_000)).collect(), 7);
        let groups = rows_of(3, &whole.back).unwrap();
        assert!(groups.len() == 1 && whole.back.len() > 50);
        let [clear, parts @ .., end] = &groups[0][..] else { panic!("{groups:?}") };
        assert_eq!((clear.statement, end.statement), (Statement::ClearIntent, Statement::SetIntent));
        assert_eq!(end.values, [int(parts.len() as i32), int(3)]);
        let read = parts.iter().map(|row| {
            let CqlValue::Blob(bytes) = &row.values[2] else { panic!("{row:?}") };
            part_of(record::decode_intent(bytes).unwrap()).unwrap()
        });
        assert_eq!(read.collect::<Vec<_>>(), whole.back);
    }

    #[test]
    fn a_record_with_other_values_is_damage() {
        let part = |statement: &str, values: Vec<Value>| {
            let rows = vec![(statement.to_owned(), values)];
            part_of(IntentPart { intent: Uuid::nil(), part: 0, parts: 1, first: 0, rows })
        };
        assert!(part("DeleteUser", vec![Value::Id(Uuid::nil())]).is_ok());
        assert!(part("DeleteUser", Vec::new()).is_err());
        assert!(part("User", vec![Value::Id(Uuid::nil())]).is_err(), "it reads");
        assert!(part("DropEverything", Vec::new()).is_err());
    }

    #[test]
    fn a_large_intent_is_several_mutations_and_ends_with_the_last() {
        let undo_is_large = |number| {
            let (forth, back) = change(number, 20_000);
            (back, forth)
        };
        let whole = Whole::from((0..40).map(undo_is_large).collect(), 7);
        let groups = rows_of(0, &whole.back).unwrap();
        assert!(groups.len() > 2);
        let statements: Vec<_> = groups.iter().flatten().map(|row| row.statement).collect();
        assert_eq!(statements.first(), Some(&Statement::ClearIntent));
        assert_eq!(statements.last(), Some(&Statement::SetIntent));
        assert!(statements[1..statements.len() - 1].iter().all(|row| *row == Statement::PutIntentPart));
        for group in &groups {
            assert!(group.iter().map(size_of_mutation).sum::<usize>() < NOTED_AT_ONCE_BYTES + BATCH_BYTES_MAX);
        }
    }

    #[test]
    fn a_change_has_a_bound() {
        let changes = |count| (0..count).map(|number| change(number, 1 << 20)).collect::<Vec<_>>();
        assert_eq!(check_size(&changes(7)), Ok(()));
        assert!(matches!(check_size(&changes(8)), Err(Failure::Unfit(text)) if text.contains("ask for less")));
    }

    #[test]
    fn slots_come_back() {
        let slots = Slots::default();
        let take = || pollster::block_on(slots.slot()).unwrap();
        let all: Vec<_> = (0..INTENTS_MAX).map(|_| take()).collect();
        assert_eq!(all.iter().map(|slot| slot.number).collect::<std::collections::HashSet<_>>().len(), all.len());
        assert_eq!(slots.room.available_permits(), 0);
        drop(all);
        assert_eq!(slots.free.lock().len(), INTENTS_MAX as usize);
        let first = take().number;
        assert_eq!(take().number, first, "it is free again");
    }
}
