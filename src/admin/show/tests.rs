use std::time::UNIX_EPOCH;

use crate::session::screen::{PinReason, Pins};

use super::*;

fn header(show: Show) -> String {
    let letter = |kind| match kind {
        Type::Text => 's',
        Type::Int4 => 'i',
        Type::Numeric => 'N',
    };
    let columns = show.columns().iter();
    let columns: Vec<String> = columns
        .map(|column| format!("{} {}", column.name, letter(column.kind)))
        .collect();
    columns.join(", ")
}

/// Tools read these by position: what is here may never change.
#[test]
fn columns_are_those_that_tools_expect() {
    let sockets = "type s, user s, database s, replication s, state s, addr s, port i, local_addr s, local_port i, \
                   connect_time s, request_time s, wait i, wait_us i, close_needed i, ptr s, link s, remote_pid i, tls s, \
                   application_name s, prepared_statements i, id i";
    assert_eq!(header(Show::Clients), sockets);
    assert_eq!(header(Show::Servers), sockets);
    assert_eq!(
        header(Show::Pools),
        "database s, user s, cl_active i, cl_waiting i, cl_active_cancel_req i, cl_waiting_cancel_req i, sv_active i, \
         sv_active_cancel i, sv_being_canceled i, sv_idle i, sv_used i, sv_tested i, sv_login i, maxwait i, maxwait_us i, \
         pool_mode s, load_balance_hosts s"
    );
    assert_eq!(
        header(Show::Databases),
        "name s, host s, port i, database s, force_user s, pool_size i, min_pool_size i, reserve_pool_size i, \
         server_lifetime i, pool_mode s, load_balance_hosts s, max_connections i, current_connections i, \
         max_client_connections i, current_client_connections i, paused i, disabled i"
    );
    assert_eq!(
        header(Show::Stats),
        "database s, total_server_assignment_count N, total_xact_count N, total_query_count N, total_received N, total_sent N, \
         total_xact_time N, total_query_time N, total_wait_time N, total_client_parse_count N, total_server_parse_count N, \
         total_bind_count N, avg_server_assignment_count N, avg_xact_count N, avg_query_count N, avg_recv N, avg_sent N, \
         avg_xact_time N, avg_query_time N, avg_wait_time N, avg_client_parse_count N, avg_server_parse_count N, avg_bind_count N"
    );
    assert_eq!(
        header(Show::StatsTotals),
        "database s, server_assignment_count N, xact_count N, query_count N, bytes_received N, bytes_sent N, xact_time N, \
         query_time N, wait_time N, client_parse_count N, server_parse_count N, bind_count N"
    );
    assert_eq!(
        header(Show::StatsAverages),
        "database s, server_assignment_count N, xact_count N, query_count N, bytes_received N, bytes_sent N, xact_time N, \
         query_time N, wait_time N, avg_client_parse_count N, avg_server_parse_count N, avg_bind_count N"
    );
    assert_eq!(header(Show::Config), "key s, value s, default s, changeable s");
    assert_eq!(header(Show::Version), "version s");
}

#[test]
fn every_row_is_as_wide_as_its_header() {
    let zero = Totals::default();
    let client_row = client(&some_client(), UNIX_EPOCH);
    for (show, row) in [
        (Show::Pools, PoolRow::default().row()),
        (Show::Databases, DatabaseRow::default().row()),
        (Show::Stats, stats("app", &zero, &zero)),
        (Show::StatsTotals, counts("app", &zero)),
        (Show::StatsAverages, counts("app", &zero)),
        (Show::Clients, client_row),
        (Show::Servers, server(&some_server(), UNIX_EPOCH)),
    ] {
        let columns = show.columns();
        assert_eq!(row.len(), columns.len(), "{show:?}");
        for (column, value) in columns.iter().zip(&row) {
            let fits = match value {
                Value::Null => true,
                Value::Text(_) => column.kind == Type::Text,
                Value::Number(_) => column.kind != Type::Text,
            };
            assert!(fits, "{show:?}: {} is {value:?}", column.name);
        }
    }
}

#[test]
fn a_client_is_shown_with_its_wait_and_its_server() {
    let row = client(&some_client(), UNIX_EPOCH);
    let texts: Vec<String> = row
        .iter()
        .map(|value| match value {
            Value::Null => String::new(),
            Value::Text(text) => text.to_string(),
            Value::Number(number) => number.to_string(),
        })
        .collect();
    assert_eq!(
        texts.join("|"),
        "C|alice|app|none|waiting|10.0.0.7|5000|10.0.0.1|6432|1970-01-01 00:00:01 UTC|1970-01-01 00:00:02 UTC|3|250000|0|0x2a|\
         0x10|0|TLS|psql|2|42"
    );
}

#[test]
fn the_version_has_a_number_that_tools_can_read() {
    assert!(version().starts_with("PgBouncer 1.25.2 (pgweir "));
}

#[test]
fn a_client_that_is_pinned_has_a_row_for_each_reason() {
    let rows: Vec<Row> = pins(&some_client(), UNIX_EPOCH).collect();
    let reasons: Vec<&Value> = rows.iter().map(|row| &row[4]).collect();
    assert_eq!(reasons, [&Value::from("listen"), &Value::from("temporary table")]);
    assert_eq!(rows[0][2], Value::Number(42));
    assert_eq!(rows[0][3], Value::Number(16));
    assert_eq!(rows[0][5], Value::from("1970-01-01 00:00:02 UTC"));
    assert_eq!(rows[0].len(), Show::Pins.columns().len());
}

fn some_client() -> ClientRow {
    ClientRow {
        id: 42,
        user: "alice".into(),
        database: "app".into(),
        application_name: "psql".into(),
        address: ClientAddr::Tcp("10.0.0.7:5000".parse().unwrap()),
        local: Some("10.0.0.1:6432".parse().unwrap()),
        state: "waiting",
        connected_at: 1_000_000,
        request_at: 2_000_000,
        wait: 3_250_000,
        is_tls: true,
        replication: Replication::None,
        prepared_statements: 2,
        pins: Pins::of(PinReason::Listen).union(Pins::of(PinReason::TemporaryTable)),
        pinned_at: 2_500_000,
        server: Some(16),
    }
}

fn some_server() -> ServerRow {
    ServerRow {
        id: 16,
        user: "alice".into(),
        database: "app".into(),
        state: "active",
        address: "10.0.0.9".into(),
        port: 5432,
        local: None,
        connected_at: 1_000_000,
        request_at: 0,
        close_needed: false,
        client: Some(42),
        process_id: 1234,
        is_tls: false,
        replication: Replication::None,
        prepared_statements: 1,
        application_name: "psql".into(),
    }
}
