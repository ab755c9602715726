//! All statements, prepared once per session.

use scylla::client::session::Session;
use scylla::statement::Consistency;
use scylla::statement::SerialConsistency;
use scylla::statement::prepared::PreparedStatement;
use std::time::Duration;

use crate::options::Keyspace;
use crate::tables::{ALL, Statement};

/// The longest time that the database may take for one attempt.
const READ_DURATION_MAX: Duration = Duration::from_secs(2);
/// The same for a write.
pub const WRITE_DURATION_MAX: Duration = Duration::from_secs(3);
const CONDITIONAL_DURATION_MAX: Duration = Duration::from_secs(5);

/// All statements, prepared for one session.
pub struct Statements {
    prepared: Vec<PreparedStatement>,
    /// The reads once more, with the serial consistency that sees every decided transaction.
    serial: Vec<Option<PreparedStatement>>,
}

impl Statements {
    /// Prepares all statements for a session.
    pub async fn prepare(session: &Session, keyspace: &Keyspace) -> Result<Self, scylla::errors::PrepareError> {
        let (mut all, mut serial) = (Vec::with_capacity(ALL.len()), Vec::with_capacity(ALL.len()));
        for (statement, cql) in ALL {
            let mut prepared = session.prepare(qualified(cql, keyspace)).await?;
            prepared.set_consistency(Consistency::LocalQuorum);
            prepared.set_serial_consistency(Some(SerialConsistency::LocalSerial));
            // The store sets the timestamps, so repeating a statement changes nothing. Conditional statements are
            // different: `decide` handles their repetition.
            prepared.set_is_idempotent(!statement.is_conditional());
            prepared.set_request_timeout(Some(match statement {
                read if read.is_read() => READ_DURATION_MAX,
                conditional if conditional.is_conditional() => CONDITIONAL_DURATION_MAX,
                _ => WRITE_DURATION_MAX,
            }));
            let deciding = statement.is_read().then(|| {
                let mut deciding = prepared.clone();
                deciding.set_consistency(Consistency::LocalSerial);
                deciding.set_request_timeout(Some(CONDITIONAL_DURATION_MAX));
                deciding
            });
            all.push(prepared);
            serial.push(deciding);
        }
        Ok(Self { prepared: all, serial })
    }

    /// The statement as this session has prepared it.
    pub fn get(&self, statement: Statement) -> &PreparedStatement {
        &self.prepared[statement as usize]
    }

    /// A read with serial consistency: its result is decided.
    pub fn serial(&self, statement: Statement) -> &PreparedStatement {
        self.serial[statement as usize].as_ref().unwrap_or_else(|| self.get(statement))
    }
}

/// The statement with its table's keyspace added: a prepared statement must mean the same in every session.
fn qualified(cql: &str, keyspace: &Keyspace) -> String {
    let table = ["FROM ", "INTO ", "UPDATE "].iter().find_map(|word| Some(cql.find(word)? + word.len()));
    let (before, table) = cql.split_at(table.unwrap_or(0));
    format!("{before}{keyspace}.{table}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_names_its_keyspace_once() {
        let keyspace: Keyspace = "talk".parse().unwrap();
        for (_, cql) in ALL {
            let qualified = qualified(cql, &keyspace);
            assert_eq!(qualified.matches("talk.").count(), 1, "{qualified}");
            let named = ["FROM talk.", "INTO talk.", "UPDATE talk."].iter().any(|table| qualified.contains(table));
            assert!(named, "{qualified}");
        }
    }
}
