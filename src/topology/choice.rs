//! Where a read goes.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sight::{Bound, Need, Sight};
use super::view::{Role, ServerView, View};

/// What is set for a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub reads: Reads,
    pub consistency: Consistency,
    pub balancing: Balancing,
}

/// `reads`: who takes reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// Replicas; the primary when none is usable.
    #[default]
    Replica,
    ReplicaOnly,
    /// The primary as one among them.
    Any,
    Primary,
}

/// `read_consistency`: what a session may miss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Nothing that it has written or seen.
    #[default]
    Session,
    None,
}

/// `load_balancing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancing {
    #[default]
    RoundRobin,
    LeastConnections,
    Random,
}

/// A server for a read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its place; none: nobody may take it now.
    pub server: Option<usize>,
    pub why: Why,
}

/// Why a read goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was this replica's turn.
    Turn,
    /// The session was there last, and nobody else is known to have come as far.
    Stays,
    /// No replica is known to have replayed what the session has written or seen.
    NotReplayed,
    /// No replica takes reads.
    NoReplica,
    /// `reads = "primary"`.
    ReadsPrimary,
}

/// How busy servers are, by place.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    /// Connections that work for a client.
    pub active: &'a dyn Fn(usize) -> u32,
    /// Whether one more client would be served at once, or by a connection that may be opened.
    pub has_room: &'a dyn Fn(usize) -> bool,
}

impl fmt::Debug for Load<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Load")
    }
}

/// Chooses for a read. `turn` counts the reads that were free to choose, over all workers.
pub fn choose(view: &View, rules: Rules, sight: &mut Sight, turn: &AtomicU64, load: Load<'_>) -> Choice {
    if rules.reads == Reads::Primary {
        return at(view.primary, Why::ReadsPrimary);
    }
    let bound = match rules.consistency {
        Consistency::Session => sight.bound(view),
        Consistency::None => sight.floor(),
    };
    let need = match bound {
        Bound::AtLeast(need) => need,
        Bound::Stay(place) if view.servers.get(place).is_some_and(takes_reads) => {
            return at(Some(place), Why::Stays);
        }
        Bound::Stay(_) | Bound::Primary => return instead(view, rules, Why::NotReplayed),
    };
    let is_free = |place: usize, server: &ServerView| {
        let is_any = rules.reads == Reads::Any && view.primary == Some(place);
        is_any || server.may_take(place, view, need)
    };
    match pick(view, rules.balancing, turn, load, &is_free) {
        Some(place) if (load.has_room)(place) => at(Some(place), Why::Turn),
        Some(full) => {
            // All being full, it is the one whose turn it is that is waited for.
            let next = next_with_room(view, full, rules.balancing, load, &is_free);
            at(next.or(Some(full)), Why::Turn)
        }
        None if view.servers.iter().any(takes_reads) => instead(view, rules, Why::NotReplayed),
        None => instead(view, rules, Why::NoReplica),
    }
}

/// Whether a session that has to read from the primary would be free, had somebody asked the servers between two of its reads.
#[must_use]
pub fn is_near(view: &View, sight: &Sight) -> bool {
    let Some(need) = sight.written(view) else {
        return false;
    };
    any_has(view, need)
}

/// Whether a replica may take the session's next read.
pub fn is_free(view: &View, sight: &mut Sight) -> bool {
    match sight.bound(view) {
        Bound::AtLeast(need) => any_has(view, need),
        Bound::Stay(place) => view.servers.get(place).is_some_and(takes_reads),
        Bound::Primary => false,
    }
}

fn any_has(view: &View, need: Need) -> bool {
    let mut servers = view.servers.iter().enumerate();
    servers.any(|(place, server)| server.may_take(place, view, need))
}

fn at(server: Option<usize>, why: Why) -> Choice {
    Choice { server, why }
}

