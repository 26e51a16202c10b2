//! Statements whose literals were read under other settings than those of now.
//!
//! PostgreSQL reads literals when it prepares a text, and again when a table that is named there was altered. So a statement
//! that is brought to another server connection is read under the settings it was prepared with, which are in force for this
//! one moment; and what its client uses under others is that client's own from then on, since nobody else must meet what
//! it may be read as.

use std::sync::Arc;

use crate::protocol::TransactionState;
use crate::session::basis::{OF_LITERALS, reads_alike};
use crate::session::outbox::Outbox;
use crate::session::settings::quote_literal;
use crate::session::statement::{Named, Owner, Reading, Statement};

use super::requests::Message;
use super::{Certainty, Flow, Parties};

/// Settings that are in force for a moment.
pub(super) struct Turned(Vec<&'static str>);

impl Flow {
    /// A statement that is being prepared. Where it is not known what its literals are read as, or it hangs on the time, it
    /// stays where it is.
    pub(super) fn as_read(
        &self,
        statement: Arc<Statement>,
        name: &[u8],
        parties: &mut Parties<'_>,
    ) -> Arc<Statement> {
        let stays = match statement.reading() {
            Reading::Fixed => false,
            Reading::Settings => self.certainty >= Certainty::Untold,
            // An unnamed one is rarely used again, and would keep the connection until there is another.
            Reading::Moment => self.certainty >= Certainty::Untold || !name.is_empty(),
        };
        if stays {
            parties.cache.own(&statement, Owner::Connection)
        } else {
            statement
        }
    }

    /// Whether it will be known what the literals of a statement are read as when earlier batches are answered.
    pub(super) fn waits_to_read(&self, statement: &Statement, parties: &Parties<'_>) -> bool {
        self.certainty >= Certainty::Untold
            && statement.reading() != Reading::Fixed
            && parties.server.pipeline.has_earlier_batch()
    }

    /// What a name stands for that is about to be used.
    pub(super) fn known(&self, name: &[u8], parties: &mut Parties<'_>) -> Option<Arc<Statement>> {
        let known = parties.client.statements.named(name)?.clone();
        Some(self.own(known, name, parties).statement)
    }

    /// A client is about to use its statement: where its literals may be read otherwise now, it is the client's own.
    #[inline]
    pub(super) fn own(&self, statement: Named, name: &[u8], parties: &mut Parties<'_>) -> Named {
        if statement.reading() == Reading::Fixed || !statement.is_shared() || self.reads(&statement, parties)
        {
            return statement;
        }
        if self.certain_state(parties) == Some(TransactionState::Failed) {
            // It is refused by its name: its literals are not read again.
            return statement;
        }
        let own = Named {
            statement: parties.cache.own(&statement, Owner::Client),
            told: statement.told.clone(),
        };
        if name.is_empty() {
            parties.client.statements.unnamed = Some(own.clone());
        } else {
            parties.client.statements.replace(name, Some(own.clone()));
        }
        own
    }

    /// Whether the statement's literals would be read now as they were.
    fn reads(&self, statement: &Statement, parties: &mut Parties<'_>) -> bool {
        let client = &mut *parties.client;
        self.certainty < Certainty::Untold
            && reads_alike(statement.basis(), client.basis.of(&client.settings))
    }

    /// Puts the settings in force that a statement was prepared with, if they are not. They are local to the transaction, as
    /// is what they are turned back to: at its end it leaves none of them.
    pub(super) fn turn_reading(
        &mut self,
        statement: &Statement,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) -> Turned {
        if statement.reading() == Reading::Fixed || self.reads(statement, parties) {
            return Turned(Vec::new());
        }
        let client = &mut *parties.client;
        let now = client.basis.of(&client.settings);
        let is_misread = self.certainty >= Certainty::Untold;
        let value = |name: &str| statement.basis().and_then(|basis| basis.value(name));
        let differs = |name: &&str| is_misread || value(name) != now.and_then(|basis| basis.value(name));
        let names: Vec<&'static str> = OF_LITERALS.into_iter().filter(differs).collect();
        let mut sql = String::from("SELECT ");
        for (index, name) in names.iter().enumerate() {
            sql.push_str(if index == 0 { "" } else { "," });
            set_local(
                &kept(name),
                &format!("pg_catalog.current_setting(E'{name}')"),
                &mut sql,
            );
            let mut literal = String::new();
            match value(name) {
                Some(value) => quote_literal(value, &mut literal),
                // The connection's own.
                None => literal.push_str("NULL"),
            }
            sql.push(',');
            set_local(name, &literal, &mut sql);
        }
        self.run_aside(&sql, message, out, parties);
        Turned(names)
    }

    pub(super) fn turn_reading_back(
        &mut self,
        Turned(names): Turned,
        message: &Message<'_>,
        out: &mut Outbox,
        parties: &mut Parties<'_>,
    ) {
        if names.is_empty() {
            return;
        }
        let mut sql = String::from("SELECT ");
        for (index, name) in names.iter().enumerate() {
            sql.push_str(if index == 0 { "" } else { "," });
            set_local(
                name,
                &format!("pg_catalog.current_setting(E'{}')", kept(name)),
                &mut sql,
            );
        }
        self.run_aside(&sql, message, out, parties);
    }
}

/// Where a value is kept meanwhile.
fn kept(name: &str) -> String {
    format!("pgweir.kept_{name}")
}

fn set_local(name: &str, value: &str, sql: &mut String) {
    sql.push_str("pg_catalog.set_config(E'");
    sql.push_str(name);
    sql.push_str("',");
    sql.push_str(value);
    sql.push_str(",true)");
}
