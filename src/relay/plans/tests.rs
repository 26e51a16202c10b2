//! Which texts share a plan.

use crate::plan::{Catalog, Circumstances, Class, Patterns, Spelling, plan};

use super::*;

/// What all workers share, and one of them.
fn plans() -> (Arc<SharedPlans>, Plans) {
    let shared = SharedPlans::new();
    let plans = Plans::new(&shared);
    (shared, plans)
}

fn meaning(stamp: u64, path: &str) -> Meaning {
    Meaning {
        stamp,
        path: path.into(),
        user: "ann".into(),
        spelling: Spelling::Standard,
    }
}

fn planned(text: &str) -> Arc<Plan> {
    let circumstances = Circumstances {
        catalog: &Catalog::default(),
        search_path: &[],
        functions: &Patterns::default(),
        spelling: Spelling::Standard,
    };
    Arc::new(plan(text.as_bytes(), &circumstances))
}

fn take_up(shared: &SharedPlans, sense: Sense, text: &str) {
    shared.take_up(sense, text.as_bytes(), &planned(text));
}

fn knows(plans: &Plans, sense: Sense, text: &str) -> bool {
    plans.find(sense, text.as_bytes(), |_, _| ()).is_some()
}

#[test]
fn a_text_that_differs_in_its_literals_alone_needs_no_plan_of_its_own() {
    let (shared, plans) = plans();
    let sense = plans.sense_of(&meaning(1, "public"));
    assert!(!knows(&plans, sense, "SELECT 1, 'a'"));
    take_up(&shared, sense, "SELECT 1, 'a'");
    // Each comes again: found by the very text from the third time on.
    for text in [
        "SELECT 1, 'a'",
        "SELECT 2, 'it''s'",
        "SELECT  $1 /* why */, $$b$$",
    ]
    .repeat(3)
    {
        assert!(knows(&plans, sense, text), "{text}");
    }
    assert!(!knows(&plans, sense, "SELECT 1 + 'a'"));
    let other = Plans::new(&shared);
    assert!(knows(&other, sense, "SELECT 3, 'c'"), "workers share plans");
}

#[test]
fn where_a_literal_has_decided_the_text_alone_is_known() {
    let (shared, plans) = plans();
    let sense = plans.sense_of(&meaning(1, "public"));
    let text = "SELECT current_setting('work_mem')";
    assert_eq!(planned(text).literals(), Literals::Fixed);
    take_up(&shared, sense, text);
    assert!(knows(&plans, sense, text));
    assert!(!knows(&plans, sense, "SELECT current_setting('port')"));
}

#[test]
fn catalogs_and_search_paths_never_share_a_plan() {
    let (shared, plans) = plans();
    let sense = plans.sense_of(&meaning(1, "public"));
    assert_eq!(sense, Plans::new(&shared).sense_of(&meaning(1, "public")));
    take_up(&shared, sense, "SELECT 1");
    for other in [meaning(2, "public"), meaning(1, "app")] {
        let other = plans.sense_of(&other);
        assert!(!knows(&plans, other, "SELECT 1"));
        let find = |sense| plans.find_prepared(sense, 7, b"SELECT 1", |_, _| ());
        assert!(find(sense).is_some() && find(other).is_none() && find(sense).is_some());
    }
}

#[test]
fn a_prepared_statement_is_known_by_its_id() {
    let (shared, plans) = plans();
    let sense = plans.sense_of(&meaning(1, "public"));
    take_up(&shared, sense, "SELECT $1");
    // Two in one place.
    for id in [7, 7 + 1024, 7] {
        let class = plans.find_prepared(sense, id, b"SELECT $1", |plan, _| plan.class());
        assert_eq!(class, Some(planned("SELECT 1").class()));
    }
    assert!(
        plans
            .find_prepared(sense, 8, b"SELECT $1 + 1", |_, _| ())
            .is_none()
    );
}

#[test]
fn plans_take_no_more_room_than_they_may() {
    let (shared, plans) = plans();
    let sense = plans.sense_of(&meaning(1, "public"));
    let plan = planned("SELECT 1");
    let filler = "x".repeat(40_000);
    for number in 0..1_000 {
        let text = format!("SELECT 1 AS a{number}, 2 AS {filler}");
        shared.take_up(sense, text.as_bytes(), &plan);
        assert!(knows(&plans, sense, &text));
    }
    for shard in &shared.shards {
        let shard = shard.lock().unwrap();
        let held: usize = shard.known.values().map(|entry| entry.footprint()).sum();
        assert_eq!(shard.bytes, held);
        assert!(held <= SHARD_BYTES_MAX);
    }
    assert!(plans.own.borrow().bytes <= OWN_BYTES_MAX);
}

#[test]
fn meanings_that_were_forgotten_get_other_numbers() {
    let senses = Senses::default();
    let first = senses.of(&meaning(1, "public"));
    for stamp in 0..5_000 {
        senses.of(&meaning(stamp, "app"));
    }
    assert_ne!(senses.of(&meaning(1, "public")), first);
}

#[test]
fn whether_a_text_says_where_it_goes_is_known_of_the_very_text() {
    let (shared, plans) = plans();
    let sense = plans.sense_of(&meaning(1, "public"));
    take_up(&shared, sense, "SELECT 1");
    let voice = |text: &str| plans.find(sense, text.as_bytes(), |_, voice| voice);
    let of_statement = |id, text: &str| plans.find_prepared(sense, id, text.as_bytes(), |_, voice| voice);
    for _ in 0..4 {
        assert_eq!(voice("SELECT 1"), Some(Voice::Silent));
        assert_eq!(voice("/* pgweir: role=primary */ SELECT 1"), Some(Voice::MaySay));
        assert_eq!(voice("SELECT 2 -- of pgweir"), Some(Voice::MaySay));
        assert_eq!(of_statement(1, "SELECT 1"), Some(Voice::Silent));
        assert_eq!(of_statement(2, "SELECT 1 /* pgweir */"), Some(Voice::MaySay));
    }
    take_up(&shared, sense, " set app.name = 1");
    assert_eq!(voice(" set app.name = 1"), Some(Voice::MaySay));
}

#[test]
fn what_a_replica_has_refused_is_forgotten_wherever_it_is_found() {
    let (shared, plans) = plans();
    let sense = plans.sense_of(&meaning(1, "public"));
    take_up(&shared, sense, "SELECT 1");
    let classes = || {
        ["SELECT 1", "SELECT 2"].map(|text| {
            let of_text = plans.find(sense, text.as_bytes(), |plan, _| plan.class());
            let of_statement = plans.find_prepared(sense, 7, text.as_bytes(), |plan, _| plan.class());
            (of_text, of_statement)
        })
    };
    for _ in 0..3 {
        assert_eq!(classes(), [(Some(Class::Read), Some(Class::Read)); 2]);
    }
    plans.learn_refusal(sense, b"SELECT 1", SqlState::READ_ONLY_SQL_TRANSACTION);
    for _ in 0..3 {
        assert_eq!(classes(), [(Some(Class::Write), Some(Class::Write)); 2]);
    }
}