/// The primary, where it may stand in for replicas.
fn instead(view: &View, rules: Rules, why: Why) -> Choice {
    match rules.reads {
        Reads::ReplicaOnly => at(None, why),
        Reads::Replica | Reads::Any | Reads::Primary => at(view.primary, why),
    }
}

fn takes_reads(server: &ServerView) -> bool {
    server.role == Role::Replica && server.is_usable
}

impl ServerView {
    fn may_take(&self, place: usize, view: &View, need: Need) -> bool {
        takes_reads(self) && self.has(place, need) && self.is_comparable(view, need.timeline)
    }

    fn has(&self, place: usize, need: Need) -> bool {
        // Without a need there is none to prove.
        let is_nothing = need.lsn.0 == 0;
        is_nothing || need.home == Some(place) || self.latest().is_some_and(|lsn| lsn >= need.lsn)
    }

    /// Whether it follows the timeline that is written now; where nobody writes, the one of what was seen, 0 being any.
    fn is_comparable(&self, view: &View, seen: u32) -> bool {
        let wanted = view.primary_timeline().unwrap_or(seen);
        wanted == 0 || wanted == self.timeline
    }
}

/// One of those that are free, by weight.
fn pick(
    view: &View,
    balancing: Balancing,
    turn: &AtomicU64,
    load: Load<'_>,
    is_free: &impl Fn(usize, &ServerView) -> bool,
) -> Option<usize> {
    let free = || {
        let all = view.servers.iter().enumerate();
        all.filter(|(place, server)| is_free(*place, server))
            .map(|(place, server)| (place, u64::from(server.weight.max(1))))
    };
    let total: u64 = free().map(|(_, weight)| weight).sum();
    if total == 0 {
        return None;
    }
    let place_of = |mut rest: u64| {
        free().find_map(|(place, weight)| {
            if rest < weight {
                return Some(place);
            }
            rest -= weight;
            None
        })
    };
    match balancing {
        Balancing::RoundRobin => place_of(turn.fetch_add(1, Ordering::Relaxed) % total),
        Balancing::Random => place_of(scatter(turn.fetch_add(1, Ordering::Relaxed)) % total),
        Balancing::LeastConnections => {
            // Among equals by turn, so that one that is idle does not take all.
            let first = usize::try_from(turn.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
            let count = view.servers.len().max(1);
            free()
                .min_by_key(|(place, weight)| {
                    let scaled = u64::from((load.active)(*place)).saturating_mul(1000) / weight;
                    (scaled, (place + count - first % count) % count)
                })
                .map(|(place, _)| place)
        }
    }
}

/// Of those that are free, the next behind a full one that is not.
fn next_with_room(
    view: &View,
    full: usize,
    balancing: Balancing,
    load: Load<'_>,
    is_free: &impl Fn(usize, &ServerView) -> bool,
) -> Option<usize> {
    let all = || view.servers.iter().enumerate();
    let behind = all().skip(full + 1).chain(all().take(full));
    let mut others = behind
        .filter(|(place, server)| is_free(*place, server) && (load.has_room)(*place))
        .map(|(place, server)| (place, u64::from(server.weight.max(1))));
    let next = match balancing {
        Balancing::RoundRobin | Balancing::Random => others.next(),
        Balancing::LeastConnections => others
            .min_by_key(|(place, weight)| u64::from((load.active)(*place)).saturating_mul(1000) / weight),
    };
    next.map(|(place, _)| place)
}

/// A number that looks like any other (the finalizer of `splitmix64`).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::{Does, Lsn, Sample, Use};
    use super::*;

    const IDLE: Load<'_> = Load {
        active: &|_| 0,
        has_room: &|_| true,
    };

    fn server(role: Role, lsn: u64) -> ServerView {
        ServerView {
            name: "host:5432".into(),
            role,
            is_usable: true,
            instance: 1,
            timeline: 1,
            weight: 1,
            missing_since: None,
            samples: vec![Sample::exact(100, Lsn(lsn))],
        }
    }

    fn view(lsns: &[u64]) -> View {
        let mut servers = vec![server(Role::Primary, 1000)];
        servers.extend(lsns.iter().map(|lsn| server(Role::Replica, *lsn)));
        View {
            primary: Some(0),
            servers,
            ..View::default()
        }
    }

    fn ask(view: &View, sight: &mut Sight, turn: &AtomicU64) -> (Option<usize>, Why) {
        let choice = choose(view, Rules::default(), sight, turn, IDLE);
        (choice.server, choice.why)
    }

    #[test]
    fn reads_that_are_free_to_choose_go_round() {
        let (view, turn) = (view(&[5, 5, 5]), AtomicU64::new(0));
        let mut counts = [0; 4];
        for _ in 0..30_000 {
            counts[ask(&view, &mut Sight::default(), &turn).0.unwrap()] += 1;
        }
        assert_eq!(counts, [0, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn a_weight_is_a_share_of_the_reads() {
        let (mut view, turn) = (view(&[5, 5]), AtomicU64::new(0));
        view.servers[2].weight = 3;
        let mut counts = [0; 3];
        for _ in 0..400 {
            counts[ask(&view, &mut Sight::default(), &turn).0.unwrap()] += 1;
        }
        assert_eq!(counts, [0, 100, 300]);
    }

    #[test]
    fn after_a_write_reads_go_to_the_primary_until_a_replica_has_replayed_it() {
        let (mut view, turn) = (view(&[5, 5]), AtomicU64::new(0));
        let mut sight = Sight::default();
        sight.on_used(Use::begin(0, Does::Anything, &view, 150), 150);
        // Nobody has asked the primary since.
        assert_eq!(ask(&view, &mut sight, &turn), (Some(0), Why::NotReplayed));
        view.servers[0].push(Sample::exact(200, Lsn(1500)));
        assert_eq!(ask(&view, &mut sight, &turn), (Some(0), Why::NotReplayed));
        view.servers[2].push(Sample::exact(200, Lsn(1500)));
        for _ in 0..4 {
            assert_eq!(ask(&view, &mut sight, &turn), (Some(2), Why::Turn));
        }
    }

    #[test]
    fn a_session_stays_where_it_has_read_until_it_is_known_how_far_that_was() {
        let (mut view, turn) = (view(&[7, 5]), AtomicU64::new(0));
        let mut sight = Sight::default();
        sight.on_used(Use::begin(1, Does::Anything, &view, 150), 150);
        assert_eq!(ask(&view, &mut sight, &turn), (Some(1), Why::Stays));
        for (place, lsn) in [(1, 9), (2, 8)] {
            view.servers[place].push(Sample::exact(200, Lsn(lsn)));
        }
        assert_eq!(ask(&view, &mut sight, &turn), (Some(1), Why::Turn));
        view.servers[2].push(Sample::exact(300, Lsn(9)));
        let places: Vec<_> = (0..2).map(|_| ask(&view, &mut sight, &turn).0.unwrap()).collect();
        assert!(places.contains(&1) && places.contains(&2));
    }

    #[test]
    fn a_replica_that_was_started_again_proves_anew_what_it_has() {
        let (mut view, turn) = (view(&[2000]), AtomicU64::new(0));
        let mut sight = Sight::default();
        sight.on_used(Use::begin(1, Does::Anything, &view, 150), 150);
        view.servers[1].instance = 2;
        assert_eq!(ask(&view, &mut sight, &turn), (Some(0), Why::NotReplayed));
    }

    #[test]
    fn a_connection_that_is_newer_than_what_is_known_of_its_server_proves_nothing() {
        let view = view(&[2000]);
        let mut sight = Sight::default();
        assert!(sight.allows(1, &view, 150));
        sight.raise(Lsn(10), 1);
        assert!(sight.allows(1, &view, 99) && !sight.allows(1, &view, 100));
        // The server was there when the session used it: whatever was opened before that is of the same start.
        sight.on_used(Use::begin(1, Does::Anything, &view, 200), 210);
        assert!(sight.allows(1, &view, 199) && !sight.allows(1, &view, 200));
    }

    #[test]
    fn while_nobody_writes_positions_of_the_timeline_that_was_seen_are_compared() {
        let (mut view, turn) = (view(&[2000, 1500]), AtomicU64::new(0));
        let mut sight = Sight::default();
        sight.raise(Lsn(1800), 1);
        view.primary = None;
        for _ in 0..2 {
            assert_eq!(ask(&view, &mut sight, &turn), (Some(1), Why::Turn));
        }
        view.servers[1].timeline = 2;
        assert_eq!(ask(&view, &mut sight, &turn), (None, Why::NotReplayed));
    }

    #[test]
    fn a_session_that_reads_without_a_pause_is_known_to_be_nearly_free() {
        let (mut view, turn) = (view(&[5]), AtomicU64::new(0));
        let mut sight = Sight::default();
        sight.on_used(Use::begin(0, Does::Anything, &view, 140), 150);
        let ask_all = |view: &mut View, at: u64, replayed: u64| {
            view.servers[0].push(Sample::exact(at, Lsn(1500)));
            view.servers[1].push(Sample::exact(at + 1, Lsn(replayed)));
        };
        ask_all(&mut view, 200, 1400);
        sight.on_used(Use::begin(0, Does::Read, &view, 190), 210);
        assert!(!is_near(&view, &sight));
        ask_all(&mut view, 300, 1500);
        sight.on_used(Use::begin(0, Does::Read, &view, 290), 310);
        assert!(is_near(&view, &sight) && !is_free(&view, &mut sight));
        assert_eq!(ask(&view, &mut sight, &turn), (Some(0), Why::NotReplayed));
        ask_all(&mut view, 320, 1500);
        assert!(is_free(&view, &mut sight));
        // What it has written last may not be there.
        sight.on_used(Use::begin(0, Does::Anything, &view, 330), 340);
        assert!(!is_near(&view, &sight));
    }

    #[test]
    fn what_may_have_been_half_done_is_waited_for() {
        let (mut view, turn) = (view(&[5, 7]), AtomicU64::new(0));
        let mut sight = Sight::default();
        sight.on_used(Use::begin(1, Does::Anything, &view, 150), 150);
        view.servers[1].push(Sample {
            asked_at: 200,
            lsn: Lsn(7),
            shown: Lsn(8),
        });
        // The one that has shown it has it, of course.
        for _ in 0..2 {
            assert_eq!(ask(&view, &mut sight, &turn), (Some(1), Why::Turn));
        }
        view.servers[1].is_usable = false;
        assert_eq!(ask(&view, &mut sight, &turn), (Some(0), Why::NotReplayed));
        view.servers[2].push(Sample::exact(300, Lsn(9)));
        assert_eq!(ask(&view, &mut sight, &turn), (Some(2), Why::Turn));
    }

    #[test]
    fn after_a_change_of_timeline_the_new_one_must_be_sampled() {
        let (mut view, turn) = (view(&[2000]), AtomicU64::new(0));
        let mut sight = Sight::default();
        sight.raise(Lsn(1800), 1);
        assert_eq!(ask(&view, &mut sight, &turn).0, Some(1));
        view.servers[0].timeline = 2;
        view.servers[0].samples = Vec::new();
        assert_eq!(ask(&view, &mut sight, &turn), (Some(0), Why::NotReplayed));
        view.servers[0].push(Sample::exact(300, Lsn(1700)));
        // The replica is still on the old one.
        assert_eq!(ask(&view, &mut sight, &turn), (Some(0), Why::NotReplayed));
        view.servers[1].timeline = 2;
        assert_eq!(ask(&view, &mut sight, &turn), (Some(1), Why::Turn));
    }

    #[test]
    fn while_there_is_no_primary_replicas_are_read_that_have_what_was_seen() {
        let (mut view, turn) = (view(&[5, 9]), AtomicU64::new(0));
        let mut sight = Sight::default();
        sight.on_used(Use::begin(2, Does::Read, &view, 120), 150);
        view.servers[2].push(Sample::exact(200, Lsn(9)));
        view.primary = None;
        view.vacancy = super::super::Vacancy::Lost;
        for _ in 0..4 {
            assert_eq!(ask(&view, &mut sight, &turn).0, Some(2));
        }
        view.servers[2].is_usable = false;
        assert_eq!(ask(&view, &mut sight, &turn), (None, Why::NotReplayed));
        // Of another timeline nothing is known.
        view.servers[1].timeline = 2;
        view.servers[1].push(Sample::exact(300, Lsn(50)));
        assert_eq!(ask(&view, &mut sight, &turn), (None, Why::NotReplayed));
    }

    #[test]
    fn without_consistency_any_usable_replica_will_do() {
        let (view, turn) = (view(&[5]), AtomicU64::new(0));
        let mut sight = Sight::default();
        sight.on_used(Use::begin(0, Does::Anything, &view, 150), 150);
        let rules = Rules {
            consistency: Consistency::None,
            ..Rules::default()
        };
        assert_eq!(choose(&view, rules, &mut sight, &turn, IDLE).server, Some(1));
    }

    #[test]
    fn without_replicas_the_primary_reads_unless_that_is_forbidden() {
        let (mut view, turn) = (view(&[5]), AtomicU64::new(0));
        view.servers[1].is_usable = false;
        let mut sight = Sight::default();
        assert_eq!(ask(&view, &mut sight, &turn), (Some(0), Why::NoReplica));
        let rules = Rules {
            reads: Reads::ReplicaOnly,
            ..Rules::default()
        };
        assert_eq!(choose(&view, rules, &mut sight, &turn, IDLE).server, None);
    }

    #[test]
    fn the_one_with_the_fewest_connections_is_taken_and_equals_take_turns() {
        let (view, turn) = (view(&[5, 5]), AtomicU64::new(0));
        let rules = Rules {
            balancing: Balancing::LeastConnections,
            ..Rules::default()
        };
        let mut sight = Sight::default();
        let busy = Load {
            active: &|place| u32::from(place == 1),
            ..IDLE
        };
        assert_eq!(choose(&view, rules, &mut sight, &turn, busy).server, Some(2));
        let places: Vec<_> = (0..6)
            .map(|_| choose(&view, rules, &mut sight, &turn, IDLE).server.unwrap())
            .collect();
        assert!(places.contains(&1) && places.contains(&2));
    }

    #[test]
    fn a_full_replica_is_passed_over_and_when_all_are_full_all_take_turns() {
        let (view, turn) = (view(&[5, 5, 5]), AtomicU64::new(0));
        let mut sight = Sight::default();
        for balancing in [
            Balancing::RoundRobin,
            Balancing::LeastConnections,
            Balancing::Random,
        ] {
            let rules = Rules {
                balancing,
                ..Rules::default()
            };
            let mut places = |load| {
                let mut counts = [0; 4];
                for _ in 0..60 {
                    counts[choose(&view, rules, &mut sight, &turn, load).server.unwrap()] += 1;
                }
                counts
            };
            let one_has = Load {
                has_room: &|place| place == 1,
                ..IDLE
            };
            assert_eq!(places(one_has), [0, 60, 0, 0]);
            // The primary has room, and takes none of them.
            let none_has = Load {
                has_room: &|place| place == 0,
                ..IDLE
            };
            let counts = places(none_has);
            assert!(
                counts[0] == 0 && counts[1..].iter().all(|count| *count > 0),
                "{counts:?}"
            );
        }
    }
}
