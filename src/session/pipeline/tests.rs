//! The queue of requests, alone.

use super::*;

fn filled(kinds: &[Kind]) -> Pipeline {
    let mut pipeline = Pipeline::default();
    for kind in kinds {
        pipeline.push(Entry::forward(*kind));
    }
    pipeline
}

#[test]
fn what_an_error_skips_ends_at_the_sync() {
    let mut pipeline = filled(&[Kind::Parse, Kind::Bind, Kind::Sync, Kind::Bind]);
    assert_eq!(pipeline.put_skipped_last(), 2);
    assert_eq!(pipeline.pop_latest().unwrap().kind, Kind::Bind);
    assert_eq!(pipeline.pop_latest().unwrap().kind, Kind::Parse);
    assert_eq!(pipeline.head().unwrap().kind, Kind::Sync);
    assert_eq!(pipeline.len(), 2);
    assert_eq!(pipeline.put_skipped_last(), 0);
}

#[test]
fn the_end_of_a_copy_goes_with_what_stands_before_it() {
    let mut pipeline = filled(&[Kind::Query, Kind::CopyEnd, Kind::CopyEnd, Kind::Query]);
    assert_eq!(pipeline.pop().unwrap(), Kind::Query);
    assert_eq!(pipeline.len(), 1);
}

#[test]
fn a_copy_swallows_the_syncs_before_its_end_alone() {
    let mut pipeline = filled(&[Kind::Execute, Kind::Sync, Kind::CopyEnd, Kind::Sync]);
    let early = EarlySyncs {
        count: 1,
        is_ended: true,
    };
    assert_eq!(pipeline.ignore_syncs_in_copy(), early);
    assert!(pipeline.has_sync());
    assert_eq!(pipeline.len(), 3);
}

#[test]
fn a_change_is_unsettled_for_later_batches_alone() {
    let mut pipeline = Pipeline::default();
    pipeline.push(Entry {
        client_undo: ClientUndo::named(b"a", None),
        server_undo: ServerUndo::Prepared(7),
        ..Entry::forward(Kind::Parse)
    });
    assert!(!pipeline.is_unsettled(b"a", Some(7)));
    pipeline.push(Entry::forward(Kind::Sync));
    assert!(pipeline.is_unsettled(b"a", None) && pipeline.is_unsettled(b"b", Some(7)));
    assert!(!pipeline.is_unsettled(b"b", Some(8)));
    pipeline.pop();
    assert!(!pipeline.is_unsettled(b"a", Some(7)));
}
